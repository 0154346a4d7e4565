"""`./wm refine`: second training stage, the predictor and the prior on frozen latents.

Once the encoder is good, encoding pictures is nearly all of a training step. This stage
encodes every frame once and then fits what does not see pixels, hundreds of windows a second
on one core. Two things differ from the first stage:

* the error of each imagined step is measured against that step's copy-last error, so that
  the next frame counts as much as the tenth;
* imagined latents are asked to read out as the *encoder* will read the real frame, not as
  the truth: a bias of the encoder then shows on both sides of the goal energy and cancels.

With demonstrations (`./wm collect --demonstrations`) it also fits the ``ObjectSkill``: in
hindsight, the place where an episode left the object was its goal.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from wm_planner.calibrate import calibrate
from wm_planner.data import Dataset
from wm_planner.errors import PlannerError
from wm_planner.preprocess import to_tensor
from wm_planner.skill import PERIODS_SCALE
from wm_planner.weights import load_model, save_model, weights_hash
from wm_planner.world_model import WorldModel


@dataclass(frozen=True)
class RefineConfig:
    """Second stage.

    Attributes:
        steps: optimiser steps. batch: windows per step. horizon: imagined periods.
        goal_steps: furthest goal of the prior, periods.
        episodes: at most this many are encoded (a random choice).
        learning_rate: peak; cosine decay to zero. ema: of the shipped average.
        loss_readout, loss_state, loss_prior, loss_skill: weights beside the latent error's 1.
        done_m: an object this near to its goal has arrived.
        goal_noise_m: standard deviation of the skill's goal, which is read from a picture.
    """

    steps: int = 5000
    batch: int = 128
    horizon: int = 10
    goal_steps: int = 30
    episodes: int = 1600
    learning_rate: float = 1e-3
    ema: float = 0.998
    loss_readout: float = 2.0
    loss_state: float = 1.0
    loss_prior: float = 0.5
    loss_skill: float = 1.0
    done_m: float = 0.015
    goal_noise_m: float = 0.005
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Latents:
    """Encoded episodes.

    z (E, L+1, D); state (E, L+1, 2A); actions (E, L, A) shares of the box; place (E, L+1, 2)
    of the first object in the table plane, m, NaN where unknown.
    """

    z: Tensor
    state: Tensor
    actions: Tensor
    place: Tensor


@torch.inference_mode()
def encode_episodes(model: WorldModel, data: Dataset, episodes: list[tuple[int, int]]) -> Latents:
    """Encode every frame of ``episodes`` once, with a progress bar."""
    latents, states, actions, places = [], [], [], []
    for shard_index, episode in tqdm(episodes, unit="episode", desc="encode", mininterval=2.0):
        shard = data.shards[shard_index]
        latents.append(model.encode(to_tensor(np.array(shard["images"][episode]))))
        position = torch.from_numpy(np.array(shard["position"][episode]))
        reference = torch.from_numpy(np.array(shard["reference"][episode]))
        states.append(model.proprioception(position, reference))
        actions.append((reference[1:] - reference[:-1]) / model.action_scale)
        places.append(torch.from_numpy(np.array(shard["objects"][episode, :, 0, :2])))
    return Latents(*(torch.stack(values).clone() for values in (latents, states, actions, places)))


def windows(latents: Latents, rng: np.random.Generator, count: int, horizon: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw ``count`` windows: their episode (B,), first frame (B,), and frames (B, H+1)."""
    episodes, frames = latents.z.shape[:2]
    e = torch.from_numpy(rng.integers(episodes, size=count))
    t = torch.from_numpy(rng.integers(frames - horizon, size=count))
    return e, t, t[:, None] + torch.arange(horizon + 1)[None]


def dynamics_loss(model: WorldModel, latents: Latents, e: Tensor, window: Tensor, config: RefineConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of imagined windows, and the imagined latents (B, H, D) and states (B, H, 2A)."""
    z, state = latents.z[e[:, None], window], latents.state[e[:, None], window]
    actions = latents.actions[e[:, None], window[:, :-1]]
    z_hat, s_hat = model.rollout(z[:, :1], state[:, :1], actions)
    error = (z_hat - z[:, 1:]).square().mean((0, 2))  # (H,)
    copy_last = (z[:, :1] - z[:, 1:]).square().mean((0, 2))
    relative = (error / (copy_last + 1e-4)).mean()
    seen = model.readout_head(z[:, 1:])
    read = functional.smooth_l1_loss(model.readout_head(z_hat), seen, beta=0.05)
    servo = functional.smooth_l1_loss(s_hat, state[:, 1:], beta=0.1)
    return relative + config.loss_readout * read + config.loss_state * servo, z_hat, s_hat


def prior_loss(model: WorldModel, latents: Latents, e: Tensor, t: Tensor, rng: np.random.Generator, config: RefineConfig) -> Tensor:
    """Error of the inverse-dynamics prior toward frames that came later in the episode."""
    goal_step = torch.from_numpy(rng.integers(1, config.goal_steps + 1, size=len(e)))
    goal_step = torch.minimum(goal_step, latents.z.shape[1] - 1 - t)
    proposed = model.propose(latents.z[e, t], latents.state[e, t], latents.z[e, t + goal_step])
    steps = min(proposed.shape[1], config.horizon)
    wanted = latents.actions[e[:, None], t[:, None] + torch.arange(steps)[None]].clamp(-1, 1)
    valid = torch.arange(steps)[None] < goal_step[:, None]
    error = functional.smooth_l1_loss(proposed[:, :steps], wanted, beta=0.2, reduction="none").mean(-1)
    return (error * valid).sum() / valid.sum()


def periods_left(place: Tensor, done_m: float) -> Tensor:
    """(E, L+1) periods until the object (E, L+1, 2) is within ``done_m`` of where it ends, for good."""
    away = (place - place[:, -1:]).norm(dim=-1) > done_m  # NaN counts as arrived
    frames = torch.arange(place.shape[1], dtype=place.dtype)
    arrival = torch.where(away, frames + 1, 0.0).amax(dim=1, keepdim=True)
    return (arrival - frames).clamp(min=0.0)


def skill_loss(
    model: WorldModel,
    latents: Latents,
    left: Tensor,
    e: Tensor,
    window: Tensor,
    imagined: tuple[Tensor, Tensor],
    rng: np.random.Generator,
    config: RefineConfig,
) -> Tensor:
    """Error of the skill's actions on real frames, and of its periods on real and imagined ones."""
    t = window[:, 0]
    place = latents.place[e, -1] + config.goal_noise_m * torch.from_numpy(rng.normal(size=(len(e), 2)).astype(np.float32))
    known = torch.isfinite(place).all(-1).float()
    goal = (torch.nan_to_num(place) - model.hand_centre[:2]) * 10.0
    with torch.no_grad():
        here = model.readout_head(latents.z[e, t])
        dreamt = model.readout_head(imagined[0])
    proposed, periods = model.object_skill(here, latents.state[e, t], goal)
    steps = min(proposed.shape[1], config.horizon)
    wanted = latents.actions[e[:, None], t[:, None] + torch.arange(steps)[None]].clamp(-1, 1)
    imitation = functional.smooth_l1_loss(proposed[:, :steps], wanted, beta=0.2, reduction="none").mean((1, 2))
    _, later = model.object_skill(dreamt, imagined[1].detach(), goal[:, None].expand(-1, dreamt.shape[1], -1))
    scale = PERIODS_SCALE
    time = functional.smooth_l1_loss(periods / scale, left[e, t] / scale, beta=0.2, reduction="none")
    then = functional.smooth_l1_loss(later / scale, left[e[:, None], window[:, 1:]] / scale, beta=0.2, reduction="none")
    return ((imitation + time + then.mean(1)) * known).sum() / known.sum().clamp(min=1)


def refine(model: WorldModel, play: Latents, demonstrations: Latents | None, config: RefineConfig) -> WorldModel:
    """Fit predictor, prior and skill; returns the averaged model. Encoder and readout stay as they are."""
    model.eval().requires_grad_(False)
    parts: list[nn.Module] = [model.predictor, model.prior_head]
    if demonstrations is not None:
        parts.append(model.skill)
        left = periods_left(demonstrations.place, config.done_m)
    for part in parts:
        part.requires_grad_(True)
    average = copy.deepcopy(model).requires_grad_(False)
    parameters = [p for part in parts for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate)
    rng = np.random.default_rng(config.seed)
    share = config.batch if demonstrations is None else config.batch // 2
    bar = tqdm(range(config.steps), unit="step", desc="refine", mininterval=2.0)
    for step in bar:
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / 100)
            group["lr"] = config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        e, t, window = windows(play, rng, share, config.horizon)
        loss, _, _ = dynamics_loss(model, play, e, window, config)
        loss = loss + config.loss_prior * prior_loss(model, play, e, t, rng, config)
        if demonstrations is not None:
            e, t, window = windows(demonstrations, rng, share, config.horizon)
            contact, *imagined = dynamics_loss(model, demonstrations, e, window, config)
            skill = skill_loss(model, demonstrations, left, e, window, (imagined[0], imagined[1]), rng, config)
            loss = loss + contact + config.loss_skill * skill
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        if not torch.isfinite(norm):
            raise PlannerError(f"the gradient is not finite at step {step}; lower learning_rate")
        optimizer.step()
        decay = min(config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.detach():.4f}")
    return average


def with_skill(model: WorldModel) -> WorldModel:
    """The same model with an ``ObjectSkill``, a fresh one if it had none."""
    if model.config.object_skill:
        return model
    grown = WorldModel(dataclasses.replace(model.config, object_skill=True))
    grown.load_state_dict(model.state_dict(), strict=False)
    return grown.eval()


def chosen(data: Dataset, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """At most ``count`` training episodes of a dataset."""
    picks = rng.choice(len(data.training), size=min(count, len(data.training)), replace=False)
    return [data.training[int(i)] for i in picks]


def main(argv: list[str]) -> int:
    """Refine a checkpoint and calibrate it."""
    defaults = RefineConfig()
    parser = argparse.ArgumentParser(prog="wm refine", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="what `./wm train` wrote")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="the dataset folders of its training")
    parser.add_argument("--demonstrations", type=Path, nargs="+", help="folders of `./wm collect --demonstrations`")
    parser.add_argument("--out", type=Path, required=True, help="the refined checkpoint")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--episodes", type=int, default=defaults.episodes, help="episodes to encode at most")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    args = parser.parse_args(argv)
    config = dataclasses.replace(defaults, steps=args.steps, episodes=args.episodes, seed=args.seed)
    try:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        model, card = load_model(args.checkpoint)
        data = Dataset(args.data)
        rng = np.random.default_rng(config.seed)
        play = encode_episodes(model, data, chosen(data, config.episodes, rng))
        shown = None
        if args.demonstrations:
            model = with_skill(model)
            demonstrations = Dataset(args.demonstrations)
            shown = encode_episodes(model, demonstrations, chosen(demonstrations, len(demonstrations), rng))
        refined = refine(model, play, shown, config)
        calibrate(refined, data)
        card = {**card, "refine": dataclasses.asdict(config), "refined_from": weights_hash(args.checkpoint)}
        save_model(refined, args.out, card)
    except PlannerError as error:
        print(f"wm refine: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
