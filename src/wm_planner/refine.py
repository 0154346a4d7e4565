"""`./wm refine`: second training stage, the predictor and the prior on frozen latents.

Once the encoder is good, encoding pictures is nearly all of a training step. This stage
encodes every frame once and then fits what does not see pixels, hundreds of windows a second
on one core. Two things differ from the first stage:

* the error of each imagined step is measured against that step's copy-last error, so that
  the next frame counts as much as the tenth;
* imagined latents are asked to read out as the *encoder* will read the real frame, not as
  the truth: a bias of the encoder then shows on both sides of the goal energy and cancels.

With ``--snapshots`` the encoder's last layers are fitted before that (``sharpen.py``).
With demonstrations (`./wm collect --demonstrations`) the predictor sees half of its windows
from them, and the ``ObjectSkill`` is fitted at the end (``imitate.py``). With ``--steps 0`` the
skill alone is fitted.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wm_planner.calibrate import calibrate
from wm_planner.data import Dataset, Snapshots
from wm_planner.errors import PlannerError
from wm_planner.fit import fit
from wm_planner.imitate import ImitateConfig, Lessons, imitate, unexplained
from wm_planner.latents import Latents, chosen, encode_episodes, windows
from wm_planner.sharpen import SharpenConfig, hand_errors_m, look, sharpen
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
        loss_readout, loss_state, loss_prior: weights beside the latent error's 1.
        offset: share of the difference of two random frames by which a whole window's latents are moved, drawn anew each time. An
            eye that few pictures have taught is wrong by centimetres, in the goal picture as in the ones before it; a predictor that
            knows the joints would set that right in what it imagines, and then the two sides of the goal energy no longer
            agree. This way it learns to carry the error along. 0 = none, for an eye that is good.
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
    offset: float = 0.0
    seed: int = 0
    threads: int = 1


def moved(latents: Latents, count: int, share: float, rng: np.random.Generator) -> Tensor:
    """(B, 1, D) the offset of each window's latents, see ``RefineConfig``."""
    frames = latents.z.flatten(0, 1)
    first, second = torch.from_numpy(rng.integers(len(frames), size=(2, count)))
    size = torch.from_numpy(rng.normal(0.0, share, size=(count, 1)).astype(np.float32))
    return (size * (frames[first] - frames[second]))[:, None]


def dynamics_loss(model: WorldModel, latents: Latents, e: Tensor, window: Tensor, config: RefineConfig, offset: Tensor | float = 0.0) -> Tensor:
    """Loss of imagined windows, whose latents are moved by ``offset`` (B, 1, D)."""
    z, state = latents.z[e[:, None], window] + offset, latents.state[e[:, None], window]
    actions = latents.actions[e[:, None], window[:, :-1]]
    z_hat, s_hat = model.rollout(z[:, :1], state[:, :1], actions)
    error = (z_hat - z[:, 1:]).square().mean((0, 2))  # (H,)
    copy_last = (z[:, :1] - z[:, 1:]).square().mean((0, 2))
    relative = (error / (copy_last + 1e-4)).mean()
    seen = model.readout_head(z[:, 1:])
    read = functional.smooth_l1_loss(model.readout_head(z_hat), seen, beta=0.05)
    servo = functional.smooth_l1_loss(s_hat, state[:, 1:], beta=0.1)
    return relative + config.loss_readout * read + config.loss_state * servo


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


def refine(model: WorldModel, play: Latents, demonstrations: Latents | None, config: RefineConfig) -> WorldModel:
    """Fit predictor and prior; returns the averaged model. Encoder and readout stay as they are."""
    rng = np.random.default_rng(config.seed)
    share = config.batch if demonstrations is None else config.batch // 2

    def loss() -> Tensor:
        e, t, window = windows(play, rng, share, config.horizon)
        total = dynamics_loss(model, play, e, window, config, moved(play, len(e), config.offset, rng) if config.offset else 0.0)
        total = total + config.loss_prior * prior_loss(model, play, e, t, rng, config)
        if demonstrations is not None:
            e, _, window = windows(demonstrations, rng, share, config.horizon)
            total = total + dynamics_loss(model, demonstrations, e, window, config)
        return total

    return fit(model.eval(), [model.predictor, model.prior_head], loss, config, "refine")


def refined_on(model: WorldModel, data: Dataset, shown: Sequence[Path] | None, config: RefineConfig) -> WorldModel:
    """Encode episodes of play, and all of the folders of demonstrations, and refine on them."""
    rng = np.random.default_rng(config.seed)
    play = encode_episodes(model, data, chosen(data, config.episodes, rng))
    if not shown:
        return refine(model, play, None, config)
    demonstrations = Dataset(shown)
    return refine(model, play, encode_episodes(model, demonstrations, chosen(demonstrations, len(demonstrations), rng)), config)


def sharpened(model: WorldModel, snapshots: Snapshots, config: SharpenConfig) -> tuple[WorldModel, dict[str, float]]:
    """Fit the last layers on snapshots; also says how well the hand is read from held-out ones, m."""
    seen = look(model, snapshots)
    unseen = seen.part(held_out=True)
    if not len(unseen.z):
        raise PlannerError(f"{len(seen.z)} snapshots leave none to be held out; `./wm collect --snapshots` makes more")
    before = hand_errors_m(model, unseen)
    model = sharpen(model, seen.part(held_out=False), config)
    report: dict[str, float] = {}
    for name, errors in (("before", before), ("after", hand_errors_m(model, unseen))):
        report |= {f"{name}_median_m": round(float(errors.median()), 4), f"{name}_p95_m": round(float(errors.quantile(0.95)), 4)}
    return model, report


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments of `./wm refine`."""
    defaults = RefineConfig()
    parser = argparse.ArgumentParser(prog="wm refine", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="what `./wm train` wrote")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="the dataset folders of its training")
    parser.add_argument("--demonstrations", type=Path, nargs="+", help="folders of `./wm collect --demonstrations`")
    parser.add_argument("--lessons", type=Path, nargs="+", default=[],
                        help="further ones, also blind, for the object skill alone")  # fmt: skip
    parser.add_argument("--snapshots", type=Path, nargs="+", help="folders of `./wm collect --snapshots`, for the encoder's last layers")
    parser.add_argument("--out", type=Path, required=True, help="the refined checkpoint")
    parser.add_argument("--keep-skill", action="store_true", help="the object skill stays as it is: demonstrations teach the predictor alone")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate, help="peak (default %(default)s)")
    parser.add_argument("--episodes", type=int, default=defaults.episodes, help="episodes to encode at most")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Refine a checkpoint and calibrate it."""
    args = parse(argv)
    config = dataclasses.replace(RefineConfig(), steps=args.steps, episodes=args.episodes, seed=args.seed, learning_rate=args.learning_rate)
    try:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        model, card = load_model(args.checkpoint)
        data = Dataset(args.data)
        sharpening = SharpenConfig(seed=config.seed)
        reading: dict[str, float] = {}
        if args.snapshots:
            model, reading = sharpened(model, Snapshots(args.snapshots, data.meta), sharpening)
            print("hand read from held-out snapshots:", reading)
        lessons = None
        imitation = ImitateConfig(seed=config.seed)
        if (args.demonstrations or args.lessons) and not args.keep_skill:
            folders = [*(args.demonstrations or []), *args.lessons]
            lessons = Lessons.read(model, folders, imitation.done_m)
            unseen = Lessons.read(model, folders, imitation.done_m, held_out=True)
        refined = refined_on(model, data, args.demonstrations, config) if config.steps else model
        if lessons is not None:
            refined = imitate(refined, lessons, imitation)
        calibrate(refined, data)
        card = {**card, "refine": dataclasses.asdict(config), "refined_from": weights_hash(args.checkpoint)}
        if args.snapshots:
            card["sharpen"] = {**dataclasses.asdict(sharpening), "held_out": reading}
        if lessons is not None:
            left_over = {name: round(share, 3) for name, share in unexplained(refined, unseen).items()}
            print("of held-out demonstrations not learned, shares of the variance:", left_over)
            card["imitate"] = {**dataclasses.asdict(imitation), "frames": len(lessons.left), "held_out": left_over}
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
