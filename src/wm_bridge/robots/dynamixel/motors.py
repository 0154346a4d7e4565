"""Which servo moves which joint: ``config/motors/*.yaml`` as frozen values, read and written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wm_bridge import resources
from wm_bridge.errors import UserError
from wm_bridge.robots.dynamixel import models
from wm_bridge.robots.dynamixel.models import ServoModel

_TOP = {"name", "robot", "baud", "rate_hz", "torque_limit", "motors", "hands"}


@dataclass(frozen=True)
class JointMotor:
    """One servo behind one joint: ``joint angle = sign * ratio * (servo angle - zero)``.

    Attributes:
        joint: name in the robot's YAML. ident: id on the bus. model: of the servo.
        sign: 1 or -1. zero: servo angle at joint angle zero, rad. ratio: joint turn per servo turn, > 0.
        verified: a person has confirmed sign and zero on the robot.
    """

    joint: str
    ident: int
    model: ServoModel
    sign: int
    zero: float
    ratio: float
    verified: bool

    def __post_init__(self) -> None:
        if not 0 <= self.ident <= 252:
            raise ValueError(f"{self.joint}: id must be in 0..252, got {self.ident}")
        if self.sign not in (1, -1):
            raise ValueError(f"{self.joint}: sign must be 1 or -1, got {self.sign}")
        if not (math.isfinite(self.ratio) and self.ratio > 0.0 and math.isfinite(self.zero)):
            raise ValueError(f"{self.joint}: ratio must be > 0 and zero_deg finite, got {self.ratio}, {self.zero}")

    def to_servo(self, joint: float) -> float:
        """Servo angle of a joint angle, rad."""
        return self.zero + self.sign * joint / self.ratio

    def to_joint(self, servo: float) -> float:
        """Joint angle of a servo angle, rad."""
        return self.sign * self.ratio * (servo - self.zero)

    def to_count(self, joint: float) -> int:
        """Goal register of a joint angle, rad."""
        return self.model.to_count(self.to_servo(joint))


@dataclass(frozen=True)
class Finger:
    """One servo of a hand. ``opened``, ``closed``: servo angles, rad."""

    name: str
    ident: int
    model: ServoModel
    opened: float
    closed: float

    def at(self, closure: float) -> float:
        """Servo angle at a closure of 0 (open) to 1 (closed), rad."""
        return self.opened + min(max(closure, 0.0), 1.0) * (self.closed - self.opened)


@dataclass(frozen=True)
class Hand:
    """A hand on the bus.

    Attributes:
        name: right or left. board: (id, model) of what measures the current of all fingers.
        current_limit: register value above which it stops closing. speed: of the fingers' servos, rad/s.
    """

    name: str
    board: tuple[int, ServoModel]
    current_limit: int
    speed: float
    fingers: tuple[Finger, ...]


@dataclass(frozen=True)
class Motors:
    """All servos of one robot.

    Attributes:
        name, robot: of this map, and of the robot in config/robots. baud: of the bus.
        rate_hz: cycles per second that its slowest servo keeps up with; inf = as many as asked for.
        torque_limit: share of the largest torque. joints: in the order of the file. hands: may be empty.
    """

    name: str
    robot: str
    baud: int
    torque_limit: float
    joints: tuple[JointMotor, ...]
    hands: tuple[Hand, ...]
    rate_hz: float = math.inf

    def __post_init__(self) -> None:
        if not 0.0 < self.torque_limit <= 1.0:
            raise ValueError(f"{self.name}: torque_limit must be in (0, 1], got {self.torque_limit}")
        if not self.rate_hz >= 10.0:
            raise ValueError(f"{self.name}: rate_hz must be at least 10, got {self.rate_hz}")
        owners: dict[int, str] = {}
        for ident, owner in self.owners():
            if ident in owners:
                raise ValueError(f"{self.name}: id {ident} is given to {owners[ident]} and to {owner}")
            owners[ident] = owner
        protocols = {motor.model.protocol for motor in self.joints}
        if len(protocols) != 1:
            raise ValueError(f"{self.name}: the joints' servos must share one protocol, got {sorted(protocols)}")

    @property
    def protocol(self) -> int:
        """1 or 2."""
        return self.joints[0].model.protocol

    def owners(self) -> list[tuple[int, str]]:
        """(id, what it moves) of every servo."""
        found = [(motor.ident, motor.joint) for motor in self.joints]
        for hand in self.hands:
            found.append((hand.board[0], f"{hand.name} hand"))
            found += [(finger.ident, f"{hand.name} {finger.name}") for finger in hand.fingers]
        return found

    def ordered(self, names: tuple[str, ...]) -> tuple[JointMotor, ...]:
        """The joints' motors in the robot's order.

        Raises:
            UserError: a joint without a motor, or a motor without a joint.
        """
        have = {motor.joint: motor for motor in self.joints}
        if set(have) != set(names):
            missing, extra = sorted(set(names) - set(have)), sorted(set(have) - set(names))
            raise UserError(f"motors {self.name}: joints without a motor {missing}, motors without a joint {extra}", "correct config/motors", 2)
        return tuple(have[name] for name in names)

    def verified(self) -> Motors:
        """The same with every joint confirmed: for the simulated bus, which is what the map says."""
        return dataclasses.replace(self, joints=tuple(dataclasses.replace(motor, verified=True) for motor in self.joints))


def load(name_or_path: str | Path) -> Motors:
    """Read a map by name (``config/motors/<name>.yaml``) or by the path of a YAML file.

    Raises:
        UserError: no such file (with those there are), or a key or value that makes no sense.
    """
    path = find(name_or_path)
    try:
        return from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path.name}: {error!r}", "compare it with config/motors/nico_rh4d.yaml", 2) from error


def find(name_or_path: str | Path) -> Path:
    """Where a map lies."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = resources.path("config/motors") / f"{name_or_path}.yaml"
    if not path.is_file():
        names = sorted(file.stem for file in resources.path("config/motors").glob("*.yaml"))
        raise UserError(f"there is no motors file {str(name_or_path)!r}", f"one of {names}, or the path of your own", 2)
    return path


def from_dict(data: Mapping[str, Any]) -> Motors:
    """Build the map from the parsed YAML."""
    _only(data, _TOP, "motors")
    joints = []
    for joint, entry in data["motors"].items():
        _only(entry, {"id", "model", "sign", "zero_deg", "ratio", "verified"}, joint)
        if not isinstance(entry["verified"], bool):
            raise ValueError(f"{joint}: verified must be true or false, got {entry['verified']!r}")
        zero = math.radians(entry["zero_deg"])
        joints.append(JointMotor(joint, entry["id"], models.find(entry["model"]), entry["sign"], zero, float(entry["ratio"]), entry["verified"]))
    hands = tuple(_hand(name, entry) for name, entry in (data.get("hands") or {}).items())
    return Motors(data["name"], data["robot"], int(data["baud"]), float(data["torque_limit"]), tuple(joints), hands, float(data.get("rate_hz", math.inf)))


def _hand(name: str, data: Mapping[str, Any]) -> Hand:
    _only(data, {"board", "current_limit", "speed_deg_s", "fingers"}, f"hand {name}")
    fingers = []
    for finger, entry in data["fingers"].items():
        _only(entry, {"id", "model", "open_deg", "closed_deg"}, f"{name} {finger}")
        opened, closed = math.radians(entry["open_deg"]), math.radians(entry["closed_deg"])
        fingers.append(Finger(finger, entry["id"], models.find(entry["model"]), opened, closed))
    board = (data["board"]["id"], models.find(data["board"]["model"]))
    return Hand(name, board, int(data["current_limit"]), math.radians(data["speed_deg_s"]), tuple(fingers))


def _only(data: Mapping[str, Any], keys: set[str], where: str) -> None:
    unknown = sorted(set(data) - keys)
    if unknown:
        raise ValueError(f"{where}: unknown keys {unknown}, known are {sorted(keys)}")
