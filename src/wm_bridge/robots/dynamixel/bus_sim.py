"""A Dynamixel bus on a pseudo-terminal: what opens it like a serial port finds servos there, and their faults."""

from __future__ import annotations

import os
import select
import tempfile
import threading
import time
import tty
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wm_bridge.robots.dynamixel import packets
from wm_bridge.robots.dynamixel.packets import BROADCAST, Instruction, Packet
from wm_bridge.robots.dynamixel.servo_sim import ANGLE, CHECKSUM, DATA_LIMIT, INSTRUCTION, SimServo

_BYTE_S = 10e-6  # ten bits at 1 Mbaud
_DELAY_COUNT_S = 2e-6  # of the register return_delay
_REFUSES_INSTRUCTION2, _REFUSES_CRC2 = 2, 3


@dataclass
class Faults:
    """What goes wrong on the wire.

    Attributes:
        drop: share of the answers that are lost. corrupt: share of the packets, both ways, with wrong bytes.
        breaks_chain: in a bulk or sync read the servos behind one that is silent are silent too.
    """

    drop: float = 0.0
    corrupt: float = 0.0
    breaks_chain: bool = True


@dataclass
class Counts:
    """What passed over the bus."""

    instructions: int = 0
    answers: int = 0
    dropped: int = 0
    corrupted: int = 0
    writes: int = 0
    kinds: dict[int, int] = field(default_factory=dict)


class BusSim:
    """Servos behind a pseudo-terminal, served by a thread (``start``) or by the caller (``serve``).

    Attributes:
        path: a link that stays; unplugged it leads nowhere, as ``/dev/serial/by-id`` does.
        servos: by id. faults, counts: of the wire.

    Args:
        servos: ids must differ, and all speak one protocol.
        seed: of drops and corruption.
        wire_time: answers come as late as at 1 Mbaud with the servos' return delay; else at once.
        clock: s, steady.
        currents: board id -> ids whose motors its current register tells of.
    """

    def __init__(
        self,
        servos: Iterable[SimServo],
        seed: int = 0,
        wire_time: bool = False,
        clock: Callable[[], float] = time.monotonic,
        currents: dict[int, tuple[int, ...]] | None = None,
    ) -> None:
        self.servos = {servo.ident: servo for servo in servos}
        protocols = {servo.model.protocol for servo in self.servos.values()}
        if len(protocols) != 1:
            raise ValueError(f"one bus speaks one protocol, got servos of protocols {sorted(protocols)}")
        self.protocol = protocols.pop()
        self.faults, self.counts = Faults(), Counts()
        self._wire_time, self._clock = wire_time, clock
        self._currents = currents or {}
        self._rng = np.random.default_rng(seed)
        self._folder = tempfile.TemporaryDirectory(prefix="wm-bus-")
        self.path = str(Path(self._folder.name) / "ttyDXL")
        self._lock = threading.RLock()
        self._stream = bytearray()
        self._registered: dict[int, tuple[int, bytes]] = {}
        self._master = self._slave = -1
        self._thread: threading.Thread | None = None
        self._wake_out, self._wake_in = os.pipe()
        self._closing = False
        self.replug()

    # ---- the cable -----------------------------------------------------------------

    @property
    def plugged(self) -> bool:
        """True while the device is there."""
        return self._master >= 0

    def unplug(self) -> None:
        """The adapter goes away: reads and writes of who has it open fail. The servos keep their power."""
        with self._lock:
            if self._master >= 0:
                os.unlink(self.path)
                os.close(self._slave)
                os.close(self._master)
                self._master = self._slave = -1
        self._wake()

    def replug(self) -> None:
        """The adapter is there again, under the same link, as another device."""
        with self._lock:
            if self._master < 0:
                self._master, self._slave = os.openpty()
                tty.setraw(self._slave)
                self._stream.clear()
                fresh = f"{self.path}.new"
                os.symlink(os.ttyname(self._slave), fresh)
                os.replace(fresh, self.path)
        self._wake()

    # ---- running -------------------------------------------------------------------

    def start(self) -> BusSim:
        """Serve in a thread of this process until ``close``."""
        self._thread = threading.Thread(target=self.serve, daemon=True, name="bus-sim")
        self._thread.start()
        return self

    def serve(self, until: Callable[[], bool] = lambda: False) -> None:
        """Answer until ``close``, or until ``until()`` (asked several times a second)."""
        while not self._closing and not until():
            watched = [self._wake_out] + ([self._master] if self._master >= 0 else [])
            try:
                ready, _, _ = select.select(watched, [], [], 0.2)
            except (OSError, ValueError):  # unplugged meanwhile
                continue
            if self._wake_out in ready:
                os.read(self._wake_out, 4096)
            with self._lock:
                if self._master in ready:
                    self._receive()

    def close(self) -> None:
        """End the thread and remove the device."""
        self._closing = True
        self._wake()
        if self._thread is not None:
            self._thread.join(5.0)
        self.unplug()
        os.close(self._wake_in)
        os.close(self._wake_out)
        self._folder.cleanup()

    def __enter__(self) -> BusSim:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def settle(self) -> None:
        """Move all servos to now: what is read from them afterwards is up to date."""
        with self._lock:
            for servo in self.servos.values():
                servo.advance(self._clock())

    # ---- packets -------------------------------------------------------------------

    def _wake(self) -> None:
        os.write(self._wake_in, b"w")

    def _receive(self) -> None:
        try:
            self._stream += os.read(self._master, 4096)
        except OSError:
            return
        take = packets.take1 if self.protocol == 1 else packets.take2
        while (packet := take(self._stream)) is not None:
            if self._hit(self.faults.corrupt):
                self.counts.corrupted += 1
                packet = Packet(packet.ident, packet.instruction, packet.data, intact=False)
            self.counts.instructions += 1
            self.counts.kinds[packet.instruction] = self.counts.kinds.get(packet.instruction, 0) + 1
            self._answer(packet)

    def _answer(self, packet: Packet) -> None:
        now = self._clock()
        for servo in self.servos.values():
            servo.advance(now)
        self._tell_currents()
        replies: list[tuple[SimServo, bytes]] = []
        if not packet.intact:
            servo = self._servo(packet.ident)
            if servo is not None and servo.get("status_level") == 2:
                replies.append((servo, self._status(servo, CHECKSUM if self.protocol == 1 else _REFUSES_CRC2)))
        elif packet.instruction in (Instruction.BULK_READ, Instruction.SYNC_READ):
            replies = self._chain(packet)
        elif packet.instruction == Instruction.SYNC_WRITE:
            self._sync_write(packet.data)
        elif packet.ident == BROADCAST:
            self._broadcast(packet, replies)
        else:
            servo = self._servo(packet.ident)
            if servo is not None:
                replies = self._single(servo, packet)
        self._send(replies, len(packet.data))

    def _single(self, servo: SimServo, packet: Packet) -> list[tuple[SimServo, bytes]]:
        level, kind, data = servo.get("status_level"), packet.instruction, packet.data
        if kind == Instruction.PING:
            content = b"" if self.protocol == 1 else servo.model["model"].encode(servo.get("model")) + b"\x2a"
            return [(servo, self._status(servo, 0, content))]
        if kind == Instruction.READ:
            address, length = self._address(data), data[1] if self.protocol == 1 else int.from_bytes(data[2:4], "little")
            found = servo.read(address, length)
            if level == 0:
                return []
            wrong = 0 if found is not None else 8 if self.protocol == 1 else 4
            return [(servo, self._status(servo, wrong, found or b""))]
        wrong = 0
        if kind in (Instruction.WRITE, Instruction.REG_WRITE):
            address, content = self._address(data), data[1 if self.protocol == 1 else 2 :]
            if kind == Instruction.REG_WRITE:
                self._registered[servo.ident] = (address, content)
            else:
                wrong = self._write(servo, address, content)
        elif kind == Instruction.ACTION:
            self._act(servo)
        elif kind == Instruction.REBOOT and self.protocol == 2:
            servo.cycle_power()
        else:
            wrong = INSTRUCTION if self.protocol == 1 else _REFUSES_INSTRUCTION2
        return [(servo, self._status(servo, wrong))] if level == 2 else []

    def _broadcast(self, packet: Packet, replies: list[tuple[SimServo, bytes]]) -> None:
        for servo in sorted(self.servos.values(), key=lambda servo: servo.ident):
            if servo.dead:
                continue
            if packet.instruction == Instruction.PING and self.protocol == 2:
                replies += self._single(servo, packet)
            elif packet.instruction in (Instruction.WRITE, Instruction.ACTION):
                self._single(servo, packet)

    def _chain(self, packet: Packet) -> list[tuple[SimServo, bytes]]:
        """Answers one behind the other, in the order asked; a silent servo ends the chain."""
        asked: list[tuple[int, int, int]] = []
        data = packet.data
        if self.protocol == 1 and packet.instruction == Instruction.BULK_READ:
            asked = [(data[at + 1], data[at + 2], data[at]) for at in range(1, len(data) - 2, 3)]
        elif self.protocol == 2 and packet.instruction == Instruction.SYNC_READ:
            address, length = self._address(data), int.from_bytes(data[2:4], "little")
            asked = [(ident, address, length) for ident in data[4:]]
        elif self.protocol == 2:
            words = [data[at : at + 5] for at in range(0, len(data) - 4, 5)]
            asked = [(word[0], int.from_bytes(word[1:3], "little"), int.from_bytes(word[3:5], "little")) for word in words]
        replies = []
        for ident, address, length in asked:
            servo = self._servo(ident)
            content = None if servo is None else servo.read(address, length)
            lost = servo is None or content is None or servo.get("status_level") == 0 or self._hit(self.faults.drop)
            if not lost and servo is not None and content is not None:
                replies.append((servo, self._status(servo, 0, content)))
            elif self.faults.breaks_chain:
                break
        return replies

    def _sync_write(self, data: bytes) -> None:
        wide = 1 if self.protocol == 1 else 2
        address, length = self._address(data), int.from_bytes(data[wide : 2 * wide], "little")
        for at in range(2 * wide, len(data) - length, length + 1):
            servo = self._servo(data[at])
            if servo is not None:
                self._write(servo, address, data[at + 1 : at + 1 + length])

    def _write(self, servo: SimServo, address: int, data: bytes) -> int:
        self.counts.writes += 1
        wrong = servo.write(address, data)
        servo.advance(self._clock())
        if wrong in (ANGLE, DATA_LIMIT):
            self.counts.kinds[-wrong] = self.counts.kinds.get(-wrong, 0) + 1
        return wrong

    def _act(self, servo: SimServo) -> None:
        if servo.ident in self._registered:
            self._write(servo, *self._registered.pop(servo.ident))

    def _address(self, data: bytes) -> int:
        return data[0] if self.protocol == 1 else int.from_bytes(data[:2], "little")

    def _servo(self, ident: int) -> SimServo | None:
        servo = self.servos.get(ident)
        return None if servo is None or servo.dead else servo

    def _status(self, servo: SimServo, wrong: int, data: bytes = b"") -> bytes:
        make = packets.status1 if self.protocol == 1 else packets.status2
        return make(servo.ident, wrong | servo.error(), data)

    def _tell_currents(self) -> None:
        for board, motors in self._currents.items():
            if board in self.servos:
                total = sum(self.servos[ident].get("load") & 1023 for ident in motors if ident in self.servos)
                self.servos[board].put("current", round(total * 300 / 1023))

    def _send(self, replies: list[tuple[SimServo, bytes]], asked: int) -> None:
        out = b""
        late = _BYTE_S * (asked + 6)
        for servo, reply in replies:
            late += _DELAY_COUNT_S * servo.get("return_delay") + _BYTE_S * len(reply)
            self.counts.answers += 1
            if len(replies) == 1 and self._hit(self.faults.drop):
                self.counts.dropped += 1
                continue
            if self._hit(self.faults.corrupt):
                self.counts.corrupted += 1
                wrong = bytearray(reply)
                for _ in range(int(self._rng.integers(1, 4))):
                    wrong[int(self._rng.integers(len(wrong)))] = int(self._rng.integers(256))
                reply = bytes(wrong)
            out += reply
        if self._wire_time:
            time.sleep(late)
        if out and self._master >= 0:
            os.write(self._master, out)

    def _hit(self, share: float) -> bool:
        return share > 0.0 and bool(self._rng.random() < share)
