"""People, trust, motors, deadman, heartbeat, writers, reduced speed, time budget, record."""

import dataclasses
import math

import numpy as np
import pytest
from test_safety_filter import CONFIG, HOME, MS, NAMES, SPEC, T, Rig

from wm_bridge.bench.safety_loop import SafetyLoop
from wm_bridge.core.types import Reason, SafetyMode
from wm_bridge.robots import spec as robots
from wm_bridge.safety.filter import SafetyFilter
from wm_bridge.safety.health import Health, HealthMonitor, Level
from wm_bridge.safety.human import allowed_speed
from wm_bridge.safety.supervision import Pace, Supervision


def with_group(name, **changes):
    return dataclasses.replace(CONFIG, **{name: dataclasses.replace(getattr(CONFIG, name), **changes)})


def drive(rig, ticks, each=lambda rig: None, **kwargs):
    """As Rig.drive, with something said each tick."""
    for k in range(ticks):
        each(rig)
        if k % 10 == 0:
            rig.submit(**kwargs)
        verdict = rig.tick()
    return verdict


# ---- people ------------------------------------------------------------------------


def test_the_allowed_speed_solves_the_separation_formula():
    s = CONFIG.human
    for distance in (0.5, 1.0, 2.0, 5.0):
        v = allowed_speed(distance, s)
        T_r, T_s = s.reaction_ms * 1e-3, v / s.deceleration_m_s2
        needed = s.walking_speed_m_s * (T_r + T_s) + v * T_r + v * T_s / 2 + s.clearance_m
        assert needed == pytest.approx(distance, abs=1e-12)
    assert allowed_speed(0.2, s) == 0.0 and allowed_speed(-1.0, s) == 0.0
    assert allowed_speed(math.inf, s) == math.inf and allowed_speed(math.nan, s) == 0.0


def person(distance):
    return lambda rig: rig.filter.observe_human(distance, rig.now, rig.now)


def test_a_person_far_away_changes_nothing_and_one_nearby_stops_the_arm():
    rig = Rig(with_group("human", enabled=True))
    assert drive(rig, 60, person(math.inf)).mode is SafetyMode.NORMAL and rig.speed() > 0.25
    verdict = drive(rig, 40, person(0.3))
    assert verdict.mode is SafetyMode.HOLD and verdict.reasons == Reason.HUMAN_NEAR
    assert rig.speed() == 0.0
    assert drive(rig, 60, person(5.0)).mode is SafetyMode.NORMAL and rig.speed() > 0.25
    rig.check_limits()


@pytest.mark.parametrize("say", [lambda rig: None, person(math.nan), person(-1.0)])
def test_no_believable_human_input_is_a_person_beside_the_arm(say):
    rig = Rig(with_group("human", enabled=True))
    assert drive(rig, 30, say).reasons == Reason.HUMAN_NEAR
    assert drive(rig, 60, person(9.0)).mode is SafetyMode.NORMAL
    assert drive(rig, 40, say).reasons == Reason.HUMAN_NEAR and rig.speed() == 0.0


def test_an_old_or_future_human_distance_is_not_believed():
    rig = Rig(with_group("human", enabled=True))
    assert rig.filter.observe_human(5.0, rig.now + 21 * MS, rig.now) == Reason.FUTURE_STAMP
    assert rig.filter.observe_human(5.0, rig.now - 201 * MS, rig.now) == Reason.HUMAN_NEAR
    assert rig.filter.observe_human(5.0, 0, rig.now) == Reason.ZERO_STAMP
    assert rig.filter.observe_human(5.0, rig.now, rig.now) == Reason.NONE
    assert rig.filter.observe_human(5.0, rig.now, rig.now) == Reason.REPLAYED


def test_a_person_may_have_walked_on_since_the_last_look():
    watch = Supervision(with_group("human", enabled=True), None).human
    watch.observe(2.0, 1000 * MS, 1000 * MS, 1000 * MS)
    limits = [watch.speed_limit(now * MS, now * MS) for now in (1000, 1100, 1190)]
    assert limits == [pytest.approx(allowed_speed(2.0 - 1.6 * age, CONFIG.human)) for age in (0.0, 0.1, 0.19)]
    assert limits[0] > limits[1] > limits[2] > 0.0


# ---- trust -------------------------------------------------------------------------


def trust(value):
    return lambda rig: rig.filter.observe_trust(value, rig.now, rig.now)


@pytest.mark.parametrize("say", [trust(0.0), trust(-1.0), trust(7.0), trust(math.inf)])
def test_a_planner_without_trust_is_held(say):
    rig = Rig(with_group("trust", enabled=True))
    assert drive(rig, 60, trust(0.9)).mode is SafetyMode.NORMAL and rig.speed() > 0.25
    verdict = drive(rig, 90, say)
    assert verdict.mode is SafetyMode.HOLD and verdict.reasons == Reason.LOW_TRUST and rig.speed() == 0.0
    assert drive(rig, 60, trust(0.9)).mode is SafetyMode.NORMAL


@pytest.mark.parametrize("say", [lambda rig: None, trust(math.nan), trust(CONFIG.trust.hold_below)])
def test_unknown_missing_and_little_trust_slow_the_arm_and_do_not_hold_it(say):
    rig, slowed = Rig(with_group("trust", enabled=True)), CONFIG.reduced_speed_m_s
    assert drive(rig, 60, trust(0.9)).mode is SafetyMode.NORMAL and not rig.filter._supervision.trust.slows(rig.now)
    assert drive(rig, 90, say).mode is not SafetyMode.HOLD and rig.speed() > 0.0
    assert rig.filter._supervision.pace(rig.now, rig.now) == Pace(slowed, Reason.LOW_TRUST)
    assert drive(rig, 60, trust(0.9)).mode is SafetyMode.NORMAL
    assert rig.filter._supervision.pace(rig.now, rig.now).limit_m_s == math.inf


def test_what_held_the_arm_holds_it_until_a_better_trust_is_told():
    watch = Supervision(with_group("trust", enabled=True), None)
    watch.trust.observe(0.0, 1, 1, 1)
    assert watch.trust.holds() and watch.holds(10**12, 10**12)[0] is Reason.LOW_TRUST
    watch.trust.observe(math.nan, 2, 2, 2)
    assert not watch.trust.holds() and watch.trust.slows(2), "nobody knows: slow"


def test_trust_goes_up_again_only_past_the_hysteresis():
    watch = Supervision(with_group("trust", enabled=True), None)

    def slow(value, now):
        watch.trust.observe(value, now, now, now)
        return watch.trust.slows(now)

    said = [0.9, 0.04, 0.06, 0.09, 0.11, 0.06]
    assert [slow(value, (k + 1) * T) for k, value in enumerate(said)] == [False, True, True, True, False, False]


# ---- motors ------------------------------------------------------------------------


def test_heat_warns_derates_and_stops_with_hysteresis():
    watch = HealthMonitor(CONFIG.health, None)
    said = [40, 56, 53, 51.9, 66, 63, 61.9, 51, 80, 73, 71]
    levels = [watch.observe(Health(temperature_c=(30, heat)), k) for k, heat in enumerate(said)]
    W, D, S, O = Level.WARN, Level.DERATE, Level.STOP, Level.OK
    assert levels == [O, W, W, O, D, D, W, O, S, S, D]


def test_low_voltage_errors_and_nan_stop():
    for bad in (Health(voltage_v=(9.0,)), Health(errors=("overload",)), Health(temperature_c=(math.nan,))):
        assert HealthMonitor(CONFIG.health, None).observe(bad, 0) is Level.STOP
    assert HealthMonitor(CONFIG.health, None).observe(Health(voltage_v=(12.0, 10.7)), 0) is Level.WARN


def test_effort_counts_only_when_it_lasts():
    watch = HealthMonitor(CONFIG.health, np.array([6.0, 6.0]))
    heavy = Health(effort=(0.0, -5.6))
    assert watch.observe(heavy, 0) is Level.OK
    assert watch.observe(heavy, 299 * MS) is Level.OK
    assert watch.observe(heavy, 301 * MS) is Level.DERATE
    assert watch.observe(Health(effort=(0.0, 0.0)), 400 * MS) is Level.OK
    assert watch.observe(Health(effort=(1.0,)), 401 * MS) is Level.STOP


def test_a_motor_fault_latches_and_reset_is_refused_while_it_lasts():
    rig = Rig()
    rig.drive(60)
    assert rig.filter.observe_health(Health(errors=("overheating",)), rig.now) is Level.STOP
    rig.now += T
    rig.filter.observe_state(rig.state(), rig.now, rig.now)
    rig.stops(SafetyMode.LATCHED, Reason.HEALTH)
    assert "overheating" in rig.filter.reset(rig.now, rig.now).message
    rig.filter.observe_health(Health(), rig.now)
    rig.run(3)
    assert rig.filter.reset(rig.now, rig.now).ok


# ---- who must be there -------------------------------------------------------------


def test_releasing_the_deadman_brakes_at_the_next_tick_and_silence_after_its_timeout():
    rig = Rig(with_group("deadman", required=True))

    def hold(rig):
        rig.filter.deadman(True, rig.now)

    assert drive(rig, 60, hold).mode is SafetyMode.NORMAL and rig.speed() > 0.25
    rig.filter.deadman(False, rig.now)
    assert rig.tick().reasons == Reason.DEADMAN
    assert rig.run(30).mode is SafetyMode.HOLD and rig.speed() == 0.0
    assert drive(rig, 60, hold).mode is SafetyMode.NORMAL
    rig.filter.deadman(True, rig.now)
    modes = [drive(rig, 1).mode for _ in range(13)]
    assert modes[8] is SafetyMode.NORMAL and modes[-1] is SafetyMode.HOLD
    rig.check_limits()


def test_a_frozen_heartbeat_is_a_dead_driver():
    rig = Rig()
    assert drive(rig, 40, lambda rig: rig.filter.observe_driver(rig.frame, rig.now)).mode is SafetyMode.NORMAL
    verdict = drive(rig, 13, lambda rig: rig.filter.observe_driver(7, rig.now))
    assert verdict.mode is SafetyMode.LATCHED and verdict.reasons & Reason.DRIVER_DEAD
    rig.run(30)
    assert "heartbeat" in rig.filter.reset(rig.now, rig.now).message


def test_a_driver_that_must_be_there_and_never_was_keeps_the_latch():
    rig = Rig(with_group("driver", required=True), running=False)
    rig.run(3)
    assert not rig.filter.reset(rig.now, rig.now).ok
    rig.filter.observe_driver(1, rig.now)
    rig.tick()
    assert rig.filter.reset(rig.now, rig.now).ok


@pytest.mark.parametrize("found", [2, ("safety", "someone")])
def test_a_second_writer_latches_until_it_is_gone(found):
    rig = Rig()
    rig.drive(60)
    rig.filter.writers(found)
    rig.now += T
    rig.filter.observe_state(rig.state(), rig.now, rig.now)
    rig.stops(SafetyMode.LATCHED, Reason.SECOND_WRITER)
    assert "stop the other" in rig.filter.reset(rig.now, rig.now).message
    rig.filter.writers(1)
    rig.run(2)
    assert rig.filter.reset(rig.now, rig.now).ok


# ---- speed, time, record -----------------------------------------------------------


def test_in_reduced_mode_no_point_of_the_arm_is_faster_than_allowed():
    loop = SafetyLoop(robots.load("nico"), CONFIG, np.random.default_rng(2))
    assert loop.filter.set_reduced(True).ok
    guard = loop.filter._guard
    loop.goal = loop.goal + [0.5, -0.4, -0.3, 0.4, 0.5, 0.2]
    fastest = 0.0
    for k in range(400):
        if k % 10 == 0:
            loop.submit(loop.wanted())
        before = loop.q
        loop.run_quietly(1)
        fastest = max(fastest, guard.longest_way(np.stack([before, loop.q])) / 0.01)
    assert 0.15 < fastest <= CONFIG.reduced_speed_m_s + 1e-9
    assert loop.filter.status().interventions > 0


def test_reduced_mode_of_the_configuration_cannot_be_left_at_run_time():
    made = SafetyFilter(SPEC, dataclasses.replace(CONFIG, reduced=True))
    assert not made.set_reduced(False).ok


class SlowClock:
    """Every look at it takes ``step`` ns."""

    def __init__(self):
        self.now, self.step = 0, 0

    def __call__(self):
        self.now += self.step
        return self.now


def test_a_slow_tick_sends_the_brake_and_a_long_row_of_them_latches():
    rig = Rig()
    rig.drive(60)
    clock = SlowClock()
    rig.filter._clock = clock
    clock.step = 9 * MS
    rig.submit()
    before = rig.acceleration()
    assert rig.tick().reasons & Reason.TIME_BUDGET
    assert rig.acceleration()[0] < before[0] - 0.9
    clock.step = 0
    assert not rig.drive(30).reasons & Reason.TIME_BUDGET
    clock.step = 9 * MS
    rig.submit()
    modes = []
    for _ in range(40):
        rig.submit()
        modes.append(rig.tick().mode)
    first = modes.index(SafetyMode.LATCHED)
    assert first * 9 >= CONFIG.tick_latch_ms > (first - 1) * 9  # told by the tick after
    assert set(modes[:first]) == {SafetyMode.LIMITED}
    assert rig.speed() == 0.0  # braked since the first of them
    rig.run(30)
    assert rig.speed() == 0.0
    rig.check_limits()


def test_every_change_is_recorded_with_before_and_after():
    rig = Rig()
    rig.drive(60)
    assert rig.filter.take_interventions() == ()
    far = rig.plan(start=rig.outputs[-1] - [0.3, 0, 0], speed=-0.9)
    rig.filter.submit(far, rig.now, rig.now)
    rig.run(10)
    notes = rig.filter.take_interventions()
    assert notes and notes[0].mode is SafetyMode.LIMITED and notes[0].reasons
    assert not np.array_equal(notes[0].before, notes[0].after) and math.isnan(notes[0].distance_m)
    assert all(a.stamp_ns < b.stamp_ns for a, b in zip(notes, notes[1:], strict=False))
    rig.filter.stop()
    rig.run(30)
    assert {note.mode for note in rig.filter.take_interventions()} == {SafetyMode.LATCHED}


@pytest.mark.parametrize("thing", [None, "text", object()])
def test_rubbish_never_raises(thing):
    rig = Rig(with_group("human", enabled=True))
    for call in (
        lambda: rig.filter.observe_human(thing, rig.now, rig.now),
        lambda: rig.filter.observe_trust(thing, rig.now, rig.now),
        lambda: rig.filter.observe_health(thing, rig.now),
        lambda: rig.filter.deadman(thing, rig.now),
        lambda: rig.filter.observe_driver(thing, rig.now),
        lambda: rig.filter.writers(thing),
        lambda: rig.filter.add_obstacle(thing),
        lambda: rig.filter.remove_obstacle(thing),
    ):
        call()
    assert rig.run(3).mode is SafetyMode.LATCHED


def test_an_arm_that_moves_at_the_start_is_not_jerked_to_a_stop():
    rig = Rig(running=False)
    rig.measured = HOME.copy()
    velocity = np.array([0.3, 0.0, -0.2])
    rig.now += T
    rig.filter.observe_state(rig.state(velocity=velocity), rig.now, rig.now)
    for _ in range(40):
        rig.now += T
        command, verdict = rig.filter.tick(rig.now, rig.now)
        rig.outputs.append(command.position)
    q = np.concatenate([[HOME - velocity * 0.01, HOME], rig.outputs])
    v = np.diff(q, axis=0) / 0.01
    assert (np.abs(np.diff(v, axis=0)) <= 5.0 * 0.01 + 1e-9).all()
    assert not v[-1].any() and rig.outputs[-1][0] > HOME[0] + 0.005
    assert NAMES == SPEC.joint_names


# ---- settings at run time -----------------------------------------------------------


@pytest.mark.parametrize(
    "change, fine",
    [
        ({"velocity_scale": 0.5}, True),
        ({"velocity_scale": 1.0, "acceleration_scale": 0.7, "command_timeout_ms": 200.0}, True),
        ({"position_margin_rad": 0.02}, True),
        ({"position_margin_rad": 0.005}, False),
        ({"state_timeout_ms": 60.0}, False),
        ({"camera_required": False}, False),
        ({"period_ms": 9.0}, False),
        ({"scene": dataclasses.replace(CONFIG.scene, table_margin_m=0.01)}, True),
        ({"scene": dataclasses.replace(CONFIG.scene, table=False)}, False),
        ({"scene": dataclasses.replace(CONFIG.scene, workspace_upper=(0.7, 0.8, 1.5))}, True),
        ({"scene": dataclasses.replace(CONFIG.scene, workspace_upper=(0.7, 0.9, 1.5))}, False),
        ({"human": dataclasses.replace(CONFIG.human, enabled=True)}, True),
        ({"health": dataclasses.replace(CONFIG.health, temperature_stop_c=80.0)}, False),
    ],
)
def test_settings_change_only_to_the_strict_side_and_at_rest(change, fine):
    rig = Rig()
    rig.drive(60)
    assert not rig.filter.tighten(dataclasses.replace(CONFIG, **change)).ok
    rig.filter.stop()
    rig.run(40)
    answer = rig.filter.tighten(dataclasses.replace(CONFIG, **change))
    assert answer.ok is fine, answer
    assert rig.run(3).mode is SafetyMode.LATCHED
    assert rig.filter.reset(rig.now, rig.now).ok and rig.filter.enable(True).ok
    if "human" not in change:
        assert rig.drive(40).mode is SafetyMode.NORMAL
    rig.check_limits()


@pytest.mark.parametrize("what", ["jump", "second writer", "hot motor"])
def test_settings_do_not_change_while_a_reset_would_be_refused(what):
    rig = Rig()
    rig.filter.stop()
    rig.run(40)
    if what == "jump":
        for where in (rig.measured + 1.0, rig.measured):  # away and back
            rig.now += 1
            rig.filter.observe_state(rig.state(position=where), rig.now, rig.now)
    elif what == "second writer":
        rig.filter.writers(2)
    else:
        rig.filter.observe_health(Health(temperature_c=[CONFIG.health.temperature_stop_c + 1.0]), rig.now)
    answer = rig.filter.tighten(dataclasses.replace(CONFIG, velocity_scale=0.2))
    text = {"jump": "have just jumped", "second writer": "2 nodes write", "hot motor": "motor at"}[what]
    assert not answer.ok and text in answer.message, answer


def test_a_warm_motor_slows_the_arm_under_new_settings_before_it_reports_again():
    rig = Rig()
    rig.filter.observe_health(Health(temperature_c=[CONFIG.health.temperature_derate_c + 1.0]), rig.now)
    rig.filter.stop()
    rig.run(40)
    assert rig.filter.tighten(dataclasses.replace(CONFIG, velocity_scale=0.9)).ok
    pace = rig.filter._supervision.pace(rig.now, rig.now)
    assert pace.limit_m_s == CONFIG.reduced_speed_m_s and pace.reason & Reason.HEALTH


@pytest.mark.parametrize("fine", [True, False])
def test_reduced_mode_and_too_little_trust_outlast_new_settings(fine):
    """Also those that are refused after they had been tried: the arm stands outside of them."""
    rig = Rig(with_group("trust", enabled=True))
    rig.filter.observe_trust(0.0, rig.now, rig.now)
    assert rig.filter.set_reduced(True).ok
    rig.filter.stop()
    rig.run(40)
    change = {"velocity_scale": 0.9} if fine else {"position_margin_rad": 3.0}
    assert rig.filter.tighten(dataclasses.replace(rig.filter._config, **change)).ok is fine
    supervision = rig.filter._supervision
    assert supervision.pace(rig.now, rig.now).reason & Reason.TOOL_SPEED and supervision.reduced
    assert supervision.holds(rig.now, rig.now)[0] is Reason.LOW_TRUST
    assert rig.filter.set_reduced(False).ok and not supervision.reduced, "a person may still end it"


def test_stricter_settings_really_apply():
    rig = Rig()
    rig.filter.stop()
    rig.run(3)
    assert rig.filter.tighten(dataclasses.replace(CONFIG, velocity_scale=0.2)).ok
    rig.run(2)
    assert rig.filter.reset(rig.now, rig.now).ok and rig.filter.enable(True).ok
    rig.drive(80, speed=0.4)
    assert rig.speed() == pytest.approx(0.2, abs=1e-6)


def test_limits_wider_than_those_of_the_urdf_are_refused():
    spec = robots.load("nico")
    for field, by in (("upper", 0.1), ("lower", -0.1), ("velocity", 0.5)):
        with pytest.raises(ValueError, match=r"wider than in nico\.urdf"):
            SafetyFilter(dataclasses.replace(spec, **{field: getattr(spec, field) + by}), CONFIG)
