"""The viability box, the full brake and the post-check, by properties."""

import numpy as np
import pytest

from wm_bridge.core.types import Reason
from wm_bridge.safety.brake import brake_path, brake_step, stop_position
from wm_bridge.safety.limits import MotionLimits, approach, project, stopping_speed, viability_box
from wm_bridge.safety.postcheck import check_output

BATCH = 25_000


def random_limits(rng, joints):
    middle = rng.uniform(-2.0, 2.0, joints)
    half = 10.0 ** rng.uniform(-2.0, 0.6, joints)
    return MotionLimits(
        middle - half,
        middle + half,
        10.0 ** rng.uniform(-1.0, 1.0, joints),
        10.0 ** rng.uniform(-0.5, 2.0, joints),
    )


def wishes(rng, kind, k, q, v, limits, dt):
    """Adversarial targets: everything a planner could ask for."""
    span = limits.upper - limits.lower
    if kind == 0:  # anywhere, far outside included
        return limits.lower + span * rng.uniform(-2.0, 3.0, q.shape)
    if kind == 1:  # full speed into alternating walls
        return np.where((k // 40) % 2 == 0, 1e12, -1e12) * np.ones_like(q)
    if kind == 2:  # as fast as the box allows, always towards a wall
        low, high = viability_box(q, v, limits, dt)
        return q + np.where(v >= 0, high, low) * dt
    if kind == 3:  # exactly on and just around a limit
        return limits.upper + rng.choice([-1e-12, 0.0, 1e-12, 1e-3], q.shape)
    # bang-bang around the present velocity
    return q + (v + rng.choice([-2.0, 2.0], q.shape) * limits.acceleration * dt) * dt


@pytest.mark.parametrize("dt", [0.001, 0.004, 0.01])
def test_ten_million_ticks_break_no_limit(dt):
    rng = np.random.default_rng(7)
    limits = random_limits(rng, 8)
    q = np.clip(rng.uniform(limits.lower, limits.upper, (BATCH, 8)), limits.lower, limits.upper)
    v = np.zeros_like(q)
    worst = np.full(4, -np.inf)
    ticks = 0
    for k in range(60 if dt != 0.01 else 30):
        new = project(wishes(rng, k % 5, k, q, v, limits, dt), q, v, limits, dt)
        new_v = (new - q) / dt
        rest = stop_position(new, new_v, limits.acceleration, dt)
        excess = (
            np.maximum(limits.lower - new, new - limits.upper).max(),
            (np.abs(new_v) - limits.velocity).max(),
            ((np.abs(new_v - v) - limits.acceleration * dt) / dt).max(),
            np.maximum(limits.lower - rest, rest - limits.upper).max(),
        )
        worst = np.maximum(worst, excess)
        q, v = new, new_v
        ticks += q.size
    assert ticks >= 6e6
    assert worst[0] <= 1e-9, "position"
    assert worst[1] <= 1e-9, "velocity"
    assert worst[2] <= 1e-9, "acceleration"
    assert worst[3] <= 1e-9, "position at the end of a full brake"


def test_long_runs_from_few_states_break_no_limit():
    rng = np.random.default_rng(11)
    dt = 0.01
    limits = random_limits(rng, 64)
    q, v = (limits.lower + limits.upper) / 2, np.zeros(64)
    for k in range(4000):
        new = project(wishes(rng, (k // 50) % 5, k, q, v, limits, dt), q, v, limits, dt)
        new_v = (new - q) / dt
        assert (new >= limits.lower - 1e-9).all() and (new <= limits.upper + 1e-9).all()
        assert (np.abs(new_v) <= limits.velocity + 1e-9).all()
        assert (np.abs(new_v - v) <= limits.acceleration * dt + 1e-9 * dt).all()
        q, v = new, new_v


def test_the_box_uses_all_of_the_room():
    """Driving at a wall ends exactly at the wall: the box is exact, not conservative."""
    limits = MotionLimits([-1.0], [1.0], [1.0], [5.0])
    q, v = np.zeros(1), np.zeros(1)
    for _ in range(300):
        new = project(np.array([9.0]), q, v, limits, 0.01)
        q, v = new, (new - q) / 0.01
    assert q[0] == pytest.approx(1.0, abs=1e-9)


def test_full_brake_from_every_state_stays_inside():
    rng = np.random.default_rng(3)
    limits = random_limits(rng, 500)
    dt = 0.01
    q = rng.uniform(limits.lower, limits.upper)
    v = np.clip(rng.normal(0.0, 1.0, 500), -limits.velocity, limits.velocity)
    low = -stopping_speed(q - limits.lower, limits.acceleration, dt)
    high = stopping_speed(limits.upper - q, limits.acceleration, dt)
    v = np.clip(v, low, high)  # the last choice of a box whose first step ends at q + v dt
    q = q + v * dt
    path = brake_path(q, v, limits.acceleration, dt)
    assert (path >= limits.lower - 1e-9).all() and (path <= limits.upper + 1e-9).all()
    np.testing.assert_allclose(path[-1], stop_position(q, v, limits.acceleration, dt), atol=1e-9)


def test_stopping_speed_covers_exactly_the_distance():
    a, dt = np.array([5.0]), 0.01
    for distance in (1e-6, 5e-4, 7e-4, 0.01, 0.1, 2.0):
        v = stopping_speed(np.array([distance]), a, dt)
        end = stop_position(v * dt, v, a, dt)  # first period at v, then the brake
        assert end[0] == pytest.approx(distance, rel=1e-12)


def test_projecting_twice_changes_nothing():
    rng = np.random.default_rng(5)
    limits = random_limits(rng, 2000)
    q = rng.uniform(limits.lower, limits.upper)
    v = np.zeros(2000)
    once = project(q + rng.normal(0, 1, 2000), q, v, limits, 0.01)
    assert np.array_equal(once, project(once, q, v, limits, 0.01))


def test_safe_requests_pass_bit_for_bit():
    dt = 0.01
    limits = MotionLimits(*(np.full(200, x) for x in (-2.0, 2.0, 1.0, 5.0)))
    times = np.arange(0.0, 20.0, dt)[:, None]
    phases = np.linspace(0.0, 6.0, 200)
    wanted = 1.5 * np.sin(0.6 * times + phases)  # at most 0.9 rad/s, 0.54 rad/s^2
    q, v, last = wanted[1], (wanted[1] - wanted[0]) / dt, wanted[1]
    for request in wanted[2:]:
        wish = approach(request, last, q, limits, dt)
        output = project(wish, q, v, limits, dt)
        assert np.array_equal(output, request)
        q, v, last = output, (output - q) / dt, request


def test_a_step_request_is_reached_without_overshoot_or_ringing():
    dt, limits = 0.01, MotionLimits([-2.0], [2.0], [1.0], [5.0])
    q, v, target = np.zeros(1), np.zeros(1), np.array([0.3])
    path = []
    for _ in range(150):
        new = project(approach(target, target, q, limits, dt), q, v, limits, dt)
        q, v = new, (new - q) / dt
        path.append(q[0])
    assert max(path) <= 0.3 + 1e-9
    assert path[-1] == pytest.approx(0.3, abs=1e-9)
    assert next(k for k, p in enumerate(path) if p > 0.299) * dt < 0.9


@pytest.mark.parametrize(
    "fields, word",
    [
        ({"lower": [1.0], "upper": [-1.0]}, "swapped"),
        ({"lower": [np.nan]}, "finite"),
        ({"velocity": [-1.0]}, "velocity"),
        ({"velocity": [0.0]}, "velocity"),
        ({"acceleration": [np.inf]}, "finite"),
        ({"acceleration": [1.0, 2.0]}, "shape"),
    ],
)
def test_bad_limits_are_refused(fields, word):
    good = {"lower": [-1.0], "upper": [1.0], "velocity": [1.0], "acceleration": [5.0]}
    with pytest.raises(ValueError, match=word):
        MotionLimits(**(good | fields))


def test_post_check_notices_each_broken_limit():
    limits, dt = MotionLimits([-1.0], [1.0], [1.0], [5.0]), 0.01

    def check(q, q1, q2):
        return check_output(np.array([q]), np.array([q1]), np.array([q2]), limits, dt)

    assert check(0.0, 0.0, 0.0) == Reason.NONE
    assert check(np.nan, 0.0, 0.0) == Reason.NONFINITE
    assert check(1.0 + 1e-6, 1.0, 1.0) & Reason.POSITION_LIMIT
    assert check(0.011, 0.0, -0.011) == Reason.VELOCITY_LIMIT
    assert check(0.001, 0.0, 0.0) == Reason.ACCELERATION_LIMIT
    assert check(0.95, 0.94, 0.93) == Reason.POSITION_LIMIT  # inside, but cannot stop any more


def test_brake_step_ends_at_exactly_zero_speed():
    q, v = np.zeros(2), np.array([0.33, -1.0])
    for _ in range(20):
        q, v = brake_step(q, v, np.array([5.0, 5.0]), 0.01)
    assert np.array_equal(v, np.zeros(2))
