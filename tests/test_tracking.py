"""The tracker's curve: smooth, exact at way points, at rest at the end."""

from types import SimpleNamespace

import numpy as np
import pytest

from wm_bridge.core.tracking import TrajectoryTracker
from wm_bridge.core.types import Trajectory

MS = 1_000_000
SPEC = SimpleNamespace(
    joint_names=("a", "b", "c"),
    lower=np.full(3, -3.0),
    upper=np.full(3, 3.0),
    velocity=np.ones(3),
    acceleration=np.full(3, 5.0),
)


def plan(stamp_ms, positions, period_ms=100, names=("c", "a"), velocities=None):
    positions = np.asarray(positions, dtype=float)
    if velocities is None:
        velocities = np.gradient(positions, period_ms * 1e-3, axis=0)
        velocities[-1] = 0.0
    times = tuple((k + 1) * period_ms * MS for k in range(len(positions)))
    return Trajectory(names, times, positions, velocities, round(stamp_ms * MS))


def tracker(position=(0.0, 0.0, 0.0)):
    made = TrajectoryTracker(SPEC)
    made.start(np.array(position))
    return made


def smooth(count=6):
    """Constant acceleration of 0.2 and -0.4 rad/s^2 from rest at 10 Hz, joints c and a."""
    return np.outer(0.5 * (0.1 * np.arange(1, count + 1)) ** 2, [0.2, -0.4])


def test_before_start_there_is_no_sample_and_no_plan_is_taken():
    fresh = TrajectoryTracker(SPEC)
    assert fresh.sample(0) is None
    with pytest.raises(ValueError, match="start"):
        fresh.accept(plan(0, smooth()), 0)


def test_the_curve_goes_exactly_through_the_way_points():
    made, points = tracker(), smooth()
    made.accept(plan(1000, points), 1000 * MS)
    for k, point in enumerate(points):
        sample = made.sample((1000 + 100 * (k + 1)) * MS)
        np.testing.assert_allclose(sample.position, [point[1], 0.0, point[0]], atol=1e-15)
        assert sample.source_stamp_ns == 1000 * MS


def test_velocity_is_the_derivative_of_position():
    made = tracker()
    made.accept(plan(0, smooth()), 0)
    for time in range(3, 640, 7):
        later, earlier = made.sample(time * MS + 1000), made.sample(time * MS - 1000)
        slope = (later.position - earlier.position) / 2e-6
        np.testing.assert_allclose(made.sample(time * MS).velocity, slope, atol=1e-5)


def test_the_plan_ends_at_rest_and_stays():
    made, points = tracker(), smooth()
    moving = np.full_like(points, 0.3)  # a last row that is not zero is not believed
    made.accept(plan(0, points, velocities=moving), 0)
    assert np.abs(made.sample(600 * MS - 1000).velocity).max() < 1e-3
    for time in (600, 601, 99_000):
        sample = made.sample(time * MS)
        assert np.array_equal(sample.velocity, np.zeros(3))
        np.testing.assert_array_equal(sample.position, made.end_position)


def test_a_new_plan_causes_no_jump_in_position_or_velocity():
    rng = np.random.default_rng(0)
    made = tracker()
    for step in range(50):
        now = (step * 100 + 60) * MS
        before = made.sample(now)
        made.accept(plan(step * 100, before.position[[2, 0]] + rng.normal(0, 0.1, (5, 2))), now)
        after = made.sample(now)
        np.testing.assert_array_equal(before.position, after.position)
        np.testing.assert_array_equal(before.velocity, after.velocity)
        np.testing.assert_allclose(made.sample(now + 1).position, before.position, atol=1e-7)


def test_a_late_plan_is_joined_where_it_should_be_by_now():
    on_time, late = tracker(), tracker()
    points = smooth(8)
    on_time.accept(plan(0, points), 0)
    late.accept(plan(0, points), 330 * MS)  # three way points are past already
    for time in (600, 700, 800):
        np.testing.assert_array_equal(
            on_time.sample(time * MS).position, late.sample(time * MS).position
        )


def test_a_plan_that_is_all_past_ends_at_its_last_point():
    made = tracker()
    made.accept(plan(0, smooth()), 5000 * MS)
    np.testing.assert_allclose(made.sample(5050 * MS).position, [-0.072, 0.0, 0.036])


def test_joints_without_a_name_in_the_plan_hold():
    made = tracker((0.1, 0.2, 0.3))
    made.accept(plan(0, smooth()), 0)
    assert all(made.sample(t * MS).position[1] == 0.2 for t in range(0, 700, 13))


def test_a_far_plan_is_joined_gently():
    made = tracker()
    made.accept(plan(0, np.full((8, 2), 0.1)), 0)  # 0.1 rad away: 50 ms would need 240 rad/s^2
    times = np.arange(0, 800) * MS
    speed = np.array([made.sample(int(t)).velocity for t in times])
    assert np.abs(np.diff(speed, axis=0) / 1e-3).max() <= 5.0 + 0.1


def test_half_way_points_of_bounded_plans_never_exceed_the_plans_acceleration():
    rng = np.random.default_rng(2)
    u = np.cumsum(rng.uniform(-0.2, 0.2, (30, 2)), axis=0)  # second differences <= 2 rad/s^2
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(u, axis=0) * 0.1])
    middle = Trajectory(
        ("a", "b"),
        tuple(round((k + 0.5) * 1e8) for k in range(30)),
        (path[1:] + path[:-1]) / 2,
        u,
        0,
    )
    made = tracker()
    made.accept(middle, 0)
    speed = np.array([made.sample(t * MS).velocity for t in range(150, 2800)])
    assert np.abs(np.diff(speed, axis=0) / 1e-3).max() <= 2.0 + 1e-3


@pytest.mark.parametrize("names", [("a", "x"), ("a", "a")])
def test_unknown_and_doubled_joints_are_refused(names):
    with pytest.raises(ValueError, match="unknown joints|named twice"):
        tracker().accept(plan(0, smooth(), names=names), 0)
