"""Independent check of what is about to be sent and of the stop behind it.

Shares no code with the box or the brake: positions in, backward differences compared.
"""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import FloatArray, Reason
from wm_bridge.safety.limits import MotionLimits

POSITION_SLACK = 1e-9  # rad
VELOCITY_SLACK = 1e-9  # rad/s
ROUNDING = 1e-15  # rad; n-th differences of positions are off by about this over dt^n
RELATIVE_SLACK = 1e-6  # of the acceleration and jerk limits


def check_motion(
    history: FloatArray, output: FloatArray, brake: FloatArray, limits: MotionLimits, dt: float
) -> Reason:
    """Check a new output after the ones before it, and the stop that is prepared from it.

    Args:
        history: (3, J) the last outputs, oldest first, rad. output: (J,) about to be sent.
        brake: (N, J) outputs that would follow until all joints rest, rad.
        limits: of the J joints. dt: control period, s.

    Returns:
        Reason.NONE when all of it is finite, ends at rest and keeps the limits of position,
        velocity, acceleration and jerk; otherwise what is wrong.
    """
    last = brake[-1:]
    q = np.concatenate([history, output[None], brake, last, last])
    if not np.isfinite(q).all():
        return Reason.NONFINITE
    wrong = Reason.NONE
    v = (q[1:] - q[:-1]) / dt
    a = (v[1:] - v[:-1]) / dt
    jerk = (a[1:] - a[:-1]) / dt
    new = q[3:]
    if ((new < limits.lower - POSITION_SLACK) | (new > limits.upper + POSITION_SLACK)).any():
        wrong |= Reason.POSITION_LIMIT
    if (np.abs(v[2:]) > limits.velocity + VELOCITY_SLACK).any():
        wrong |= Reason.VELOCITY_LIMIT
    bound = limits.acceleration * (1.0 + RELATIVE_SLACK) + 4.0 * ROUNDING / dt**2
    if (np.abs(a[1:]) > bound).any():
        wrong |= Reason.ACCELERATION_LIMIT
    if (np.abs(jerk) > limits.jerk * (1.0 + RELATIVE_SLACK) + 8.0 * ROUNDING / dt**3).any():
        wrong |= Reason.JERK_LIMIT
    return wrong
