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
_KEPT = 1024  # bounds for so many rows are kept


class MotionCheck:
    """For one robot; one comparison of everything while all is well.

    Args:
        limits: of the J joints. dt: control period, s.
    """

    def __init__(self, limits: MotionLimits, dt: float) -> None:
        self._dt = dt
        self._upper, self._lower = limits.upper + POSITION_SLACK, limits.lower - POSITION_SLACK
        self._velocity = limits.velocity + VELOCITY_SLACK
        self._acceleration = limits.acceleration * (1.0 + RELATIVE_SLACK) + 4.0 * ROUNDING / dt**2
        self._jerk = limits.jerk * (1.0 + RELATIVE_SLACK) + 8.0 * ROUNDING / dt**3
        self._step = np.stack([self._velocity, self._acceleration, self._jerk], axis=1).tolist()
        self._bounds: dict[int, FloatArray] = {}

    def __call__(self, history: FloatArray, outputs: FloatArray) -> Reason:
        """Check a new output after the ones before it, and the stop that is prepared from it.

        Args:
            history: (3, J) the last outputs, oldest first, rad. outputs: (N + 1, J) the one
                about to be sent and those that would follow until all joints rest, rad.

        Returns:
            Reason.NONE when all of it is finite, ends at rest and keeps the limits of position,
            velocity, acceleration and jerk; otherwise what is wrong.
        """
        last = outputs[-1:]
        q = np.concatenate([history, outputs, last, last])
        v = (q[1:] - q[:-1]) / self._dt
        a = (v[1:] - v[:-1]) / self._dt
        jerk = (a[1:] - a[:-1]) / self._dt
        new, v, a = q[3:], v[2:], a[1:]
        values = np.concatenate([new, -new, np.abs(v), np.abs(a), np.abs(jerk)])
        if np.logical_and.reduce(values <= self._bound(len(new)), axis=None):  # NaN and infinity are not
            return Reason.NONE
        if not np.isfinite(q).all():
            return Reason.NONFINITE
        wrong = Reason.NONE
        if ((new < self._lower) | (new > self._upper)).any():
            wrong |= Reason.POSITION_LIMIT
        if (np.abs(v) > self._velocity).any():
            wrong |= Reason.VELOCITY_LIMIT
        if (np.abs(a) > self._acceleration).any():
            wrong |= Reason.ACCELERATION_LIMIT
        if (np.abs(jerk) > self._jerk).any():
            wrong |= Reason.JERK_LIMIT
        return wrong

    def exceeds(self, history: FloatArray, output: FloatArray) -> bool:
        """True when the difference of an output (J,) from those before it breaks a limit.

        The check of a whole stop objects to every output that this one objects to.
        """
        dt = self._dt
        for bounds, first, second, third, q in zip(self._step, *history.tolist(), output.tolist(), strict=True):
            v1, v2, v3 = (second - first) / dt, (third - second) / dt, (q - third) / dt
            a = (v3 - v2) / dt
            jerk = (a - (v2 - v1) / dt) / dt
            velocity, acceleration, most = bounds
            if abs(v3) > velocity or abs(a) > acceleration or abs(jerk) > most:
                return True
        return False

    def _bound(self, rows: int) -> FloatArray:
        """Upper bounds of all values of ``rows`` outputs."""
        found = self._bounds.get(rows)
        if found is None:
            parts = (self._upper, -self._lower, self._velocity, self._acceleration, self._jerk)
            found = np.concatenate([np.tile(part, (rows, 1)) for part in parts])
            if rows < _KEPT:
                self._bounds[rows] = found
        return found
