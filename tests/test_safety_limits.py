"""Discrete viability with jerk: no limit is ever broken, and a full stop is always possible."""

import numpy as np
import pytest
from plain_motion import approach, brake_path, check_motion, rest_of, speed_of

from wm_bridge.core.types import Reason
from wm_bridge.safety.box import Motion, acceleration_box, excess, project
from wm_bridge.safety.brake import first_acceleration, reach_of, stop_from
from wm_bridge.safety.limits import MotionLimits, stopping_speed
from wm_bridge.safety.viability import random_limits, run_random_ticks

ARM = MotionLimits([-2.0], [2.0], [1.0], [5.0], [100.0])


def at_rest(q):
    return Motion(np.asarray(q, dtype=float), np.zeros_like(q), np.zeros_like(q))


def drive(target, limits, dt, ticks, motion=None):
    """Follow ``target(k)`` through `project`; returns the outputs (T, J)."""
    motion = motion or at_rest(np.zeros(limits.lower.size))
    path = []
    for k in range(ticks):
        q = project(target(k), motion, limits, dt)
        v = (q - motion.q) / dt
        motion = Motion(q, v, (v - motion.v) / dt)
        path.append(q)
    return np.array(path)


# ---- the brake ---------------------------------------------------------------------


def stepwise_brake(v, a, limits, dt):
    """The brake by its rule, one period at a time; (N, J) positions."""
    step, q, path = limits.jerk * dt, np.zeros_like(v), []
    while np.any(v != 0.0) or np.any(a != 0.0):
        released, k = v.copy(), np.floor(np.abs(a) / step)
        extra = np.maximum(np.abs(a) - step, 0.0)
        released = v + np.sign(a) * dt * (k * extra - step * k * np.maximum(k - 1, 0) / 2)
        sign = np.where(released < 0.0, -1.0, 1.0)
        room = stopping_speed(np.maximum(v * sign, 0.0), limits.jerk, dt)
        room = np.where(v * sign < 0.0, limits.acceleration, room)
        b = np.minimum(np.minimum(-a * sign + step, limits.acceleration), room)
        a = -sign * b
        v = v + a * dt
        a, v = np.where(np.abs(a) < 1e-10, 0.0, a), np.where(np.abs(v) < 1e-12, 0.0, v)
        q = q + v * dt
        path.append(q)
    return np.array(path)


@pytest.mark.parametrize("dt", [0.002, 0.01])
def test_the_closed_form_brake_is_the_stepwise_brake(dt):
    rng = np.random.default_rng(1)
    limits = random_limits(rng, 400)
    v = rng.uniform(-1, 1, 400) * limits.velocity
    a = rng.uniform(-1, 1, 400) * limits.acceleration
    v[:30], a[30:60] = 0.0, 0.0
    stop = stop_from(v, a, limits, dt)
    path, slow = brake_path(np.zeros(400), v, stop, limits, dt), stepwise_brake(v, a, limits, dt)
    shared = min(len(path), len(slow))
    np.testing.assert_allclose(path[:shared], slow[:shared], atol=1e-9)
    np.testing.assert_allclose(path[-1], slow[-1], atol=1e-9)
    np.testing.assert_allclose(path[-1], rest_of(stop, limits, dt), atol=1e-12)
    high, low = reach_of(stop, limits, dt)
    np.testing.assert_allclose(np.maximum(path.max(axis=0), 0.0), high, atol=1e-12)
    np.testing.assert_allclose(np.minimum(path.min(axis=0), 0.0), low, atol=1e-12)
    speeds = np.abs(np.diff(np.concatenate([np.zeros((1, 400)), path]), axis=0)) / dt
    np.testing.assert_allclose(np.maximum(speeds.max(axis=0), np.abs(v)), speed_of(stop, limits, dt), atol=1e-9)
    first = (path[0] / dt - v) / dt
    np.testing.assert_allclose(first, first_acceleration(stop, limits, dt), atol=1e-6)


def test_the_rest_of_a_brake_is_the_brake_one_period_later():
    rng = np.random.default_rng(2)
    limits, dt = random_limits(rng, 300), 0.01
    v = rng.uniform(-1, 1, 300) * limits.velocity
    a = rng.uniform(-1, 1, 300) * limits.acceleration
    path = brake_path(np.zeros(300), v, stop_from(v, a, limits, dt), limits, dt)
    v1 = path[0] / dt
    again = brake_path(path[0], v1, stop_from(v1, (v1 - v) / dt, limits, dt), limits, dt)
    np.testing.assert_allclose(again[-1], path[-1], atol=1e-9)
    shared = min(len(again), len(path) - 1)
    np.testing.assert_allclose(again[:shared], path[1 : shared + 1], atol=1e-9)


def test_a_stop_takes_about_the_time_that_the_limits_allow():
    """From full speed: v/A to brake and A/J to build the brake up; 0.25 s here."""
    limits = MotionLimits([-9.0], [9.0], [1.0], [5.0], [100.0])
    path = brake_path(np.zeros(1), np.ones(1), stop_from(np.ones(1), np.zeros(1), limits, 0.01), limits, 0.01)
    assert len(path) <= 25


def test_the_end_of_the_stop_grows_with_speed_and_acceleration():
    rng = np.random.default_rng(3)
    limits, dt = random_limits(rng, 2000), 0.01
    v = rng.uniform(-1, 1, 2000) * limits.velocity
    a = rng.uniform(-1, 1, 2000) * limits.acceleration
    end = rest_of(stop_from(v, a, limits, dt), limits, dt)
    for dv, da in ((1e-3, 0.0), (0.0, 1e-2)):
        assert (rest_of(stop_from(v + dv, a + da, limits, dt), limits, dt) >= end - 1e-12).all()


# ---- viability ---------------------------------------------------------------------


@pytest.mark.parametrize("dt", [0.001, 0.004, 0.01])
def test_a_million_adversarial_ticks_break_no_limit(dt):
    found = run_random_ticks(np.random.default_rng(7), ticks=1_000_000, dt=dt)  # more: ./wm bench safety --nightly
    assert found.ticks >= 1_000_000
    assert found.violations == 0, found


def test_long_runs_from_few_states_break_no_limit():
    rng = np.random.default_rng(11)
    found = run_random_ticks(rng, ticks=64 * 4000, dt=0.01, joints=64, batch=1)
    assert found.violations == 0, found


def test_driving_at_a_wall_ends_at_the_wall():
    path = drive(lambda k: np.array([9.0]), ARM, 0.01, 400)
    assert path[-1, 0] == pytest.approx(2.0, abs=1e-6)
    speed = np.diff(path[:, 0]) / 0.01
    assert speed.max() == pytest.approx(1.0, abs=1e-9)  # all of the speed ...
    assert len(path) - np.argmax(path[:, 0] > 2.0 - 1e-4) > 130  # ... and no creeping


def test_projecting_twice_changes_nothing():
    rng = np.random.default_rng(5)
    limits = random_limits(rng, 500)
    motion = at_rest(rng.uniform(limits.lower, limits.upper))
    for _ in range(20):
        once = project(motion.q + rng.normal(0, 1e-3, 500), motion, limits, 0.01)
        np.testing.assert_allclose(project(once, motion, limits, 0.01), once, rtol=0, atol=1e-12)
        v = (once - motion.q) / 0.01
        motion = Motion(once, v, (v - motion.v) / 0.01)


def test_a_motion_is_viable_or_its_brake_leaves_the_limits():
    motion = Motion(np.array([1.9, 1.9]), np.array([0.1, 1.0]), np.zeros(2))
    limits = MotionLimits([-2.0] * 2, [2.0] * 2, [1.0] * 2, [5.0] * 2, [100.0] * 2)
    over = excess(motion, limits, 0.01)
    assert over[0] < 0.0 < over[1]


def test_safe_requests_pass_bit_for_bit():
    dt = 0.01
    limits = MotionLimits(*(np.full(200, x) for x in (-2.0, 2.0, 1.0, 5.0, 100.0)))
    times = np.arange(0.0, 20.0, dt)[:, None]
    phases = np.linspace(0.0, 6.0, 200)
    wanted = 1.5 * np.sin(0.6 * times + phases)  # at most 0.9 rad/s, 0.54 rad/s^2
    v = np.gradient(wanted, dt, axis=0)

    def motion(k):
        return Motion(wanted[k], (wanted[k] - wanted[k - 1]) / dt, (wanted[k] - 2 * wanted[k - 1] + wanted[k - 2]) / dt**2)

    assert np.abs(v).max() < 1.0
    for k in range(3, len(wanted)):
        wish = approach(wanted[k], motion(k - 1), motion(k - 1), limits.scaled(0.5), dt)
        assert np.array_equal(project(wish, motion(k - 1), limits, dt), wanted[k])


@pytest.mark.parametrize("way", [0.003, 0.02, 0.3, 1.5])
def test_a_step_request_is_reached_without_overshoot_or_ringing(way):
    dt, target, motion = 0.01, np.array([way]), at_rest(np.zeros(1))
    still, path = at_rest(target), []
    for _ in range(400):
        q = project(approach(target, still, motion, ARM.scaled(0.5), dt), motion, ARM, dt)
        v = (q - motion.q) / dt
        motion = Motion(q, v, (v - motion.v) / dt)
        path.append(q[0])
    assert max(path) <= way + 1e-4  # a fifteenth of an encoder step
    assert path[-1] == way
    assert next(k for k, p in enumerate(path) if p > 0.99 * way) * dt < 0.5 + 1.5 * way


def test_the_acceleration_box_is_never_empty():
    rng = np.random.default_rng(4)
    limits, dt = random_limits(rng, 1000), 0.01
    motion = at_rest((limits.lower + limits.upper) / 2)
    for _ in range(300):
        low, high = acceleration_box(motion, limits, dt)
        assert (low <= high + 1e-9 * limits.acceleration).all()
        motion = motion.next(np.where(rng.random(1000) < 0.5, low, high), dt)


# ---- settings and the post-check ---------------------------------------------------


@pytest.mark.parametrize(
    "fields, word",
    [
        ({"lower": [1.0], "upper": [-1.0]}, "swapped"),
        ({"lower": [np.nan]}, "finite"),
        ({"velocity": [-1.0]}, "velocity"),
        ({"velocity": [0.0]}, "velocity"),
        ({"jerk": [-1.0]}, "jerk"),
        ({"acceleration": [np.inf]}, "finite"),
        ({"acceleration": [1.0, 2.0]}, "shape"),
    ],
)
def test_bad_limits_are_refused(fields, word):
    good = {"lower": [-1.0], "upper": [1.0], "velocity": [1.0], "acceleration": [5.0], "jerk": [100.0]}
    with pytest.raises(ValueError, match=word):
        MotionLimits(**(good | fields))


def test_post_check_notices_each_broken_limit():
    limits, dt = MotionLimits([-1.0], [1.0], [1.0], [5.0], [100.0]), 0.01

    def check(*outputs, rest=None):
        q = np.array(outputs, dtype=float)[:, None]
        brake = q[-1:] if rest is None else np.array(rest, dtype=float)[:, None]
        return check_motion(q[:3], q[3], brake, limits, dt)

    assert check(0.0, 0.0, 0.0, 0.0) == Reason.NONE
    assert check(0.0, 0.0, 0.0, np.nan) == Reason.NONFINITE
    assert check(0.0, 0.0, 0.0, 0.0, rest=[np.inf]) == Reason.NONFINITE
    assert check(1.0, 1.0, 1.0, 1.0 + 1e-6) & Reason.POSITION_LIMIT
    assert check(0.0, 0.0, 0.0, 1e-4) == Reason.JERK_LIMIT  # 1 rad/s^2 at once is allowed, back is not
    assert check(0.0, 0.011, 0.022, 0.033) & Reason.VELOCITY_LIMIT
    assert check(0.0, 0.0, 0.0, 0.001) & Reason.ACCELERATION_LIMIT
    assert check(0.0, 0.0, 0.0, 0.0, rest=[0.0, 1e-3]) & Reason.JERK_LIMIT  # the stop is looked at too


def test_an_output_without_a_way_to_stop_in_time_is_noticed():
    """Inside all limits itself, but the wall is nearer than the stop."""
    limits, dt = MotionLimits([-1.0], [1.0], [1.0], [5.0], [100.0]), 0.01
    history = np.array([[0.92], [0.93], [0.94]])
    v = np.ones(1)
    brake = brake_path(np.array([0.95]), v, stop_from(v, np.zeros(1), limits, dt), limits, dt)
    assert check_motion(history, np.array([0.95]), brake, limits, dt) == Reason.POSITION_LIMIT
