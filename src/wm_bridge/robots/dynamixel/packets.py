"""Dynamixel packets as bytes, protocols 1.0 and 2.0, written from the published protocol documents.

The simulated bus speaks with these; the driver speaks with ROBOTIS' SDK, so that each checks the other.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

BROADCAST = 0xFE
_HEADER2 = b"\xff\xff\xfd\x00"
_STATUS2 = 0x55


class Instruction(enum.IntEnum):
    """What a packet asks for."""

    PING = 1
    READ = 2
    WRITE = 3
    REG_WRITE = 4
    ACTION = 5
    REBOOT = 8
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    BULK_READ = 0x92


@dataclass(frozen=True)
class Packet:
    """An instruction that arrived. ``intact`` is False when its checksum is wrong."""

    ident: int
    instruction: int
    data: bytes
    intact: bool = True


def checksum(body: bytes) -> int:
    """Protocol 1.0: the inverted low byte of the sum from the id to the last parameter."""
    return ~sum(body) & 0xFF


def crc16(data: bytes) -> int:
    """Protocol 2.0: CRC-16 with polynomial 0x8005, start 0, most significant bit first (IBM, not reflected)."""
    crc = 0
    for byte in data:
        crc = ((crc << 8) & 0xFFFF) ^ _CRC[(crc >> 8) ^ byte]
    return crc


def stuff(data: bytes) -> bytes:
    """Protocol 2.0: FF FF FD inside a packet gets one more FD, so that it is no header."""
    return data.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")


def unstuff(data: bytes) -> bytes:
    """The inverse of ``stuff``."""
    return data.replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")


def status1(ident: int, error: int, data: bytes = b"") -> bytes:
    """A protocol 1.0 answer: FF FF id length error data checksum."""
    body = bytes((ident, len(data) + 2, error)) + data
    return b"\xff\xff" + body + bytes((checksum(body),))


def status2(ident: int, error: int, data: bytes = b"") -> bytes:
    """A protocol 2.0 answer: FF FF FD 00 id length(2) 55 error data crc(2)."""
    return frame2(ident, bytes((_STATUS2, error)) + data)


def frame2(ident: int, content: bytes) -> bytes:
    """Protocol 2.0: header, length, stuffing and CRC around instruction (or 55 error) and parameters."""
    content = stuff(content)
    packet = _HEADER2 + bytes((ident,)) + (len(content) + 2).to_bytes(2, "little") + content
    return packet + crc16(packet).to_bytes(2, "little")


def take1(stream: bytearray) -> Packet | None:
    """Remove one protocol 1.0 instruction from the front of a stream; None while it is not complete."""
    while len(stream) >= 6:
        if stream[:2] != b"\xff\xff" or stream[2] == 0xFF or stream[3] < 2:
            del stream[0]
            continue
        end = stream[3] + 4
        if len(stream) < end:
            return None
        body, given = bytes(stream[2 : end - 1]), stream[end - 1]
        del stream[:end]
        return Packet(body[0], body[2], body[3:], given == checksum(body))
    return None


def take2(stream: bytearray) -> Packet | None:
    """Remove one protocol 2.0 instruction from the front of a stream; None while it is not complete."""
    while len(stream) >= 10:
        length = int.from_bytes(stream[5:7], "little")
        if stream[:4] != _HEADER2 or not 3 <= length <= 1000:
            del stream[0]
            continue
        end = length + 7
        if len(stream) < end:
            return None
        packet = bytes(stream[:end])
        del stream[:end]
        content = unstuff(packet[7:-2])
        return Packet(packet[4], content[0], content[1:], int.from_bytes(packet[-2:], "little") == crc16(packet[:-2]))
    return None


def _table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        crc = index << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF
        table.append(crc)
    return tuple(table)


_CRC = _table()
