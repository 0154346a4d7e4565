"""The safety filter as a whole: ladder, watchdogs, refusals, faults."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from plain_motion import check_motion

from wm_bridge import resources
from wm_bridge.core.types import JointState, Reason, SafetyMode, Trajectory
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.filter import SafetyFilter
from wm_bridge.safety.lanes import Lanes
from wm_bridge.safety.limits import MotionLimits

MS = 1_000_000
T = 10 * MS  # one tick
NAMES = ("a", "b", "c")
SPEC = SimpleNamespace(
    joint_names=NAMES,
    lower=np.array([-1.0, -2.0, -0.5]),
    upper=np.array([1.0, 0.0, 0.5]),
    velocity=np.ones(3),
    acceleration=np.full(3, 5.0),
    jerk=np.full(3, 100.0),
)
HOME = np.array([0.2, -1.0, 0.1])
CONFIG = SafetyConfig.load()
LIMITS = MotionLimits.from_spec(SPEC, CONFIG.position_margin_rad)


class Rig:
    """A filter, an ideal arm, a camera, and a clock; keeps every output."""

    def __init__(self, config=CONFIG, position=HOME, running=True):
        self.filter = SafetyFilter(SPEC, config, clock=lambda: 0)
        self.now = 100_000 * MS
        self.measured = np.array(position, dtype=float)
        self.state_on = self.camera_on = self.follows = True
        self.frame = 0
        self.outputs = []
        self.verdicts = []
        if running:
            self.run(3)
            assert self.filter.reset(self.now, self.now).ok
            assert self.filter.enable(True).ok

    def state(self, position=None, velocity=None, names=NAMES):
        position = self.measured if position is None else position
        velocity = np.zeros(len(names)) if velocity is None else velocity
        effort = np.zeros(len(names))
        return JointState(names, position, velocity, effort, self.now)

    def tick(self, velocity=None):
        self.now += T
        if self.state_on:
            self.filter.observe_state(self.state(velocity=velocity), self.now, self.now)
        if self.camera_on:
            self.frame += 1
            self.filter.observe_camera(self.now, self.frame, self.now, self.now)
        return self.tick_only()

    def tick_only(self):
        command, verdict = self.filter.tick(self.now, self.now)
        if command is not None:
            self.outputs.append(command.position)
            if self.follows:
                self.measured = command.position.copy()
        self.verdicts.append(verdict)
        return verdict

    def run(self, ticks):
        return [self.tick() for _ in range(ticks)][-1]

    def plan(self, speed=0.3, points=8, names=("a",), start=None, stamp=None):
        """Constant speed for all named joints; as PlanLoop makes them."""
        q = self.outputs[-1] if start is None else start
        base = np.array([q[NAMES.index(name)] for name in names])
        path = base + 0.1 * speed * np.arange(points + 1)[:, None]
        positions = np.concatenate([(path[1:] + path[:-1]) / 2, path[-1:]])
        velocities = np.full_like(positions, speed)
        velocities[-1] = 0.0
        times = tuple(round((k + 0.5) * 1e8) for k in range(points + 1))
        return Trajectory(names, times, positions, velocities, stamp or self.now)

    def submit(self, *args, **kwargs):
        return self.filter.submit(self.plan(*args, **kwargs), self.now, self.now)

    def drive(self, ticks, **kwargs):
        """Run with a fresh plan every 100 ms."""
        for k in range(ticks):
            if k % 10 == 0:
                self.submit(**kwargs)
            verdict = self.tick()
        return verdict

    def speed(self):
        return float(np.abs(self.outputs[-1] - self.outputs[-2]).max() / 0.01)

    def check_limits(self):
        q = np.array(self.outputs)
        v = np.diff(q, axis=0) / 0.01
        a = np.diff(np.concatenate([np.zeros((1, 3)), v]), axis=0) / 0.01
        jerk = np.diff(np.concatenate([np.zeros((1, 3)), a]), axis=0) / 0.01
        assert (q >= LIMITS.lower - 1e-9).all() and (q <= LIMITS.upper + 1e-9).all()
        assert (np.abs(v) <= 1.0 + 1e-9).all()
        assert (np.abs(a) <= 5.0 + 1e-9).all()
        assert (np.abs(jerk) <= 100.0 * (1 + 1e-6)).all()

    def acceleration(self):
        q = np.array(self.outputs[-3:])
        return np.diff(q, n=2, axis=0)[0] / 1e-4

    def stops(self, mode, reason):
        """Brakes from the next tick on, is in ``mode`` for ``reason``, and comes to rest."""
        before, direction = self.acceleration(), np.sign(self.outputs[-1] - self.outputs[-2])
        verdict = self.tick_only()
        assert verdict.mode is mode and verdict.reasons & reason, verdict
        # the hardest allowed stop: all of the jerk, from the first tick on
        moving = direction != 0
        change = (self.acceleration() - before) * direction
        np.testing.assert_allclose(change[moving], -1.0, atol=1e-6)
        self.run(30)
        assert self.speed() == 0.0
        self.check_limits()


@pytest.fixture
def moving():
    rig = Rig()
    verdict = rig.drive(60)
    assert verdict.mode is SafetyMode.NORMAL and rig.speed() == pytest.approx(0.3, abs=0.01)
    return rig


# ---- start, enable, reset ---------------------------------------------------------


def test_without_a_joint_state_there_is_no_command():
    rig = Rig(running=False)
    rig.state_on = False
    verdict = rig.run(5)
    assert not rig.outputs and verdict.mode is SafetyMode.LATCHED
    assert not rig.filter.reset(rig.now, rig.now).ok


def test_starts_latched_at_the_measured_position_with_no_motion():
    rig = Rig(running=False)
    assert rig.run(10).mode is SafetyMode.LATCHED
    assert all(np.array_equal(q, HOME) for q in rig.outputs)
    assert rig.submit() & Reason.NOT_ENABLED
    assert not rig.filter.enable(True).ok


def test_reset_alone_does_not_allow_motion():
    rig = Rig(running=False)
    rig.run(3)
    assert rig.filter.reset(rig.now, rig.now).ok
    assert rig.submit() == Reason.NOT_ENABLED
    assert rig.tick().mode is SafetyMode.HOLD


def test_start_slightly_outside_is_clamped_and_far_outside_refused():
    near = Rig(running=False, position=[1.03, -1.0, 0.0])
    near.follows = False
    near.run(2)
    assert near.outputs[0][0] == LIMITS.upper[0]
    far = Rig(running=False, position=[1.2, -1.0, 0.0])
    verdict = far.run(2)
    assert not far.outputs and "a is at 1.200 rad" in verdict.detail
    answer = far.filter.reset(far.now, far.now)
    assert not answer.ok and "by hand" in answer.message
    far.measured = HOME.copy()
    far.run(60)
    assert far.filter.reset(far.now, far.now).ok


def test_disabling_brakes_to_hold(moving):
    moving.filter.enable(False)
    moving.stops(SafetyMode.HOLD, Reason.NOT_ENABLED)


def test_stop_latches_until_reset_and_enable(moving):
    moving.filter.stop("button")
    moving.stops(SafetyMode.LATCHED, Reason.STOP_REQUEST)
    assert moving.submit() & Reason.STOP_REQUEST
    assert moving.drive(30).mode is SafetyMode.LATCHED and moving.speed() == 0.0
    assert moving.filter.reset(moving.now, moving.now).ok
    assert moving.submit() == Reason.NOT_ENABLED
    assert moving.filter.enable(True).ok
    assert moving.drive(60).mode is SafetyMode.NORMAL and moving.speed() > 0.29


def test_reset_is_refused_while_anything_moves(moving):
    moving.filter.stop()
    moving.tick()
    assert "moves" in moving.filter.reset(moving.now, moving.now).message
    moving.run(30)
    fast = moving.state(velocity=np.array([0.0, 0.5, 0.0]))
    moving.now += T
    moving.filter.observe_state(dataclasses.replace(fast, stamp_ns=moving.now), moving.now, moving.now)
    assert "moves" in moving.filter.reset(moving.now, moving.now).message


# ---- plans ------------------------------------------------------------------------


def bad_plans(rig):
    good = rig.plan(names=("a", "b"))
    replace = dataclasses.replace
    nan, inf = good.positions.copy(), good.velocities.copy()
    nan[2, 1], inf[0, 0] = np.nan, np.inf
    n = len(good.times_ns)
    many = 1000
    return [
        (replace(good, positions=nan), Reason.NONFINITE),
        (replace(good, velocities=inf), Reason.NONFINITE),
        (replace(good, names=("a", "x")), Reason.NAMES),
        (replace(good, names=("a", "a")), Reason.NAMES),
        (Trajectory((), good.times_ns, np.zeros((n, 0)), np.zeros((n, 0)), rig.now), Reason.NAMES),
        (Trajectory(("a",), (), np.zeros((0, 1)), np.zeros((0, 1)), rig.now), Reason.MALFORMED),
        (replace(good, times_ns=good.times_ns[::-1]), Reason.MALFORMED),
        (replace(good, times_ns=(good.times_ns[0],) * n), Reason.MALFORMED),
        (replace(good, times_ns=tuple(t * 10_000 for t in good.times_ns)), Reason.MALFORMED),
        (replace(good, positions=good.positions + 1e200), Reason.MALFORMED),
        (
            Trajectory(("a",), tuple(range(many)), np.zeros((many, 1)), np.zeros((many, 1)), rig.now),
            Reason.MALFORMED,
        ),
    ]


@pytest.mark.parametrize("case", range(11))
def test_a_bad_plan_makes_the_arm_brake_and_the_next_good_one_resumes(moving, case):
    plan, reason = bad_plans(moving)[case]
    assert moving.filter.submit(plan, moving.now, moving.now) == reason
    moving.now += T
    moving.filter.observe_state(moving.state(), moving.now, moving.now)
    moving.stops(SafetyMode.BRAKE, reason)
    assert moving.verdicts[-1].mode is SafetyMode.HOLD
    assert moving.drive(60).mode is SafetyMode.NORMAL
    moving.check_limits()


@pytest.mark.parametrize(
    "offset_ms, reason",
    [
        (-601, Reason.STALE_COMMAND),
        (21, Reason.FUTURE_STAMP),
        (None, Reason.ZERO_STAMP),
        (-100, Reason.REPLAYED),
    ],
)
def test_a_badly_stamped_plan_is_refused_and_counted_without_braking(offset_ms, reason):
    rig = Rig()
    rig.drive(61)
    if reason is Reason.STALE_COMMAND:  # older than limit, but newer than the last accepted
        rig = Rig()
        rig.run(100)
    plan = rig.plan()
    stamp = 0 if offset_ms is None else rig.now + offset_ms * MS
    before = rig.filter.status().refused
    plan = dataclasses.replace(plan, stamp_ns=stamp)
    assert rig.filter.submit(plan, rig.now, rig.now) == reason
    assert rig.filter.status().refused == before + 1
    assert rig.tick().mode in (SafetyMode.NORMAL, SafetyMode.HOLD)


def test_a_stamp_just_inside_the_future_tolerance_is_taken():
    rig = Rig()
    assert rig.submit(stamp=rig.now + 19 * MS) == Reason.NONE


def test_joint_names_are_mapped_by_name_never_by_position():
    rig = Rig()
    plan = rig.plan(names=("c", "a"))
    swapped = Trajectory(
        ("a", "c"), plan.times_ns, plan.positions[:, ::-1], plan.velocities[:, ::-1], plan.stamp_ns
    )
    other = Rig()
    rig.filter.submit(plan, rig.now, rig.now)
    other.filter.submit(swapped, other.now, other.now)
    rig.run(30), other.run(30)
    assert np.array_equal(rig.outputs, other.outputs)
    assert rig.outputs[-1][1] == HOME[1] and rig.outputs[-1][2] > HOME[2]


def test_smooth_plans_pass_unchanged(moving):
    moving.drive(100)
    for verdict in moving.verdicts[-100:]:
        np.testing.assert_allclose(verdict.requested, verdict.output, rtol=0, atol=1e-12)
        assert not verdict.intervened


def limited_share(steps, noise=0.0, jitter_ms=0, seconds=20):
    """Share of ticks whose output differs from the request, following ``steps(k)`` at 10 Hz.

    The planner starts from the echo, as the real one does, and its plans arrive 60 ms
    after the frame.
    """
    rng = np.random.default_rng(5)
    rig = Rig(position=[0.0, -1.0, 0.0])
    skip, waiting = len(rig.verdicts), None
    for tick in range(100 * seconds):
        if tick % 10 == 0:
            u = np.array([steps(tick // 10 + h) for h in range(5)]) + noise * rng.normal()
            path = rig.outputs[-1] + 0.1 * np.concatenate([np.zeros((1, 3)), np.cumsum(u, axis=0)])
            positions = np.concatenate([(path[1:] + path[:-1]) / 2, path[-1:]])
            times = tuple(round((k + 0.5) * 1e8) for k in range(6))
            velocities = np.concatenate([u, np.zeros((1, 3))])
            waiting = Trajectory(NAMES, times, positions, velocities, rig.now)
        if tick % 10 == 6:
            assert rig.filter.submit(waiting, rig.now, rig.now) == Reason.NONE
        steady = rig.now
        rig.now += round(rng.uniform(-1, 1) * jitter_ms * MS)
        rig.tick_only()
        rig.now = steady
        rig.now += T
        rig.filter.observe_state(rig.state(), rig.now, rig.now)
        rig.filter.observe_camera(rig.now, tick + 1000, rig.now, rig.now)
    rig.check_limits()
    limited = [v.mode is SafetyMode.LIMITED for v in rig.verdicts[skip:]]
    return float(np.mean(limited))


def swing(speed, acceleration):
    """Speeds of a sine that just reaches a speed and an acceleration."""
    phase = np.array([0.0, 0.3, 0.1])
    return lambda k: speed * np.sin(acceleration / speed * 0.1 * k + phase) * min(1.0, k / 20)


def test_plans_well_inside_the_limits_are_never_limited():
    assert limited_share(swing(0.4, 2.0)) == 0.0
    assert limited_share(swing(0.4, 2.0), jitter_ms=3) == 0.0


def test_plans_at_the_speed_and_acceleration_of_the_joints_are_not_limited():
    assert limited_share(swing(1.0, 5.0)) == 0.0


def test_a_little_planner_noise_is_no_intervention():
    assert limited_share(swing(0.4, 1.0), noise=0.03) == 0.0


def test_changes_too_small_to_matter_are_made_but_not_counted():
    def count(intervention_rad):
        rig = Rig(dataclasses.replace(CONFIG, intervention_rad=intervention_rad))
        rig.drive(60, speed=0.9)
        rig.drive(60, speed=-0.9)
        rig.check_limits()
        return rig.filter.status().interventions

    assert count(1e-6) > 0 and count(0.5) == 0


def test_a_new_plan_after_limiting_starts_from_the_real_output():
    rig = Rig()
    far = rig.plan(start=HOME - [0.8, 0, 0], speed=-0.9)
    rig.filter.submit(far, rig.now, rig.now)
    rig.run(20)
    lagging = rig.verdicts[-1]
    assert lagging.mode is SafetyMode.LIMITED
    assert np.abs(lagging.requested - lagging.output).max() > 0.05
    assert rig.submit(speed=0.0) == Reason.NONE
    rig.tick()
    assert np.abs(rig.verdicts[-1].requested - lagging.output).max() < 0.015


def test_a_plan_through_a_limit_is_limited_and_the_arm_stops_at_it():
    rig = Rig()
    modes = {rig.drive(10, speed=0.9).mode for _ in range(15)}
    assert SafetyMode.LIMITED in modes
    assert any(v.reasons & Reason.POSITION_LIMIT for v in rig.verdicts)
    assert rig.outputs[-1][0] == pytest.approx(LIMITS.upper[0], abs=1e-6)
    assert rig.filter.status().interventions > 0
    rig.check_limits()


# ---- watchdogs --------------------------------------------------------------------


def test_a_dead_planner_brakes_within_its_limit_and_a_fresh_plan_resumes(moving):
    moving.run(35)  # last plan came 10 ticks ago
    assert moving.verdicts[-1].mode is SafetyMode.HOLD
    assert moving.verdicts[-1].reasons == Reason.STALE_COMMAND
    first = next(k for k, v in enumerate(moving.verdicts) if v.reasons & Reason.STALE_COMMAND)
    assert first <= 3 + 50 + 35 + 1
    moving.run(20)
    assert moving.speed() == 0.0
    assert moving.drive(60).mode is SafetyMode.NORMAL
    moving.check_limits()


def test_a_plan_that_came_to_its_end_is_no_fault():
    rig = Rig()
    rig.submit(speed=0.0)
    verdict = rig.run(50)
    assert verdict.mode is SafetyMode.HOLD and verdict.reasons == Reason.NONE


def test_after_a_brake_the_output_rests_for_100_ms_before_a_plan_may_move_it(moving):
    """However soon the next plan comes: the arm lags behind, and has to stand in between."""
    moving.filter.submit(bad_plans(moving)[0][0], moving.now, moving.now)
    resting = []
    while moving.tick().mode is SafetyMode.BRAKE:
        moving.submit()
        resting.append(moving.speed() == 0.0)
    assert sum(resting) == 12 and all(resting[-12:]), "the first two bring speed and acceleration to zero"
    assert moving.submit() is Reason.NONE and moving.tick().mode is SafetyMode.NORMAL


def test_braking_goes_on_while_the_arm_is_measured_to_move_and_no_longer(moving):
    moving.filter.submit(bad_plans(moving)[0][0], moving.now, moving.now)
    for k in range(80):
        speed = 0.0 if k == 79 else CONFIG.start_speed_rad_s * 1.001
        assert moving.tick(velocity=np.array([0.0, -speed, 0.0])).mode is SafetyMode.BRAKE
    assert moving.tick().mode is SafetyMode.HOLD


def test_a_silent_state_brakes_after_50_ms_and_recovers(moving):
    moving.state_on = False
    moving.run(5)
    assert moving.verdicts[-1].mode is SafetyMode.NORMAL
    moving.now += T
    assert moving.tick_only().reasons & Reason.STALE_STATE
    assert moving.verdicts[-1].mode is SafetyMode.BRAKE
    moving.state_on = True
    moving.run(30)
    assert moving.verdicts[-1].mode is SafetyMode.HOLD and moving.speed() == 0.0
    assert moving.drive(60).mode is SafetyMode.NORMAL


def test_a_dead_state_latches(moving):
    moving.state_on = False
    verdict = moving.run(27)
    assert verdict.mode is SafetyMode.LATCHED and verdict.reasons & Reason.STALE_STATE
    assert "no fresh joint state" in moving.filter.reset(moving.now, moving.now).message
    moving.state_on = True
    assert moving.run(30).mode is SafetyMode.LATCHED
    assert moving.filter.reset(moving.now, moving.now).ok
    moving.check_limits()


def test_a_dead_camera_holds_until_frames_return(moving):
    moving.camera_on = False
    assert moving.drive(49).mode is SafetyMode.NORMAL
    verdict = moving.drive(3)
    assert verdict.mode is SafetyMode.HOLD and verdict.reasons == Reason.STALE_CAMERA
    assert moving.submit() & Reason.STALE_CAMERA
    moving.run(20)
    assert moving.speed() == 0.0
    moving.camera_on = True
    assert moving.drive(60).mode is SafetyMode.NORMAL
    moving.check_limits()


def test_a_frozen_picture_of_a_moving_arm_holds_and_of_a_resting_arm_does_not():
    def frozen(rig, **kwargs):
        rig.camera_on = False
        for k in range(80):
            if k % 10 == 0:
                rig.submit(**kwargs)
            rig.tick()
            rig.filter.observe_camera(rig.now, 42, rig.now, rig.now)
        return rig.verdicts[-1]

    resting = frozen(Rig(), speed=0.0)
    assert resting.mode is SafetyMode.NORMAL
    rig = Rig()
    verdict = frozen(rig)
    assert verdict.mode is SafetyMode.HOLD and verdict.reasons == Reason.FROZEN_CAMERA
    rig.camera_on = True
    assert rig.drive(60).mode is SafetyMode.NORMAL


def test_old_frames_replayed_do_not_keep_the_camera_alive(moving):
    stamp = moving.now
    moving.camera_on = False
    for k in range(60):
        if k % 10 == 0:
            moving.submit()
        moving.tick()
        moving.filter.observe_camera(stamp, k, moving.now, moving.now)
    assert moving.verdicts[-1].reasons == Reason.STALE_CAMERA


@pytest.mark.parametrize("leap_ms", [-5000, -60, 3000])
def test_a_clock_jump_stops_the_motion_and_later_plans_resume(moving, leap_ms):
    steady = moving.now
    now = moving.now + leap_ms * MS
    filter_, reasons, last = moving.filter, [], moving.outputs[-1]
    for k in range(60):
        now, steady = now + T, steady + T
        state = JointState(NAMES, last, np.zeros(3), np.zeros(3), now)
        filter_.observe_state(state, now, steady)
        filter_.observe_camera(now, k, now, steady)
        command, verdict = filter_.tick(now, steady)
        reasons.append(verdict.reasons)
        assert abs(filter_._follower._sample_ns - now) <= T, "plans are sampled on the new time at once"
        last = command.position
        moving.outputs.append(last)
    assert reasons[0] & Reason.CLOCK_JUMP and moving.speed() == 0.0
    moving.check_limits()
    assert filter_.submit(moving.plan(start=last, stamp=now), now, steady) == Reason.NONE


# ---- joint states -----------------------------------------------------------------


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda q: (NAMES, q + [np.nan, 0, 0]), Reason.NONFINITE),
        (lambda q: (NAMES, q + [0, 0.25, 0]), Reason.STATE_JUMP),
        (lambda q: (("a", "b"), q[:2]), Reason.NAMES),
        (lambda q: (("a", "b", "b"), q), Reason.NAMES),
        (lambda q: (("a", "b", "x"), q), Reason.NAMES),
    ],
)
def test_a_bad_joint_state_makes_the_arm_brake(moving, change, reason):
    names, position = change(moving.measured)
    moving.now += T
    state = moving.state(position=position, names=names)
    assert moving.filter.observe_state(state, moving.now, moving.now) == reason
    moving.stops(SafetyMode.BRAKE, reason)


def test_no_reset_until_a_joint_that_jumped_stays_where_it_is():
    rig = Rig()
    rig.filter.stop()
    rig.run(3)
    rig.follows = False
    rig.measured = rig.measured + [0, 0.25, 0]
    rig.tick()
    refused = 0
    while not (answer := rig.filter.reset(rig.now, rig.now)).ok:
        assert "jumped" in answer.message
        refused += 1
        rig.tick()
    assert refused == 10


def test_permuted_joint_states_are_mapped(moving):
    moving.state_on = False
    order = [2, 0, 1]
    for k in range(50):
        if k % 10 == 0:
            moving.submit()
        moving.now += T
        names = tuple(NAMES[i] for i in order)
        moving.filter.observe_state(
            moving.state(position=moving.measured[order], names=names), moving.now, moving.now
        )
        moving.filter.observe_camera(moving.now, 1000 + k, moving.now, moving.now)
        assert moving.tick_only().mode is SafetyMode.NORMAL


def test_an_arm_that_does_not_follow_is_a_protective_stop_and_restarts_where_it_is():
    rig = Rig()
    rig.follows = False
    verdict = rig.drive(200)
    assert verdict.mode is SafetyMode.LATCHED and verdict.reasons & Reason.TRACKING_ERROR
    rig.check_limits()
    rig.run(30)
    assert rig.filter.reset(rig.now, rig.now).ok
    rig.follows = True
    rig.tick()
    np.testing.assert_allclose(rig.outputs[-1], HOME)


# ---- faults -----------------------------------------------------------------------


def test_an_exception_in_the_tick_runs_the_certified_brake_and_latches(moving, monkeypatch):
    def broken(*args):
        raise RuntimeError("solver lost")

    monkeypatch.setattr(Lanes, "approach", broken)
    moving.now += T
    moving.filter.observe_state(moving.state(), moving.now, moving.now)
    moving.stops(SafetyMode.LATCHED, Reason.INTERNAL)
    assert "solver lost" in moving.verdicts[-1].detail


@pytest.mark.parametrize("value", [np.nan, 5.0, -0.02, 1e300])
def test_the_post_check_catches_whatever_a_broken_box_returns(moving, monkeypatch, value):
    for name in ("approach", "project"):
        monkeypatch.setattr(Lanes, name, lambda lanes, wish, *others: wish + value)
    moving.now += T
    moving.filter.observe_state(moving.state(), moving.now, moving.now)
    moving.stops(SafetyMode.LATCHED, Reason.INTERNAL)


@pytest.mark.parametrize("thing", [None, "text", 7, object()])
def test_rubbish_in_any_input_is_a_latched_stop_not_an_exception(moving, thing):
    for call in (moving.filter.observe_state, moving.filter.submit):
        assert call(thing, moving.now, moving.now) == Reason.INTERNAL
    assert moving.filter.observe_camera(thing, 1, moving.now, moving.now) & (
        Reason.INTERNAL | Reason.REPLAYED
    )
    verdict = moving.tick()
    assert verdict.mode is SafetyMode.LATCHED
    assert moving.run(20) and moving.speed() == 0.0


def test_a_second_writer_latches(moving):
    moving.filter.stop("two publishers", Reason.SECOND_WRITER)
    moving.stops(SafetyMode.LATCHED, Reason.SECOND_WRITER)


# ---- all together -----------------------------------------------------------------


def fuzz(seed, ticks):
    """Random plans, faults and operators; returns the rig."""
    rng = np.random.default_rng(seed)
    rig = Rig()
    for _ in range(ticks):
        event = rng.random()
        if event < 0.1:
            rig.submit(speed=rng.normal(0, 2.0), names=("b", "c", "a"), points=int(rng.integers(1, 9)))
        elif event < 0.12:
            plan, _ = bad_plans(rig)[rng.integers(11)]
            rig.filter.submit(plan, rig.now, rig.now)
        elif event < 0.125:
            rig.filter.stop()
        elif event < 0.13:
            rig.filter.enable(bool(rng.integers(2)))
        elif event < 0.135:
            rig.state_on = not rig.state_on
        elif event < 0.14:
            rig.camera_on = not rig.camera_on
        elif event < 0.142:
            rig.follows = not rig.follows
        elif event < 0.16 and rig.filter.reset(rig.now, rig.now).ok:
            rig.filter.enable(True)
            if not np.array_equal(rig.measured, rig.outputs[-1]) and not rig.follows:
                rig.follows = True
                rig.measured = rig.outputs[-1].copy()
        rig.tick()
    return rig


@pytest.mark.parametrize("seed", range(4))
def test_fuzzed_events_never_break_a_limit_between_outputs(seed):
    rig = fuzz(seed, 2500)
    q = np.array(rig.outputs)
    begins = [0]  # a restart after a protective stop begins anew, at the measured position
    for k in range(1, len(q)):
        if np.abs(q[k] - q[k - 1]).max() > 0.011:
            assert np.abs(q[k] - q[k - 1]).max() > CONFIG.tracking_error_rad
            begins.append(k)
    for begin, end in zip(begins, [*begins[1:], len(q)], strict=True):
        part = np.concatenate([np.repeat(q[begin : begin + 1], 3, axis=0), q[begin:end]])
        assert not check_motion(part[:3], part[3], part[4:] if len(part) > 4 else part[3:], LIMITS, 0.01)
    assert {v.mode for v in rig.verdicts} == set(SafetyMode)


def test_equal_inputs_give_equal_bits():
    first, second = fuzz(9, 800), fuzz(9, 800)
    assert np.array_equal(first.outputs, second.outputs)
    for a, b in zip(first.verdicts, second.verdicts, strict=True):
        assert (a.mode, a.reasons, a.detail) == (b.mode, b.reasons, b.detail)


# ---- settings ---------------------------------------------------------------------

VALUES = yaml.safe_load(resources.path("config/safety.yaml").read_text())


@pytest.mark.parametrize("name", sorted(VALUES))
def test_every_setting_is_required_and_checked(name):
    missing = {key: value for key, value in VALUES.items() if key != name}
    with pytest.raises(ValueError, match=name):
        SafetyConfig.from_mapping(missing)
    for bad in (float("nan"), -1, "fast", None):
        with pytest.raises(ValueError, match=name):
            SafetyConfig.from_mapping(VALUES | {name: bad})


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(ValueError, match="camera_timeout_ms"):
        SafetyConfig.from_mapping(VALUES | {"camera_timeout": 3.0})


@pytest.mark.parametrize(
    "change",
    [
        {"velocity_scale": 1.5},
        {"state_timeout_ms": 300.0},
        {"period_ms": 60.0},
        {"command_timeout_ms": 20_000.0},
    ],
)
def test_swapped_or_loosening_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        SafetyConfig.from_mapping(VALUES | change)


def test_a_margin_that_eats_a_joints_range_is_refused():
    with pytest.raises(ValueError, match="margin"):
        SafetyFilter(SPEC, dataclasses.replace(CONFIG, position_margin_rad=0.6))
