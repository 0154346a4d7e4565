"""Reads and writes of many servos on one bus, through ROBOTIS' SDK and around its traps.

- ``GroupBulkRead`` raises TypeError with protocol 1.0 (SDK 3.8.4 to 4.1.0): the packet handler is called directly.
- ``readRx`` of a servo that is silent throws the answers of all others away: answers are taken as they come.
- A port that was unplugged raises termios.error, which is no OSError.
- Its time-outs assume an adapter that waits 16 ms; they are set for each packet here.
"""

from __future__ import annotations

import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wm_bridge.robots.base import RobotError

_BYTE_MS = 10e3  # ten bits, divided by the baud rate
_DELAY_MS = 0.5  # return delay of a servo as delivered
_STATUS = {1: 6, 2: 11}  # bytes of an answer without data


class BusLost(Exception):
    """The serial device is gone."""


@dataclass(frozen=True)
class Block:
    """``length`` bytes at ``address`` of servo ``ident``."""

    ident: int
    address: int
    length: int


@dataclass
class BusCounts:
    """What went wrong so far."""

    corrupt: int = 0
    missing: int = 0
    retries: int = 0


class ServoBus:
    """One serial device with servos of one protocol.

    Attributes:
        errors: error byte of the newest answer, by id. counts: of bad packets.

    Args:
        path: of the device. protocol: 1 or 2.
        patience_ms: what an answer may be late because of adapter and operating system, added to its time on the wire.
    """

    def __init__(self, path: str, baud: int, protocol: int, patience_ms: float = 6.0) -> None:
        self.path, self._baud, self._protocol, self.patience_ms = path, baud, protocol, patience_ms
        self._port: Any = None
        self._handler: Any = None
        self.errors: dict[int, int] = {}
        self.counts = BusCounts()

    @property
    def is_open(self) -> bool:
        """True between ``open`` and ``close`` or the loss of the device."""
        return self._port is not None

    def open(self) -> None:
        """Take the device.

        Raises:
            RobotError: not there, not allowed or in use; with the remedy.
        """
        try:
            import dynamixel_sdk

            from wm_bridge.robots.dynamixel.port import BusPort
        except ImportError as error:
            raise RobotError(f"dynamixel-sdk is missing ({error})", "./wm doctor; or pip install dynamixel-sdk==4.1.0") from error
        port = BusPort(self.path)
        try:
            port.take(self._baud)
        except (OSError, ValueError, termios.error) as error:
            if port.is_open:
                port.closePort()
            raise RobotError(
                f"cannot open {self.path}: {error}",
                "plug the adapter in, end other programs that use it, add your user to the group dialout (ls -l /dev/serial/by-id)",
            ) from error
        self._port, self._handler = port, dynamixel_sdk.PacketHandler(float(self._protocol))

    def close(self) -> None:
        """Give the device back; the servos keep what they were told."""
        port, self._port = self._port, None
        if port is not None:
            try:
                port.closePort()
            except (OSError, termios.error):
                pass  # it is gone

    def ping(self, ident: int) -> int | None:
        """Model number of a servo; None when it does not answer."""
        data = self.read(Block(ident, 0, 2))  # in both protocols the table begins with it
        return None if data is None else int.from_bytes(data, "little")

    def read(self, block: Block) -> bytes | None:
        """One read of one servo; None without a good answer."""
        with _Guard(self):
            result = self._handler.readTx(self._port, block.ident, block.address, block.length)
            self._port.is_using = False
            return self._collect([block], result).get(block.ident)

    def write(self, ident: int, address: int, data: bytes) -> bool:
        """One write to one servo; True when it acknowledged without refusing."""
        with _Guard(self):
            result = self._handler.writeTxOnly(self._port, ident, address, len(data), list(data))
            found = self._collect([Block(ident, address, 0)], result)
            refused = self.errors.get(ident, 0) & (0x4A if self._protocol == 1 else 0x7F)  # angle, range, instruction
            return ident in found and not refused

    def read_many(self, blocks: Sequence[Block]) -> dict[int, bytes]:
        """One request that all servos answer one behind the other; what came back intact, by id."""
        if not blocks:
            return {}
        with _Guard(self):
            if self._protocol == 1:
                words = [value for block in blocks for value in (block.length, block.ident, block.address)]
                result = self._handler.bulkReadTx(self._port, words, len(words))
            elif len({(block.address, block.length) for block in blocks}) == 1:
                idents = [block.ident for block in blocks]
                result = self._handler.syncReadTx(self._port, blocks[0].address, blocks[0].length, idents, len(idents), False)
            else:
                words = [value for block in blocks for value in _bulk2(block)]
                result = self._handler.bulkReadTx(self._port, words, len(words), False)
            return self._collect(blocks, result)

    def write_many(self, address: int, data: Mapping[int, bytes]) -> None:
        """One write to many servos, same address and length; nobody answers."""
        if not data:
            return
        length = len(next(iter(data.values())))
        words = [value for ident, content in data.items() for value in (ident, *content)]
        with _Guard(self):
            self._handler.syncWriteTxOnly(self._port, address, length, words, len(words))
            self._port.is_using = False

    def wire_ms(self, blocks: Sequence[Block], return_delay_ms: float = _DELAY_MS) -> float:
        """Time on the wire of ``read_many``: request and answers at the baud rate, and the servos' return delay."""
        per_servo, frame = (3, 7) if self._protocol == 1 else (5, 10)
        count = frame + per_servo * len(blocks) + sum(_STATUS[self._protocol] + block.length for block in blocks)
        return count * _BYTE_MS / self._baud + len(blocks) * return_delay_ms

    # ---- inside --------------------------------------------------------------------

    def _collect(self, blocks: Sequence[Block], sent: int) -> dict[int, bytes]:
        wanted = {block.ident: block.length for block in blocks}
        found: dict[int, bytes] = {}
        if sent != 0:  # COMM_SUCCESS
            return found
        self._port.setPacketTimeoutMillis(self.wire_ms(blocks) + self.patience_ms)
        while len(found) < len(wanted):
            packet, result = self._receive()
            if result == 0:
                ident, error, data = self._open_packet(packet)
                if wanted.get(ident) == len(data) and ident not in found:
                    found[ident], self.errors[ident] = data, error
            elif packet:
                self.counts.corrupt += 1
            if result != 0 and self._port.isPacketTimeout():
                break
        self.counts.missing += len(wanted) - len(found)
        return found

    def _receive(self) -> tuple[Sequence[int], int]:
        try:
            packet, result = self._handler.rxPacket(self._port) if self._protocol == 1 else self._handler.rxPacket(self._port, False)
        except IndexError:  # the SDK trusts the length of a packet
            return [0], -1
        finally:
            self._port.is_using = False
        return packet, result

    def _open_packet(self, packet: Sequence[int]) -> tuple[int, int, bytes]:
        if self._protocol == 1:
            return packet[2], packet[4], bytes(packet[5 : 3 + packet[3]])
        length = packet[5] | packet[6] << 8
        return packet[4], packet[8], bytes(packet[9 : 5 + length])


class _Guard:
    """Turns every way in which a serial device can be gone into ``BusLost``."""

    def __init__(self, bus: ServoBus) -> None:
        self._bus = bus

    def __enter__(self) -> None:
        if not self._bus.is_open:
            raise BusLost(f"{self._bus.path} is closed")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, (OSError, termios.error, TypeError)):  # TypeError: pyserial on a port closed meanwhile
            path = self._bus.path
            self._bus.close()
            raise BusLost(f"{path} is gone: {error}") from error


def _bulk2(block: Block) -> tuple[int, ...]:
    return (block.ident, block.address & 0xFF, block.address >> 8, block.length & 0xFF, block.length >> 8)

