"""Distances for the planner: the filter's own, and a search that keeps them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wm_bridge.core.types import JointState
from wm_bridge.robots import spec as robots
from wm_bridge.safety import compiled
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.shapes import RobotShapes
from wm_bridge.safety.surroundings import build
from wm_planner.actions import ActionSpec
from wm_planner.config import PlannerConfig
from wm_planner.mpc import Planner
from wm_planner.testing import small_config
from wm_planner.world_model import WorldModel

SPEC = robots.load("nico")
CONFIG = SafetyConfig.load(SPEC.safety_path())
ARM = tuple(SPEC.groups["right_arm"])
COLUMNS = SPEC.indices("right_arm")
RESERVE = 0.006


def state(position) -> JointState:
    zero = np.zeros(len(SPEC.joint_names))
    return JointState(SPEC.joint_names, np.asarray(position, float), zero, zero, 1)


def test_a_posture_reaches_in_by_what_the_filter_would_miss():
    whole = build(RobotShapes.from_spec(SPEC), CONFIG.scene, {})
    mine = (whole.lever[:, COLUMNS] > 0.0).any(axis=1)
    rng = np.random.default_rng(0)
    clearance = Clearance(SPEC, CONFIG, ARM, RESERVE)
    for _ in range(5):
        rest = rng.uniform(SPEC.lower, SPEC.upper)
        clearance.observe(state(rest))
        arms = rng.uniform(SPEC.lower[COLUMNS], SPEC.upper[COLUMNS], (20, len(ARM)))
        found = clearance(arms)
        for arm, deep in zip(arms, found, strict=True):
            q = rest.copy()
            q[COLUMNS] = arm
            room = (whole.sweep.at(q) - whole.margin)[mine].min() - RESERVE
            assert deep == pytest.approx(max(0.0, -room), abs=1e-12)


def test_joints_that_are_unknown_or_not_finite_are_taken_as_they_were():
    clearance = Clearance(SPEC, CONFIG, ARM)
    arms = np.random.default_rng(1).uniform(SPEC.lower[COLUMNS], SPEC.upper[COLUMNS], (50, len(ARM)))
    before = clearance(arms)
    clearance.observe(state(np.full(len(SPEC.joint_names), np.nan)))
    one = np.zeros(1)
    clearance.observe(JointState(("a_wheel",), one + 5.0, one, one, 1))
    np.testing.assert_array_equal(clearance(arms), before)
    moved = SPEC.home.copy()
    left = SPEC.indices("left_arm")
    moved[left] = SPEC.lower[left]
    clearance.observe(state(moved))
    assert (clearance(arms) != before).any()


def test_tables_that_do_not_fit_are_refused():
    sweep = build(RobotShapes.from_spec(SPEC), CONFIG.scene, {}).sweep
    one, pair = np.zeros((1, len(SPEC.joint_names))), np.array([0])
    assert np.isfinite(compiled.least_room(sweep.arrays, one, pair, np.zeros((1, 1)))).all()
    for postures, pairs, margin in (
        (one[:, 1:].copy(), pair, np.zeros((1, 1))),
        (one, np.array([10**6]), np.zeros((1, 1))),
        (one, pair, np.zeros((1, 2))),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            compiled.least_room(sweep.arrays, postures, pairs, margin)


@pytest.fixture
def planner() -> Planner:
    torch.manual_seed(0)
    return Planner(WorldModel(small_config()), PlannerConfig(horizon=6, samples=64, iterations=3, threads=1))


def plan(planner: Planner) -> np.ndarray:
    rng = np.random.default_rng(2)
    size = planner.model.config.image_size
    goal, here = (rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(2))
    planner.search.generator.manual_seed(5)
    planner.set_goal(planner.encode_goal(goal))
    return planner.plan(here, np.zeros(len(planner.joint_names)), np.zeros(len(planner.joint_names))).references


def test_a_plan_keeps_out_of_what_is_kept(planner: Planner):
    """A wall half way along a joint's free plan: the plan with it stays nearly outside."""
    free = plan(planner)
    joint = int(np.abs(free[-1]).argmax())
    sign, wall = np.sign(free[-1, joint]), abs(free[-1, joint]) / 2

    def behind(references: np.ndarray) -> np.ndarray:
        return np.maximum(0.0, sign * references[:, joint] - wall)

    deepest = behind(free).max()
    planner.intrusion = behind
    assert behind(plan(planner)).max() < 0.2 * deepest
    planner.intrusion = lambda references: np.zeros(len(references))
    np.testing.assert_array_equal(plan(planner), free)


def test_postures_are_in_radians_and_reach_as_far_as_the_action_box(planner: Planner):
    seen: list[np.ndarray] = []

    def look(references: np.ndarray) -> np.ndarray:
        seen.append(references)
        return np.zeros(len(references))

    planner.intrusion = look
    plan(planner)
    every = np.concatenate(seen)
    furthest = ActionSpec.from_model(planner.model.config).scale.double().numpy() * planner.config.horizon
    assert every.shape[1] == len(planner.joint_names)
    assert (np.abs(every) <= furthest + 1e-6).all() and np.abs(every).max() > 0.0

