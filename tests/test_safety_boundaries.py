"""Exactly at a limit: which side it belongs to. A limit that moves by one step of its unit is another limit."""

from __future__ import annotations

import dataclasses
import math

import coal
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_safety_filter import CONFIG, LIMITS, SPEC, Rig
from transforms3d.quaternions import quat2mat

from wm_bridge.core.types import JointState, Reason, SafetyMode, Trajectory
from wm_bridge.safety.box import Motion
from wm_bridge.safety.budget import TimeBudget
from wm_bridge.safety.chooser import Choice
from wm_bridge.safety.content import ABSURD, check_state, check_trajectory
from wm_bridge.safety.follower import Follower
from wm_bridge.safety.health import Grade, Health, HealthMonitor, Level
from wm_bridge.safety.human import HumanMonitor, allowed_speed
from wm_bridge.safety.ladder import Ladder
from wm_bridge.safety.limits import MotionLimits
from wm_bridge.safety.monitor import MS, CameraMonitor, ClockMonitor, StampCheck, TrackingMonitor, Watchdog
from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.postcheck import POSITION_SLACK, VELOCITY_SLACK, MotionCheck
from wm_bridge.safety.presence import Deadman, Heartbeat
from wm_bridge.safety.record import KEPT, Intervention, InterventionRecord
from wm_bridge.safety.settings import check_order
from wm_bridge.safety.shapes import cover
from wm_bridge.safety.start import describe_outside
from wm_bridge.safety.sweep import SAMPLES, spread
from wm_bridge.safety.trust import TrustMonitor

NAMES = ("a", "b", "c")


def plan(points: int = 1, value: float = 0.0, speed: float = 0.0, times: tuple[int, ...] | None = None) -> Trajectory:
    times = tuple(range(points)) if times is None else times
    return Trajectory(("b",), times, np.full((len(times), 1), value), np.full((len(times), 1), speed), 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (plan(1), Reason.NONE),
        (plan(4), Reason.NONE),
        (plan(5), Reason.MALFORMED),
        (plan(0), Reason.MALFORMED),
        (plan(value=ABSURD), Reason.NONE),
        (plan(value=-np.nextafter(ABSURD, 1e9)), Reason.MALFORMED),
        (plan(speed=-ABSURD), Reason.NONE),
        (plan(speed=np.nextafter(ABSURD, 1e9)), Reason.MALFORMED),
        (plan(times=(0, 100)), Reason.NONE),
        (plan(times=(0, 101)), Reason.MALFORMED),
        (plan(times=(-1, 5)), Reason.MALFORMED),
        (plan(times=(5, 5)), Reason.MALFORMED),
        (plan(times=(5, 6)), Reason.NONE),
        (plan(value=math.nan), Reason.NONFINITE),
        (plan(speed=math.inf), Reason.NONFINITE),
    ],
)
def test_a_plan_is_judged_by_its_content_exactly_at_the_limits(content: Trajectory, reason: Reason) -> None:
    found, detail = check_trajectory(content, NAMES, 4, 100)
    assert found is reason and bool(detail) is bool(reason)


def test_one_absurd_number_among_good_ones_is_enough() -> None:
    one, none = np.array([[0.0], [2 * ABSURD], [0.0]]), np.zeros((3, 1))
    for positions, velocities in ((one, none), (none, one)):
        whole = Trajectory(("b",), (0, 1, 2), positions, velocities, 1)
        assert check_trajectory(whole, NAMES, 4, 100)[0] is Reason.MALFORMED


@pytest.mark.parametrize("name", ["position_margin_rad", "intervention_rad", "start_tolerance_rad", "frozen_motion_rad", "tracking_error_rad", "velocity_scale"])
def test_some_settings_may_be_zero_and_others_not(name: str) -> None:
    if name in ("tracking_error_rad", "velocity_scale"):
        with pytest.raises(ValueError, match=f"{name} must be finite and > 0"):
            dataclasses.replace(CONFIG, **{name: 0.0})
    else:
        assert getattr(dataclasses.replace(CONFIG, **{name: 0.0}), name) == 0.0
        with pytest.raises(ValueError, match=f"{name} must be finite and >= 0"):
            dataclasses.replace(CONFIG, **{name: -1e-9})


@pytest.mark.parametrize("share", [0.4, 1.0, 1.3, 3.7])
def test_the_request_is_read_ahead_for_no_less_than_the_jerk_needs(share: float) -> None:
    dt = 0.01
    limits = dataclasses.replace(LIMITS, jerk=LIMITS.acceleration / (share * dt))
    ahead = Follower(SPEC, limits, dt)._ahead
    assert share - 1e-9 <= ahead < share + 1.0


def test_what_a_hold_says_of_the_plan_and_that_no_picture_is_behind_a_brake() -> None:
    """An arm that was under way when plans stopped coming, and one that had arrived."""
    for speed, detail in ((0.3, "no fresh plan in time"), (0.0, "waiting for a plan")):
        rig = Rig()
        rig.drive(15, speed=speed)
        commands = []
        for _ in range(90):
            rig.now += 10 * MS
            rig.filter.observe_state(rig.state(), rig.now, rig.now)
            rig.frame += 1
            rig.filter.observe_camera(rig.now, rig.frame, rig.now, rig.now)
            command, verdict = rig.filter.tick(rig.now, rig.now)
            rig.measured = command.position.copy()
            commands.append(command)
        assert verdict.mode is SafetyMode.HOLD and verdict.detail == detail
        assert commands[-1].source_stamp_ns == 0 and commands[0].source_stamp_ns != 0


def test_thresholds_must_increase() -> None:
    check_order(CONFIG.health, "health", "effort_warn", "effort_derate")
    with pytest.raises(ValueError, match="must be smaller"):
        dataclasses.replace(CONFIG.health, effort_derate=CONFIG.health.effort_warn)


def test_an_arm_at_exactly_the_speed_of_a_resting_one_rests() -> None:
    """A BRAKE ends when the arm is measured to move no faster than it may at a start."""
    slow = CONFIG.start_speed_rad_s
    for speed, mode in ((slow, SafetyMode.HOLD), (np.nextafter(slow, 1.0), SafetyMode.BRAKE)):
        rig = Rig()
        rig.drive(20)
        rig.filter.submit(plan(value=math.nan), rig.now, rig.now)
        for _ in range(80):
            verdict = rig.tick(velocity=np.array([0.0, speed, 0.0]))
        assert verdict.mode is mode


def test_a_constant_acceleration_is_no_jerk() -> None:
    rig = Rig()
    filter_, q = rig.filter, rig.outputs[-1]
    dt, limits = filter_._dt, filter_._limits
    a = 0.8 * limits.acceleration
    assert (2.0 * a > limits.jerk * dt).any(), "a sum in the place of the difference would be seen"
    filter_._outputs.motion = Motion(q, 0.1 * limits.velocity, a)
    v = filter_._outputs.motion.v + a * dt
    step = filter_._outputs.brake_step
    filter_._judge.compare(Motion(q + v * dt, v, a), filter_._outputs.motion, Choice(step._replace(motion=Motion(q, v, a)), Reason.NONE), Reason.NONE, rig.now)
    assert filter_._judge.limiting is Reason.POSITION_LIMIT, "none of the others"


def test_a_state_names_every_joint_once() -> None:
    def state(*names: str) -> JointState:
        return JointState(names, *np.zeros((3, len(names))), stamp_ns=1)

    assert check_state(state("c", "a", "b"), NAMES)[0] is Reason.NONE
    for wrong, word in ((state("a", "b"), "lacks"), (state("a", "b", "b"), "twice"), (state("a", "b", "c", "d"), "unknown")):
        found, detail = check_state(wrong, NAMES)
        assert found is Reason.NAMES and word in detail


def test_stamps_exactly_at_their_limits() -> None:
    check = StampCheck(100, 20, Reason.STALE_STATE)
    now = 1000
    for stamp, reason in (
        (0, Reason.ZERO_STAMP), (-1, Reason.ZERO_STAMP), (1, Reason.STALE_STATE), (899, Reason.STALE_STATE), (900, Reason.NONE),
        (1020, Reason.NONE), (1021, Reason.FUTURE_STAMP),
    ):  # fmt: skip
        assert check.check(stamp, now) is reason, stamp
    assert StampCheck(100, 20, Reason.STALE_STATE).check(1, 50) is Reason.NONE
    check.accept(950)
    assert [check.check(stamp, now) for stamp in (949, 950, 951)] == [Reason.REPLAYED, Reason.REPLAYED, Reason.NONE]
    check.forget()
    assert check.check(950, now) is Reason.NONE


def test_watchdogs_and_clocks_exactly_at_their_limits() -> None:
    dog = Watchdog()
    assert dog.expired(0, 10**18), "never fed"
    dog.feed(5)
    assert not dog.expired(15, 10) and dog.expired(16, 10)
    dog.clear()
    assert dog.expired(5, 10**18)
    clock = ClockMonitor(100)
    assert [clock.jumped(t) for t in (500, 500, 600, 701, 700, 0, 1)] == [False, False, False, True, True, True, False]


def test_an_arm_is_lost_only_after_its_patience_and_from_the_first_moment_on() -> None:
    watch = TrackingMonitor(0.35, 300)
    assert not watch.lost(0.35, 0) and not watch.lost(0.36, 10) and not watch.lost(0.36, 310) and watch.lost(0.36, 311)
    assert not watch.lost(0.35, 312) and not watch.lost(0.4, 313) and not watch.lost(0.4, 613) and watch.lost(0.4, 614)
    watch = TrackingMonitor(0.35, 300)
    assert not watch.lost(math.nan, 0) and watch.lost(math.nan, 301), "an error that is no number is no small one"


@pytest.mark.parametrize(("frames", "long", "moved", "frozen"), [(8, 500, 0.02, True), (7, 500, 0.02, False), (8, 499, 0.02, False), (8, 500, 0.0199, False)])
def test_a_frozen_picture_needs_frames_time_and_motion(frames: int, long: int, moved: float, frozen: bool) -> None:
    camera = CameraMonitor(500, 8, 0.02, StampCheck(10**9, 0, Reason.STALE_CAMERA))
    for k in range(frames):
        last = k == frames - 1
        position = np.array([0.0, -moved if last else 0.0])
        assert camera.observe(1000 + k, 77, position, 2000, long if last else 0) is Reason.NONE
    assert bool(camera.reasons(long) & Reason.FROZEN_CAMERA) is frozen
    camera.observe(1000 + frames, 77, np.zeros(2), 2000, long)
    assert bool(camera.reasons(long) & Reason.FROZEN_CAMERA) is frozen, "it stays until the picture changes"
    camera.observe(1001 + frames, 78, np.zeros(2), 2000, long)
    assert not camera.reasons(long)
    assert camera.reasons(long + 500) is Reason.NONE and camera.reasons(long + 501) is Reason.STALE_CAMERA


def test_budget_of_ticks_exactly_at_its_limits() -> None:
    budget = TimeBudget(8.0, 20.0)
    assert not budget.exceeded(8_000_000) and not budget.lost
    assert budget.exceeded(8_000_001) and not budget.lost
    assert budget.exceeded(8_000_001) and not budget.lost
    assert budget.exceeded(8_000_001) and budget.lost, "24 ms in a row"
    assert not budget.exceeded(1) and not budget.lost, "the row is over"
    budget = TimeBudget(8.0, 20.0)
    assert budget.exceeded(10_000_000) and not budget.lost and budget.exceeded(10_000_000) and budget.lost
    budget = TimeBudget(8.0, 20.0)
    assert budget.exceeded(10_000_000) and budget.exceeded(9_999_999) and not budget.lost, "one nanosecond less"
    assert not budget.exceeded(1) and budget.exceeded(10_000_000) and budget.exceeded(9_999_999) and not budget.lost, "anew, from nothing"


def test_grades_exactly_at_their_thresholds() -> None:
    grade = Grade((55.0, 65.0, 75.0), 3.0)
    seen = [grade.update(x) for x in (54.9, 55.0, 64.9, 65.0, 75.0, 72.1, 72.0, 62.1, 62.0, 52.1, 52.0)]
    assert seen == [0, 1, 1, 2, 3, 3, 2, 2, 1, 1, 0]
    assert grade.update(math.nan) is Level.STOP


def test_effort_must_last_exactly_so_long() -> None:
    watch = HealthMonitor(CONFIG.health, np.array([10.0, 2.0]))
    heavy, wait = Health(effort=(0.0, -1.7)), round(CONFIG.health.effort_ms * MS)
    assert watch.observe(heavy, 100) is Level.OK and watch.observe(heavy, 99 + wait) is Level.OK
    assert watch.observe(heavy, 100 + wait) is Level.WARN and "85 %" in watch.detail
    assert watch.observe(Health(effort=(1.0,)), 100 + wait) is Level.STOP and "1 joints reported, expected 2" in watch.detail
    watch = HealthMonitor(CONFIG.health, np.array([10.0, 2.0]))
    watch.observe(heavy, 0)
    watch.observe(Health(effort=(0.0, 0.1)), 10)
    assert watch.observe(heavy, 1 + wait) is Level.OK, "it begins anew"
    assert watch.observe(Health(errors=("b error 4",)), 0) is Level.STOP and "b error 4" in watch.detail
    assert watch.observe(Health(), 0) is Level.OK


def test_separation_exactly_where_it_begins_and_with_the_walk_since() -> None:
    s = CONFIG.human
    least = s.clearance_m + s.walking_speed_m_s * s.reaction_ms * 1e-3
    assert allowed_speed(least, s) == 0.0 < allowed_speed(np.nextafter(least + 1e-9, 9.0), s)
    watch = HumanMonitor(dataclasses.replace(s, enabled=True), 20 * MS)
    now, limit = 10**12, round(s.timeout_ms * MS)
    assert watch.speed_limit(now, 0) == 0.0, "nobody looked yet"
    assert watch.observe(2.0, now, now, 0) is Reason.NONE
    assert watch.speed_limit(now, limit) == allowed_speed(2.0, s) > 0.0 == watch.speed_limit(now, limit + 1)
    assert watch.speed_limit(now + 100 * MS, 0) == pytest.approx(allowed_speed(2.0 - 0.1 * s.walking_speed_m_s, s))
    assert watch.speed_limit(now - 50 * MS, 0) == allowed_speed(2.0, s), "stamped a little ahead: no credit"
    assert watch.observe(9.0, now, now, 0) is Reason.REPLAYED
    assert watch.observe(0.0, now + 1, now, 0) is Reason.NONE and watch.speed_limit(now, 0) == 0.0
    assert watch.observe(-1e-9, now + 2, now, 0) is Reason.NONFINITE and watch.observe(math.nan, now + 2, now, 0) is Reason.NONFINITE
    assert HumanMonitor(s, 0).speed_limit(now, 0) == math.inf, "off"


def test_trust_exactly_at_its_thresholds() -> None:
    s = dataclasses.replace(CONFIG.trust, enabled=True)
    watch, stamp = TrustMonitor(s, 20 * MS), 10**12
    assert not watch.holds() and watch.slows(0), "nothing was said yet"

    def after(trust: float) -> tuple[bool, bool]:
        nonlocal stamp
        stamp += 1
        assert watch.observe(trust, stamp, stamp, 0) is Reason.NONE
        return watch.holds(), watch.slows(0)

    assert after(0.0) == (True, True)
    up, high = s.hold_below + s.hysteresis, s.slow_below + s.hysteresis
    assert after(np.nextafter(up, 0.0)) == (True, True) and after(up) == (False, True)
    assert after(s.hold_below) == (False, True) and after(np.nextafter(s.hold_below, 0.0)) == (True, True)
    assert after(high) == (False, False) and after(s.slow_below) == (False, False)
    assert after(np.nextafter(s.slow_below, 0.0)) == (False, True)
    assert after(1.0) == (False, False) and after(np.nextafter(1.0, 2.0)) == (True, True) and after(0.0) == (True, True)
    assert after(1.0) == (False, False) and after(-0.1) == (True, True) and after(math.nan) == (False, True)
    after(1.0)
    limit = round(s.timeout_ms * MS)
    assert not watch.slows(limit) and watch.slows(limit + 1) and not watch.holds()
    assert watch.observe(1.0, stamp, stamp, 0) is Reason.REPLAYED, "an old report is no new trust"
    off = TrustMonitor(CONFIG.trust, 0)
    assert not off.holds() and not off.slows(0)


def test_the_deadman_and_the_drivers_heart_exactly_at_their_time() -> None:
    required = dataclasses.replace(CONFIG.deadman, required=True)
    hand, limit = Deadman(required), round(required.timeout_ms * MS)
    assert hand.released(0)
    hand.observe(True, 5)
    assert not hand.released(5 + limit) and hand.released(6 + limit)
    hand.observe(1, 7)  # type: ignore[arg-type]  anything but True is released
    assert hand.released(7) and not Deadman(CONFIG.deadman).released(0)
    heart = Heartbeat(CONFIG.driver)
    limit = round(CONFIG.driver.timeout_ms * MS)
    assert not heart.dead(10**15), "not watched before the first beat"
    heart.observe(0, 5)
    assert not heart.dead(5 + limit) and heart.dead(6 + limit)
    heart.observe(0, 6 + limit)
    assert heart.dead(6 + limit), "a frozen counter is no beat"
    heart.observe(1, 6 + limit)
    assert not heart.dead(6 + limit)
    assert Heartbeat(dataclasses.replace(CONFIG.driver, required=True)).dead(0)


def test_where_the_arm_may_begin() -> None:
    inside = describe_outside(NAMES, np.array([LIMITS.upper[0] + 0.04, LIMITS.lower[1] - 0.04, 0.0]), LIMITS, 0.04 + 1e-12)
    assert inside == ""
    for j, q in ((0, LIMITS.upper[0] + 0.05), (1, LIMITS.lower[1] - 0.05)):
        position = np.array([0.0, -1.0, 0.0])
        position[j] = q
        assert describe_outside(NAMES, position, LIMITS, 0.04).startswith(NAMES[j])


def test_the_ladder_step_by_step() -> None:
    ladder = Ladder()
    assert ladder.stopped(True) and ladder.mode is SafetyMode.LATCHED and not ladder.enabled
    ladder.release()
    assert ladder.stopped(True) and (ladder.mode, ladder.reasons) == (SafetyMode.HOLD, Reason.NOT_ENABLED)
    ladder.enabled = True
    assert not ladder.stopped(False)
    ladder.brake(Reason.NAMES, "one")
    ladder.brake(Reason.STATE_JUMP, "two")
    assert ladder.stopped(False) and ladder.mode is SafetyMode.BRAKE and ladder.reasons == Reason.NAMES | Reason.STATE_JUMP
    assert ladder.stopped(True) and ladder.mode is SafetyMode.BRAKE, "at rest: for the last time"
    assert not ladder.stopped(True)
    ladder.latch(Reason.HEALTH, "hot")
    ladder.latch(Reason.HEALTH, "hotter")
    ladder.latch(Reason.STOP_REQUEST, "stop")
    assert not ladder.enabled and ladder.latched == Reason.HEALTH | Reason.STOP_REQUEST and ladder.latch_detail == "stop"
    assert ladder.stopped(True) and ladder.mode is SafetyMode.LATCHED
    ladder.release()
    ladder.latch(Reason.HEALTH, "hot")
    ladder.latch(Reason.HEALTH, "hotter")
    assert ladder.latch_detail == "hot"


def test_the_record_keeps_the_last_ten_thousand_and_counts_all() -> None:
    record = InterventionRecord()
    one = Intervention(1, SafetyMode.LIMITED, Reason.WORKSPACE, np.zeros(1), np.zeros(1), 0.1, 0.0)
    for _ in range(KEPT + 3):
        record.add(one)
    assert record.count == KEPT + 3 and len(record.take()) == KEPT == 10_000 and record.take() == ()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_post_check_allows_just_the_slack_for_rounding(sign: float) -> None:
    dt = 0.01
    check, edge = MotionCheck(LIMITS, dt), LIMITS.upper if sign > 0 else LIMITS.lower

    def rest(q: np.ndarray) -> Reason:
        return check(np.tile(q, (3, 1)), np.tile(q, (2, 1)))

    assert rest(edge + sign * 0.9 * POSITION_SLACK) is Reason.NONE
    assert rest(edge + sign * 1.1 * POSITION_SLACK) is Reason.POSITION_LIMIT
    for share, reason in ((1.0, False), (1.0 + 1e-5, True)):
        for quantity, limit in (("velocity", LIMITS.velocity), ("acceleration", LIMITS.acceleration), ("jerk", LIMITS.jerk)):
            q = _curve(quantity, sign * share * limit, dt)
            assert check.exceeds(q[:3], q[3]) is reason, (quantity, share)
    assert VELOCITY_SLACK < 1e-8


def test_the_post_check_allows_for_rounding_only_by_some_last_bits_of_a_radian() -> None:
    """Limits below the rounding of a difference: what is let through is 4e-15 rad over dt^2, and 8e-15 rad over dt^3."""
    dt, tiny = 1e-3, np.full(1, 1e-13)
    for share, reason in ((0.95, Reason.NONE), (1.05, Reason.ACCELERATION_LIMIT)):
        check = MotionCheck(MotionLimits(-np.ones(1), np.ones(1), np.ones(1), tiny, np.ones(1)), dt)
        assert check(np.zeros((3, 1)), np.full((2, 1), share * 4e-15)) is reason
        check = MotionCheck(MotionLimits(-np.ones(1), np.ones(1), np.ones(1), np.ones(1), tiny), dt)
        assert check(np.zeros((3, 1)), np.full((2, 1), share * 4e-15)) is (Reason.JERK_LIMIT if reason else reason), "twice that in jerk"


def _curve(quantity: str, value: np.ndarray, dt: float) -> np.ndarray:
    """(4, 3) outputs whose last difference of that order is ``value``, and those of higher order 0."""
    k = np.arange(4)[:, None]
    if quantity == "velocity":
        return value * dt * k
    if quantity == "acceleration":
        return 0.5 * value * dt**2 * k * (k - 3)
    return value * dt**3 * (k == 3)


def test_limiting_ends_at_half_the_change_at_which_it_began() -> None:
    """Hysteresis: otherwise an arm that follows a plan just outside of its limits would flicker between two states."""
    rig = Rig()
    rig.run(3)
    filter_, level, states = rig.filter, CONFIG.intervention_rad, []
    rest, zero = filter_._outputs.motion.q, np.zeros(3)
    step = filter_._outputs.brake_step._replace(motion=Motion(rest, zero, zero))
    for share in (0.99, 1.01, 0.51, 0.49, 0.99, 1.01):
        filter_._judge.compare(Motion(rest + share * level, zero, zero), filter_._outputs.motion, Choice(step, Reason.NONE), Reason.NONE, rig.now)
        states.append(bool(filter_._judge.limiting))
    assert states == [False, True, True, False, False, True]


@given(st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_an_obstacle_stands_as_its_quaternion_says(q: list[float]) -> None:
    unit = np.array(q) / np.linalg.norm(q)
    R = quat2mat([unit[3], *unit[:3]])
    ball, rod = (Obstacle("it", kind, size, (0.1, 0.2, 0.3), unit) for kind, size in (("sphere", (0.2,)), ("capsule", (0.1, 0.6))))
    np.testing.assert_allclose(rod.rotation(), R, atol=1e-12)
    ends, radius = rod.capsule()
    np.testing.assert_allclose(ends, rod.position + np.outer([-0.3, 0.3], R[:, 2]), atol=1e-12)
    assert radius == 0.1 and np.ptp(ball.capsule()[0], axis=0).max() == 0.0


def test_what_covers_a_box_are_its_corners_and_its_longest_axis() -> None:
    points, point_radius, segment, radius = cover(coal.Box(0.2, 0.6, 0.4), "box")
    assert {tuple(p) for p in points} == {(x, y, z) for x in (-0.1, 0.1) for y in (-0.3, 0.3) for z in (-0.2, 0.2)}
    np.testing.assert_array_equal(segment, [[0.0, -0.3, 0.0], [0.0, 0.3, 0.0]])
    assert point_radius == 0.0 and radius == pytest.approx(np.hypot(0.1, 0.2))


@pytest.mark.parametrize("count", [2, 3, SAMPLES, SAMPLES + 1, 30, 201])
def test_a_long_brake_is_looked_at_in_a_few_rows_and_between_them_in_proportion(count: int) -> None:
    taken, begin, end, share = spread(count)
    assert len(taken) == min(count, SAMPLES) and {0, 1, count - 1} <= set(taken.tolist())
    rows = np.arange(count - 1)
    assert (begin <= rows).all() and (rows < end).all() and set(begin) | set(end) == set(taken.tolist())
    np.testing.assert_allclose(begin + share[:, 0] * (end - begin), rows, atol=1e-9)
