"""Where play moves an arm: only postures and ways that keep the safety filter's distances, and all over the workspace."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from wm_bridge.cli import play
from wm_bridge.core.kinematics import Kinematics
from wm_bridge.core.roam import Roam, Visits, straight
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig

ARMS = (("nico", "right_arm"), ("nico", "left_arm"), ("nicol", "right_arm"), ("arm6", "arm"), ("open_manipulator_x", "arm"))


def of(robot: str, arm: str, seed: int = 0) -> tuple[robots.RobotSpec, Clearance, Roam]:
    spec = robots.load(robot)
    depth = Clearance(spec, SafetyConfig.load(spec.safety_path()), spec.groups[arm])
    return spec, depth, Roam(spec, arm, depth, np.random.default_rng(seed))


@pytest.mark.parametrize(("robot", "arm"), ARMS)
def test_every_way_keeps_all_distances_and_ends_in_the_workspace(robot: str, arm: str) -> None:
    spec, depth, roam = of(robot, arm)
    kinematics, index = Kinematics(spec), spec.indices(arm)
    here = spec.home[index]
    for number in range(20):
        there = roam.goal(here)
        assert np.abs(there - here).max() > roam.near_rad, "no way at all"
        assert ((spec.lower[index] < there) & (there < spec.upper[index])).all()
        whole = spec.home.copy()
        whole[index] = there
        assert spec.workspaces[arm].contains(kinematics.forward(whole, spec.tools[arm])[:3, 3])
        if number:  # home itself may lie within a margin
            assert not depth(here + np.linspace(0.0, 1.0, 333)[:, None] * (there - here)).max() > 0.003, "between the points that were looked at"
        here = there


def test_it_gets_all_over_the_workspace() -> None:
    spec, _, roam = of("nico", "right_arm")
    index, kinematics, box = spec.indices("right_arm"), Kinematics(spec), spec.workspaces["right_arm"]
    here, places = spec.home[index], []
    for _ in range(150):
        here = roam.goal(here)
        whole = spec.home.copy()
        whole[index] = here
        places.append(kinematics.forward(whole, spec.tools["right_arm"])[:3, 3])
    share = (np.array(places) - box.lower) / (box.upper - box.lower)
    octants = {tuple(row) for row in (share > 0.5).tolist()}
    assert len(octants) >= 7, "of 8"


def test_it_goes_where_the_hand_was_least_often(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(choices: int) -> int:
        """Cells that the hand passed on 60 ways."""
        monkeypatch.setattr("wm_bridge.core.roam._CHOICES", choices)
        spec, _, roam = of("nico", "right_arm", seed=3)
        here = spec.home[spec.indices("right_arm")]
        for _ in range(60):
            here = roam.goal(here)
        return len(roam.visits._times)

    assert seen(24) > 1.15 * seen(1)


def test_a_place_is_the_less_new_the_more_often_it_was_visited() -> None:
    visits, places = Visits(), np.array([[0.01, 0.01, 0.01], [0.02, 0.02, 0.02], [0.5, -0.5, 0.0]])
    assert visits.novelty(places) == 1.0
    visits.add(places[:1])
    assert visits.novelty(places[:2]) == 0.5 and visits.novelty(places[2:]) == 1.0
    visits.add(places)
    assert visits.novelty(places) == pytest.approx((0.25 + 0.25 + 0.5) / 3)


def test_a_way_through_a_thing_is_not_free_and_one_out_of_a_margin_is() -> None:
    _, _, roam = of("arm6", "arm")
    roam._depth = lambda q: np.maximum(0.0, 0.5 - np.abs(q[:, 0]))  # a wall half a radian to both sides of zero
    one, zero = np.full(6, 1.0), np.zeros(6)
    assert not roam.free(straight(-one, one)), "through"
    assert not roam.free(straight(one, zero)), "into"
    assert roam.free(straight(0.2 * one, one)), "out"
    assert not roam.free(straight(-0.2 * one, one)), "deeper first"
    assert roam.free(straight(one, 2 * one))


def test_where_nothing_is_free_there_is_an_error_and_no_motion() -> None:
    spec, _, roam = of("arm6", "arm")
    roam._depth = lambda q: np.ones(len(q))
    with pytest.raises(UserError, match="no other one is reached"):
        roam.goal(spec.home)
    with pytest.raises(UserError, match="no other one is reached"):
        roam.posture()


def test_an_arm_that_the_robot_lacks_is_named() -> None:
    with pytest.raises(UserError, match="nico has no arm 'tail'.*\n.*right_arm, left_arm"):
        play.main(["--arm", "tail", "--domain", "1"])
    for words in (["--speed", "0"], ["--speed", "1.5"], ["--minutes", "0"], ["--minutes", "-1"]):
        with pytest.raises(SystemExit) as stopped:
            play.parse(words)
        assert stopped.value.code == 2


class Told:
    """A motion whose graph tells of one state after another, and then of no new one."""

    def __init__(self, *speeds: float) -> None:
        self.states, self.stopped = [SimpleNamespace(velocity=np.array([0.0, speed])) for speed in speeds], False

    def stop(self) -> None:
        self.stopped = True

    def state(self) -> SimpleNamespace:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


@pytest.mark.parametrize(("speeds", "stood"), [((1.0, 0.5, -0.3, 0.01), True), ((1.0, 0.5), False), ((0.0,), False)])
def test_the_arm_stands_only_when_a_new_state_says_so(monkeypatch: pytest.MonkeyPatch, speeds: tuple[float, ...], stood: bool) -> None:
    monkeypatch.setattr(play, "_STANDS_S", 0.3)
    motion = Told(*speeds)
    assert play.stands(motion) is stood and motion.stopped
