"""Goals that are joints, poses and parts of pictures: refused with the reason, and what the planner makes of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from wm_planner.config import PlannerConfig
from wm_planner.errors import PlannerError
from wm_planner.goals import Goal, JointsGoal, MaskedGoal
from wm_planner.mpc import Planner
from wm_planner.posture import bring_tool, easiest, gaps, spread_starts
from wm_planner.testing import NICO_RIGHT_ARM, random_checkpoint

from wm_bridge.core.effector import EffectorMotion, give_kinematics
from wm_bridge.robots import spec as robots

J = 6
CONFIG = PlannerConfig(horizon=4, samples=32, iterations=3, threads=1)
SPEC = robots.load("nico")
MOTION = EffectorMotion(SPEC, NICO_RIGHT_ARM, 0.1)


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    """Random weights, but the joints of what it imagines are those that the servos would reach."""
    planner = Planner.load(random_checkpoint(tmp_path / "m.safetensors"), CONFIG)
    model, scale = planner.model, planner.model.action_scale

    def imagine(z: torch.Tensor, state: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count, horizon = actions.shape[:2]
        here = state[0, :J] + state[0, J:] * scale / model.joint_half_range  # the reference
        path = here + (actions * scale / model.joint_half_range).cumsum(1)
        return z.expand(count, horizon, -1), torch.cat([path, torch.zeros_like(path)], dim=-1)

    planner.imagine = imagine  # type: ignore[assignment]
    return planner


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def follow(planner: Planner, q: np.ndarray, periods: int = 30) -> np.ndarray:
    """Joints after some plans of which the first period is done."""
    for _ in range(periods):
        q = planner.plan(picture(1), q, q).references[0]
    return q


# Joints -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("joints", "text"),
    [
        ({}, "names no joint; name some of r_shoulder_z, "),
        ({"r_elbow_y": 0.1, "l_elbow_y": 0.2}, "names l_elbow_y, which the planner does not move; it moves r_shoulder_z"),
        ({"r_elbow_y": float("nan")}, r"joint r_elbow_y is nan; give a number in rad between -1\.000 and 1\.000"),
        ({"r_elbow_y": 0.1, "r_wrist_x": -1.01}, r"joint r_wrist_x, -1\.010 rad, is outside of its limits -1\.000 to 1\.000"),
    ],
)
def test_joints_that_cannot_be_reached_are_refused(planner: Planner, joints: dict[str, float], text: str) -> None:
    with pytest.raises(PlannerError, match=text):
        planner.joints_goal(joints)


def test_named_joints_are_brought_to_their_angles_and_the_others_stay(planner: Planner) -> None:
    start = np.array([0.3, -0.2, 0.0, 0.5, -0.4, 0.1])
    planner.set_goal(planner.joints_goal({"r_elbow_y": -0.5, "r_shoulder_z": 0.8}))
    plan = planner.plan(picture(1), start, start)
    assert plan.angle_rad == pytest.approx(1.0, abs=1e-6) == plan.joint_distance_rad and np.isnan(plan.distance_m)
    end = follow(planner, start)
    np.testing.assert_allclose(end, [0.8, -0.2, 0.0, -0.5, -0.4, 0.1], atol=0.01)
    assert planner.plan(picture(1), end, end).angle_rad < 0.01
    assert isinstance(planner.goal, JointsGoal) and not planner.goal.joints.isnan().any()


def test_where_a_model_imagines_a_resting_arm_to_creep_the_goal_is_still_met(planner: Planner) -> None:
    true, creep = planner.imagine, 0.05 * torch.arange(4.0)[:, None]

    def creeping(z: torch.Tensor, state: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latents, states = true(z, state, actions)
        return latents, torch.cat([states[..., :J] + creep, states[..., J:]], dim=-1)

    planner.imagine = creeping  # type: ignore[assignment]
    planner.set_goal(planner.joints_goal(dict.fromkeys(NICO_RIGHT_ARM, 0.25)))
    np.testing.assert_allclose(follow(planner, np.zeros(J)), 0.25, atol=0.01)


# Pose ---------------------------------------------------------------------------------------


def reachable(seed: int) -> np.ndarray:
    """(A,) a posture well inside the limits."""
    rng = np.random.default_rng(seed)
    middle, half = (MOTION.lower + MOTION.upper) / 2, (MOTION.upper - MOTION.lower) / 2
    return middle + 0.8 * half * rng.uniform(-1, 1, J)


@pytest.mark.parametrize("turned", [False, True])
def test_a_posture_is_found_for_every_pose_that_has_one(turned: bool) -> None:
    starts = spread_starts(MOTION.lower, MOTION.upper)
    for seed in range(20):
        T = MOTION.frames(reachable(seed))
        rotation = T[:3, :3] if turned else None
        found = bring_tool(MOTION.frames, MOTION.lower, MOTION.upper, starts, T[:3, 3], rotation)
        off_m, off_rad = gaps(MOTION.frames(found.postures), T[:3, 3], rotation)
        np.testing.assert_allclose(found.off_m, off_m)
        assert ((off_m < 1e-3) & (off_rad < 1e-2)).any(), seed
        assert (found.postures >= MOTION.lower).all() and (found.postures <= MOTION.upper).all()


def test_the_angle_between_orientations_is_that_of_the_turn_between_them() -> None:
    T = np.tile(np.eye(4), (4, 1, 1))
    for row, angle in zip(T, (0.0, 0.3, 2.0, np.pi), strict=True):
        row[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    np.testing.assert_allclose(gaps(T, np.array([0.3, 0.0, 0.4]), np.eye(3))[1], [0.0, 0.3, 2.0, np.pi], atol=1e-6)
    np.testing.assert_allclose(gaps(T, np.array([0.3, 0.0, 0.4]), None), [[0.5] * 4, [0.0] * 4])


def test_the_easiest_posture_is_near_and_not_behind_a_wall() -> None:
    postures = np.array([[0.5, 0.0], [-0.6, 0.0], [0.0, 3.0]])
    here, scale = np.zeros(2), np.full(2, 0.1)
    assert easiest(postures, here, scale, None) == 0
    assert easiest(postures, here, scale, lambda q: np.maximum(q[:, 0] - 0.2, 0.0)) == 1


@pytest.mark.parametrize(
    ("position", "rotation", "text"),
    [
        ([0.3, np.nan, 0.7], None, "three finite numbers in m, got"),
        ([0.3, 0.7], None, "three finite numbers in m, got"),
        ([3.0, 0.0, 0.7], None, r"out of reach: the nearest posture that was found leaves 2\d\d\.\d cm; choose a nearer place$"),
        ([0.3, -0.2, 0.8], 2.0 * np.eye(3), "must be a rotation matrix"),
        ([3.0, 0.0, 0.7], np.eye(3), r"leaves .* cm and \d+ degrees; choose a nearer place, or leave the orientation free$"),
    ],
)
def test_poses_that_cannot_be_reached_are_refused(planner: Planner, position: list[float], rotation: np.ndarray | None, text: str) -> None:
    give_kinematics(planner, SPEC)
    with pytest.raises(PlannerError, match=text):
        planner.pose_goal(np.array(position), rotation)


@pytest.mark.parametrize("turned", [False, True])
def test_the_tool_is_brought_to_a_pose(tmp_path: Path, planner: Planner, turned: bool) -> None:
    give_kinematics(planner, SPEC)
    T = MOTION.frames(np.array([0.3, 0.2, 0.4, -0.6, 0.1, 0.2]))  # inside of the small model's limits, +-1 rad
    planner.set_goal(planner.pose_goal(T[:3, 3], T[:3, :3] if turned else None))
    first = planner.plan(picture(1), np.zeros(J), np.zeros(J))
    now = MOTION.frames(np.zeros(J))
    assert first.distance_m == pytest.approx(np.linalg.norm(now[:3, 3] - T[:3, 3]), abs=1e-6)
    assert (first.angle_rad > 0.1) == turned and np.allclose(first.goal_hand, T[:3, 3], atol=1e-6)
    end = follow(planner, np.zeros(J))
    off_m, off_rad = gaps(MOTION.frames(end)[None], T[:3, 3], T[:3, :3] if turned else None)
    assert off_m[0] < 0.005 and off_rad[0] < 0.03


def test_a_pose_without_kinematics_is_judged_by_the_hand_that_is_read(planner: Planner) -> None:
    place = planner.encode_goal(picture(3)).readout.hand.double().numpy()
    planner.set_goal(planner.pose_goal(place))
    plan = planner.plan(picture(1), np.zeros(J), np.zeros(J))
    hand = planner.encode_goal(picture(1)).readout.hand.double().numpy()
    assert plan.distance_m == pytest.approx(np.linalg.norm(hand - place), abs=1e-5) and plan.angle_rad == 0.0
    with pytest.raises(PlannerError, match="an orientation needs the robot's kinematics"):
        planner.pose_goal(place, np.eye(3))


def test_the_gradient_search_refuses_a_pose(planner: Planner) -> None:
    gradient = Planner(planner.model, dataclasses.replace(CONFIG, optimiser="gradient"))
    give_kinematics(gradient, SPEC)
    with pytest.raises(PlannerError, match="has no slope"):
        gradient.pose_goal(np.array([0.3, -0.2, 0.8]))
    gradient.set_goal(gradient.joints_goal({"r_elbow_y": 0.5}))
    assert gradient.plan(picture(1), np.zeros(J), np.zeros(J)).nan_costs == 0


# Masked picture -----------------------------------------------------------------------------


def masked(planner: Planner, image: np.ndarray, mask: np.ndarray) -> MaskedGoal:
    goal = planner.encode_goal(image, "hand", mask)
    assert isinstance(goal, MaskedGoal)
    return goal


def test_what_lies_outside_of_the_mask_does_not_count(planner: Planner) -> None:
    """A goal picture spoiled outside of its mask is the whole goal picture, where the frame shows the rest as it shall be."""
    wanted, other = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)  # network size: no blurred edge
    frame, mask = wanted.copy(), np.zeros((32, 32), np.uint8)
    frame[5:25, 10:22] = 30  # the goal asks for something here, and only here
    mask[5:25, 10:22] = 1
    spoiled = np.where(mask[..., None] > 0, wanted, other).astype(np.uint8)
    whole = planner.encode_goal(wanted)
    plain, zero = Planner(planner.model, CONFIG), np.zeros(J)
    plain.set_goal(whole)
    part = Planner(planner.model, CONFIG)
    part.set_goal(masked(planner, spoiled, mask))
    control = Planner(planner.model, CONFIG)
    control.set_goal(planner.encode_goal(spoiled))
    plans = [each.plan(frame, zero, zero) for each in (plain, part, control)]
    np.testing.assert_array_equal(plans[1].goal_hand, plans[0].goal_hand)
    assert plans[1].distance_m == plans[0].distance_m > 0.0 and plans[1].goal_energy == plans[0].goal_energy
    assert plans[2].goal_energy != plans[0].goal_energy
    assert isinstance(whole, Goal) and plans[1].goal_trust == plans[0].goal_trust


def test_the_goal_follows_the_frame_where_the_mask_leaves_it(planner: Planner) -> None:
    rng = np.random.default_rng(0)
    wanted, frame = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 4:12] = 255
    goal = masked(planner, wanted, mask)
    mixed = goal.beside(frame)
    np.testing.assert_array_equal(mixed[8:20, 4:12], wanted[8:20, 4:12])
    np.testing.assert_array_equal(mixed[mask == 0], frame[mask == 0])
    everything = masked(planner, wanted, np.full((32, 32), 7, np.uint8))
    np.testing.assert_array_equal(everything.beside(frame), wanted)


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (np.zeros((48, 64), np.uint8), "no pixel is set in it"),
        (np.ones((48, 60), np.uint8), r"height and width \(48, 64\), got uint8 \(48, 60\)"),
        (np.ones((48, 64), bool), r"must be uint8 .* got bool \(48, 64\)"),
        (np.repeat([[0, 1]], 48, axis=0).repeat([63, 1], axis=1).astype(np.uint8), "inside of the middle square that the model sees"),
    ],
)
def test_masks_that_do_not_fit_are_refused(planner: Planner, mask: np.ndarray, text: str) -> None:
    with pytest.raises(PlannerError, match=text):
        planner.encode_goal(picture(0), "hand", mask)
