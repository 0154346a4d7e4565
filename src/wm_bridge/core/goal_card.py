"""A picture that says in words what is wanted, for goals that have none to show."""

from __future__ import annotations

import cv2
import numpy as np

from wm_bridge.core.goal_kinds import GoalKind, JointsGoal, PictureGoal
from wm_bridge.core.types import ImageArray


def goal_card(goal: GoalKind, width: int = 320, height: int = 240) -> ImageArray:
    """(height, width, 3) RGB: the goal picture, dark where it does not count; else the goal in words."""
    if isinstance(goal, PictureGoal):
        if goal.mask is None:
            return goal.picture
        return np.where(goal.mask[..., None] > 0, goal.picture, goal.picture // 4).astype(np.uint8)
    card = np.full((height, width, 3), 32, np.uint8)
    for row, line in enumerate(words(goal)):
        cv2.putText(card, line, (10, 30 + 24 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
    return card


def words(goal: GoalKind) -> list[str]:
    """A goal in lines of text."""
    if isinstance(goal, PictureGoal):
        return ["as in the picture" if goal.mask is None else "as in part of the picture"]
    if isinstance(goal, JointsGoal):
        return ["joints [rad]", *(f"{name} {value:.3f}" for name, value in goal.joints.items())]
    lines = ["tool [m]", *(f"{axis} {value:.3f}" for axis, value in zip("xyz", goal.position, strict=True))]
    return [*lines, "any orientation" if goal.rotation is None else "and its orientation"]
