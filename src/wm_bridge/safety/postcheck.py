"""Independent check of what is about to be sent; shares no code with the box."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import FloatArray, Reason
from wm_bridge.safety.brake import stop_position
from wm_bridge.safety.limits import MotionLimits

POSITION_SLACK = 1e-9  # rad
VELOCITY_SLACK = 1e-9  # rad/s
ACCELERATION_SLACK = 1e-7  # rad/s^2: two differences of 1e-16 rad over (0.001 s)^2


def check_output(
    q: FloatArray, q1: FloatArray, q2: FloatArray, limits: MotionLimits, dt: float
) -> Reason:
    """Check a new output against the two before it.

    Args:
        q: (J,) output about to be sent, rad. q1, q2: (J,) the last and the one before.
        limits: of the J joints. dt: control period, s.

    Returns:
        Reason.NONE when finite, inside all limits, and still able to stop inside the
        position limits with all of the acceleration; otherwise what is wrong.
    """
    if not np.isfinite(q).all():
        return Reason.NONFINITE
    wrong = Reason.NONE
    v = (q - q1) / dt
    change = (v - (q1 - q2) / dt) / dt
    with np.errstate(all="ignore"):  # an absurd speed may overflow; q itself fails then
        rest = stop_position(q, v, limits.acceleration, dt)
    for place in (q, rest):
        if (place < limits.lower - POSITION_SLACK).any():
            wrong |= Reason.POSITION_LIMIT
        if (place > limits.upper + POSITION_SLACK).any():
            wrong |= Reason.POSITION_LIMIT
    if (np.abs(v) > limits.velocity + VELOCITY_SLACK).any():
        wrong |= Reason.VELOCITY_LIMIT
    if (np.abs(change) > limits.acceleration + ACCELERATION_SLACK).any():
        wrong |= Reason.ACCELERATION_LIMIT
    return wrong
