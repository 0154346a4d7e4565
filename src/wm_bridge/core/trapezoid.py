"""From a moving state to a target: the fastest way within a speed and an acceleration, as way points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wm_bridge.core.types import FloatArray, Trajectory

_LEAST_S = 1e-3  # between two way points


@dataclass(frozen=True)
class Trapezoid:
    """Motion of one joint in three parts of constant acceleration; the last one ends at rest.

    Attributes:
        start, velocity: state at time zero, rad, rad/s. ends: (3,) end of each part, s. accelerations: (3,) rad/s^2.
    """

    start: float
    velocity: float
    ends: tuple[float, float, float]
    accelerations: tuple[float, float, float]

    @classmethod
    def to(cls, start: float, velocity: float, target: float, speed: float, acceleration: float) -> Trapezoid:
        """The quickest one to a target.

        A joint that is too fast, or goes the wrong way, brakes first. With a the acceleration, v0 the present speed
        toward the side on which the target lies once it has braked, and d the way there, the peak is
        min(speed, sqrt(a d + v0^2 / 2)).

        Raises:
            ValueError: numbers that are not finite, or limits that are not above zero.
        """
        if not (np.isfinite([start, velocity, target]).all() and speed > 0.0 and acceleration > 0.0):
            raise ValueError(f"start {start}, velocity {velocity}, target {target} must be finite, speed {speed} and acceleration {acceleration} > 0")
        rest = start + velocity * abs(velocity) / (2.0 * acceleration)
        side = math.copysign(1.0, target - rest) if target != rest else math.copysign(1.0, velocity)
        v0, way = side * velocity, side * (target - start)
        peak = min(speed, math.sqrt(max(acceleration * way + 0.5 * v0 * v0, 0.0)))
        first = (peak - v0) / acceleration
        rise = math.copysign(acceleration, first)
        first, last = abs(first), peak / acceleration
        left = way - 0.5 * (v0 + peak) * first - 0.5 * peak * last
        cruise = max(left, 0.0) / peak if peak > 0.0 else 0.0
        return cls(start, velocity, (first, first + cruise, first + cruise + last), (side * rise, 0.0, -side * acceleration))

    def at(self, time_s: float) -> tuple[float, float]:
        """Position and velocity, rad, rad/s; at rest after the end."""
        q, v, before = self.start, self.velocity, 0.0
        for end, acceleration in zip(self.ends, self.accelerations, strict=True):
            dt = max(min(time_s, end) - before, 0.0)
            q, v, before = q + v * dt + 0.5 * acceleration * dt * dt, v + acceleration * dt, end
        return (q, 0.0) if time_s >= self.ends[-1] else (q, v)


def way_points(names: tuple[str, ...], parts: list[Trapezoid], stamp_ns: int) -> Trajectory:
    """The joints' motions as one trajectory: a way point wherever a joint's acceleration changes.

    Cubics between way points are parabolas and lines there, so an interpolator follows each motion exactly.
    """
    ends = sorted({round(end * 1e9) for part in parts for end in part.ends})
    times = [time for time, after in zip(ends, [*ends[1:], 1 << 62], strict=True) if time >= _LEAST_S * 1e9 and after - time >= _LEAST_S * 1e9]
    if not times:
        times = [round(_LEAST_S * 1e9)]
    states: FloatArray = np.array([[part.at(time * 1e-9) for part in parts] for time in times])  # (P, A, 2)
    velocities = states[..., 1].copy()
    velocities[-1] = 0.0
    return Trajectory(names, tuple(times), states[..., 0], velocities, stamp_ns)
