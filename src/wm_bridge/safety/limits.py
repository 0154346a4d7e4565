"""Exact discrete viability box: which next velocities keep a full stop possible.

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
neighbours agree. The lower limit is the mirror image. The box

    [max(v - a dt, -v_cap_low, -v_max), min(v + a dt, v_cap_high, v_max)]

is never empty if the last velocity came out of such a box: ``v - a dt`` (the next
step of the full brake) obeys the cap by the very sum above. So "a full stop inside
all limits is possible" is an invariant and not a result of tuning.
Discrete-time counterpart of the viability sets in Del Prete, "Joint position and
velocity bounds in discrete-time acceleration/torque control", RA-L 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_bridge.core.joints import JointTable
from wm_bridge.core.types import FloatArray, frozen_array


@dataclass(frozen=True, slots=True)
class MotionLimits:
    """Limits of J joints; arrays are (J,).

    Attributes:
        lower, upper: rad. velocity: rad/s. acceleration: rad/s^2.
    """

    lower: FloatArray
    upper: FloatArray
    velocity: FloatArray
    acceleration: FloatArray

    def __post_init__(self) -> None:
        shape = np.shape(self.lower)
        for name in ("lower", "upper", "velocity", "acceleration"):
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
        for name in ("velocity", "acceleration"):
            if not (getattr(self, name) > 0.0).all():
                raise ValueError(f"limit '{name}' must be positive, got {getattr(self, name)}")

    @classmethod
    def from_spec(
        cls, spec: JointTable, margin: float = 0.0, velocity: float = 1.0, acceleration: float = 1.0
    ) -> MotionLimits:
        """Limits of ``spec`` made narrower.

        Args:
            spec: the robot's joints.
            margin: taken off both ends of the position range, rad.
            velocity: share of the speed limit that may be used.
            acceleration: share of the acceleration limit that may be used.
        """
        return cls(
            np.asarray(spec.lower, dtype=np.float64) + margin,
            np.asarray(spec.upper, dtype=np.float64) - margin,
            np.asarray(spec.velocity, dtype=np.float64) * velocity,
            np.asarray(spec.acceleration, dtype=np.float64) * acceleration,
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


def viability_box(
    q: FloatArray, v: FloatArray, limits: MotionLimits, dt: float
) -> tuple[FloatArray, FloatArray]:
    """Next velocities that keep every limit now and a full stop possible later.

    Args:
        q: (..., J) last output, rad. v: (..., J) last output velocity, rad/s.
        limits: of the J joints. dt: control period, s.

    Returns:
        (v_low, v_high), each (..., J), rad/s; v_low <= v_high up to rounding whenever
        (q, v) came out of this box or is a state at rest inside the position limits.
        NaN in gives NaN out: check before.
    """
    step = limits.acceleration * dt
    high = np.minimum(v + step, limits.velocity)
    high = np.minimum(high, stopping_speed(limits.upper - q, limits.acceleration, dt))
    low = np.maximum(v - step, -limits.velocity)
    low = np.maximum(low, -stopping_speed(q - limits.lower, limits.acceleration, dt))
    return low, high


def project(
    target: FloatArray, q: FloatArray, v: FloatArray, limits: MotionLimits, dt: float
) -> FloatArray:
    """The position closest to ``target`` that the box allows after one period.

    A target inside the box is returned bit for bit; projecting twice changes nothing.

    Args:
        target: (..., J) wanted next output, rad.
        q, v, limits, dt: as in `viability_box`.

    Returns:
        (..., J) next output, rad.
    """
    low, high = viability_box(q, v, limits, dt)
    return np.minimum(np.maximum(target, q + low * dt), q + high * dt)


def approach(
    target: FloatArray, last_target: FloatArray, q: FloatArray, limits: MotionLimits, dt: float
) -> FloatArray:
    """Next output wish that catches up with a moving target without overshoot.

    Clipping a position to an acceleration box makes the joint run past the target and
    swing about it. Seen from the target, the joint may close the error e only at the
    speed from which it can still stop there (`stopping_speed`, with half of the
    acceleration because the target uses some itself). An error of at most one braking
    step is closed at once, so a target that was followed so far is returned bit for bit.

    Args:
        target, last_target: (J,) wanted output now and one period ago, rad.
        q: (J,) last output, rad.

    Returns:
        (J,) wish for `project`, rad.
    """
    acceleration = limits.acceleration * 0.5
    error = last_target - q
    closing = np.sign(error) * stopping_speed(np.abs(error), acceleration, dt)
    near = np.abs(error) <= acceleration * dt * dt
    return np.where(near, target, q + (target - last_target) + closing * dt)
