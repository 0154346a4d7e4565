"""End-effector action space: inverse kinematics inside box and limits, and a search over tool motions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from wm_bridge.core.effector import EffectorMotion, give_kinematics
from wm_bridge.core.kinematics import Kinematics
from wm_bridge.core.types import JointState
from wm_bridge.robots import spec as robots
from wm_planner.actions import ActionSpec
from wm_planner.config import OPTIMISERS, ModelConfig, PlannerConfig
from wm_planner.effector import EffectorSpace
from wm_planner.errors import PlannerError
from wm_planner.mpc import Planner
from wm_planner.search.choose import make_optimiser
from wm_planner.testing import small_config
from wm_planner.vjepa.pose import matrix
from wm_planner.world_model import WorldModel

torch.set_num_threads(1)
NICO = robots.load("nico")
ARM = tuple(NICO.groups["right_arm"])
INDEX = NICO.indices("right_arm")
HOME = NICO.home[INDEX]
MOTION = EffectorMotion(NICO, ARM, 0.1)
LOWER, UPPER, BOX = MOTION.lower, MOTION.upper, MOTION.scale
SINGULAR = np.array([0.0, 0.4, -0.3, 0.0, 0.0, 0.43])  # straight elbow, which is its limit as well


def motion(rotation_weight: float) -> EffectorMotion:
    return EffectorMotion(NICO, ARM, 0.1, rotation_weight)


def steps(start: np.ndarray, path: np.ndarray) -> np.ndarray:
    return np.diff(path, axis=1, prepend=np.broadcast_to(start, path[:, :1].shape))


@pytest.mark.parametrize("robot", ["nico", "arm6"])
def test_tool_frames_are_those_of_pinocchio(robot):
    spec = robots.load(robot)
    for arm, tool in spec.tools.items():
        names, kinematics = spec.groups[arm], Kinematics(spec)
        made, index = EffectorMotion(spec, tuple(names), 0.1), spec.indices(arm)
        rng = np.random.default_rng(0)
        rows = rng.uniform(made.lower, made.upper, (20, len(index)))
        for row, frame in zip(rows, made.frames(rows), strict=True):
            q = spec.home.copy()
            q[index] = row
            assert np.allclose(frame, kinematics.forward(q, tool), atol=1e-12)


postures = st.one_of(
    st.lists(st.floats(0, 1), min_size=6, max_size=6).map(lambda s: LOWER + np.array(s) * (UPPER - LOWER)),
    st.lists(st.booleans(), min_size=6, max_size=6).map(lambda s: np.where(s, UPPER, LOWER)),
    st.just(SINGULAR),
)


@settings(max_examples=150, deadline=None)
@given(postures, st.integers(0, 2**32 - 1), st.sampled_from([1e-4, 0.01, 0.05, 1.0]), st.sampled_from([0.0, 0.03, 0.3]))
def test_limits_and_box_are_kept_everywhere(start, seed, size, weight):
    """At limits, at singular postures, and for moves that no arm can make."""
    moves = size * np.random.default_rng(seed).uniform(-1, 1, (6, 8, 6))
    joints, frames, slope = motion(weight).follow(start, moves)
    assert np.isfinite(joints).all() and np.isfinite(frames).all() and np.isfinite(slope).all()
    assert (joints >= LOWER).all() and (joints <= UPPER).all()
    assert (np.abs(steps(start, joints)) <= BOX * (1 + 1e-9)).all()
    assert np.allclose(frames, MOTION.frames(joints))


def test_moves_within_reach_are_made():
    rng, missed = np.random.default_rng(1), []
    for _ in range(40):
        start = rng.uniform(LOWER, UPPER)
        moves = np.zeros((20, 4, 6))
        moves[..., :3] = rng.uniform(-0.015, 0.015, (20, 4, 3))
        joints, frames, _ = MOTION.follow(start, moves)
        free = (np.abs(steps(start, joints)) < 0.99 * BOX).all(-1) & (joints > LOWER + 1e-9).all(-1) & (joints < UPPER - 1e-9).all(-1)
        way = np.diff(frames[..., :3, 3], axis=1, prepend=np.broadcast_to(MOTION.frames(start)[:3, 3], (20, 1, 3)))
        missed.append(np.linalg.norm(way - moves[..., :3], axis=-1)[free])
    every = np.concatenate(missed)
    assert len(every) > 1000 and np.quantile(every, 0.95) < 2e-4 and every.max() < 5e-3


def test_turns_are_made_about_the_base_axes():
    full, start = motion(1.0), HOME
    for axis in range(3):
        moves = np.zeros((1, 1, 6))
        moves[0, 0, 3 + axis] = 0.02
        _, frames, _ = full.follow(start, moves)
        turn = Rotation.from_matrix(frames[0, 0, :3, :3] @ full.frames(start)[:3, :3].T).as_rotvec()
        assert np.allclose(turn, moves[0, 0, 3:], atol=2e-3)


def test_a_move_that_leaves_the_box_is_shortened_and_keeps_its_direction():
    """Of the first Newton step: a move far beyond the box goes its way for as far as one period allows."""
    moves = np.zeros((1, 1, 6))
    moves[0, 0, :3] = [0.10, 0.06, -0.04]
    joints, frames, _ = MOTION.follow(HOME, moves)
    assert np.abs(joints[0, 0] - HOME).max() == pytest.approx(BOX[0])
    way = frames[0, 0, :3, 3] - MOTION.frames(HOME)[:3, 3]
    assert way @ moves[0, 0, :3] / np.linalg.norm(way) / np.linalg.norm(moves[0, 0, :3]) > 0.99


def test_at_a_limit_the_other_joints_take_over():
    start = HOME.copy()
    start[1] = UPPER[1]
    moves = np.zeros((6, 1, 6))
    moves[:, 0, :3] = 0.004 * np.concatenate([np.eye(3), -np.eye(3)])
    joints, frames, _ = MOTION.follow(start, moves)
    held = joints[:, 0, 1] == UPPER[1]
    made = np.linalg.norm(frames[:, 0, :3, 3] - MOTION.frames(start)[:3, 3] - moves[:, 0, :3], axis=-1)
    assert held.any() and not held.all() and made.max() < 1e-3


def test_one_candidate_that_is_not_finite_spoils_itself_alone():
    moves = np.random.default_rng(0).uniform(-0.02, 0.02, (4, 3, 6))
    clean = MOTION.follow(HOME, moves)[0]
    moves[1, 1, 0] = np.nan
    joints = MOTION.follow(HOME, moves)[0]
    assert np.array_equal(joints[[0, 2, 3]], clean[[0, 2, 3]]) and np.array_equal(joints[1, 0], clean[1, 0])
    assert np.isnan(joints[1, 1:]).any(axis=-1).all()


def test_the_slope_is_how_joints_answer_to_a_move():
    full, small = motion(0.1), 1e-4
    _, _, slope = full.follow(HOME, np.zeros((1, 1, 6)))
    for k in range(6):
        moves = np.zeros((2, 1, 6))
        moves[0, 0, k], moves[1, 0, k] = small, -small
        joints = full.follow(HOME, moves)[0]
        found = (joints[0, 0] - joints[1, 0]) / (2 * small)
        assert np.allclose(found, slope[0, 0, :, k], atol=0.05 * np.abs(found).max())


def test_joints_that_are_not_planned_count_where_they_were_seen():
    few = EffectorMotion(NICO, ARM[:5], 0.1)
    before = few.frames(HOME[:5])
    q = NICO.home.copy()
    q[INDEX[5]] = UPPER[5]
    zero = np.zeros(len(q))
    few.observe(JointState(NICO.joint_names, np.full(len(q), np.nan), zero, zero, 1))
    assert np.array_equal(few.frames(HOME[:5]), before)
    few.observe(JointState(NICO.joint_names, q, zero, zero, 1))
    assert np.allclose(few.frames(HOME[:5]), MOTION.frames(q[INDEX])) and not np.allclose(few.frames(HOME[:5]), before)
    with pytest.raises(ValueError, match="no arm"):
        EffectorMotion(NICO, ("r_elbow_y", "l_elbow_y"), 0.1)


# ---- the action space ----------------------------------------------------------------------------

CONFIG = PlannerConfig(horizon=4, samples=24, iterations=3, prior_samples=4, threads=1, action_space="end_effector")


def model() -> WorldModel:
    torch.manual_seed(0)
    small = small_config(ARM)
    return WorldModel(dataclasses.replace(small, lower=tuple(LOWER.tolist()), upper=tuple(UPPER.tolist()), action_scale=tuple(BOX.tolist()))).eval()


def planner(config: PlannerConfig = CONFIG, seed: int = 0) -> Planner:
    made = Planner(model(), config, seed)
    give_kinematics(made, NICO)
    made.set_goal(made.encode_goal(picture(0)))
    return made


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_without_kinematics_the_remedy_is_said():
    made = Planner(model(), CONFIG)
    made.set_goal(made.encode_goal(picture(0)))
    with pytest.raises(PlannerError, match="set planner.space.effector"):
        made.plan(picture(1), HOME, HOME)


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_every_optimiser_plans_tool_motion_inside_the_joints_limits(kind):
    config = dataclasses.replace(CONFIG, optimiser=kind, prior_samples=0, search_rotation=True, rotation_weight=0.05)
    made = planner(config)
    for start in (HOME, LOWER, UPPER, SINGULAR):
        made.reset()
        plan = made.plan(picture(1), start, start)
        assert plan.energy_per_iteration[-1] <= plan.energy_per_iteration[0] - 1e-6 * (start is HOME) and plan.nan_costs == 0
        for path in (plan.references, *plan.elite_references):
            assert (path >= LOWER - 1e-6).all() and (path <= UPPER + 1e-6).all()
            assert (np.abs(np.diff(path, axis=0, prepend=start[None])) <= BOX + 1e-6).all()


def test_the_same_seed_gives_the_same_plan_and_joints_give_another():
    plans = [planner(seed=seed).plan(picture(1), HOME, HOME).references for seed in (0, 0, 1)]
    assert np.array_equal(plans[0], plans[1]) and not np.array_equal(plans[0], plans[2])
    joints = planner(dataclasses.replace(CONFIG, action_space="joints")).plan(picture(1), HOME, HOME).references
    assert not np.array_equal(plans[0], joints)


def space(config: PlannerConfig = CONFIG) -> EffectorSpace:
    shape: ModelConfig = model().config
    made = EffectorSpace(ActionSpec.end_effector(config, 0.1), ActionSpec.from_model(shape))
    made.effector = motion(1.0)
    return made


def test_joint_actions_become_tool_actions_that_lead_back_to_them():
    config = dataclasses.replace(CONFIG, search_rotation=True, rotation_weight=1.0, box_rad=0.5)
    both, start = space(config), torch.tensor(HOME, dtype=torch.float32)
    joints = (0.3 * torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))).clamp(-0.4, 0.4)
    joints = both.joint_spec.project(start, joints)
    back = both.joints(start, both.actions(start, joints))
    way, again = (both.poses(both.joint_spec.references(start, path)) for path in (joints, back))
    assert (way - again)[..., :3].abs().max() < 2e-3 and (way[:, -1] - way[:, 0])[..., :3].abs().max() > 0.02


def test_actions_of_a_turned_frame_move_the_tool_along_the_turned_axes():
    rotation = Rotation.from_euler("xyz", [0.3, -0.2, 1.1]).as_matrix()
    config = dataclasses.replace(CONFIG, R_base_action=tuple(rotation.ravel().tolist()), search_rotation=True, rotation_weight=1.0)
    spec = ActionSpec.end_effector(config, 0.1)
    action = torch.tensor([0.01, 0.0, 0.0, 0.0, 0.3, 0.0, 0.5])
    base = spec.in_base(action)
    assert torch.allclose(base[:3], torch.tensor(rotation[:, 0] * 0.01, dtype=torch.float32), atol=1e-6)
    about = Rotation.from_matrix(matrix(base[3:6]).double().numpy()).as_rotvec()
    assert np.allclose(about, 0.3 * rotation[:, 1], atol=1e-5) and base[6] == 0.5
    assert torch.allclose(spec.from_base(base), action, atol=1e-6)


def test_what_is_not_searched_stays_zero():
    spec = ActionSpec.end_effector(CONFIG, 0.1)
    target = torch.full((4, 7), 0.4)
    for kind in OPTIMISERS:
        search = make_optimiser(dataclasses.replace(CONFIG, optimiser=kind, iterations=6, prior_samples=0), spec, 0)
        found = search.search(lambda a: (a - target).square().mean((1, 2)), lambda a: spec.project(a[0, 0], a), 0.2 * torch.ones(1, 4, 7))
        assert not found.best[:, 3:].any() and (found.best[:, :3] - 0.4).abs().max() < 0.3


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_spread_and_momentum_count_per_dimension(kind):
    config = dataclasses.replace(CONFIG, optimiser=kind, samples=400, elites=40, prior_samples=0, keep_elites=0, iterations=2, gradient_starts=400)
    seen = []

    def cost(a: torch.Tensor) -> torch.Tensor:
        seen.append(a.detach())
        return (a - 0.5).square().mean((1, 2))

    spec = dataclasses.replace(ActionSpec.shares(3), spread=torch.tensor([1.0, 0.1, 1.0]), momentum=torch.tensor([0.0, 0.0, 0.9]))
    make_optimiser(config, spec, 0).search(cost, lambda a: a, torch.zeros(1, 4, 3))
    first, second = seen[0].std((0, 1)), seen[1].mean((0, 1)) - seen[0].mean((0, 1))
    assert first[1] < 0.3 * first[0]
    assert second[2].abs() < (0.5 if kind != "gradient" else 1.1) * second[0].abs()


def test_impossible_action_spaces_are_refused():
    for wrong in (
        {"spread": torch.zeros(3)}, {"momentum": torch.ones(3)}, {"scale": torch.tensor([1.0, 0.0, 1.0])},
        {"spread": torch.ones(2)}, {"R_base_frame": torch.ones(3, 3)},
    ):  # fmt: skip
        with pytest.raises(PlannerError):
            dataclasses.replace(ActionSpec.shares(3), **wrong)
    for setting in ({"action_space": "hands"}, {"box_m": 0.0}, {"R_base_action": (1.0,)}, {"effector_momentum": (0.1,)}, {"search_rotation": True}):
        with pytest.raises(PlannerError):
            PlannerConfig(**setting)
