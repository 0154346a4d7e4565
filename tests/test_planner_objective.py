"""The objective: each term by its formula, their sum, and what leaves one out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor
from wm_planner.actions import ActionSpec
from wm_planner.config import LATENT_DISTANCES, PlannerConfig
from wm_planner.errors import PlannerError
from wm_planner.goals import Goal
from wm_planner.objective import frame_energy, rollout_energy, time_weight
from wm_planner.terms import Effort, LatentDistance, Seen, soft_norm
from wm_planner.testing import small_config
from wm_planner.world_model import WorldModel

S, H, A, D = 5, 4, 6, 16
CONFIG = PlannerConfig(horizon=H)


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(dataclasses.replace(small_config(), object_skill=True)).eval().requires_grad_(False)


def goal_of(model: WorldModel, target: str = "hand", seed: int = 1) -> Goal:
    z = torch.randn(D, generator=torch.Generator().manual_seed(seed))
    return Goal(z, model.read(z), 0.0, 1.0, target)


def rollouts(model: WorldModel, seed: int = 2) -> Seen:
    """Random futures of random actions."""
    g = torch.Generator().manual_seed(seed)
    actions, start = torch.rand(S, H, A, generator=g) * 2 - 1, 0.1 * torch.randn(A, generator=g)
    references = model.scaled_joints(start + (actions * model.action_scale).cumsum(1))
    return Seen(model, torch.randn(S, H, D, generator=g), torch.randn(S, H, 2 * A, generator=g), references, start, actions)


def energy_of(model: WorldModel, goal: Goal, config: PlannerConfig = CONFIG, **hooks: object) -> Tensor:
    term = rollout_energy(frame_energy(goal, config), config, ActionSpec.from_model(model.config), **hooks)  # type: ignore[arg-type]
    return term(rollouts(model))


@pytest.mark.parametrize("target", ["hand", "object"])
def test_the_whole_is_the_formula_bit_for_bit(model: WorldModel, target: str) -> None:
    """Written out plainly, in the order of the documents: the default objective may not drift."""
    goal, seen, config = goal_of(model, target), rollouts(model), CONFIG
    read, there = model.read(seen.latents), goal.readout
    if target == "hand":
        frames = config.weight_hand * 10 * soft_norm(read.hand - there.hand)
        frames = frames + config.weight_joints * (read.joints - there.joints).abs().mean(-1)
        frames = frames + config.weight_latent * (seen.latents - goal.latent).square().mean(-1)
    else:
        block, place = read.objects[..., 0, :2], there.objects[0, :2]
        frames = 10 * config.weight_object * soft_norm(block - place)
        left = model.object_skill.periods(model.table_place(block), seen.references, model.table_place(place))
        frames = frames + config.weight_time * left
    weight = torch.linspace(0.5, 1.5, H)
    actions = seen.actions
    assert actions is not None
    effort = actions.square().mean((1, 2)) + (actions[:, 1:] - actions[:, :-1]).square().mean((1, 2))
    wanted = frames @ (weight / weight.sum()) + config.weight_action * effort
    assert torch.equal(energy_of(model, goal), wanted)


def test_energy_is_zero_at_the_goal_and_grows_away_from_it(model: WorldModel) -> None:
    goal = goal_of(model)
    direction = torch.randn(D, generator=torch.Generator().manual_seed(3))
    far = torch.stack([goal.latent + share * direction for share in (0.0, 0.2, 0.5, 1.0, 2.0)])
    seen = Seen(model, far, torch.zeros(5, 2 * A), torch.zeros(5, A))
    values = frame_energy(goal, CONFIG)(seen)
    assert abs(float(values[0])) < 1e-5 and (values[1:] > 0).all()
    for kind in LATENT_DISTANCES:
        config = dataclasses.replace(CONFIG, weight_hand=0.0, weight_joints=0.0, latent_distance=kind)
        alone = frame_energy(goal, config)(seen)
        assert abs(float(alone[0])) < 1e-6 and (alone.diff() > 0).all(), kind


def test_latent_distances_are_what_they_are_called() -> None:
    model = WorldModel(small_config())
    z, goal = torch.zeros(1, D), torch.zeros(D)
    z[0, :2], goal[:2] = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    seen = Seen(model, z, torch.zeros(1, 2 * A), torch.zeros(1, A))
    for kind, value in (("l1", 7 / D), ("l2", 25 / D), ("cosine", 1.0)):
        assert float(LatentDistance(goal, 2.0, kind)(seen)) == pytest.approx(2.0 * value)
    with pytest.raises(PlannerError, match="latent_distance must be one of l1, l2, cosine, got 'l3'"):
        PlannerConfig(latent_distance="l3")


def test_late_frames_weigh_more() -> None:
    weight = time_weight(H)
    assert float(weight.sum()) == pytest.approx(1.0) and float(weight[-1]) == pytest.approx(3 * float(weight[0]))
    assert (weight.diff() > 0).all()


def test_effort_and_smoothness_have_weights_of_their_own(model: WorldModel) -> None:
    goal, actions = goal_of(model), rollouts(model).actions
    assert actions is not None
    free = energy_of(model, goal, dataclasses.replace(CONFIG, weight_action=0.0, weight_smoothness=0.0))
    large, jumps = actions.square().mean((1, 2)), (actions[:, 1:] - actions[:, :-1]).square().mean((1, 2))
    for action, smooth in ((0.5, 0.0), (0.0, 0.5), (0.5, 2.0)):
        config = dataclasses.replace(CONFIG, weight_action=action, weight_smoothness=smooth)
        torch.testing.assert_close(energy_of(model, goal, config), free + action * large + smooth * jumps)


def test_intrusion_costs_by_the_decimetre(model: WorldModel) -> None:
    goal = goal_of(model)
    shallow = energy_of(model, goal, intrusion=lambda q: np.full(len(q), 0.03)) - energy_of(model, goal)
    torch.testing.assert_close(shallow, torch.full((S,), CONFIG.weight_intrusion * 0.3))
    off = dataclasses.replace(CONFIG, weight_intrusion=0.0)
    assert torch.equal(energy_of(model, goal, off, intrusion=lambda q: np.full(len(q), np.nan)), energy_of(model, goal))


def test_uncertainty_costs_only_where_it_is_weighed(model: WorldModel) -> None:
    """An estimate (S, H) from anywhere: an ensemble's spread, a head of its own."""
    goal, asked = goal_of(model), []

    def estimate(latents: Tensor, states: Tensor, actions: Tensor) -> Tensor:
        asked.append((latents.shape, states.shape, actions.shape))
        return torch.arange(S)[:, None] * torch.ones(S, H)

    assert torch.equal(energy_of(model, goal, uncertainty=estimate), energy_of(model, goal)) and not asked
    config = dataclasses.replace(CONFIG, weight_uncertainty=0.25)
    more = energy_of(model, goal, config, uncertainty=estimate) - energy_of(model, goal, config)
    torch.testing.assert_close(more, 0.25 * torch.arange(S).float(), atol=1e-5, rtol=1e-5)
    assert asked == [((S, H, D), (S, H, 2 * A), (S, H, A))]


def test_a_frame_that_was_seen_has_no_actions_to_judge(model: WorldModel) -> None:
    seen = Seen(model, torch.zeros(1, D), torch.zeros(1, 2 * A), torch.zeros(1, A))
    with pytest.raises(ValueError, match="give this term to rollouts only"):
        Effort(1.0, 1.0)(seen)


def test_soft_norm_is_a_length_away_from_zero() -> None:
    assert float(soft_norm(torch.zeros(3))) == pytest.approx(0, abs=1e-7)
    assert float(soft_norm(torch.tensor([0.3, 0.4, 0.0]))) == pytest.approx(0.497, abs=1e-3)
