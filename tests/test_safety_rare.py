"""What a run hardly ever shows: faults before the start, odd starts, switches at the wrong time, lost helpers."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from types import ModuleType

import numpy as np
import plain_motion
import pytest
from plain_motion import brake_path
from test_safety_distance import THINGS, postures
from test_safety_filter import CONFIG, HOME, LIMITS, MS, Rig, T

from wm_bridge.bench.safety_loop import SafetyLoop
from wm_bridge.core.types import Reason, SafetyMode
from wm_bridge.robots import spec as robots
from wm_bridge.safety import brake, qp, sweep
from wm_bridge.safety.filter import SafetyFilter
from wm_bridge.safety.guard import DistanceGuard
from wm_bridge.safety.health import Health, HealthMonitor, Level
from wm_bridge.safety.lanes import Lanes
from wm_bridge.safety.limits import stopping_speed
from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.shapes import RobotShapes
from wm_bridge.safety.surroundings import build

NICO = robots.load("nico")


def loop(seed: int = 0) -> SafetyLoop:
    return SafetyLoop(NICO, CONFIG, np.random.default_rng(seed))


# ---- before and at the start ---------------------------------------------------------


def test_an_exception_before_the_first_joint_state_sends_nothing_and_latches(monkeypatch) -> None:
    rig = Rig(running=False)
    monkeypatch.setattr(rig.filter, "_watch", lambda *_: 1 / 0)
    verdict = rig.tick_only()
    assert verdict.mode is SafetyMode.LATCHED and verdict.reasons & Reason.INTERNAL and not rig.outputs


def test_a_reset_between_the_first_state_and_the_first_tick_has_to_wait() -> None:
    rig = Rig(running=False)
    rig.filter.observe_state(rig.state(), rig.now, rig.now)
    answer = rig.filter.reset(rig.now, rig.now)
    assert not answer.ok and "wait for the next tick" in answer.message
    rig.run(2)
    assert rig.filter.reset(rig.now, rig.now).ok


def test_an_exception_in_reset_is_an_answer_and_a_latch(monkeypatch) -> None:
    rig = Rig()
    monkeypatch.setattr(rig.filter, "_why_not_reset", lambda _: 1 / 0)
    answer = rig.filter.reset(rig.now, rig.now)
    assert not answer.ok and "ZeroDivisionError" in answer.message
    assert rig.tick().mode is SafetyMode.LATCHED and not rig.filter.enable(True).ok


@pytest.mark.parametrize("room", [0.001, 0.05, 0.3])
def test_an_arm_that_moves_too_fast_towards_its_limit_at_the_start_starts_at_rest(room: float) -> None:
    """With 1 rad/s and 5 rad/s^2 a stop takes 0.1 rad and more; with room for it the motion goes on."""
    rig = Rig(running=False)
    start = HOME.copy()
    start[0] = LIMITS.upper[0] - room
    rig.now += T
    rig.filter.observe_state(rig.state(position=start, velocity=np.array([1.0, 0.0, 0.0])), rig.now, rig.now)
    outputs = []
    for _ in range(60):
        rig.now += T
        outputs.append(rig.filter.tick(rig.now, rig.now)[0].position)
    way = outputs[-1] - start
    assert np.max(outputs) <= LIMITS.upper.max() + 1e-9 and way[1] == way[2] == 0.0
    assert (way[0] > 0.09) if room > 0.2 else (way[0] == 0.0)


# ---- things, settings, switches ------------------------------------------------------


def test_a_thing_added_before_the_arm_is_known_is_kept_off_from_the_start() -> None:
    made = SafetyFilter(NICO, CONFIG, clock=lambda: 0)
    assert made.add_obstacle(THINGS[0]).ok and made.obstacles == (THINGS[0],)
    assert not made.remove_obstacle("nothing").ok and made.remove_obstacle(THINGS[0].name).ok


def test_a_thing_that_is_none_latches_and_is_an_answer() -> None:
    made = SafetyFilter(NICO, CONFIG, clock=lambda: 0)
    answer = made.add_obstacle("ball")  # type: ignore[arg-type]
    assert not answer.ok and "obstacle" in answer.message
    assert made.tick(MS, MS)[1].reasons & Reason.INTERNAL


def test_stricter_settings_that_make_no_sense_or_leave_the_arm_outside_change_nothing() -> None:
    for position, margin, text in ((HOME, 0.6, "margin"), (np.array([0.97, -1.0, 0.1]), 0.04, "outside of the new limits")):
        rig = Rig(position=position)
        answer = rig.filter.tighten(dataclasses.replace(CONFIG, position_margin_rad=margin))
        assert not answer.ok and text in answer.message
        rig.run(2)
        assert rig.filter.reset(rig.now, rig.now).ok and rig.filter.enable(True).ok
        rig.drive(30, names=("b",))
        assert rig.speed() > 0.2
        rig.check_limits()


def test_settings_may_become_stricter_before_the_arm_is_known_and_things_stay() -> None:
    made = SafetyFilter(NICO, CONFIG, clock=lambda: 0)
    assert made.add_obstacle(THINGS[0]).ok
    assert made.tighten(dataclasses.replace(CONFIG, velocity_scale=0.5)).ok
    assert made.obstacles == (THINGS[0],)
    assert made.tick(MS, MS)[0] is None


@pytest.mark.parametrize("change, fine", [({"velocity_scale": 0.5}, True), ({"position_margin_rad": 3.0}, False)])
def test_what_moves_is_not_seen_anew_by_a_change_of_settings(change, fine) -> None:
    arm = loop()
    assert arm.filter.add_obstacle(Obstacle("dog", "sphere", (0.05,), (0.5, -0.3, 0.9), speed_bound_m_s=0.3)).ok
    arm.filter.stop()
    arm.run_quietly(50)

    def room() -> float:
        q = arm.filter._outputs.motion.q
        return float(arm.filter._guard.assess(q, np.tile(q, (3, 1)), arm.filter._steady_ns).certificate.room)

    before = room()
    assert arm.filter.tighten(dataclasses.replace(CONFIG, **change)).ok is fine
    assert room() == pytest.approx(before, abs=1e-9)
    arm.run_quietly(1)
    assert room() < before


def test_a_camera_that_is_not_required_is_never_missed() -> None:
    rig = Rig(dataclasses.replace(CONFIG, camera_required=False))
    rig.camera_on = False
    assert rig.drive(80).mode is SafetyMode.NORMAL and rig.speed() > 0.25


def test_trust_with_a_bad_stamp_is_refused_and_counted() -> None:
    rig = Rig()
    assert rig.filter.observe_trust(1.0, 0, rig.now) is Reason.ZERO_STAMP
    assert rig.filter.refusals[Reason.ZERO_STAMP] == 1


def test_an_effort_of_nan_stops_at_once_without_waiting_for_it_to_last() -> None:
    watch = HealthMonitor(CONFIG.health, np.full(2, 6.0))
    assert watch.observe(Health(effort=(5.9, 0.0)), 0) is Level.OK, "a peak"
    assert watch.observe(Health(effort=(np.nan, 0.0)), 1) is Level.STOP


def test_the_filter_tells_how_the_motors_are() -> None:
    rig = Rig()
    rig.filter.observe_health(Health(temperature_c=(56.0,)), rig.now)
    assert rig.filter.health == (Level.WARN, "motor at 56 C")


# ---- the way to an output ------------------------------------------------------------


def test_in_reduced_mode_a_part_of_the_step_is_taken_where_the_whole_is_too_fast() -> None:
    run = loop(3)
    assert run.filter.set_reduced(True).ok
    chooser, slower = run.filter._chooser, 0
    plain = chooser._slowed

    def slowed(step, limit):
        nonlocal slower
        found = plain(step, limit)
        if found is not None and found is not step:
            q, brake = chooser._outputs.motion.q, chooser._outputs.brake_step.motion.q
            assert ((found.motion.q - brake) * (step.motion.q - brake) >= -1e-12).all(), "from the brake towards the wish"
            assert chooser._guard.longest_way(np.concatenate([q[None], found.outputs[: chooser._rising]])) / chooser._dt <= limit
            slower += bool(np.abs(found.motion.q - brake).max() > 1e-6)
        return found

    chooser._slowed = slowed
    run.run(500, hostile=False, check_every=0)
    assert slower > 10


def test_in_free_space_no_pair_is_looked_at_closer() -> None:
    arm = loop()
    arm.run_quietly(5)
    guard, q = arm.filter._guard, arm.filter._outputs.motion.q
    assert guard.assess(q, np.tile(q, (3, 1)), arm.filter._steady_ns).pairs.size == 0


def test_in_reduced_mode_a_step_that_the_post_check_objects_to_is_never_taken(monkeypatch) -> None:
    run = loop(2)
    run.goal = run.goal + [0.5, -0.4, -0.3, 0.4, 0.5, 0.2]
    assert run.filter.set_reduced(True).ok
    for k in range(60):
        if k % 10 == 0:
            run.submit(run.wanted())
        run.run_quietly(1)
    chooser, outputs = run.filter._chooser, run.filter._outputs
    fast = outputs.motion.q + 0.02 * np.sign(outputs.motion.v)
    step = outputs.step_to(outputs.lanes.project(fast, outputs.motion))
    assert chooser._slowed(step, 1e-3) is None, "nothing but the brake is as slow as that"
    monkeypatch.setattr(outputs, "check", lambda _: Reason.JERK_LIMIT)
    assert chooser._slowed(step, CONFIG.reduced_speed_m_s) in (None, step)


def test_halfway_to_the_brake_is_taken_only_when_it_keeps_the_limits(monkeypatch) -> None:
    """A step without a certificate, and the post-check objects to everything else: the brake goes out."""
    run = loop(1)
    for k in range(40):
        if k % 10 == 0:
            run.submit(run.wanted())
        run.run_quietly(1)
    chooser, outputs = run.filter._chooser, run.filter._outputs
    step = outputs.step_to(outputs.motion.q + 1e-4)
    found = chooser._guard.assess(outputs.motion.q, step.outputs, 0)
    bad = found._replace(certificate=found.certificate._replace(room=-1.0, kind=Reason.TABLE_DISTANCE))
    free = chooser._certified(step, bad, Reason.NONE, 0)
    np.testing.assert_allclose(free.step.motion.q, (step.motion.q + outputs.brake_step.motion.q) / 2, atol=1e-12)
    monkeypatch.setattr(outputs, "check", lambda _: Reason.JERK_LIMIT)
    choice = chooser._certified(step, bad, Reason.NONE, 0)
    assert choice.step.motion.q is outputs.brake_step.motion.q or np.array_equal(choice.step.motion.q, outputs.brake_step.motion.q)
    assert choice.kept_off & Reason.TABLE_DISTANCE


def test_rows_that_say_nothing_leave_the_wish_and_rows_that_cannot_be_kept_give_no_answer() -> None:
    wish, low, high, nothing = np.full(3, 2.0), np.full(3, -1.0), np.ones(3), np.zeros((2, 3))
    assert qp.solve(wish, low, high, nothing, np.zeros(2)).tolist() == [1.0, 1.0, 1.0]
    assert qp.solve(wish, low, high, nothing, np.array([0.0, 1e-3])) is None


def test_the_oracle_gives_the_same_answer_when_it_is_asked_again() -> None:
    oracle = qp.CvxpySolver()
    G, h = np.array([[1.0, 1.0]]), np.array([0.5])
    first = oracle(np.zeros(2), np.full(2, -1.0), np.ones(2), G, h)
    oracle(np.ones(2), np.full(2, -1.0), np.ones(2), G, h)
    np.testing.assert_array_equal(oracle(np.zeros(2), np.full(2, -1.0), np.ones(2), G, h), first)
    np.testing.assert_allclose(first, [0.25, 0.25], atol=1e-9)


def test_the_bound_of_one_number_is_that_of_the_arrays_where_one_period_is_just_not_enough() -> None:
    dt, step = 0.01, LIMITS.jerk[0] * 0.01
    lanes = Lanes(LIMITS, dt)
    for s in (0.0, -1.0, step, np.nextafter(step, 9.0), step * (1 + 1e-12), 3 * step, np.nextafter(3 * step, 9.0), 40.0):
        expected = stopping_speed(np.array([s * dt]), LIMITS.jerk[:1], dt)[0]
        assert lanes._cap(s * dt, step) == pytest.approx(expected, rel=1e-14, abs=0.0)


# ---- distances -----------------------------------------------------------------------


def test_a_pair_that_was_too_near_at_the_start_keeps_its_margin_once_it_has_it() -> None:
    """A ball 1 cm beside the palm, margin 2 cm: away is allowed, and then not back again."""
    shapes, margin = RobotShapes.from_spec(NICO), CONFIG.scene.obstacle_margin_m
    joint, q = NICO.index("r_shoulder_z"), np.array(NICO.home)
    scene = dataclasses.replace(CONFIG.scene, self_margin_m=1e-4)
    probe = DistanceGuard(shapes, scene, 0.01)
    hand = shapes.chain.frames(q)[shapes.joint[shapes.names.index("right_palm")]][:3, 3]

    def ball(y: float) -> Obstacle:
        return Obstacle("ball", "sphere", (0.03,), np.array([hand[0], hand[1] + y, hand[2]]))

    def room(y: float) -> float:
        made = DistanceGuard(shapes, scene, 0.01)
        made.add(ball(y), 0)
        return made.tightest(q).distance

    side = next(y for y in np.arange(-0.05, -0.3, -0.002) if room(float(y)) > 0.5 * margin)
    probe.add(ball(float(side)), 0)
    probe.start(q)

    def certified(begin: np.ndarray, end: np.ndarray) -> bool:
        found = probe.assess(begin, np.stack([end, end]), 0)
        return found.certificate.room >= 0.0

    away = 0.002 if probe.tightest(q + 0.02 * np.eye(len(q))[joint]).room > probe.tightest(q).room else -0.002
    step = away * np.eye(len(q))[joint]
    assert not certified(q, q - step), "no nearer than it is"
    places = [q]
    while probe.tightest(places[-1]).room < 0.01:
        assert certified(places[-1], places[-1] + step)
        places.append(places[-1] + step)
    back = [probe.tightest(place).room for place in places]
    assert back[0] < 0.0 and len(places) > 5
    for now, then, left in zip(places[:0:-1], places[-2::-1], back[-2::-1], strict=True):
        assert certified(now, then) is bool(left >= 0.0), left
        if left < 0.0:
            break
