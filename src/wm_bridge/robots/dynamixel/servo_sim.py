"""One simulated servo: a control table, and motion toward the goal at limited speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wm_bridge.robots.dynamixel.models import POSITION_MODE, ServoModel

VOLTAGE, ANGLE, OVERHEAT, RANGE, CHECKSUM, OVERLOAD, INSTRUCTION = (1 << bit for bit in range(7))  # protocol 1.0
ALERT = 0x80  # protocol 2.0: look at the register "error"
DATA_RANGE, DATA_LIMIT, ACCESS = 4, 6, 7  # protocol 2.0
_READ_ONLY = ("model", "position", "speed", "load", "voltage", "temperature", "moving", "current", "error")
_AMPERE_COUNT = 0.0045  # MX current register, around 2048


@dataclass(frozen=True)
class Surroundings:
    """What acts on the servo's shaft.

    Attributes:
        falls: rad/s (signed) at which it turns when the torque is off: gravity.
        walls: servo angles that it cannot leave, rad.
    """

    falls: float = 0.0
    walls: tuple[float, float] = (-math.inf, math.inf)


class SimServo:
    """Registers of one model and the motion behind them; time comes in with every call.

    Attributes:
        dead: answers nothing and does as it was told last. temperature_c, voltage_v: what it will measure.
        surroundings: of its shaft. fastest: highest speed it ever had with the torque on, rad/s.
        lost_power: how often the table went back to its defaults.
    """

    def __init__(self, ident: int, model: ServoModel, angle: float = 0.0, return_delay: int = 0) -> None:
        self.ident, self.model = ident, model
        self.dead = False
        self.temperature_c, self.voltage_v = 32.0, model.supply_v
        self.surroundings = Surroundings()
        self.fastest, self.lost_power = 0.0, 0
        self.shut_down = 0
        self._return_delay = return_delay
        self._angle = angle
        self._speed = 0.0
        self._at: float | None = None
        self._power_on()

    @property
    def angle(self) -> float:
        """Where the shaft is, rad; exact, not in counts."""
        return self._angle

    @property
    def torque(self) -> bool:
        """True while the motor holds."""
        return bool(self.get("torque"))

    def get(self, name: str) -> int:
        """A register's value."""
        field = self.model[name]
        return field.decode(bytes(self._memory[field.address : field.address + field.size]))

    def put(self, name: str, value: int) -> None:
        """Set a register from inside, without the checks of a write."""
        field = self.model[name]
        self._memory[field.address : field.address + field.size] = field.encode(value)

    def cycle_power(self) -> None:
        """The supply goes away and comes back: volatile registers at their defaults, torque off."""
        self.lost_power += 1
        self._power_on()

    def advance(self, now: float) -> None:
        """Move until ``now``, s, and renew what is measured."""
        before, self._at = self._at, now
        dt = 0.0 if before is None else max(now - before, 0.0)
        self._protect()
        low, high = self.surroundings.walls
        if self.torque:
            limit = self._speed_limit()
            wanted = self.model.to_angle(self.get("goal")) - self._angle
            if self.model.protocol == 1 and self.get("lower_limit") == self.get("upper_limit") == 0:
                wanted = math.inf if self.get("moving_speed") else 0.0  # wheel mode: the speed alone makes it turn
            step = min(max(wanted, -limit * dt), limit * dt)
        else:
            step, wanted = self.surroundings.falls * dt, 0.0
        reached = min(max(self._angle + step, low), high)
        if dt > 0.0:
            self._speed = (reached - self._angle) / dt
            if self.torque:
                self.fastest = max(self.fastest, abs(self._speed))
        blocked = self.torque and abs(wanted) > 0.02 and reached in (low, high)
        self._angle = reached
        self._measure(math.copysign(1.0, wanted) if blocked else 0.2 * self._speed / self.model.no_load)

    def read(self, address: int, length: int) -> bytes | None:
        """Bytes of the table; None beyond its end."""
        if address + length > len(self._memory) or length == 0:
            return None
        return bytes(self._memory[address : address + length])

    def write(self, address: int, data: bytes) -> int:
        """Take a write; returns the error of the status packet (0 = taken)."""
        touched = [
            (name, field) for name, field in self.model.registers.items() if field.address < address + len(data) and address < field.address + field.size
        ]
        if address + len(data) > len(self._memory) or not touched or any(name in _READ_ONLY for name, _ in touched):
            return RANGE if self.model.protocol == 1 else ACCESS
        trial = bytearray(self._memory)
        trial[address : address + len(data)] = data
        names = [name for name, _ in touched]
        if "goal" in names:
            goal, low, high = (self._value(trial, name) for name in ("goal", "lower_limit", "upper_limit"))
            if not low <= goal <= high and (low, high) != (0, 0):
                return ANGLE if self.model.protocol == 1 else DATA_LIMIT
        self._memory = trial
        if "goal" in names and self.model.goal_enables_torque and not self.shut_down:
            self.put("torque", 1)
        if "torque" in names and self.shut_down:
            self.put("torque", 0)
        return 0

    def error(self) -> int:
        """Error byte of the next status packet: what is wrong with the motor now."""
        wrong = self._wrong()
        if self.model.protocol == 1:
            return wrong
        return ALERT if wrong else 0

    # ---- inside --------------------------------------------------------------------

    def _power_on(self) -> None:
        fields = self.model.registers.values()
        self._memory = bytearray(max(field.address + field.size for field in fields))
        self.shut_down = 0
        self.put("model", self.model.number)
        self.put("id", self.ident)
        self.put("return_delay", self._return_delay)
        self.put("lower_limit", self.model.lowest)
        self.put("upper_limit", self.model.highest)
        self.put("temperature_limit", 80)
        self.put("status_level", 2)
        if "mode" in self.model.registers:
            self.put("mode", POSITION_MODE)
        self.put("shutdown", OVERHEAT | OVERLOAD)
        if "torque_limit" in self.model.registers:
            self.put("torque_limit", 1023)
        self.put("goal", self.model.to_count(self._angle))
        self._measure(0.0)

    def _speed_limit(self) -> float:
        speed = self.get("moving_speed")
        return min(speed * self.model.speed_unit, self.model.no_load) if speed else self.model.no_load

    def _wrong(self) -> int:
        hot = OVERHEAT if self.temperature_c >= self.get("temperature_limit") else 0
        low = VOLTAGE if not 6.0 <= self.voltage_v <= 26.0 else 0
        return hot | low | self.shut_down

    def _protect(self) -> None:
        wrong = self._wrong()
        if wrong & self.get("shutdown"):
            self.shut_down = wrong & self.get("shutdown")
            self.put("torque", 0)

    def _measure(self, load: float) -> None:
        model = self.model
        self.put("position", model.to_count(self._angle))
        self.put("speed", self._signed(self._speed / model.speed_unit))
        self.put("load", self._signed(min(abs(load), 1.0) / model.load_unit * math.copysign(1.0, load)))
        self.put("voltage", round(10.0 * self.voltage_v) if model.tells_voltage else 0)
        self.put("temperature", round(self.temperature_c))
        self.put("moving", int(self._speed != 0.0))
        if "current" in model.registers:
            self.put("current", 2048 + round(abs(load) * model.stall_nm / 1.46 / _AMPERE_COUNT))
        if "error" in model.registers:
            self.put("error", self._wrong())

    def _signed(self, value: float) -> int:
        whole = round(value)
        if not self.model.sign_bit:
            return whole
        return min(abs(whole), 1023) | (1024 if whole < 0 else 0)

    def _value(self, memory: bytearray, name: str) -> int:
        field = self.model[name]
        return field.decode(bytes(memory[field.address : field.address + field.size]))
