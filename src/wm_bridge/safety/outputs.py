"""The references that went out, and the brake prepared from the last of them."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.safety.brake import brake_step
from wm_bridge.safety.limits import MotionLimits


class Outputs:
    """Last output, its velocity, and the next step of the full brake from it."""

    def __init__(self, limits: MotionLimits, dt: float) -> None:
        self._limits, self._dt = limits, dt
        joints = limits.lower.size
        nowhere = np.full(joints, np.nan)
        self.started = False
        self.q, self.q_before = nowhere, nowhere
        self.v = np.zeros(joints)
        self._brake = (nowhere, self.v)

    def begin(self, q: FloatArray) -> None:
        """Start at rest at (J,) rad, moved into the limits."""
        q = np.clip(q, self._limits.lower, self._limits.upper)
        zero = np.zeros_like(q)
        self.q, self.q_before, self.v = q, q, zero
        self._brake = (q, zero)
        self.started = True

    @property
    def at_rest(self) -> bool:
        """True when the last output was the one before it."""
        return not self.v.any()

    @property
    def brake(self) -> FloatArray:
        """(J,) next output of the brake prepared by the last tick, rad."""
        return self._brake[0]

    def commit(self, q: FloatArray) -> FloatArray:
        """Make ``q`` the last output and prepare the brake from it; returns its velocity."""
        v = np.asarray((q - self.q) / self._dt)
        brake = brake_step(q, v, self._limits.acceleration, self._dt)
        self.q_before, self.q, self.v, self._brake = self.q, q, v, brake
        return v

    @property
    def margin(self) -> float:
        """Smallest distance of any joint to its limit, rad."""
        return float(np.minimum(self.q - self._limits.lower, self._limits.upper - self.q).min())
