"""A place that somebody points at becomes a goal for the tool, or is refused with the reason."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.goal_kinds import PoseGoal
from wm_bridge.core.goal_text import rotation_of
from wm_bridge.core.types import FloatArray

ABOVE_M = 0.06  # the tool above a clicked surface
Corners = tuple[FloatArray, FloatArray]  # lower and upper corner (3,) of a workspace, base frame, m


def check_frame(frame: str, wanted: str) -> None:
    """Refuse a place in another frame, or in none.

    Raises:
        ValueError: with both names.
    """
    if frame.lstrip("/") != wanted:
        raise ValueError(f"the place is in frame '{frame}'; give it in '{wanted}' (RViz: Fixed Frame)")


def place_goal(position: FloatArray, xyzw: FloatArray | None, workspace: Corners | None) -> PoseGoal:
    """The tool at a place.

    Args:
        position: (3,) m, base frame. xyzw: (4,) quaternion of the tool, x, y, z, w; None leaves it free.
        workspace: where the tool may be sent; None = everywhere.

    Raises:
        ValueError: not finite, no quaternion, or outside of the workspace.
    """
    if not np.isfinite(position).all():
        raise ValueError(f"the place is {position}; it must be three finite numbers")
    if workspace is not None and not np.array_equal(inside(position, workspace), position):
        lower, upper = workspace
        raise ValueError(f"({_numbers(position)}) m is outside of the workspace, from ({_numbers(lower)}) to ({_numbers(upper)})")
    return PoseGoal(np.array(position, float), None if xyzw is None else rotation_of(xyzw))


def above(point: FloatArray, workspace: Corners | None) -> FloatArray:
    """(3,) m, above a clicked point of a surface and not below the workspace."""
    lowest = -np.inf if workspace is None else float(workspace[0][2])
    return np.array([point[0], point[1], max(float(point[2]) + ABOVE_M, lowest)])


def inside(position: FloatArray, workspace: Corners) -> FloatArray:
    """(3,) m, the nearest place of the workspace."""
    return np.clip(position, *workspace)


def is_flat(position: FloatArray, xyzw: FloatArray) -> bool:
    """True for the pose of RViz's 2D tool: on the ground of its frame, turned about the vertical only."""
    return bool(position[2] == 0.0 and xyzw[0] == xyzw[1] == 0.0)


def _numbers(values: FloatArray) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
