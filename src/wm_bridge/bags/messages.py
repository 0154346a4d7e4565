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
