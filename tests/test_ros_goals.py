"""Every kind of goal through the running graph, real processes and the shipped model: reached, or refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bag_maker import write_pictures
from ros_probe import use_fast_dds_profile

from wm_bridge.cli.demo_client import DemoClient, GoalResult
from wm_bridge.cli.demo_scene import ARM, CAMERA, HEIGHT, WIDTH, DemoScene
from wm_bridge.core.effector import EffectorMotion
from wm_bridge.core.goal import Outcome
from wm_bridge.core.goal_kinds import BagFrame, JointsGoal, PictureGoal, PoseGoal, Request
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.supervisor import Graph

LONG_S = 60.0  # of the steady clock; reached in a few seconds on a machine that has the time


@dataclass
class Rig:
    """The graph, our node in it, and an own copy of the world to draw pictures."""

    client: DemoClient
    scene: DemoScene
    motion: EffectorMotion
    clearance: Clearance

    def pursue(self, asked: Request, **numbers: float) -> tuple[GoalResult, list[int]]:
        """The result of a goal, and the stages that its feedback told of."""
        stages: list[int] = []

        def tick() -> None:
            if self.client.feedback is not None and (not stages or stages[-1] != self.client.feedback.stage):
                stages.append(int(self.client.feedback.stage))

        future = self.client.send(asked, LONG_S, **numbers)
        return self.client.follow(future, 2 * LONG_S, tick), stages

    def arm(self) -> np.ndarray:
        """(A,) measured joints of the arm, rad."""
        joints = self.client.take("joint_states")
        measured = dict(zip(joints.name, joints.position, strict=True))
        return np.array([measured[name] for name in self.names])

    @property
    def names(self) -> tuple[str, ...]:
        """(A,) joints of the arm."""
        return tuple(self.scene.spec.groups[ARM])

    def nearby(self, seed: int) -> np.ndarray:
        """(A,) a free posture with the hand 5 to 15 cm from here."""
        rng, here = np.random.default_rng(seed), self.arm()
        hand = self.motion.frames(here)[:3, 3]
        for _ in range(1000):
            q = np.clip(here + rng.uniform(-0.4, 0.4, len(here)), self.motion.lower + 0.05, self.motion.upper - 0.05)
            way = here + np.linspace(0, 1, 9)[:, None] * (q - here)
            if 0.05 < np.linalg.norm(self.motion.frames(q)[:3, 3] - hand) < 0.15 and not self.clearance(way).any():
                return q
        raise AssertionError("no free posture nearby")

    def picture(self, arm: np.ndarray) -> np.ndarray:
        """What the camera would see with the arm there."""
        world, state = self.scene.world, self.client.state()
        q = state.reference.copy()
        q[self.scene.spec.indices(ARM)] = arm
        world.reset(q)
        return world.render(CAMERA, WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Graph.start("sim", {}, tmp_path_factory.mktemp("goals") / "run", ("recorder", "goal", "viz"), 120.0, say=lambda text: None) as graph:
        use_fast_dds_profile(graph.env)
        client = DemoClient(graph.domain, lambda: graph.check())
        scene = DemoScene("nico", np.random.default_rng(5003))
        start, names = scene.start(), tuple(scene.spec.groups[ARM])
        clearance = Clearance(scene.spec, SafetyConfig.load(scene.spec.safety_path()), names, 0.02)
        client.place(scene.spec.joint_names, start.reference)
        client.enable()
        try:
            yield Rig(client, scene, EffectorMotion(scene.spec, names, 0.1), clearance)
        finally:
            client.close()
            scene.close()


def test_joints_are_reached_and_the_others_stay(rig: Rig) -> None:
    before, goal = rig.arm(), rig.nearby(1)
    some = {name: float(value) for name, value in list(zip(rig.names, goal, strict=True))[2:4]}
    result, _ = rig.pursue(JointsGoal(some))
    assert result.outcome is Outcome.REACHED, result.message
    wanted = np.array([some.get(name, value) for name, value in zip(rig.names, before, strict=True)])
    np.testing.assert_allclose(rig.arm(), wanted, atol=0.08)
    assert 0.0 < result.angle_rad < 0.07 and "rad" in result.message


@pytest.mark.parametrize("turned", [False, True])
def test_the_tool_is_brought_to_a_pose(rig: Rig, turned: bool) -> None:
    T = rig.motion.frames(rig.nearby(2 + turned))
    result, _ = rig.pursue(PoseGoal(T[:3, 3], T[:3, :3] if turned else None))
    assert result.outcome is Outcome.REACHED, result.message
    assert np.linalg.norm(rig.motion.frames(rig.arm())[:3, 3] - T[:3, 3]) < 0.025


def test_pictures_are_pursued_one_after_the_other(rig: Rig) -> None:
    here = rig.arm()
    first, last = rig.nearby(4), rig.nearby(5)
    result, stages = rig.pursue([PictureGoal(rig.picture(q)) for q in (first, last)], tolerance_m=0.03)
    assert stages == [1, 2] and result.message.startswith("goal 2 of 2: ")
    assert result.outcome is Outcome.REACHED, result.message
    assert np.abs(rig.arm() - here).max() > 0.05


def test_part_of_a_picture_is_enough(rig: Rig) -> None:
    goal = rig.nearby(6)
    wanted, present = rig.picture(goal), rig.picture(rig.arm())
    hull = cv2.convexHull(cv2.findNonZero((np.abs(wanted.astype(int) - present).max(axis=2) > 12).astype(np.uint8)))
    mask = cv2.dilate(cv2.fillConvexPoly(np.zeros((HEIGHT, WIDTH), np.uint8), hull, 255), np.ones((25, 25), np.uint8))
    spoiled = np.where(mask[..., None] > 0, wanted, 255 - wanted).astype(np.uint8)
    result, _ = rig.pursue(PictureGoal(spoiled, mask), tolerance_m=0.03)
    assert result.outcome is Outcome.REACHED, result.message


def test_a_picture_of_a_bag_is_a_goal(rig: Rig, tmp_path: Path) -> None:
    bag = write_pictures(tmp_path / "bag", [rig.picture(rig.arm()), rig.picture(rig.nearby(7))])
    result, _ = rig.pursue(BagFrame(str(bag), 0.1), tolerance_m=0.03)
    assert result.outcome is Outcome.REACHED, result.message


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (JointsGoal({"r_elbow": -0.5}), "names r_elbow, which the planner does not move; it moves r_shoulder_z"),
        (JointsGoal({"r_elbow_y": 9.0}), "r_elbow_y, 9.000 rad, is outside of its limits"),
        (JointsGoal({"r_elbow_y": float("nan")}), "r_elbow_y is nan"),
        (PoseGoal(np.array([2.0, 0.0, 0.8])), "out of reach"),
        (BagFrame("/no/such/bag", 1.0), "bag /no/such/bag does not exist"),
    ],
)
def test_goals_that_cannot_be_are_rejected_with_the_reason(rig: Rig, asked: Any, problem: str) -> None:
    result, _ = rig.pursue(asked)
    assert result.outcome is Outcome.REJECTED and problem in result.message
