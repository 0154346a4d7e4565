"""Plain values as bytes and back, bit for bit: numbers, text, float arrays, tuples of them.

One byte of kind and then, little endian: a 64-bit integer, a double, the length and UTF-8 of a
text, the shape and doubles of an array, the number of a tuple's items and the items. Nothing
that is read is ever executed.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

Value = Any  # None, bool, int, float, str, a float array of up to 4 axes, or a tuple of Values

_INT, _FLOAT, _COUNT = struct.Struct("<cq"), struct.Struct("<cd"), struct.Struct("<cI")
_MOST_AXES = 4


def pack(value: Value, out: bytearray) -> None:
    """Append a value to ``out``.

    Raises:
        TypeError: it is none of the kinds above. struct.error: an integer beyond 64 bits.
    """
    if isinstance(value, tuple):
        out += _COUNT.pack(b"(", len(value))
        for item in value:
            pack(item, out)
    elif isinstance(value, np.ndarray) and value.dtype == np.float64 and value.ndim <= _MOST_AXES:
        out += _COUNT.pack(b"a", value.ndim)
        out += struct.pack(f"<{value.ndim}I", *value.shape)
        out += value.astype("<f8", copy=False).tobytes()
    elif value is None or value is True or value is False:
        out += b"N" if value is None else b"T" if value else b"F"
    elif isinstance(value, int):
        out += _INT.pack(b"i", value)
    elif isinstance(value, float):
        out += _FLOAT.pack(b"d", value)
    elif isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        out += _COUNT.pack(b"s", len(data))
        out += data
    else:
        raise TypeError(f"cannot pack {type(value).__name__}")


def unpack(data: bytes, at: int = 0) -> tuple[Value, int]:
    """The value that begins at a byte, and where the next one begins.

    Raises:
        ValueError: these are not the bytes of a whole value.
    """
    try:
        return _unpack(data, at)
    except (struct.error, IndexError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no value at byte {at} of {len(data)}: {error}") from error


def _unpack(data: bytes, at: int) -> tuple[Value, int]:
    kind, next_at = data[at : at + 1], at + 1
    if kind in _WORDS:
        return _WORDS[kind], next_at
    if kind == b"i" or kind == b"d":
        form = _INT if kind == b"i" else _FLOAT
        return form.unpack_from(data, at)[1], at + form.size
    if kind not in (b"s", b"a", b"("):
        raise ValueError(f"no value at byte {at} of {len(data)}: kind {kind!r}")
    count, next_at = _COUNT.unpack_from(data, at)[1], at + _COUNT.size
    if kind == b"s":
        return _cut(data, next_at, count).decode("utf-8", "surrogatepass"), next_at + count
    if kind == b"a":
        if count > _MOST_AXES:
            raise ValueError(f"an array of {count} axes at byte {at}")
        shape = struct.unpack_from(f"<{count}I", data, next_at)
        next_at += 4 * count
        size = 8 * math.prod(shape)
        return np.frombuffer(_cut(data, next_at, size), dtype="<f8").astype(np.float64).reshape(shape), next_at + size
    items = []
    for _ in range(count):
        item, next_at = _unpack(data, next_at)
        items.append(item)
    return tuple(items), next_at


def _cut(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError(f"{size} bytes wanted at {at}, there are {len(data) - at}")
    return data[at : at + size]


_WORDS = {b"N": None, b"T": True, b"F": False}
