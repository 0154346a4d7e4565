"""Joints by name: what the cores need from a robot description, and name mapping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.types import FloatArray


class JointTable(Protocol):
    """Names and limits of all J joints; ``robots.spec.RobotSpec`` satisfies it."""

    @property
    def joint_names(self) -> tuple[str, ...]:
        """(J,) names; this order is the order of every joint array."""

    @property
    def lower(self) -> FloatArray:
        """(J,) rad."""

    @property
    def upper(self) -> FloatArray:
        """(J,) rad."""

    @property
    def velocity(self) -> FloatArray:
        """(J,) largest speed, rad/s."""

    @property
    def acceleration(self) -> FloatArray:
        """(J,) largest acceleration, rad/s^2."""

    @property
    def jerk(self) -> FloatArray:
        """(J,) largest jerk, rad/s^3."""


def find_joints(names: Sequence[str], table_names: Sequence[str]) -> NDArray[np.intp]:
    """Index of each of ``names`` in ``table_names``.

    Args:
        names: joint names in any order, no repeats.
        table_names: all joint names of the robot.

    Returns:
        (len(names),) indices into ``table_names``.

    Raises:
        ValueError: a name is unknown or given twice; the message lists the valid names.
    """
    place = {name: index for index, name in enumerate(table_names)}
    unknown = [name for name in names if name not in place]
    if unknown:
        raise ValueError(f"unknown joints {unknown}; this robot has {list(table_names)}")
    if len(set(names)) != len(names):
        raise ValueError(f"joints named twice in {list(names)}; name each joint once")
    return np.array([place[name] for name in names], dtype=np.intp)
