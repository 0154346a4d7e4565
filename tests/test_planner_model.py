"""The world model: exact caching, causality, relative time, regulariser, objective, fast rollout."""

from __future__ import annotations

import pytest
import torch
from wm_planner.blocks import rotary_table, rotate
from wm_planner.config import PlannerConfig
from wm_planner.imagine import Imagination
from wm_planner.losses import sigreg
from wm_planner.goals import Goal
from wm_planner.testing import small_config
from wm_planner.world_model import WorldModel, grown


@pytest.fixture
def model() -> WorldModel:
    """A small model in which every weight matters."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    model = WorldModel(small_config()).eval().requires_grad_(False)
    for name, parameter in model.predictor.named_parameters():
        if "norm" in name:
            parameter.normal_(1.0, 0.2)
        elif "head" in name:
            parameter.normal_(0.0, 0.1)
    return model


def inputs(model: WorldModel, batch: int = 5, steps: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    config = model.config
    sizes = (config.latent_dim, config.state_dim, config.action_dim)
    z, s, a = (torch.randn(batch, steps, size, generator=generator) for size in sizes)
    return z, s, a.clamp(-1, 1)


def test_cached_rollout_equals_the_full_causal_pass(model: WorldModel) -> None:
    z, state, actions = inputs(model, steps=7)
    latents, states = model.rollout(z[:, :2], state[:, :2], actions)
    # uncached: feed every frame so far, context first and then the imagined ones, from scratch
    frames, poses = z[:, :2], state[:, :2]
    for step in range(2, 8):
        z_next, s_next, _ = model.predictor(frames, poses, actions[:, :step])
        torch.testing.assert_close(z_next[:, -1], latents[:, step - 2], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(s_next[:, -1], states[:, step - 2], atol=1e-5, rtol=1e-5)
        frames = torch.cat([frames, z_next[:, -1:]], dim=1)
        poses = torch.cat([poses, s_next[:, -1:]], dim=1)


def test_imagination_equals_the_plain_rollout(model: WorldModel) -> None:
    z, state, actions = inputs(model, batch=9, steps=6)
    fast, fast_states = Imagination(model, 6)(z[:1, 0], state[:1, 0], actions)
    plain, plain_states = model.rollout(z[:1, :1].expand(9, -1, -1), state[:1, :1].expand(9, -1, -1), actions)
    torch.testing.assert_close(fast, plain, atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(fast_states, plain_states, atol=2e-6, rtol=2e-6)


def test_a_future_action_does_not_change_the_past(model: WorldModel) -> None:
    z, state, actions = inputs(model)
    changed = actions.clone()
    changed[:, 2] = -changed[:, 2]
    before, _ = model.rollout(z[:, :1], state[:, :1], actions)
    after, _ = model.rollout(z[:, :1], state[:, :1], changed)
    torch.testing.assert_close(before[:, :2], after[:, :2], atol=0, rtol=0)
    assert (before[:, 2] - after[:, 2]).abs().max() > 1e-4


def test_only_time_differences_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 5, 16, generator=generator)
    likeness = [
        rotate(q, rotary_table(torch.arange(5) + shift, 16)) @ rotate(k, rotary_table(torch.arange(5) + shift, 16)).mT
        for shift in (0, 37)
    ]
    torch.testing.assert_close(likeness[0], likeness[1], atol=1e-4, rtol=1e-4)
    assert (likeness[0] - q @ k.mT).abs().max() > 0.1  # the rotation does something


def test_the_regulariser_asks_for_a_standard_normal() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2000, 16, generator=generator)

    def score(z: torch.Tensor) -> float:
        return float(sigreg(z, 64, torch.Generator().manual_seed(1)))

    assert abs(score(normal)) < 0.01
    low_rank = normal[:, :2] @ torch.randn(2, 16, generator=generator)
    for bad in (torch.zeros_like(normal), 0.3 * normal, 3.0 * normal, normal + 1.0, low_rank):
        assert score(bad) > 0.05


def test_the_regulariser_pulls_a_collapsed_latent_apart() -> None:
    z = (0.05 * torch.randn(256, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    for step in range(150):
        optimizer.zero_grad()
        sigreg(z, 32, torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    assert 0.7 < float(z.detach().std(0).mean()) < 1.3


def test_proprioception_and_readout_are_scaled_and_back(model: WorldModel) -> None:
    raw = torch.randn(4, model.config.readout_dim)
    torch.testing.assert_close(model.join_readout(model.split_readout(raw)), raw, atol=1e-5, rtol=1e-5)
    upper = torch.tensor(model.config.upper)
    state = model.proprioception(upper, upper + model.action_scale)
    torch.testing.assert_close(state, torch.ones(12), atol=1e-4, rtol=1e-4)


def test_a_grown_encoder_starts_as_it_was_and_can_learn_more(model: WorldModel) -> None:
    pictures = torch.rand(3, 3, model.config.image_size, model.config.image_size)
    larger = grown(model, residual_blocks=2)
    torch.testing.assert_close(larger.encode(pictures), model.encode(pictures))
    larger.encode(pictures).square().sum().backward()
    assert all(block.change[-1].weight.grad.abs().sum() > 0 for block in larger.encoder.deeper)
    torch.testing.assert_close(grown(larger, residual_blocks=2).encode(pictures), model.encode(pictures))
