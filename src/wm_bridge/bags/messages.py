"""When a message says that it was made, from its bytes or from the message itself."""

from __future__ import annotations

import struct
from typing import Any

S = 1_000_000_000


def stamp_of(data: bytes | memoryview) -> int:
    """Stamp, ns, of a serialized message that begins with a Header or a Time.

    CDR: four bytes say the byte order, then sec (int32) and nanosec (uint32) follow.
    """
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(sec) * S + int(nanosec)


def header_ns(message: Any) -> int:
    """Stamp, ns, of a message with a Header."""
    return int(message.header.stamp.sec) * S + int(message.header.stamp.nanosec)


def joint_state_values(data: bytes | memoryview) -> tuple[int, int]:
    """Where the positions of a serialized sensor_msgs/JointState, little endian, begin, and how many there are.

    CDR: a header of four bytes, from which numbers are aligned to their size; strings and sequences begin with their length.

    Raises:
        struct.error: it ends before.
    """

    def count(at: int) -> tuple[int, int]:
        at += -at % 4
        return at + 4, int(struct.unpack_from("<I", data, at)[0])

    at, length = count(12)  # behind the stamp: frame_id
    at, names = count(at + length)
    for _ in range(names):
        at, length = count(at)
        at += length
    at, values = count(at)
    return at + -(at - 4) % 8, values
