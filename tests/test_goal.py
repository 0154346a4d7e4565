"""When a goal counts as reached, late, stuck or not to be trusted."""

import math

import pytest

from wm_bridge.core.goal import GoalConfig, GoalMonitor, GoalPhase, Outcome, PlanSummary

S = 1_000_000_000
CONFIG = GoalConfig(timeout_s=10.0, stall_s=2.0)


def drive(distances, config=CONFIG, speed=0.0, energy=None, trust=1.0, goal_trust=1.0, joints=0.0):
    """Feed one distance per 0.1 s; returns every status."""
    monitor = GoalMonitor(config)
    monitor.begin(0)
    statuses = []
    for k, distance in enumerate(distances):
        level = distance if energy is None else energy[k]
        now = k * S // 10
        summary = PlanSummary(now, distance, speed, level, trust, goal_trust, joints)
        statuses.append(monitor.update(summary, now))
    return statuses


def outcome(*args, **kwargs):
    return drive(*args, **kwargs)[-1].outcome


APPROACH = [0.3 - 0.02 * k for k in range(14)]  # 0.30 ... 0.04 m


def test_reached_after_holding_within_tolerance():
    statuses = drive(APPROACH + [0.025] * 6)
    assert [s.outcome for s in statuses[:-1]] == [None] * 19
    assert statuses[-1].outcome is Outcome.REACHED and statuses[-1].progress == 1.0


def test_passing_through_the_tolerance_is_not_reached():
    assert outcome(APPROACH + [0.025] * 4 + [0.06] * 4 + [0.025] * 4) is None


def test_a_little_noise_at_the_edge_does_not_restart_the_hold():
    assert outcome(APPROACH + [0.029, 0.033, 0.028, 0.034, 0.03, 0.029]) is Outcome.REACHED


def test_just_outside_the_tolerance_is_never_reached():
    assert outcome(APPROACH + [0.035] * 15) is None


def test_not_reached_while_the_joints_move():
    assert outcome(APPROACH + [0.02] * 8, speed=0.5) is None


@pytest.mark.parametrize("joints", [0.31, math.nan])
def test_joints_that_differ_delay_reached_until_the_energy_has_settled(joints):
    falling = [1.0 - 0.04 * k for k in range(20)]  # until step 19
    statuses = drive([0.02] * 40, energy=falling + [0.24] * 20, joints=joints)
    first = next(k for k, s in enumerate(statuses) if s.outcome is not None)
    assert statuses[first].outcome is Outcome.REACHED and first == 19 + 15
    assert drive([0.02] * 6, energy=falling[:6], joints=0.3)[-1].outcome is Outcome.REACHED


def test_timeout_at_the_limit():
    slow = [1.0 - 0.008 * k for k in range(101)]
    statuses = drive(slow)
    assert statuses[-2].outcome is None and statuses[-1].outcome is Outcome.TIMEOUT


def test_timeout_without_any_plan():
    monitor = GoalMonitor(CONFIG)
    monitor.begin(0)
    assert monitor.update(None, 1 * S).outcome is None
    assert monitor.update(None, 10 * S).outcome is Outcome.TIMEOUT


def test_stalled_when_far_without_progress():
    statuses = drive([0.2] * 30)
    first = next(k for k, s in enumerate(statuses) if s.outcome is not None)
    assert statuses[first].outcome is Outcome.STALLED and first == 20


def test_falling_energy_is_progress_even_at_the_same_distance():
    assert outcome([0.2] * 40, energy=[1.0 - 0.02 * k for k in range(40)]) is None


def test_nan_distance_is_never_near_nor_progress():
    assert outcome([math.nan] * 25, energy=[1.0] * 25) is Outcome.STALLED


@pytest.mark.parametrize("trust", [0.004, math.nan])
def test_low_trust_for_a_while_is_not_trusted(trust):
    statuses = drive(APPROACH, trust=trust)
    first = next(k for k, s in enumerate(statuses) if s.outcome is not None)
    assert statuses[first].outcome is Outcome.NOT_TRUSTED and first == 10


@pytest.mark.parametrize("goal_trust", [0.0, math.nan])
def test_a_goal_picture_unlike_anything_ends_at_once(goal_trust):
    assert drive([0.2], goal_trust=goal_trust)[0].outcome is Outcome.NOT_TRUSTED


def test_progress_runs_from_zero_to_one():
    progress = [s.progress for s in drive(APPROACH)]
    assert progress[0] == 0.0 and progress == sorted(progress) and 0.9 < progress[-1] < 1.0


def test_done_stays_done_until_the_next_goal():
    monitor = GoalMonitor(CONFIG)
    assert monitor.status.phase is GoalPhase.IDLE
    monitor.begin(0)
    assert monitor.update(None, 11 * S).outcome is Outcome.TIMEOUT
    assert monitor.update(PlanSummary(0, 0.0, 0.0, 0.0), 12 * S).outcome is Outcome.TIMEOUT
    monitor.begin(20 * S)
    assert monitor.update(PlanSummary(0, 0.2, 0.0, 0.0), 20 * S).outcome is None


@pytest.mark.parametrize("field", ["tolerance_m", "timeout_s", "hold_s", "trust_min"])
def test_bad_settings_are_refused(field):
    for value in (-1.0, math.nan):
        with pytest.raises(ValueError, match=field):
            GoalConfig(**{field: value})
