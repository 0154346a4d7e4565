"""Register tables of the servos in NICO and NICOL, and what their numbers mean.

Sources: ROBOTIS e-Manual (MX-64 and MX-28 with protocol 1.0, PH54, PH42); the servos of Seed Robotics'
hands follow the MX table (addresses as pypot and ros2_robothands use them). Position counts grow
counter-clockwise; ``centre`` is the count at servo angle zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from wm_bridge.errors import UserError

_RPM = 2.0 * math.pi / 60.0
POSITION_MODE = 3  # of the register "mode" (protocol 2.0)


@dataclass(frozen=True)
class Register:
    """One field of a control table, little-endian. ``signed``: two's complement."""

    address: int
    size: int
    signed: bool = False

    def encode(self, value: int) -> bytes:
        """Bytes of a value; OverflowError when it does not fit."""
        return int(value).to_bytes(self.size, "little", signed=self.signed)

    def decode(self, data: bytes) -> int:
        """The value of ``size`` bytes; the SDK hands out unsigned numbers, this one extends the sign."""
        return int.from_bytes(data, "little", signed=self.signed)


@dataclass(frozen=True)
class Measurement:
    """What one servo said in one cycle.

    Attributes:
        count: position, counts. speed: rad/s at the servo. load: share of the stall torque, -1..1.
        voltage: V, NaN when this model does not tell. temperature: degrees Celsius.
    """

    count: int
    speed: float
    load: float
    voltage: float
    temperature: float


@dataclass(frozen=True)
class ServoModel:
    """One type of servo.

    Attributes:
        name: as in the motors file. number: what it answers to a ping. protocol: 1 or 2.
        counts_per_turn, centre: position scale, counts; count at angle zero.
        lowest, highest: counts that a goal may have.
        speed_unit: rad/s per count of moving (profile) speed and of the present speed.
        speed_highest: largest value of moving speed. Zero there means "as fast as it can".
        stall_nm: N m. no_load: rad/s at the usual supply.
        sign_bit: speed and load carry their sign in bit 10 instead of two's complement.
        load_unit: share of the stall torque per count of load (or current).
        tells_voltage: False for servos that answer 0 V. supply_v: usual supply, V.
        goal_enables_torque: writing a goal switches the torque on (protocol 1.0).
        registers: fields by name.
    """

    name: str
    number: int
    protocol: int
    counts_per_turn: int
    centre: int
    lowest: int
    highest: int
    speed_unit: float
    speed_highest: int
    stall_nm: float
    no_load: float
    sign_bit: bool
    load_unit: float
    tells_voltage: bool
    goal_enables_torque: bool
    registers: Mapping[str, Register]
    supply_v: float = 12.0

    def __getitem__(self, register: str) -> Register:
        """The register of this name."""
        return self.registers[register]

    @property
    def block(self) -> tuple[int, int]:
        """(address, length) that holds everything measured in a cycle."""
        fields = [self.registers[name] for name in ("position", "speed", "load", "voltage", "temperature")]
        first = min(field.address for field in fields)
        return first, max(field.address + field.size for field in fields) - first

    @property
    def target(self) -> tuple[int, int]:
        """(address, length) of goal and moving speed, which are written together."""
        first = min(self["goal"].address, self["moving_speed"].address)
        return first, self["goal"].size + self["moving_speed"].size

    def to_count(self, angle: float) -> int:
        """Position count of a servo angle, rad, kept inside the range of the goal register."""
        count = self.centre + round(angle * self.counts_per_turn / (2.0 * math.pi))
        return min(max(count, self.lowest), self.highest)

    def to_angle(self, count: int) -> float:
        """Servo angle of a position count, rad."""
        return (count - self.centre) * 2.0 * math.pi / self.counts_per_turn

    def to_speed(self, speed: float) -> int:
        """Moving speed of a servo speed, rad/s: never 0, which would mean unlimited, and never unlimited otherwise."""
        if not math.isfinite(speed) or speed <= 0.0:
            return 1
        return min(max(round(speed / self.speed_unit), 1), self.speed_highest)

    def targets(self, count: int, speed: int) -> bytes:
        """Bytes at ``target``.

        Raises:
            ValueError: moving speed 0 (no limit), which is never sent.
        """
        if speed < 1:
            raise ValueError(f"{self.name}: moving speed {speed} is not a limit; at least 1")
        goal, moving = self["goal"], self["moving_speed"]
        parts = sorted(((goal, count), (moving, speed)), key=lambda part: part[0].address)
        return b"".join(field.encode(value) for field, value in parts)

    def measured(self, data: bytes) -> Measurement:
        """The bytes at ``block``, in units."""
        start = self.block[0]

        def value(name: str) -> int:
            field = self.registers[name]
            return field.decode(data[field.address - start : field.address - start + field.size])

        volts = 0.1 * value("voltage") if self.tells_voltage else math.nan
        speed, load = self._signed(value("speed")), self._signed(value("load"))
        return Measurement(value("position"), self.speed_unit * speed, self.load_unit * load, volts, float(value("temperature")))

    def _signed(self, value: int) -> int:
        if not self.sign_bit:
            return value
        return -(value & 1023) if value & 1024 else value & 1023


_MX = {
    "model": Register(0, 2),
    "id": Register(3, 1),
    "return_delay": Register(5, 1),
    "lower_limit": Register(6, 2),
    "upper_limit": Register(8, 2),
    "temperature_limit": Register(11, 1),
    "status_level": Register(16, 1),
    "shutdown": Register(18, 1),
    "torque": Register(24, 1),
    "goal": Register(30, 2),
    "moving_speed": Register(32, 2),
    "torque_limit": Register(34, 2),
    "position": Register(36, 2),
    "speed": Register(38, 2),
    "load": Register(40, 2),
    "voltage": Register(42, 1),
    "temperature": Register(43, 1),
    "moving": Register(46, 1),
    "current": Register(68, 2),
}
_PH = {
    "model": Register(0, 2),
    "id": Register(7, 1),
    "mode": Register(11, 1),
    "return_delay": Register(9, 1),
    "temperature_limit": Register(31, 1),
    "upper_limit": Register(48, 4, signed=True),
    "lower_limit": Register(52, 4, signed=True),
    "shutdown": Register(63, 1),
    "torque": Register(512, 1),
    "status_level": Register(516, 1),
    "error": Register(518, 1),
    "moving_speed": Register(560, 4),
    "goal": Register(564, 4, signed=True),
    "moving": Register(570, 1),
    "load": Register(574, 2, signed=True),
    "speed": Register(576, 4, signed=True),
    "position": Register(580, 4, signed=True),
    "voltage": Register(592, 2),
    "temperature": Register(594, 1),
}


def _mx(name: str, number: int, stall_nm: float, no_load: float, tells_voltage: bool = True, protocol: int = 1) -> ServoModel:
    return ServoModel(
        name, number, protocol, 4096, 2048, 0, 4095, 0.114 * _RPM, 1023, stall_nm, no_load, sign_bit=True, load_unit=1 / 1023,
        tells_voltage=tells_voltage, goal_enables_torque=protocol == 1, registers=_MX,
    )  # fmt: skip


def _ph(name: str, number: int, per_turn: int, rated_nm: float, rated_ma: int, no_load: float) -> ServoModel:
    half = per_turn // 2
    return ServoModel(
        name, number, 2, per_turn, 0, -half, half, 0.01 * _RPM, round(no_load / (0.01 * _RPM)), rated_nm, no_load, sign_bit=False,
        load_unit=1 / rated_ma, tells_voltage=True, goal_enables_torque=False, registers=_PH, supply_v=24.0,
    )  # fmt: skip


# Model numbers of the Seed servos are not published: 0 = not compared. Their torques are estimates.
MODELS = {
    model.name: model
    for model in (
        _mx("MX-64", 310, 6.0, 63 * _RPM),
        _mx("MX-28", 29, 2.5, 55 * _RPM),
        _mx("SR-SEED56", 0, 1.0, 60 * _RPM, tells_voltage=False),
        _mx("SR-SEED28", 0, 0.5, 60 * _RPM, tells_voltage=False),
        _mx("SR-EROSBRD", 0, 0.5, 60 * _RPM, tells_voltage=False),
        _mx("RH8D", 0, 0.5, 60 * _RPM, tells_voltage=False, protocol=2),
        _ph("PH54-200-S500-R", 2020, 1_003_846, 44.7, 9300, 33.1 * _RPM),
        _ph("PH54-100-S500-R", 2010, 1_003_846, 25.3, 5500, 33.3 * _RPM),
        _ph("PH42-020-S300-R", 2000, 607_500, 5.1, 1500, 32.7 * _RPM),
    )
}


def find(name: str) -> ServoModel:
    """The model of this name; an unknown one is an error that lists those that are known."""
    if name not in MODELS:
        raise UserError(f"servo model {name!r} is unknown", f"one of {sorted(MODELS)}, or add its table to dynamixel/models.py", 2)
    return MODELS[name]
