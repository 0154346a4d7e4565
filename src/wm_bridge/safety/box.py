"""Which next outputs keep every limit now and a full stop possible later, and the nearest one.

A state is viable when the full brake from it (`brake.py`) keeps the position limits. The
brake's own first step leads from a viable state to a viable one, so there is always a next
output; the ends of the brake grow with the next acceleration, so the viable ones between
the brake's step and a wish form an interval whose end a bracketing search finds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.safety.brake import first_acceleration, reach_of, stop_from
from wm_bridge.safety.limits import MotionLimits, stopping_speed

SEARCH_STEPS = 4
EXACT_RAD = 1e-12  # rounding of positions


class Motion(NamedTuple):
    """Last output and its backward differences; (..., J) rad, rad/s, rad/s^2."""

    q: FloatArray
    v: FloatArray
    a: FloatArray

    def next(self, acceleration: FloatArray, dt: float) -> Motion:
        """The motion one period later."""
        v = self.v + acceleration * dt
        return Motion(self.q + v * dt, v, acceleration)

    def towards(self, q: FloatArray, dt: float) -> FloatArray:
        """(..., J) acceleration that makes ``q`` the next output."""
        return np.asarray(((q - self.q) / dt - self.v) / dt)


def acceleration_box(
    motion: Motion, limits: MotionLimits, dt: float
) -> tuple[FloatArray, FloatArray]:
    """Interval of next accelerations by the jerk, acceleration and velocity limits alone.

    Returns:
        (low, high), each (..., J) rad/s^2, see `limits`; low <= high up to rounding for a
        motion that came out of it.
    """
    _, v, a = motion
    step = limits.jerk * dt
    high = np.minimum(a + step, limits.acceleration)
    high = np.minimum(high, stopping_speed(limits.velocity - v, limits.jerk, dt))
    low = np.maximum(a - step, -limits.acceleration)
    low = np.maximum(low, -stopping_speed(limits.velocity + v, limits.jerk, dt))
    return low, high


def excess(motion: Motion, limits: MotionLimits, dt: float) -> FloatArray:
    """How far the full brake leaves the position limits; (..., J) rad, <= 0 is viable."""
    high, low = reach_of(stop_from(motion.v, motion.a, limits, dt), limits, dt)
    return np.maximum(motion.q + high - limits.upper, limits.lower - motion.q - low)


def project(target: FloatArray, motion: Motion, limits: MotionLimits, dt: float) -> FloatArray:
    """The output closest to ``target`` from which every limit can be kept.

    Args:
        target: (..., J) wanted next output, rad; one that is viable comes back bit for bit.
        motion: last output. limits: of the J joints. dt: control period, s.

    Returns:
        (..., J) next output, rad.
    """
    wish = motion.towards(target, dt)
    low, high = acceleration_box(motion, limits, dt)
    clipped = np.minimum(np.maximum(wish, low), high)
    best = np.where(wish == clipped, target, motion.next(clipped, dt).q)
    over = excess(Motion(best, motion.v + clipped * dt, clipped), limits, dt)
    bad = over > EXACT_RAD
    if not bad.any():
        return np.asarray(best)
    some = Motion(*(part[bad] for part in motion))
    theirs = limits.pick(np.nonzero(bad)[-1])
    safe = first_acceleration(stop_from(some.v, some.a, theirs, dt), theirs, dt)
    found = _furthest_viable(safe, clipped[bad], over[bad], some, theirs, dt)
    best = np.array(best)
    best[bad] = some.next(found, dt).q
    return best


def _furthest_viable(
    safe: FloatArray, wish: FloatArray, over: FloatArray, motion: Motion, limits: MotionLimits, dt: float
) -> FloatArray:
    """Acceleration nearest to ``wish`` that is viable, from the viable ``safe`` (Illinois)."""
    f_safe = np.minimum(excess(motion.next(safe, dt), limits, dt), -1e-15)
    f_wish = over
    for _ in range(SEARCH_STEPS):
        middle = safe + (wish - safe) * (f_safe / (f_safe - np.maximum(f_wish, 1e-15)))
        f = excess(motion.next(middle, dt), limits, dt)
        inside = f <= 0.0
        safe, wish = np.where(inside, middle, safe), np.where(inside, wish, middle)
        f_safe, f_wish = np.where(inside, f, f_safe * 0.5), np.where(inside, f_wish * 0.5, f)
        f_safe = np.minimum(f_safe, -1e-15)
    return safe
