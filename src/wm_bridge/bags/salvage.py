"""Makes a bag file that was cut off (power, SIGKILL, full disk) readable up to its last whole message."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from pathlib import Path

MAGIC = b"\x89MCAP0\r\n"
_FOOTER = b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0) + MAGIC
_HEADER = b"\x01" + struct.pack("<QI4sI", 12, 4, b"ros2", 0)
_DATA_END = b"\x0f" + struct.pack("<QI", 4, 0)
_LAST_DATA_OPCODE = 0x0D  # later ones belong to the summary, which a reader can do without
_CHUNK = 0x06
_HEAD = 9  # bytes of kind and length before a record


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
        while len(head := file.read(_HEAD)) == _HEAD:
            kind, length = head[0], int.from_bytes(head[1:], "little")
            if not 0 < kind <= _LAST_DATA_OPCODE or good + _HEAD + length > size:
                break
            good = file.seek(good + _HEAD + length)
    return good


def salvage(path: Path, into: Path) -> Path:
    """Write a copy that ends properly after the last whole message; the file itself is not touched.

    Args:
        path: the cut-off mcap or db3 file. into: the copy.

    Raises:
        ValueError: not such a file. OSError: cannot be read or written.
    """
    if path.suffix == ".db3":
        return _rolled_back(path, into)
    left = whole_records(path)
    with path.open("rb") as source, into.open("wb") as copy:
        while left > 0 and (block := source.read(min(left, 1 << 20))):
            copy.write(block)
            left -= len(block)
        if copy.tell() == len(MAGIC):
            copy.write(_HEADER)
        copy.write(shortened_chunk(source.read()))
        copy.write(_DATA_END + _FOOTER)
    return into


def shortened_chunk(rest: bytes) -> bytes:
    """The begin of a chunk of uncompressed records, cut off anywhere, as a chunk of its whole records; else nothing."""
    fixed = struct.Struct("<QQQI")  # begin, end, uncompressed size, its checksum
    if len(rest) < _HEAD + fixed.size + 4 + 8 or rest[0] != _CHUNK:
        return b""
    begin, end, _, _ = fixed.unpack_from(rest, _HEAD)
    at = _HEAD + fixed.size
    if int.from_bytes(rest[at : at + 4], "little"):
        return b""  # compressed: it can be read as a whole only
    records = rest[at + 4 + 8 :]
    good = 0
    while good + _HEAD <= len(records):
        length = int.from_bytes(records[good + 1 : good + _HEAD], "little")
        if good + _HEAD + length > len(records):
            break
        good += _HEAD + length
    if not good:
        return b""
    body = fixed.pack(begin, end, good, 0) + bytes(4) + good.to_bytes(8, "little") + records[:good]
    return bytes([_CHUNK]) + len(body).to_bytes(8, "little") + body


def _rolled_back(path: Path, into: Path) -> Path:
    """A copy of a database without what had not been committed."""
    shutil.copy(path, into)
    journal = path.with_name(f"{path.name}-journal")
    if journal.is_file():
        shutil.copy(journal, into.with_name(f"{into.name}-journal"))
    try:
        connection = sqlite3.connect(into)
        try:
            connection.execute("SELECT count(*) FROM messages").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ValueError(f"{path.name} is no bag database that can be read: {error}") from error
    return into
