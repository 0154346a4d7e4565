"""Joints on one Dynamixel bus (NICO, one arm of NICOL, and robots like them), behind the ``Robot`` interface."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wm_bridge.core.types import Command, FloatArray, JointState
from wm_bridge.robots.base import MotorHealth, Robot, RobotError
from wm_bridge.robots.dynamixel import arming
from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel.bus import Block, BusLost, ServoBus
from wm_bridge.robots.dynamixel.bus_process import BusProcess
from wm_bridge.robots.dynamixel.hand import HandDriver
from wm_bridge.robots.dynamixel.motors import JointMotor
from wm_bridge.robots.dynamixel.plausible import Plausible
from wm_bridge.robots.dynamixel.poll import Poll
from wm_bridge.robots.spec import RobotSpec

SILENT, LIMP = 1 << 8, 1 << 9  # of MotorHealth.error, beside the servo's own bits
_MOTOR_BITS = {1: 0x27, 2: 0x80}  # voltage, angle, heat, overload; the alert bit
_CATCH_UP = 1.25  # moving speed as a multiple of the joint's limit, so that the servo keeps up
_RECONNECT_S = 0.25


@dataclass(frozen=True)
class BusSettings:
    """How the bus is used.

    Attributes:
        port: path of the device, or "sim" for a simulated bus in a process of its own.
        motors: name in config/motors or path of a YAML file.
        dry_run: nothing that changes a servo is sent.
        rate_hz: cycles per second, fewer where the motors file says so. lost_ms: a joint that was not measured for this long is trouble.
        patience_ms: see ``ServoBus``.
    """

    port: str
    motors: str = "nico_rh4d"
    dry_run: bool = True
    rate_hz: float = 100.0
    lost_ms: float = 100.0
    patience_ms: float = 6.0

    def __post_init__(self) -> None:
        if not self.port:
            raise ValueError("port must be the path of a serial device (/dev/serial/by-id/...) or sim")
        if not (10.0 <= self.rate_hz <= 1000.0 and self.lost_ms > 0.0 and self.patience_ms > 0.0):
            raise ValueError(f"rate_hz in 10..1000, lost_ms and patience_ms > 0, got {self}")


@dataclass
class _Joint:
    """What is known of one joint; positions in joint angles, rad."""

    motor: JointMotor
    speed: int
    plausible: Plausible
    position: float = 0.0
    velocity: float = 0.0
    effort: float = 0.0
    voltage: float = float("nan")
    temperature: float = float("nan")
    stamp_ns: int = 0
    measured_at: float = -np.inf
    goal: int | None = None
    armed: bool = False
    lost: bool = False
    limp: str = ""


class DynamixelRobot(Robot):
    """Servos on one bus, cycled by a thread (or by ``cycle``): write goals, read all, look after one more thing.

    | state     | meaning                                              | left by                             |
    |-----------|------------------------------------------------------|-------------------------------------|
    | READY     | every joint measured and with torque                 | any joint silent for ``lost_ms`` or |
    |           |                                                      | without torque, device gone -> LOST |
    | LOST      | ``trouble`` says why; goals of the others stay where | joints back: each is armed where it |
    |           | ``stop`` put them (measured), none is changed        | is measured -> READY                |

    A goal goes out with its speed limit in every cycle, so a lost packet is mended by the next one and a
    servo that forgot its limit is told again. With ``dry_run`` the bus is only read. What was measured is
    never told as newer than it is: the stamp of a state is that of its oldest joint.

    Attributes:
        warnings: what makes it slower than it could be, with the remedy. hands: by name.
        cycles: finished. slowest_ms: longest cycle. motors: the map.
    """

    def __init__(
        self,
        spec: RobotSpec,
        settings: BusSettings,
        threaded: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(spec)
        simulated = settings.port == "sim"
        motors = motor_map.load(settings.motors)
        self.motors = motors.verified() if simulated else motors
        self.settings, self._threaded, self._clock = settings, threaded, clock
        self._rate_hz = min(settings.rate_hz, motors.rate_hz)
        ordered = self.motors.ordered(spec.joint_names)
        self._joints = []
        for motor, limit in zip(ordered, spec.velocity, strict=True):
            speed = motor.model.to_speed(_CATCH_UP * float(limit) / motor.ratio)
            self._joints.append(_Joint(motor, speed, Plausible(motor.model.no_load * motor.ratio)))
        self.warnings: tuple[str, ...] = ()
        self.hands: dict[str, HandDriver] = {}
        self.cycles, self.slowest_ms = 0, 0.0
        self._process: BusProcess | None = None
        self._bus: ServoBus | None = None
        self._poll: Poll | None = None
        self._lock = threading.RLock()
        self._lost = "not connected"
        self._turn = 0
        self._reopen_at = 0.0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def trouble(self) -> str:
        """Why the robot cannot be measured or moved now; "" when it can."""
        with self._lock:
            return self._lost

    def health(self) -> MotorHealth | None:
        """Effort from the load, temperatures, voltages and error bits; None before all joints were measured.

        Servos that do not tell their voltage get the lowest of the others: they share the supply.
        """
        with self._lock:
            joints = self._joints
            if not all(joint.stamp_ns for joint in joints):
                return None
            told = [joint.voltage for joint in joints if np.isfinite(joint.voltage)]
            volts = tuple(joint.voltage if np.isfinite(joint.voltage) else min(told) for joint in joints) if told else ()
            return MotorHealth(
                tuple(joint.effort for joint in joints),
                tuple(joint.temperature for joint in joints),
                volts,
                tuple(self._error(joint) for joint in joints),
            )

    def details(self) -> dict[str, str]:
        """The bus in words, for diagnostics; the slowest cycle is that since the last call."""
        slowest, self.slowest_ms = self.slowest_ms, 0.0
        counts = self._bus.counts if self._bus is not None else None
        return {
            "bus cycles": str(self.cycles),
            "slowest bus cycle [ms]": f"{slowest:.1f}",
            "damaged, missing answers": "-" if counts is None else f"{counts.corrupt}, {counts.missing}",
            "hands": ", ".join(f"{name} {hand.state.value}" for name, hand in self.hands.items()) or "none",
        }

    def cycle(self) -> None:
        """One turn of the bus: goals out, positions in, one slow thing. Called by the thread, or instead of it."""
        begin = self._clock()
        try:
            if self._bus is None or not self._bus.is_open:
                self._reopen(begin)
            else:
                self._turn_bus(begin)
        except BusLost as error:
            self._drop(str(error))
        self.cycles += 1
        self.slowest_ms = max(self.slowest_ms, (self._clock() - begin) * 1e3)

    # ---- Robot ---------------------------------------------------------------------

    def _open(self) -> None:
        if self.settings.port == "sim":
            self._process = BusProcess(self.settings.motors)
        elif not self.settings.dry_run:
            unverified = [joint.motor.joint for joint in self._joints if not joint.motor.verified]
            if unverified:
                raise RobotError(f"sign and zero of {unverified} are not verified on this robot", "./wm verify-joints --port DEVICE")
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        if self._threaded:
            self._ending.clear()
            self._thread = threading.Thread(target=self._run, daemon=True, name="bus")
            self._thread.start()

    def _start(self) -> None:
        path = self._process.path if self._process is not None else self.settings.port
        self._bus = ServoBus(path, self.motors.baud, self.motors.protocol, self.settings.patience_ms)
        self._bus.open()
        self._check()
        blocks = [Block(joint.motor.ident, *joint.motor.model.block) for joint in self._joints]
        self._poll = Poll(self._bus, blocks, max(0.015, 1.5 / self._rate_hz))
        self.hands = {hand.name: HandDriver(self._bus, hand) for hand in self.motors.hands}
        deadline = self._clock() + 3.0
        while self._clock() < deadline:
            self._take(self._poll.cycle())
            if all(joint.stamp_ns for joint in self._joints):
                break
        absent = [f"{joint.motor.joint} (id {joint.motor.ident})" for joint in self._joints if not joint.stamp_ns]
        if absent:
            raise RobotError(f"no answer from {', '.join(absent)}", "check power and cables of these servos, and their ids in config/motors")
        for joint in self._joints:
            why = self._arm(joint)
            if why:
                raise RobotError(f"{joint.motor.joint} (id {joint.motor.ident}) {why}", "mend it; a servo that was hot needs its power off and on")
        self._take(self._poll.cycle())  # arming took its time: measured anew
        self._judge(self._clock())

    def _close(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(5.0)
            self._thread = None
        self._send_or_drop()  # the stop before it
        self._end()

    def _end(self) -> None:
        if self._bus is not None:
            self._bus.close()
        if self._process is not None:
            self._process.close()
            self._process = None
        self._lost = "not connected"

    def _read(self) -> JointState:
        with self._lock:
            joints = self._joints
            return JointState(
                self.spec.joint_names,
                np.array([joint.position for joint in joints]),
                np.array([joint.velocity for joint in joints]),
                np.array([joint.effort for joint in joints]),
                min(joint.stamp_ns for joint in joints),
            )

    def _write(self, command: Command) -> Command:
        with self._lock:
            if self._lost:  # nothing is sent: what it holds is where it was measured
                held = np.array([joint.position for joint in self._joints])
                return dataclasses.replace(command, position=held, velocity=np.zeros_like(held))
            for joint, position in zip(self._joints, command.position, strict=True):
                joint.goal = joint.motor.to_count(float(position))
            return command

    def _stop(self) -> FloatArray:
        """Goals at what was measured last; joints that are out of reach keep theirs by themselves."""
        with self._lock:
            for joint in self._joints:
                joint.goal = joint.motor.to_count(joint.position)
            held = np.array([joint.position for joint in self._joints])
        if self._thread is None:  # else its next turn sends it
            self._send_or_drop()
        return held

    # ---- inside: one turn ----------------------------------------------------------

    def _run(self) -> None:
        period, due = 1.0 / self._rate_hz, self._clock()
        while not self._ending.is_set():
            self.cycle()
            due = max(due + period, self._clock() - period)
            self._ending.wait(max(due - self._clock(), 0.0))

    def _turn_bus(self, now: float) -> None:
        assert self._bus is not None and self._poll is not None
        self._send()
        self._take(self._poll.cycle())
        self._judge(self._clock())  # before what may take long: who was just measured is not silent
        self._look_after()
        if not self.settings.dry_run:
            for hand in self.hands.values():
                hand.step(now)

    def _send(self) -> None:
        """Goal and speed of every armed joint; one packet per kind of table."""
        if self.settings.dry_run or self._bus is None or not self._bus.is_open:
            return
        packets: dict[tuple[int, int], dict[int, bytes]] = {}
        with self._lock:
            for joint in self._joints:
                if joint.armed and joint.goal is not None:
                    model = joint.motor.model
                    packets.setdefault(model.target, {})[joint.motor.ident] = model.targets(joint.goal, joint.speed)
        for (address, _), data in packets.items():
            self._bus.write_many(address, data)

    def _send_or_drop(self) -> None:
        try:
            self._send()
        except BusLost as error:
            self._drop(str(error))

    def _take(self, found: dict[int, bytes]) -> None:
        now, stamp_ns = self._clock(), time.time_ns()
        for joint in self._joints:
            data = found.get(joint.motor.ident)
            if data is None:
                continue
            motor, said = joint.motor, joint.motor.model.measured(data)
            position = motor.to_joint(motor.model.to_angle(said.count))
            if not joint.plausible.take(position, now):
                continue
            with self._lock:
                joint.position, joint.velocity = position, motor.sign * motor.ratio * said.speed
                joint.effort = motor.sign * said.load * motor.model.stall_nm / motor.ratio
                joint.voltage, joint.temperature = said.voltage, said.temperature
                joint.stamp_ns, joint.measured_at = stamp_ns, now

    def _look_after(self) -> None:
        """One joint per cycle: arm it when it came back; else does it still have torque and the settings it was told?"""
        assert self._bus is not None
        if self.settings.dry_run:
            return
        self._turn = (self._turn + 1) % len(self._joints)
        there = [joint for joint in self._joints[self._turn :] + self._joints[: self._turn] if not joint.lost]
        waiting = [joint for joint in there if not joint.armed]
        if waiting:
            waiting[0].limp = self._arm(waiting[0])
        elif there and self._forgetful(there[0]) and self._forgetful(there[0]):  # twice: damaged packets exist
            with self._lock:
                there[0].armed, there[0].goal = False, None
                there[0].limp = "has lost its torque or its settings (power failed, or it protects itself)"

    def _forgetful(self, joint: _Joint) -> bool:
        assert self._bus is not None
        return arming.lost_settings(self._bus, joint.motor.ident, joint.motor.model, self.motors.torque_limit)

    def _arm(self, joint: _Joint) -> str:
        assert self._bus is not None
        if self.settings.dry_run:
            return ""
        why, count = arming.arm(self._bus, joint.motor.ident, joint.motor.model, joint.speed, self.motors.torque_limit)
        if not why:
            with self._lock:
                joint.armed, joint.goal = True, count
        return why

    def _judge(self, now: float) -> None:
        wrong = []
        with self._lock:
            for joint in self._joints:
                name = f"{joint.motor.joint} (id {joint.motor.ident})"
                if self._silent(joint, now):
                    if not joint.lost:
                        joint.plausible.forget()
                    joint.lost, joint.armed = True, False
                    wrong.append(f"{name} does not answer")
                    continue
                joint.lost = False
                if joint.limp:
                    wrong.append(f"{name} {joint.limp}")
                elif not joint.armed and not self.settings.dry_run:
                    wrong.append(f"{name} is not holding yet")
            self._lost = "; ".join(wrong)

    # ---- inside: the device --------------------------------------------------------

    def _drop(self, why: str) -> None:
        with self._lock:
            self._lost = f"{why}; waiting for it to come back"
            for joint in self._joints:
                joint.armed = False
                joint.plausible.forget()
        self._reopen_at = self._clock() + _RECONNECT_S

    def _reopen(self, now: float) -> None:
        """Open a device that came back; its joints are armed one by one where they are then measured."""
        if self._bus is None or now < self._reopen_at:
            return
        self._reopen_at = now + _RECONNECT_S
        try:
            self._bus.open()
            self._check()
        except RobotError as error:
            self._bus.close()
            with self._lock:
                self._lost = f"{error.message}; waiting for it to come back"
            return
        with self._lock:
            self._lost = "the device is back, its joints are being measured"

    def _check(self) -> None:
        """Right servos, and settings that make them slow.

        Raises:
            RobotError: another model than the map says, or a servo that answers to nothing but pings.
        """
        assert self._bus is not None
        warnings = []
        slow = []
        for joint in self._joints:
            model, ident = joint.motor.model, joint.motor.ident
            number = next((found for _ in range(3) if (found := self._bus.ping(ident)) is not None), None)
            if number is None:
                continue  # told below, with all others that are silent
            if model.number and number != model.number:
                raise RobotError(f"id {ident} ({joint.motor.joint}) is model {number}, expected {model.name} ({model.number})", "correct the ids or models in config/motors")
            if arming.read_value(self._bus, ident, model, "status_level") == 1 and not self.settings.dry_run:
                raise RobotError(f"{joint.motor.joint} (id {ident}) does not acknowledge writes", "set its Status Return Level to 2 (Dynamixel Wizard)")
            if arming.read_value(self._bus, ident, model, "return_delay"):
                slow.append(ident)
        if slow:
            warnings.append(f"return delay of ids {slow} is not 0: a cycle of {self._cycle_ms(slow):.1f} ms; set it to 0 with the Dynamixel Wizard, torque off")
        warnings += self._latency_warnings()
        self.warnings = tuple(warnings)

    def _cycle_ms(self, slow: list[int]) -> float:
        assert self._bus is not None
        blocks = [Block(joint.motor.ident, *joint.motor.model.block) for joint in self._joints]
        return self._bus.wire_ms(blocks, 0.5 * len(slow) / len(blocks))

    def _latency_warnings(self) -> list[str]:
        """What the adapter's timer costs; answers are waited for at least that long."""
        from wm_bridge.robots.dynamixel.port import LATENCY_REMEDY, latency_ms

        assert self._bus is not None
        found = latency_ms(self.settings.port)
        if found is None or found <= 1:
            return []
        self._bus.patience_ms = max(self.settings.patience_ms, found + 4.0)
        return [f"latency_timer of {self.settings.port} is {found} ms, which limits the rate; {LATENCY_REMEDY}"]

    def _silent(self, joint: _Joint, now: float) -> bool:
        return now - joint.measured_at > self.settings.lost_ms * 1e-3

    def _error(self, joint: _Joint) -> int:
        assert self._bus is not None
        bits = self._bus.errors.get(joint.motor.ident, 0) & _MOTOR_BITS[self.motors.protocol]
        silent = SILENT if joint.lost else 0
        return bits | silent | (LIMP if joint.limp else 0)
