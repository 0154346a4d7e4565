"""Random adversarial ticks of the box, to see whether any limit ever breaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.safety.box import Motion, acceleration_box, project
from wm_bridge.safety.brake import reach_of, stop_from
from wm_bridge.safety.limits import MotionLimits

TOLERANCE = 1e-9  # rad, rad/s, and relative to the acceleration and jerk limits with rounding


@dataclass(frozen=True, slots=True)
class ViabilityReport:
    """What the ticks showed.

    Attributes:
        ticks: one joint, one period each.
        violations: ticks that broke a limit by more than the tolerance.
        worst: largest excess of position (rad), velocity (rad/s), acceleration and jerk
            (share of the limit), and of the position at the end of the full brake (rad).
    """

    ticks: int
    violations: int
    worst: tuple[float, float, float, float, float]


def random_limits(rng: np.random.Generator, joints: int) -> MotionLimits:
    """Limits over several orders of magnitude; the stop from full speed takes up to 4 s."""
    middle = rng.uniform(-2.0, 2.0, joints)
    half = 10.0 ** rng.uniform(-2.0, 0.6, joints)
    velocity = 10.0 ** rng.uniform(-1.0, 0.6, joints)
    acceleration = velocity * 10.0 ** rng.uniform(-0.3, 1.5, joints)
    jerk = acceleration * 10.0 ** rng.uniform(0.0, 2.0, joints)
    return MotionLimits(middle - half, middle + half, velocity, acceleration, jerk)


def run_random_ticks(
    rng: np.random.Generator, ticks: int, dt: float, joints: int = 16, batch: int = 1000
) -> ViabilityReport:
    """Drive ``batch`` robots of random limits with everything a planner could ask for.

    Args:
        ticks: at least so many, joint by joint. dt: control period, s.
    """
    limits = random_limits(rng, joints)
    shape = (batch, joints)
    q = rng.uniform(limits.lower, limits.upper, shape)
    motion = Motion(q, np.zeros(shape), np.zeros(shape))
    done, violations, k = 0, 0, 0
    worst = np.full(5, -np.inf)
    while done < ticks:
        new = project(_wish(rng, k, motion, limits, dt), motion, limits, dt)
        v = (new - motion.q) / dt
        after = Motion(new, v, (v - motion.v) / dt)
        over = _excess(motion, after, limits, dt)
        worst = np.maximum(worst, over.reshape(5, -1).max(axis=1))
        violations += int((over > TOLERANCE).any(axis=0).sum())
        motion, done, k = after, done + new.size, k + 1
    position, velocity, acceleration, jerk, stop = (float(x) for x in worst)
    return ViabilityReport(done, violations, (position, velocity, acceleration, jerk, stop))


def _excess(before: Motion, after: Motion, limits: MotionLimits, dt: float) -> FloatArray:
    """(5, ..) how far each limit is broken; rounding of the differences is allowed for."""
    rounding = 1e-15 * (1.0 + np.abs(after.q))
    high, low = reach_of(stop_from(after.v, after.a, limits, dt), limits, dt)
    jerk = np.abs(after.a - before.a) / dt
    return np.stack(
        [
            np.maximum(limits.lower - after.q, after.q - limits.upper),
            np.abs(after.v) - limits.velocity - 2.0 * rounding / dt,
            (np.abs(after.a) - 4.0 * rounding / dt**2) / limits.acceleration - 1.0,
            (jerk - 8.0 * rounding / dt**3) / limits.jerk - 1.0,
            np.maximum(limits.lower - after.q - low, after.q + high - limits.upper),
        ]
    )


def _wish(
    rng: np.random.Generator, k: int, motion: Motion, limits: MotionLimits, dt: float
) -> FloatArray:
    """Adversarial targets, one kind for 40 ticks each."""
    q, v, a = motion
    kind = (k // 40) % 6
    if kind == 0:  # anywhere, far outside included
        return limits.lower + (limits.upper - limits.lower) * rng.uniform(-2.0, 3.0, q.shape)
    if kind == 1:  # full speed into alternating walls
        return np.full(q.shape, 1e12 if (k // 240) % 2 else -1e12)
    if kind == 2:  # as fast as the box allows, always on into the wall
        low, high = acceleration_box(motion, limits, dt)
        return motion.next(np.where(v >= 0.0, high, low), dt).q
    if kind == 3:  # exactly on and just around a limit
        return np.asarray(limits.upper + rng.choice([-1e-12, 0.0, 1e-12, 1e-3], q.shape))
    if kind == 4:  # bang-bang jerk
        return motion.next(a + rng.choice([-2.0, 2.0], q.shape) * limits.jerk * dt, dt).q
    return motion.next(np.zeros(q.shape), dt).q  # no acceleration at once
