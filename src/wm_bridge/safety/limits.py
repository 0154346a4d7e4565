"""Limits of the joints, and the exact discrete bound behind viability.

Derivation, one joint, control period ``dt``. Outputs are positions ``q_k`` with
``v_k = (q_k - q_{k-1}) / dt`` and ``|v_{k+1} - v_k| <= a dt``. Choosing the next
velocity ``v > 0`` and braking as hard as allowed from then on moves the joint by

    D(v) = dt * sum_{i>=0} max(v - i a dt, 0)
         = dt * max_{n>=1} (n v - a dt n (n - 1) / 2)

(the sum grows exactly as long as its terms are positive, so the longest partial
sum is the largest). ``D(v) <= q_max - q`` therefore means, with
``s = (q_max - q) / dt``, that ``v <= s / n + (n - 1) a dt / 2`` for every n, and
the binding n is the one with ``(n - 1) a dt < v <= n a dt``:

    n = max(1, ceil((sqrt(1 + 8 s / (a dt)) - 1) / 2)),  v_cap = s/n + (n-1) a dt/2.

As v_cap is a minimum over n, an n that is off by one from rounding sits where both
neighbours agree. The lower limit is the mirror image.

The outputs are limited in jerk as well, so the filter uses this bound one derivative up:
"distance" is the speed that is left to a speed limit, "speed" the acceleration, and a the
jerk. The interval

    [max(a - J dt, -A, -cap(V + v)), min(a + J dt, A, cap(V - v))]

of next accelerations is never empty for a state that came out of it, because the next step
of the full release, a - J dt, obeys the cap by the very sum above. What it means for
positions is in `brake.py` and `box.py`.
Discrete-time counterpart of the viability sets in Del Prete, "Joint position and
velocity bounds in discrete-time acceleration/torque control", RA-L 2018.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.joints import JointTable
from wm_bridge.core.types import FloatArray, frozen_array


class Shares(NamedTuple):
    """Parts of a robot's limits, 0..1."""

    velocity: float = 1.0
    acceleration: float = 1.0
    jerk: float = 1.0


@dataclass(frozen=True, slots=True)
class MotionLimits:
    """Limits of J joints; arrays are (J,).

    Attributes:
        lower, upper: rad. velocity: rad/s. acceleration: rad/s^2. jerk: rad/s^3.
    """

    lower: FloatArray
    upper: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    jerk: FloatArray

    def __post_init__(self) -> None:
        shape = np.shape(self.lower)
        for name in ("lower", "upper", "velocity", "acceleration", "jerk"):
            array = frozen_array(getattr(self, name))
            if array.shape != shape or array.ndim != 1:
                raise ValueError(f"limit '{name}' has shape {array.shape}, expected {shape} (J,)")
            if not np.isfinite(array).all():
                raise ValueError(f"limit '{name}' is not finite: {array}; give every joint one")
            object.__setattr__(self, name, array)
        if not (self.lower < self.upper).all():
            raise ValueError(
                f"lower limits {self.lower} must lie below upper limits {self.upper}; "
                f"check for swapped values and for a position margin that eats the range"
            )
        for name in ("velocity", "acceleration", "jerk"):
            if not (getattr(self, name) > 0.0).all():
                raise ValueError(f"limit '{name}' must be positive, got {getattr(self, name)}")

    @classmethod
    def from_spec(cls, spec: JointTable, margin: float = 0.0, shares: Shares = Shares()) -> MotionLimits:
        """Limits of ``spec`` made narrower.

        Args:
            spec: the robot's joints.
            margin: taken off both ends of the position range, rad.
            shares: of the speed, acceleration and jerk limits that may be used.
        """
        return cls(
            np.asarray(spec.lower, dtype=np.float64) + margin,
            np.asarray(spec.upper, dtype=np.float64) - margin,
            np.asarray(spec.velocity, dtype=np.float64) * shares.velocity,
            np.asarray(spec.acceleration, dtype=np.float64) * shares.acceleration,
            np.asarray(spec.jerk, dtype=np.float64) * shares.jerk,
        )

    def pick(self, joints: NDArray[np.intp]) -> MotionLimits:
        """Limits of some joints, (K,) indices with repeats allowed; not checked again."""
        picked = object.__new__(MotionLimits)
        for name in ("lower", "upper", "velocity", "acceleration", "jerk"):
            object.__setattr__(picked, name, getattr(self, name)[joints])
        return picked

    def scaled(self, share: float) -> MotionLimits:
        """The same with only ``share`` of the acceleration and jerk."""
        return dataclasses.replace(
            self, acceleration=self.acceleration * share, jerk=self.jerk * share
        )


def stopping_speed(distance: FloatArray, acceleration: FloatArray, dt: float) -> FloatArray:
    """Largest next speed from which a full brake covers at most ``distance``.

    Args:
        distance: (..., J) room ahead, rad; negative gives the speed back inside in one period.
        acceleration: (J,) rad/s^2.
        dt: control period, s.

    Returns:
        (..., J) v_cap of the module docstring, rad/s.
    """
    step = acceleration * dt
    s = distance / dt
    n = np.ceil((np.sqrt(1.0 + 8.0 * np.maximum(s, 0.0) / step) - 1.0) * 0.5)
    n = np.maximum(n, 1.0)
    return np.asarray(s / n + (n - 1.0) * step * 0.5)
