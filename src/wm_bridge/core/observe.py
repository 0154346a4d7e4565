"""Joints and references of the moment of a picture, from what was heard around it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from wm_bridge.core.align import JointHistory
from wm_bridge.core.types import Command, FloatArray, JointState

ECHO_NS = 200_000_000  # an older echo of hw/command is not planned from


def joints_at(states: Iterable[JointState], stamp_ns: int) -> JointState | None:
    """The measured joints at a time, linear between two neighbours; None when they do not enclose it closely."""
    history = JointHistory()
    for state in states:
        history.push(state)
    return history.at(stamp_ns)


def reference_at(commands: Iterable[Command], stamp_ns: int) -> FloatArray | None:
    """(J,) rad, what was really sent at a time, else what was sent nearest to it; None when nothing was."""
    history, nearest, distance_ns = JointHistory(), None, ECHO_NS
    for command in commands:
        rest = np.zeros(len(command.names))
        history.push(JointState(command.names, command.position, command.velocity, rest, command.stamp_ns))
        if abs(stamp_ns - command.stamp_ns) < distance_ns:
            nearest, distance_ns = command.position, abs(stamp_ns - command.stamp_ns)
    echo = history.at(stamp_ns)
    return nearest if echo is None else echo.position


def due(stamp_ns: int, planned_ns: int, period_s: float) -> bool:
    """True for a picture that is one period younger than the last one planned from, or older than it (time began anew)."""
    return not 0 <= stamp_ns - planned_ns < 0.95e9 * period_s
