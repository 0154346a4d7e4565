"""Plain forms on whole arrays that the quick forms of the tick (`safety/lanes.py`, `compiled.py`) are held against."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import FloatArray, Reason
from wm_bridge.safety.box import SEARCH_STEPS, Motion
from wm_bridge.safety.brake import Stop, _rest, stop_from
from wm_bridge.safety.limits import MotionLimits
from wm_bridge.safety.postcheck import MotionCheck


def rest_of(stop: Stop, limits: MotionLimits, dt: float) -> FloatArray:
    """(..., J) where the brake ends, rad from the present position."""
    return np.asarray(_rest(stop, limits, dt) * stop.sign * (limits.jerk * dt**3))


def speed_of(stop: Stop, limits: MotionLimits, dt: float) -> FloatArray:
    """(..., J) largest speed during the brake, the present one included, rad/s."""
    speed = np.maximum(np.abs(stop.w), np.where(stop.b < 0.0, stop.left, 0.0))
    return np.asarray(speed * (limits.jerk * dt**2))


def brake_path(
    q: FloatArray, v: FloatArray, stop: Stop, limits: MotionLimits, dt: float
) -> FloatArray:
    """Every position of the brake until all joints rest.

    Args:
        q: (J,) rad, v: (J,) rad/s of the last output. stop: `stop_from` there.

    Returns:
        (N, J) rad, the output after each period; N >= 1, the last row is the rest.
    """
    ends = stop.m + stop.h + stop.n
    step = limits.jerk * dt
    parts = np.stack([-stop.sign * (step * dt), stop.b, ends, ends - stop.n + stop.top + 1.0])
    return lay_path(q, v, parts, limits.acceleration / step, dt, max(int(ends.max()), 1))[1:]


def lay_path(
    q: FloatArray, v: FloatArray, parts: FloatArray, most: FloatArray, dt: float, count: int
) -> FloatArray:
    """`brake.path_of` in arrays."""
    turn, b, ends, ramp = parts
    i = np.arange(1.0, min(count, 4096) + 1.0)[:, None]
    b = np.minimum(np.minimum(b + i, most), np.maximum(ramp - i, 0.0))
    speed = v + turn * np.add.accumulate(b)
    speed = np.where(i < ends, speed, 0.0)
    return np.concatenate([q[None], q + dt * np.add.accumulate(speed)])


def approach(
    target: FloatArray, wanted: Motion, motion: Motion, chase: MotionLimits, dt: float
) -> FloatArray:
    """Next output wish that catches up with a moving target without swinging about it.

    Clipping a position to a jerk-limited box makes the joint run past the target. Seen from
    the target, the wish is the acceleration whose full brake ends on it. A joint that can
    land on the target and stay there takes it bit for bit.

    Args:
        target: (J,) wanted output, rad. wanted: the target's motion one period ago.
        motion: last output.
        chase: limits of the motion relative to the target, below those of the joints
            because the target uses some itself.

    Returns:
        (J,) wish for `project`, rad.
    """
    e = Motion(motion.q - wanted.q, motion.v - wanted.v, motion.a - wanted.a)
    landing = 3.0 * np.abs(e.q) + 2.0 * np.abs(e.v) * dt + np.abs(e.a) * (dt * dt)
    lands = landing <= chase.jerk * (dt * dt * dt)
    if lands.all():
        return target
    step = chase.jerk * dt
    low = np.maximum(e.a - step, np.minimum(-chase.acceleration, e.a + step))
    high = np.minimum(e.a + step, np.maximum(chase.acceleration, e.a - step))
    f_low, f_high = end_of(low, e, chase, dt), end_of(high, e, chase, dt)
    for _ in range(SEARCH_STEPS):
        share = np.clip(f_low / np.minimum(f_low - f_high, -1e-15), 0.0, 1.0)
        middle = low + (high - low) * share
        f = end_of(middle, e, chase, dt)
        below = f <= 0.0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
        f_low, f_high = np.where(below, f, f_low * 0.5), np.where(below, f_high * 0.5, f)
    return np.where(lands, target, target + e.next(middle, dt).q)


def end_of(acceleration: FloatArray, e: Motion, chase: MotionLimits, dt: float) -> FloatArray:
    """Where the brake after one period of ``acceleration`` ends; (..., J) rad."""
    after = e.next(acceleration, dt)
    return np.asarray(after.q + rest_of(stop_from(after.v, after.a, chase, dt), chase, dt))


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
    return MotionCheck(limits, dt)(history, np.concatenate([output[None], brake]))
