"""The full brake: a jerk-limited stop of every joint on its own, exact in discrete time.

Outputs are positions q_k with v_k = (q_k - q_{k-1}) / dt, a_k = (v_k - v_{k-1}) / dt and
|a_k - a_{k-1}| <= J dt =: s, |a_k| <= A. The brake lowers the acceleration as fast as it
may, as far as it may still be taken back before the speed is gone: with b = -a for a
positive speed, each period

    b' = min(b + s, A, C(v)),   C(v) the largest b with dt * sum_{i>=0} max(b - i s, 0) <= v.

C is `limits.stopping_speed` one derivative up. So the brake has three parts, m periods of
b + i s, h periods of A, and a ramp C, C - s, C - 2 s, .. that ends with v = a = 0 exactly.
In units of s, s dt and s dt^2 (b, w = v/(s dt), position), with f = b - floor(b) and the
release sum R(b) = sum_i max(b - i, 0), the last period in which b + m <= C still holds is

    m = floor(min(A, sqrt(w + b (b + 1) / 2 - f (1 - f) / 2)) - b),

because R(b + m) = (b + m)^2/2 + (b + m)/2 + f (1 - f)/2 has the same f for every m. Where
the stop ends is therefore a closed form, continuous and monotone in position, velocity and
acceleration, and one period later the brake is the rest of the same brake. A joint whose
speed is about to change sign brakes in the direction in which it will move: the sign of the
speed that is left when the acceleration is taken back at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.safety import compiled
from wm_bridge.safety.limits import MotionLimits

_LONGEST = 4096  # periods


class Stop(NamedTuple):
    """The three parts of the brake from a state; arrays broadcast like (..., J).

    Seen in the direction ``sign`` in which the joint will stop, in units of s, s dt.

    Attributes:
        sign: 1 or -1. b: deceleration, w: speed now (may be negative, see ``left``).
        left: speed left when the acceleration is taken back at once, >= 0.
        m, h, n: periods of the parts. w_m, w_h: speed after m and after m + h periods.
        top: begin of the ramp.
    """

    sign: FloatArray
    b: FloatArray
    w: FloatArray
    left: FloatArray
    m: FloatArray
    h: FloatArray
    n: FloatArray
    w_m: FloatArray
    w_h: FloatArray
    top: FloatArray


def stop_from(v: FloatArray, a: FloatArray, limits: MotionLimits, dt: float) -> Stop:
    """The full brake in closed form.

    Args:
        v: (..., J) rad/s, a: (..., J) rad/s^2 of the last output.
        limits: of the J joints. dt: control period, s.

    Returns:
        Its parts; NaN in gives NaN out.
    """
    step = limits.jerk * dt
    most = limits.acceleration / step
    b = a / -step
    w = v / (step * dt)
    left = w - np.sign(b) * _release(np.abs(b) - 1.0)
    sign = np.where(left < 0.0, -1.0, 1.0)
    b, w, left = b * sign, w * sign, left * sign
    f = b - np.floor(b)
    under = w + 0.5 * (b * (b + 1.0) - f * (1.0 - f))
    m = np.maximum(np.floor(np.minimum(np.sqrt(np.maximum(under, 0.0)), most) - b), 0.0)
    w_m = w - m * (b + 0.5 * (m + 1.0))
    h = np.maximum(np.floor((w_m - _release(most)) / most) + 1.0, 0.0)
    w_h = w_m - h * most
    n = np.maximum(np.ceil((np.sqrt(1.0 + 8.0 * np.maximum(w_h, 0.0)) - 1.0) * 0.5), 1.0)
    top = w_h / n + 0.5 * (n - 1.0)
    return Stop(sign, b, w, left, m, h, n, w_m, w_h, top)


def reach_of(stop: Stop, limits: MotionLimits, dt: float) -> tuple[FloatArray, FloatArray]:
    """Furthest way up (>= 0) and down (<= 0) during the brake, each (..., J) rad."""
    unit = limits.jerk * dt**3
    rest = _rest(stop, limits, dt) * unit
    # First the wrong way, when the acceleration has yet to turn the speed.
    _, b, w, *_ = stop
    c = -b - 0.5
    i = np.where(w < 0.0, np.floor(c - np.sqrt(np.maximum(c * c + 2.0 * w, 0.0))), 0.0)
    i = np.maximum(i, 0.0)
    back = np.minimum(i * (w - (i + 1.0) * (0.5 * b + (i + 2.0) / 6.0)), 0.0) * unit
    ahead, forward = np.maximum(rest, 0.0), stop.sign > 0.0
    return np.where(forward, ahead, -back), np.where(forward, np.minimum(back, rest), -ahead)


def _rest(stop: Stop, limits: MotionLimits, dt: float) -> FloatArray:
    """Way of the three parts in the direction of ``sign``, in units of s dt^2."""
    _, b, w, _, m, h, n, w_m, w_h, top = stop
    most = limits.acceleration / (limits.jerk * dt)
    return np.asarray(
        m * (w - (m + 1.0) * (0.5 * b + (m + 2.0) / 6.0))
        + h * (w_m - 0.5 * most * (h + 1.0))
        + n * (w_h - (n + 1.0) * (0.5 * top - (n - 1.0) / 6.0))
    )


def first_acceleration(stop: Stop, limits: MotionLimits, dt: float) -> FloatArray:
    """(..., J) acceleration of the brake's first period, rad/s^2."""
    step = limits.jerk * dt
    b = np.minimum(stop.b + 1.0, limits.acceleration / step)
    ramp = np.maximum(stop.top + stop.m + stop.h, 0.0)
    return np.asarray(-stop.sign * step * np.minimum(b, ramp))


def path_of(
    q: FloatArray,
    v: FloatArray,
    parts: FloatArray,
    most: FloatArray,
    dt: float,
    count: int,
) -> FloatArray:
    """A position and the brake from it.

    Args:
        q: (J,) rad, v: (J,) rad/s. parts: (4, J): change of speed per unit of b, rad/s; b
            before; periods to the rest; top of the ramp seen from the first period.
        most: (J,) largest b. count: periods of the longest.

    Returns:
        (count + 1, J) rad; a brake of more than 4096 periods is cut off.
    """
    return compiled.brake_path(np.array(q), np.array(v), parts, most, dt, min(count, _LONGEST))


def _release(b: FloatArray) -> FloatArray:
    """Sum of max(b - i, 0) over i = 0, 1, ..; 0 for b <= 0."""
    b = np.maximum(b, 0.0)
    k = np.floor(b)
    return np.asarray((k + 1.0) * (b - 0.5 * k))
