"""What can be asked of a planning loop, before a planner has looked at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wm_bridge.core.types import FloatArray, ImageArray


@dataclass(frozen=True, slots=True)
class PictureGoal:
    """The scene shall look like this.

    Attributes:
        picture: (H, W, 3) uint8 RGB from the planner's camera.
        mask: (H, W) uint8, what is not zero counts; None: all of it.
    """

    picture: ImageArray
    mask: ImageArray | None = None


@dataclass(frozen=True, slots=True)
class JointsGoal:
    """Joints by name, rad; the planner's other joints stay where they are."""

    joints: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PoseGoal:
    """The tool, base frame: position (3,) m, and rotation (3, 3) ``R_base_tool``; None leaves it free."""

    position: FloatArray
    rotation: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class BagFrame:
    """A picture that a bag holds.

    Attributes:
        bag: folder or mcap file, on the planner's machine. time_s: after its start.
        topic: of pictures; "" = camera/image_raw, raw or compressed.
        mask: as of ``PictureGoal``.
    """

    bag: str
    time_s: float
    topic: str = ""
    mask: ImageArray | None = None


GoalKind = PictureGoal | JointsGoal | PoseGoal
Request = GoalKind | Sequence[PictureGoal] | BagFrame  # before the bag was read
Asked = GoalKind | Sequence[PictureGoal] | ImageArray  # a picture by itself is one that counts as a whole


def stages_of(asked: Asked) -> tuple[GoalKind, ...]:
    """What is to be reached one after the other, the last one to stay at."""
    if isinstance(asked, PictureGoal | JointsGoal | PoseGoal):
        return (asked,)
    return tuple(asked) if isinstance(asked, Sequence) else (PictureGoal(asked),)


def goal_problem(stages: Sequence[GoalKind]) -> str:
    """Why goals cannot be planned to, as far as pictures go; "" when they can."""
    if not stages:
        return "a goal needs at least one picture"
    for number, goal in enumerate(stages, 1):
        problem = picture_problem(goal.picture) if isinstance(goal, PictureGoal) else ""
        if problem:
            return f"goal {problem}" if len(stages) == 1 else f"goal {number} of {len(stages)}: {problem}"
    return ""


def picture_problem(picture: object) -> str:
    """Why something is no picture; "" when it is one."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        kind = picture.dtype if isinstance(picture, np.ndarray) else type(picture).__name__
        return f"picture must be a uint8 array, got {kind}"
    if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        return f"picture must be (height, width, 3) RGB, got {picture.shape}"
    return ""
