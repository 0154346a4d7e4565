"""What was asked of the planner, as one line of JSON: a bag that holds it can be planned through again."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from wm_bridge.core.goal import GoalConfig
from wm_bridge.core.goal_kinds import GoalKind, JointsGoal, PictureGoal, PoseGoal
from wm_bridge.core.images import decompress
from wm_bridge.core.plan_step import PlanLoopConfig
from wm_bridge.core.types import ImageArray

_VERSION = 1


@dataclass(frozen=True)
class GoalRecord:
    """A goal that a planner began to pursue.

    Attributes:
        stages: pursued one after the other. goal: when it counts as reached. loop: how plans become trajectories.
        number: of the goal since the planner was activated, from 1; its random numbers are of this and the seed.
        robot: name of its description. planner: what else decides its plans (checkpoint, weights, seed, search).
    """

    stages: tuple[GoalKind, ...]
    goal: GoalConfig
    loop: PlanLoopConfig
    number: int = 1
    robot: str = ""
    planner: Mapping[str, Any] = field(default_factory=dict)


def to_text(record: GoalRecord) -> str:
    """One line of JSON; pictures are PNG in base 64."""
    return json.dumps(
        {
            "version": _VERSION,
            "stages": [_stage(goal) for goal in record.stages],
            "goal": dataclasses.asdict(record.goal),
            "loop": dataclasses.asdict(record.loop),
            "number": record.number,
            "robot": record.robot,
            "planner": dict(record.planner),
        }
    )


def from_text(text: str) -> GoalRecord:
    """What ``to_text`` wrote.

    Raises:
        ValueError: not such a line, or of another version.
    """
    try:
        found = json.loads(text)
        if found["version"] != _VERSION:
            raise ValueError(f"version {found['version']}, expected {_VERSION}")
        return GoalRecord(
            tuple(_from_stage(stage) for stage in found["stages"]),
            GoalConfig(**found["goal"]),
            PlanLoopConfig(**found["loop"]),
            int(found["number"]),
            str(found["robot"]),
            found["planner"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a recorded goal: {error}") from error


def to_png(picture: ImageArray) -> bytes:
    """(H, W, 3) RGB or (H, W) to PNG bytes, without loss."""
    # OpenCV's default favours speed; naming a compression level turns on slower row filters.
    _, png = cv2.imencode(".png", picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return bytes(png.tobytes())


def _stage(goal: GoalKind) -> dict[str, Any]:
    if isinstance(goal, JointsGoal):
        return {"kind": "joints", "joints": {name: float(value) for name, value in goal.joints.items()}}
    if isinstance(goal, PoseGoal):
        return {"kind": "pose", "position": _list(goal.position), "rotation": None if goal.rotation is None else _list(goal.rotation)}
    pictures = {"picture": goal.picture, "mask": goal.mask}
    return {"kind": "picture", **{name: None if p is None else base64.b64encode(to_png(p)).decode() for name, p in pictures.items()}}


def _from_stage(stage: Mapping[str, Any]) -> GoalKind:
    if stage["kind"] == "joints":
        return JointsGoal({str(name): float(value) for name, value in stage["joints"].items()})
    if stage["kind"] == "pose":
        rotation = stage["rotation"]
        return PoseGoal(np.array(stage["position"], dtype=float), None if rotation is None else np.array(rotation, dtype=float))
    mask = stage["mask"]
    picture = decompress(base64.b64decode(stage["picture"]))
    return PictureGoal(picture, None if mask is None else np.ascontiguousarray(decompress(base64.b64decode(mask))[:, :, 0]))


def _list(values: Sequence[float] | np.ndarray) -> list[Any]:
    return list(np.asarray(values, dtype=float).tolist())
