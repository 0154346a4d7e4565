"""Makes an mcap file that was cut off (power, SIGKILL, full disk) readable up to the cut."""

from __future__ import annotations

import struct
from pathlib import Path

MAGIC = b"\x89MCAP0\r\n"
_FOOTER = b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0) + MAGIC
_DATA_END = b"\x0f" + struct.pack("<QI", 4, 0)
_LAST_DATA_OPCODE = 0x0D  # later ones belong to the summary, which a reader can do without


def whole_records(path: Path) -> int:
    """Return how many bytes from the start hold whole records of messages.

    A record is one byte of kind, eight bytes of length (little endian) and that many bytes
    (https://mcap.dev/spec).

    Raises:
        ValueError: not an mcap file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path.name} is not an mcap file")
        good = file.tell()
        while len(head := file.read(9)) == 9:
            kind, length = head[0], int.from_bytes(head[1:], "little")
            if not 0 < kind <= _LAST_DATA_OPCODE or good + 9 + length > size:
                break
            good = file.seek(good + 9 + length)
    return good


def salvage(path: Path, into: Path) -> Path:
    """Write a copy that ends properly after the last whole record; the file itself is not touched.

    Args:
        path: the cut-off file. into: the copy.

    Raises:
        ValueError: not an mcap file. OSError: cannot be read or written.
    """
    left = whole_records(path)
    with path.open("rb") as source, into.open("wb") as copy:
        while left > 0 and (block := source.read(min(left, 1 << 20))):
            copy.write(block)
            left -= len(block)
        copy.write(_DATA_END + _FOOTER)
    return into
