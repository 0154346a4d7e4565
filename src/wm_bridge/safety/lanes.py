"""`box.py`, `brake.py` and the chase of a request for one tick of one robot, in plain floats.

An array operation on the joints of a robot costs as much as twenty operations on floats, a
joint at rest needs none of them, and a search is only about the joints that need it. So a
tick takes a quarter of the time. Operation by operation the arithmetic is that of the array
code, which is the one that is derived, explained and fuzzed; `tests/test_safety_fast.py`
holds each function here against it (`tests/plain_motion.py` has the forms that only it needs), bit for bit.
"""

from __future__ import annotations

import math

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.safety.box import EXACT_RAD, SEARCH_STEPS, Motion
from wm_bridge.safety.brake import path_of
from wm_bridge.safety.limits import MotionLimits

_sqrt = math.sqrt


class Lanes:
    """Limits of J joints as plain numbers.

    Methods with arrays take (J,) and work like the functions they name, NaN included; those
    with a joint number j take the numbers of that joint.

    Args:
        limits: of the joints. dt: control period, s.
    """

    def __init__(self, limits: MotionLimits, dt: float) -> None:
        self.limits, self._dt = limits, dt
        step = limits.jerk * dt
        most = limits.acceleration / step
        parts = (step, step * dt, most, limits.jerk * dt**3)
        columns = [part.tolist() for part in parts]
        self._constants: list[tuple[float, float, float, float, float]] = [
            (step_, unit_v, most_, unit_q, _release(most_))
            for step_, unit_v, most_, unit_q in zip(*columns, strict=True)
        ]
        self._lower: list[float] = limits.lower.tolist()
        self._upper: list[float] = limits.upper.tolist()
        self._acceleration: list[float] = limits.acceleration.tolist()
        self._velocity: list[float] = limits.velocity.tolist()
        self._most = most
        self._zeros, self._ones = [0.0] * most.size, [1.0] * most.size
        self._near = limits.jerk * (dt * dt * dt)  # of `approach`: from here a joint can land
        rest = np.zeros(most.size)
        self.path(Motion(rest, rest, rest))  # the first tick finds numba with its types looked up

    # ---- all joints ----------------------------------------------------------------

    def path(self, motion: Motion) -> FloatArray:
        """(N + 1, J) the output of a motion and every output of the brake from it (`brake.py`), rad."""
        turn, begin, ends, ramps = self._zeros[:], self._zeros[:], self._ones[:], self._ones[:]
        longest = 1.0
        for j, (v, a) in enumerate(zip(motion.v.tolist(), motion.a.tolist(), strict=True)):
            if v == 0.0 and a == 0.0:
                continue
            sign, b, _, m, h, n, _, _, top = self._parts(j, v, a)
            ends[j] = end = m + h + n
            turn[j], begin[j], ramps[j] = sign * -self._constants[j][1], b, end - n + top + 1.0
            if not end <= longest:
                longest = end
        parts = np.array((turn, begin, ends, ramps))
        return path_of(motion.q, motion.v, parts, self._most, self._dt, int(longest))

    def project(self, target: FloatArray, motion: Motion) -> FloatArray:
        """`box.project`: the output nearest to ``target`` from which every limit can be kept, rad."""
        dt = self._dt
        wishes = motion.towards(target, dt).tolist()
        best = target.tolist()
        q_, v_, a_ = motion.q.tolist(), motion.v.tolist(), motion.a.tolist()
        for j, wish in enumerate(wishes):
            q, v, a = q_[j], v_[j], a_[j]
            low, high = self.interval(j, v, a)
            clipped = wish
            if not clipped >= low:
                clipped = low if clipped == clipped else clipped
            if clipped > high:
                clipped = high
            v_next = v + clipped * dt
            if wish != clipped:
                best[j] = q + v_next * dt
            over = self.excess(j, best[j], v_next, clipped)
            if over > EXACT_RAD:
                v_next = v + self.furthest_viable(j, clipped, over, q, v, a) * dt
                best[j] = q + v_next * dt
        return np.array(best)

    def approach(self, target: FloatArray, wanted: Motion, motion: Motion) -> FloatArray:
        """Next output wish that catches up with a moving target without swinging about it, rad.

        Clipping a position to a jerk-limited box makes the joint run past the target. Seen from
        the target, the wish is the acceleration whose full brake ends on it. A joint that can
        land on the target and stay there takes it bit for bit.

        Args:
            target: (J,) wanted output, rad. wanted: the target's motion one period ago.
            motion: last output. The limits are those of the motion relative to the target, below
                those of the joints because the target uses some itself.
        """
        dt = self._dt
        q, v, a = motion.q - wanted.q, motion.v - wanted.v, motion.a - wanted.a
        landing = 3.0 * np.abs(q) + 2.0 * np.abs(v) * dt + np.abs(a) * (dt * dt)
        lands = (landing <= self._near).tolist()
        if all(lands):
            return target
        wish, q_, v_, a_ = target.tolist(), q.tolist(), v.tolist(), a.tolist()
        for j, landed in enumerate(lands):
            if not landed:
                wish[j] += self.landing(j, q_[j], v_[j], a_[j])
        return np.array(wish)

    def box(self, motion: Motion) -> tuple[FloatArray, FloatArray]:
        """`box.acceleration_box`: interval of next accelerations, rad/s^2."""
        pairs = zip(motion.v.tolist(), motion.a.tolist(), strict=True)
        low, high = np.array([self.interval(j, v, a) for j, (v, a) in enumerate(pairs)]).T
        return low, high

    # ---- one joint -----------------------------------------------------------------

    def interval(self, j: int, v: float, a: float) -> tuple[float, float]:
        """`box.acceleration_box` of joint j, rad/s^2."""
        step, most, limit = self._constants[j][0], self._acceleration[j], self._velocity[j]
        high, low = a + step, a - step
        if high > most:
            high = most
        if low < -most:
            low = -most
        cap = self._cap(limit - v, step)
        if cap < high:
            high = cap
        cap = -self._cap(limit + v, step)
        return (cap if cap > low else low), high

    def _cap(self, speed: float, step: float) -> float:
        """`limits.stopping_speed` one derivative up: from speed left to acceleration."""
        s = speed / self._dt
        if s > step:
            n = -((0.5 - 0.5 * _sqrt(1.0 + 8.0 * s / step)) // 1.0)  # > 1, rounding included
            return s / n + (n - 1.0) * step * 0.5
        return s

    def rest(self, j: int, v: float, a: float) -> float:
        """Where the brake ends, rad from the present position."""
        sign, b, w, m, h, n, w_m, w_h, top = self._parts(j, v, a)
        _, _, most, unit, _ = self._constants[j]
        return _way(b, w, m, h, n, w_m, w_h, top, most) * sign * unit

    def excess(self, j: int, q: float, v: float, a: float) -> float:
        """`box.excess`: how far the brake leaves the position limits, <= 0 is viable, rad."""
        if v == 0.0 and a == 0.0:
            return max(q - self._upper[j], self._lower[j] - q)
        sign, b, w, m, h, n, w_m, w_h, top = self._parts(j, v, a)
        _, _, most, unit, _ = self._constants[j]
        rest = _way(b, w, m, h, n, w_m, w_h, top, most) * unit
        back = 0.0
        if w < 0.0:
            c = -b - 0.5
            under = c * c + 2.0 * w
            i = (c - (_sqrt(under) if under > 0.0 else 0.0)) // 1.0
            if i > 0.0:
                back = min(i * (w - (i + 1.0) * (0.5 * b + (i + 2.0) / 6.0)), 0.0) * unit
        ahead = rest if rest > 0.0 else 0.0
        if sign > 0.0:
            high, low = ahead, (back if back < rest else rest)
        else:
            high, low = -back, -ahead
        return max(q + high - self._upper[j], self._lower[j] - q - low)

    def first_acceleration(self, j: int, v: float, a: float) -> float:
        """`brake.first_acceleration` of the brake from here, rad/s^2."""
        sign, b, _, m, h, _, _, _, top = self._parts(j, v, a)
        step, _, most, _, _ = self._constants[j]
        b = min(b + 1.0, most)
        ramp = max(top + m + h, 0.0)
        return -sign * step * min(b, ramp)

    def furthest_viable(self, j: int, wish: float, over: float, q: float, v: float, a: float) -> float:
        """`box._furthest_viable`: next acceleration nearest to ``wish`` that is viable, rad/s^2.

        Args:
            wish: not viable, by ``over`` rad. q, v, a: last output.
        """
        dt = self._dt
        safe = self.first_acceleration(j, v, a)
        v_next = v + safe * dt
        f_safe = min(self.excess(j, q + v_next * dt, v_next, safe), -1e-15)
        f_wish = over
        for _ in range(SEARCH_STEPS):
            middle = safe + (wish - safe) * (f_safe / (f_safe - max(f_wish, 1e-15)))
            v_next = v + middle * dt
            f = self.excess(j, q + v_next * dt, v_next, middle)
            if f <= 0.0:
                safe, f_safe, f_wish = middle, f, f_wish * 0.5
            else:
                wish, f_safe, f_wish = middle, f_safe * 0.5, f
            f_safe = min(f_safe, -1e-15)
        return safe

    def landing(self, j: int, q: float, v: float, a: float) -> float:
        """The search of `approach` for one joint: its next place, rad from the target.

        Args:
            q, v, a: relative to the target.
        """
        dt, step, most = self._dt, self._constants[j][0], self._acceleration[j]
        low = max(a - step, min(-most, a + step))
        high = min(a + step, max(most, a - step))
        f_low, f_high = self._end(j, low, q, v), self._end(j, high, q, v)
        middle, f = low, f_low
        for _ in range(SEARCH_STEPS):
            share = f_low / min(f_low - f_high, -1e-15)
            share = 0.0 if share < 0.0 else 1.0 if share > 1.0 else share
            last, middle = middle, low + (high - low) * share
            if middle != last:
                f = self._end(j, middle, q, v)
            if f <= 0.0:
                low, f_low, f_high = middle, f, f_high * 0.5
            else:
                high, f_low, f_high = middle, f_low * 0.5, f
        return q + (v + middle * dt) * dt

    def _end(self, j: int, acceleration: float, q: float, v: float) -> float:
        """Where the brake after one period of ``acceleration`` ends, rad."""
        v = v + acceleration * self._dt
        return q + v * self._dt + self.rest(j, v, acceleration)

    def _parts(
        self, j: int, v: float, a: float
    ) -> tuple[float, float, float, float, float, float, float, float, float]:
        """sign, b, w, m, h, n, w_m, w_h, top of `brake.Stop`."""
        step, unit, most, _, release = self._constants[j]
        b, w, sign = a / -step, v / unit, 1.0
        over = abs(b) - 1.0
        left = w
        if over > 0.0:
            k = over // 1.0
            turned = (k + 1.0) * (over - 0.5 * k)
            left = w - turned if b > 0.0 else w + turned
        if left < 0.0:
            sign, b, w = -1.0, -b, -w
        f = b - b // 1.0
        under = w + 0.5 * (b * (b + 1.0) - f * (1.0 - f))
        root = _sqrt(under) if under > 0.0 else 0.0
        m = ((root if root < most else most) - b) // 1.0
        if m > 0.0:
            w_m = w - m * (b + 0.5 * (m + 1.0))
        else:
            m, w_m = 0.0, w
        h = ((w_m - release) / most) // 1.0 + 1.0
        if h > 0.0:
            w_h = w_m - h * most
        else:
            h, w_h = 0.0, w_m
        if w_h > 1.0:
            n = -((0.5 - 0.5 * _sqrt(1.0 + 8.0 * w_h)) // 1.0)
            top = w_h / n + 0.5 * (n - 1.0)
        else:
            n, top = 1.0, w_h
        return sign, b, w, m, h, n, w_m, w_h, top


def _way(
    b: float, w: float, m: float, h: float, n: float, w_m: float, w_h: float, top: float, most: float
) -> float:
    """`brake._rest`."""
    return (
        m * (w - (m + 1.0) * (0.5 * b + (m + 2.0) / 6.0))
        + h * (w_m - 0.5 * most * (h + 1.0))
        + n * (w_h - (n + 1.0) * (0.5 * top - (n - 1.0) / 6.0))
    )


def _release(b: float) -> float:
    """`brake._release` of b >= 0."""
    k = b // 1.0
    return (k + 1.0) * (b - 0.5 * k)
