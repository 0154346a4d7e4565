"""Which topics of a bag are what: a YAML file like config/datasets/wm.yaml."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wm_bridge.core.settings import read_group, read_yaml

EXAMPLE = "config/datasets/wm.yaml"
UNITS = {"rad": 1.0, "deg": math.pi / 180.0}


@dataclass(frozen=True)
class JointSource:
    """A topic with joint values.

    Attributes:
        topic: of sensor_msgs/JointState, trajectory_msgs/JointTrajectory (its last point) or std_msgs/Float64MultiArray.
        order: names of the values where the messages have none.
        rename: joint of the robot -> its name in the bag, where the two differ.
        unit: rad or deg.
    """

    topic: str
    order: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    unit: str = "rad"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {sorted(UNITS)}, got {self.unit!r}")
        object.__setattr__(self, "order", tuple(self.order))


@dataclass(frozen=True)
class Policy:
    """What is still good enough; see config/datasets/wm.yaml."""

    offset_ms: float
    joint_gap_ms: float
    command_age_ms: float
    shortest_s: float

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"policy.{item.name} must be a number > 0, got {value!r}")


@dataclass(frozen=True)
class DataMapping:
    """A whole mapping file.

    Attributes:
        robot, group: whose joints. rate_hz: samples per second.
        cameras: name -> topic; the first one is what a model sees.
        joints, commands: None commands: the next joint positions stand for what was sent.
        episodes: topics whose messages begin an episode.
    """

    robot: str
    group: str
    rate_hz: float
    cameras: Mapping[str, str]
    joints: JointSource
    policy: Policy
    commands: JointSource | None = None
    episodes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rate = self.rate_hz
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.1 <= rate <= 200.0:
            raise ValueError(f"rate_hz must be a number from 0.1 to 200, got {rate!r}")
        if not self.cameras or not all(isinstance(topic, str) and topic for topic in self.cameras.values()):
            raise ValueError(f"cameras must name at least one topic, as in {{front: camera/image_raw}}, got {self.cameras!r}")
        object.__setattr__(self, "episodes", tuple(self.episodes))


def load_mapping(path: Path) -> DataMapping:
    """Read a mapping.

    Raises:
        ValueError: unknown, missing or senseless keys, in one sentence. OSError: the file cannot be read.
    """
    data = read_yaml(path)
    data = dict(data) if isinstance(data, Mapping) else data
    try:
        for name, cls in (("joints", JointSource), ("commands", JointSource), ("policy", Policy)):
            if isinstance(data, dict) and data.get(name) is not None:
                data[name] = read_group(cls, path.name, name, data[name], EXAMPLE)
        return read_group(DataMapping, path.name, "", data, EXAMPLE)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(path.name) else f"{path.name}: {text}") from error
    except TypeError as error:
        raise ValueError(f"{path.name}: {error}; see {EXAMPLE}") from error
