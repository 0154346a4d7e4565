"""Third training stage: the object skill, from demonstrations on frozen latents.

Hindsight gives the goals: the place where an episode left the object was its goal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wm_planner.fit import fit
from wm_planner.latents import Latents, windows
from wm_planner.skill import PERIODS_SCALE
from wm_planner.world_model import WorldModel, grown


@dataclass(frozen=True)
class ImitateConfig:
    """Third stage.

    Attributes:
        steps: optimiser steps. batch: encoded frames per step. dreams: imagined windows per
            step, of ``horizon`` periods.
        learning_rate: peak; cosine decay to zero. ema: of the shipped average.
        done_m: an object this near to its goal has arrived.
        goal_noise_m: standard deviation added to goals, which later are read from pictures.
    """

    steps: int = 4000
    batch: int = 384
    dreams: int = 32
    horizon: int = 8
    learning_rate: float = 1e-3
    ema: float = 0.995
    done_m: float = 0.015
    goal_noise_m: float = 0.005
    seed: int = 0


def periods_left(place: Tensor, done_m: float) -> Tensor:
    """(E, L+1) periods until the object (E, L+1, 2) is within ``done_m`` of where it ends, for good."""
    away = (place - place[:, -1:]).norm(dim=-1) > done_m  # NaN counts as arrived
    frames = torch.arange(place.shape[1], dtype=place.dtype)
    arrival = torch.where(away, frames + 1, 0.0).amax(dim=1, keepdim=True)
    return (arrival - frames).clamp(min=0.0)


def goals(model: WorldModel, latents: Latents, e: Tensor, rng: np.random.Generator, noise_m: float) -> Tensor:
    """(B, 2) hindsight goals of episodes ``e``, network units; NaN where the object was not there."""
    noise = torch.from_numpy(rng.normal(0.0, noise_m, size=(len(e), 2)).astype(np.float32))
    return (latents.place[e, -1] + noise - model.hand_centre[:2]) * 10.0


def imitation_loss(
    model: WorldModel, latents: Latents, left: Tensor, rng: np.random.Generator, config: ImitateConfig
) -> Tensor:
    """Error of proposed actions and remaining periods on encoded frames."""
    chunk = model.config.prior_horizon
    e, t, window = windows(latents, rng, config.batch, chunk)
    goal = goals(model, latents, e, rng, config.goal_noise_m)
    known = torch.isfinite(goal).all(-1).float()
    seen = model.readout_head(latents.z[e, t])
    proposed, periods = model.object_skill(seen, latents.state[e, t], torch.nan_to_num(goal))
    wanted = latents.actions[e[:, None], window[:, :-1]].clamp(-1, 1)
    action = functional.smooth_l1_loss(proposed, wanted, beta=0.2, reduction="none").mean((1, 2))
    time = functional.smooth_l1_loss(
        periods / PERIODS_SCALE, left[e, t] / PERIODS_SCALE, beta=0.2, reduction="none"
    )
    return ((action + time) * known).sum() / known.sum().clamp(min=1)


def dream_loss(
    model: WorldModel, latents: Latents, left: Tensor, rng: np.random.Generator, config: ImitateConfig
) -> Tensor:
    """Error of the remaining periods on imagined frames, where the search will ask for them."""
    e, _, window = windows(latents, rng, config.dreams, config.horizon)
    goal = goals(model, latents, e, rng, config.goal_noise_m)
    known = torch.isfinite(goal).all(-1).float()[:, None]
    with torch.no_grad():
        start = window[:, :1]
        actions = latents.actions[e[:, None], window[:, :-1]]
        z, state = model.rollout(latents.z[e[:, None], start], latents.state[e[:, None], start], actions)
        seen = model.readout_head(z)
    _, periods = model.object_skill(seen, state, torch.nan_to_num(goal)[:, None])
    truth = left[e[:, None], window[:, 1:]]
    error = functional.smooth_l1_loss(periods / PERIODS_SCALE, truth / PERIODS_SCALE, beta=0.2, reduction="none")
    return (error * known).mean() / known.mean().clamp(min=1e-3)


def imitate(model: WorldModel, demonstrations: Latents, config: ImitateConfig) -> WorldModel:
    """Fit the skill; returns the averaged model, of which nothing else has changed."""
    model = model if model.config.object_skill else grown(model, object_skill=True)
    left = periods_left(demonstrations.place, config.done_m)
    rng = np.random.default_rng(config.seed)

    def loss() -> Tensor:
        shown = imitation_loss(model, demonstrations, left, rng, config)
        return shown + dream_loss(model, demonstrations, left, rng, config)

    return fit(model, [model.skill], loss, config, "imitate", weight_decay=1e-3)
