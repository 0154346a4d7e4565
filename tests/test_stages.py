"""Goals one after the other: when the next one begins, and what ends them all."""

from __future__ import annotations

import math

import pytest

from wm_bridge.core.goal import GoalConfig, GoalMonitor, GoalPhase, GoalStatus, Outcome, PlanSummary
from wm_bridge.core.stages import Stages

S = 1_000_000_000
CONFIG = GoalConfig(tolerance_m=0.03, hold_s=0.5, timeout_s=10.0, stall_s=2.0, switch_energy=0.4)


def begun(count: int, config: GoalConfig = CONFIG) -> Stages:
    stages = Stages(config)
    stages.begin(0, count)
    return stages


def tell(stages: Stages, at_s: float, energy: float, distance_m: float = 0.2, speed: float = 0.0, trust: float = 1.0) -> GoalStatus:
    now = round(at_s * S)
    return stages.update(PlanSummary(now, distance_m, speed, energy, trust), now)


def test_a_low_energy_leads_on_without_stopping() -> None:
    stages = begun(3)
    assert (stages.status.stage, stages.status.stages) == (1, 3)
    assert tell(stages, 0.1, 2.0).stage == 1
    status = tell(stages, 0.2, 0.4, speed=1.0)
    assert (status.stage, status.outcome, status.phase) == (2, None, GoalPhase.FAR)
    assert status.progress >= 1 / 3 and status.elapsed_s == pytest.approx(0.2)
    assert tell(stages, 0.3, 3.0).stage == 2  # measured against the second picture now
    assert tell(stages, 0.4, 0.1).stage == 3


def test_a_hold_asks_for_an_energy_that_stays_low() -> None:
    config = GoalConfig(switch_energy=0.4, switch_hold_s=0.3)
    stages = begun(2, config)
    energies = [0.3, 0.3, 0.9, 0.3, 0.3, 0.3]
    assert [tell(stages, 0.1 * k, energy).stage for k, energy in enumerate(energies)] == [1] * 6
    assert tell(stages, 0.6, 0.3).stage == 2


def test_held_within_the_tolerance_leads_on_as_well() -> None:
    stages = begun(2)
    found = [tell(stages, 0.1 * k, 5.0, distance_m=0.02).stage for k in range(7)]
    assert found == [1, 1, 1, 1, 1, 2, 2]


def test_the_last_goal_is_not_passed_but_reached() -> None:
    stages = begun(2)
    tell(stages, 0.1, 0.1)
    assert all(tell(stages, 0.2 + 0.1 * k, 0.1).outcome is None for k in range(5))
    status = [tell(stages, 1.0 + 0.1 * k, 0.1, distance_m=0.02) for k in range(7)][-1]
    assert status.outcome is Outcome.REACHED and status.progress == 1.0
    assert status.message == "goal 2 of 2: held within 0.030 m for 0.5 s"
    assert tell(stages, 9.0, 9.0) is status


@pytest.mark.parametrize("which", [1, 2])
def test_a_goal_on_the_way_that_stalls_ends_them_all(which: int) -> None:
    stages = begun(3)
    if which == 2:
        tell(stages, 0.1, 0.1)
    statuses = [tell(stages, 0.2 + 0.1 * k, 1.0) for k in range(25)]
    assert statuses[-1].outcome is Outcome.STALLED and statuses[-1].message.startswith(f"goal {which} of 3: no progress for 2.0 s")


def test_the_timeout_is_that_of_the_whole() -> None:
    stages = begun(2, GoalConfig(timeout_s=4.0, stall_s=60.0))
    for k in range(30):
        assert tell(stages, 0.1 * k, 1.0).outcome is None
    assert tell(stages, 3.0, 0.1).stage == 2
    assert tell(stages, 3.9, 1.0).outcome is None
    status = tell(stages, 4.0, 1.0)
    assert status.outcome is Outcome.TIMEOUT and status.elapsed_s == pytest.approx(4.0)


def test_without_a_plan_nothing_is_passed_and_a_bad_energy_never_is() -> None:
    stages = begun(2)
    assert stages.update(None, S).stage == 1
    assert tell(stages, 1.1, math.nan).stage == 1


def test_one_goal_by_itself_is_as_its_monitor_says() -> None:
    stages, monitor = begun(1), GoalMonitor(CONFIG)
    monitor.begin(0)
    for k in range(20):
        now, left = k * S // 10, max(0.2 - 0.02 * k, 0.01)
        summary = PlanSummary(now, left, 0.0, left)
        assert stages.update(summary, now) == monitor.update(summary, now)


# Angles -------------------------------------------------------------------------------------


def drive(angles: list[float], distance_m: float = 0.0, config: GoalConfig = CONFIG) -> GoalStatus:
    """Feed one angle per 0.1 s."""
    monitor = GoalMonitor(config)
    monitor.begin(0)
    status = monitor.status
    for k, angle in enumerate(angles):
        now = k * S // 10
        status = monitor.update(PlanSummary(now, distance_m, 0.0, angle, angle_rad=angle), now)
    return status


def test_joints_are_reached_within_their_tolerance_in_rad() -> None:
    approach = [0.8 - 0.1 * k for k in range(8)]
    status = drive(approach + [0.04] * 6)
    assert status.outcome is Outcome.REACHED and status.message == "held within 0.050 rad for 0.5 s"
    assert (status.distance_m, status.angle_rad) == (0.0, 0.04)
    assert drive([*approach, 0.06, 0.06, 0.06, 0.06, 0.06, 0.06]).outcome is None
    assert 0.0 < drive(approach[:5]).progress < 1.0


def test_a_pose_is_reached_when_both_way_and_turn_are() -> None:
    assert drive([0.04] * 7, distance_m=0.02).message == "held within 0.030 m and 0.050 rad for 0.5 s"
    assert drive([0.04] * 7, distance_m=0.05).outcome is None
    assert drive([0.2] * 7, distance_m=0.02).outcome is None
    assert drive([math.nan] * 7, distance_m=0.02).outcome is None


def test_what_is_left_is_told_in_its_unit() -> None:
    config = GoalConfig(timeout_s=1.0, stall_s=60.0)
    assert "still 0.500 rad away" in drive([0.5] * 12, config=config).message
    assert "still 0.200 m and 0.500 rad away" in drive([0.5] * 12, distance_m=0.2, config=config).message
    assert "still 0.200 m away" in drive([0.0] * 12, distance_m=0.2, config=config).message
