"""What a robot is: joints, limits, groups and frames, read from ``config/robots/*.yaml``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge import resources
from wm_bridge.core.settings import read_yaml
from wm_bridge.core.types import FloatArray, frozen_array

_TOP_KEYS = (
    "name urdf safety base_frame control_rate_hz defaults joints groups tools workspaces driver".split()
)
_DRIVER_KEYS = ("robot_driver", "motors", "controller", "controller_interface", "state_topic")
_LIMIT_KEYS = ("velocity", "acceleration", "jerk", "effort")
_JOINT_KEYS = ("limits", "home", *_LIMIT_KEYS)


@dataclass(frozen=True)
class Box:
    """An axis-aligned box. ``lower`` and ``upper`` are (3,) corners, base frame, m."""

    lower: FloatArray
    upper: FloatArray

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            corner = frozen_array(getattr(self, name))
            if corner.shape != (3,) or not np.isfinite(corner).all():
                raise ValueError(f"box {name} must be three finite numbers, got {corner}")
            object.__setattr__(self, name, corner)
        if not (self.lower < self.upper).all():
            raise ValueError(f"box lower {self.lower} must be below upper {self.upper}")

    def contains(self, points: FloatArray) -> np.ndarray:
        """Return (...,) bool: which of the (..., 3) points lie inside."""
        return np.asarray(((points >= self.lower) & (points <= self.upper)).all(axis=-1))


@dataclass(frozen=True)
class RobotSpec:
    """Everything the other parts may know about one robot.

    ``joint_names`` is the only source of joint order: every (J,) array in the project has it.

    Attributes:
        name: short name, also that of the YAML file.
        joint_names: (J,) names as in the URDF.
        lower, upper: (J,) position limits, rad.
        velocity, acceleration, jerk: (J,) limits, rad/s, rad/s^2, rad/s^3.
        effort: (J,) limit, N m.
        home: (J,) rest pose, rad.
        groups: joint names per group, for example ``right_arm``.
        tools: tool frame per arm.
        workspaces: where the tool of an arm may be sent, base frame.
        base_frame: root frame of the URDF.
        urdf: path relative to the repository root, or an absolute one.
        safety: path of its safety settings, relative to the repository root.
        control_rate_hz: rate at which the robot takes references.
        driver: parameters of the driver node that belong to this robot; the node's own win.
    """

    name: str
    joint_names: tuple[str, ...]
    lower: FloatArray
    upper: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    jerk: FloatArray
    effort: FloatArray
    home: FloatArray
    groups: Mapping[str, tuple[str, ...]]
    tools: Mapping[str, str]
    workspaces: Mapping[str, Box]
    base_frame: str
    urdf: str
    safety: str
    control_rate_hz: float
    driver: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.joint_names)
        if count == 0 or len(set(self.joint_names)) != count:
            raise ValueError(f"{self.name}: joint names must be unique, got {self.joint_names}")
        for name in ("lower", "upper", *_LIMIT_KEYS, "home"):
            array = frozen_array(getattr(self, name))
            if array.shape != (count,) or not np.isfinite(array).all():
                raise ValueError(f"{self.name}: {name} must be {count} finite numbers, got {array}")
            if name in _LIMIT_KEYS and not (array > 0).all():
                raise ValueError(f"{self.name}: every {name} limit must be > 0, got {array}")
            object.__setattr__(self, name, array)
        for index, joint in enumerate(self.joint_names):
            lower, upper, home = self.lower[index], self.upper[index], self.home[index]
            if not lower < upper:
                raise ValueError(f"{self.name}: {joint} limits [{lower}, {upper}] are not ordered")
            if not lower <= home <= upper:
                raise ValueError(
                    f"{self.name}: {joint} home {home} is outside its limits [{lower}, {upper}]"
                )
        for group, names in self.groups.items():
            for joint in names:
                _known(joint, self.joint_names, f"{self.name}: joint in group {group}")
        for arm in (*self.tools, *self.workspaces):
            _known(arm, self.groups, f"{self.name}: arm")
        if not self.control_rate_hz > 0:
            raise ValueError(f"{self.name}: control_rate_hz must be > 0, got {self.control_rate_hz}")

    def index(self, joint: str) -> int:
        """Return the position of one joint in every (J,) array; unknown name = error."""
        return self.joint_names.index(_known(joint, self.joint_names, f"{self.name}: joint"))

    def indices(self, group: str) -> np.ndarray:
        """Return the (A,) positions of a group's joints in every (J,) array."""
        names = self.groups[_known(group, self.groups, f"{self.name}: group")]
        return np.array([self.joint_names.index(joint) for joint in names])

    def part(self, joints: Iterable[str]) -> RobotSpec:
        """Return some of its joints as a robot without groups, tools and workspaces; unknown name = error."""
        names = tuple(joints)
        index = [self.index(joint) for joint in names]
        limits = {key: getattr(self, key)[index] for key in ("lower", "upper", *_LIMIT_KEYS, "home")}
        return replace(self, joint_names=names, groups={}, tools={}, workspaces={}, **limits)

    def clip(self, q: FloatArray) -> FloatArray:
        """Return ``q`` (..., J) moved into the position limits. NaN stays NaN: check first."""
        return np.clip(q, self.lower, self.upper)

    def urdf_path(self) -> Path:
        """Return where the robot description lies."""
        return Path(self.urdf) if Path(self.urdf).is_absolute() else resources.path(self.urdf)

    def safety_path(self) -> Path:
        """Return where the settings of its safety filter lie."""
        return resources.path(self.safety)


def load(name_or_path: str | Path = "nico") -> RobotSpec:
    """Read a robot by name (``config/robots/<name>.yaml``) or by path of a YAML file.

    Raises:
        FileNotFoundError: no such file; lists the robots that exist.
        ValueError: an unknown or missing key, or a value that makes no sense.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        folder = resources.path("config/robots")
        path = folder / f"{name_or_path}.yaml"
        if not path.is_file():
            names = sorted(file.stem for file in folder.glob("*.yaml"))
            raise FileNotFoundError(f"no robot {name_or_path!r} in config/robots; have {names}")
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path.name}: expected a mapping, got {type(data).__name__}")
    try:
        return from_dict(data)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: missing or malformed entry: {error!r}") from error


def from_dict(data: Mapping[str, Any]) -> RobotSpec:
    """Build the spec from the parsed YAML; see ``config/robots/nico.yaml`` for the form."""
    _only(data, _TOP_KEYS, "robot")
    joints = data["joints"]
    defaults = data.get("defaults", {})
    _only(defaults, _LIMIT_KEYS, "defaults")
    for joint, entry in joints.items():
        _only(entry, _JOINT_KEYS, f"joint {joint}")
        if len(entry["limits"]) != 2:
            raise ValueError(f"{joint}: limits must be [lower, upper], got {entry['limits']}")
    limits = {
        key: frozen_array([entry[key] if key in entry else defaults[key] for entry in joints.values()])
        for key in _LIMIT_KEYS
    }
    for arm, box in data["workspaces"].items():
        _only(box, ("lower", "upper"), f"workspace {arm}")
    return RobotSpec(
        name=data["name"],
        joint_names=tuple(joints),
        lower=frozen_array([entry["limits"][0] for entry in joints.values()]),
        upper=frozen_array([entry["limits"][1] for entry in joints.values()]),
        home=frozen_array([entry["home"] for entry in joints.values()]),
        groups={group: tuple(names) for group, names in data["groups"].items()},
        tools=dict(data["tools"]),
        workspaces={arm: Box(**box) for arm, box in data["workspaces"].items()},
        base_frame=data["base_frame"],
        urdf=data["urdf"],
        safety=data["safety"],
        control_rate_hz=float(data["control_rate_hz"]),
        driver=_driver(data.get("driver", {})),
        velocity=limits["velocity"],
        acceleration=limits["acceleration"],
        jerk=limits["jerk"],
        effort=limits["effort"],
    )


def _driver(data: Mapping[str, Any]) -> dict[str, str]:
    _only(data, _DRIVER_KEYS, "driver")
    return {key: ",".join(value) if isinstance(value, list) else str(value) for key, value in data.items()}


def _only(data: Mapping[str, Any], keys: Iterable[str], where: str) -> None:
    for key in data:
        _known(key, keys, f"{where}: key")


def _known(name: str, names: Iterable[str], what: str) -> str:
    names = list(names)
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)
        raise ValueError(f"{what} {name!r} is unknown; nearest is {near[0] if near else None!r}, "
                         f"known are {names}")
    return name
