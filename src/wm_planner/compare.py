"""Which of two checkpoints predicts better on held-out episodes, with an answer only where the data give one.

Every held-out episode gives one number per figure and model, so the two models are compared on the same
episodes (paired), and the interval of the mean difference is a bootstrap over episodes (Efron and Tibshirani 1993, ch. 13):
windows of one episode are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.data import Dataset
from wm_planner.errors import PlannerError
from wm_planner.preprocess import to_tensor
from wm_planner.world_model import WorldModel

FloatArray = NDArray[np.float64]
HORIZONS = (1, 5, 10)
CANDIDATES = 31  # other action sequences that the recorded one is ranked among
LEAST_EPISODES = 8
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Scores:
    """One row per held-out episode, (E,) each.

    Attributes:
        hand_cm: per horizon, distance of the hand decoded from the imagined latent to where it then was.
        error_ratio: per horizon, squared latent error against that of predicting no change.
        rank: 0..1, share of random action sequences with a lower energy to the frame at the last horizon than the recorded one.
        curve_cm: (E, H) hand distance after 1..H steps.
    """

    hand_cm: dict[int, FloatArray]
    error_ratio: dict[int, FloatArray]
    rank: FloatArray
    curve_cm: FloatArray


@dataclass(frozen=True)
class Difference:
    """Mean of B less A over episodes, its 95 % interval, and who is better: "A", "B" or "" when the data do not tell."""

    mean: float
    low: float
    high: float
    better: str


@torch.no_grad()
def scores_of(model: WorldModel, data: Dataset, seed: int = 0) -> Scores:
    """Open-loop scores of every held-out episode.

    Raises:
        PlannerError: the data do not fit the model, or nothing is held out.
    """
    if tuple(data.meta["joint_names"]) != model.config.joint_names or data.meta["image_size"] != model.config.image_size:
        raise PlannerError("the data have other joints or another picture size than the checkpoint")
    if not data.held_out:
        raise PlannerError("the data hold no held-out episodes; make some with `./wm dataset --held-out 0.2`")
    horizon = min(max(HORIZONS), data.length)
    steps = [h for h in HORIZONS if h <= horizon]
    rows = [_episode(model, data.shards[shard], episode, horizon, np.random.default_rng([seed, shard, episode])) for shard, episode in data.held_out]
    hand, ratio, rank = (np.array(values) for values in zip(*rows, strict=True))
    return Scores({h: hand[:, h - 1] for h in steps}, {h: ratio[:, h - 1] for h in steps}, rank, hand)


def _episode(model: WorldModel, shard: dict[str, NDArray[np.generic]], episode: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, float]:
    """(H,) cm, (H,) ratios and the mean rank, over windows that begin every half horizon."""
    z = torch.cat([model.encode(to_tensor(part)) for part in np.array_split(np.array(shard["images"][episode]), 4)])
    position, reference, hand = (torch.from_numpy(np.array(shard[name][episode], np.float32)) for name in ("position", "reference", "hand"))
    begins = torch.arange(0, len(z) - horizon, max(1, horizon // 2))
    ahead = begins[:, None] + torch.arange(1, horizon + 1)
    state = model.proprioception(position, reference)
    actions = (reference[ahead] - reference[ahead - 1]) / model.action_scale
    imagined, _ = model.rollout(z[begins, None], state[begins, None], actions)
    off = 100.0 * (model.read(imagined).hand - hand[ahead]).norm(dim=-1).mean(0)
    error, copied = (imagined - z[ahead]).square().mean((0, 2)), (z[begins, None] - z[ahead]).square().mean((0, 2))
    return off.double().numpy(), (error / copied.clamp_min(1e-12)).double().numpy(), _rank(model, z, state, begins, actions, imagined, rng)


def _rank(model: WorldModel, z: Tensor, state: Tensor, begins: Tensor, actions: Tensor, imagined: Tensor, rng: np.random.Generator) -> float:
    """Share of smooth random action sequences that lead nearer to the last frame than the recorded one."""
    count, horizon, joints = actions.shape
    drawn = torch.from_numpy(np.clip(rng.normal(size=(count, CANDIDATES, 1, joints)) * 0.6, -1, 1).astype(np.float32)).expand(-1, -1, horizon, -1)
    starts = begins.repeat_interleave(CANDIDATES)
    others, _ = model.rollout(z[starts, None], state[starts, None], drawn.reshape(-1, horizon, joints))
    goal = z[begins + horizon]
    mine = (imagined[:, -1] - goal).square().mean(-1)
    theirs = (others[:, -1].reshape(count, CANDIDATES, -1) - goal[:, None]).square().mean(-1)
    return float((theirs < mine[:, None]).float().mean())


def difference(a: FloatArray, b: FloatArray, seed: int = 0) -> Difference:
    """Compare figures (E,) of two models on the same episodes, smaller is better.

    With fewer than ``LEAST_EPISODES`` episodes, or an interval that holds 0, nobody is better.
    """
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise PlannerError(f"the same episodes are needed for both models, got {a.shape} and {b.shape}")
    apart = b - a
    drawn = np.random.default_rng(seed).integers(len(apart), size=(_RESAMPLES, len(apart)))
    low, high = np.quantile(apart[drawn].mean(1), (0.025, 0.975))
    sure = len(apart) >= LEAST_EPISODES and bool(low > 0.0 or high < 0.0)
    return Difference(float(apart.mean()), float(low), float(high), ("A" if low > 0.0 else "B") if sure else "")


def verdict(differences: Sequence[Difference]) -> str:
    """One sentence over several figures: a winner only where no figure speaks for the other."""
    named = {d.better for d in differences if d.better}
    if not named:
        return "no verdict: the intervals hold 0, or there are too few held-out episodes"
    if len(named) == 2:
        return "no verdict: A is better in some figures, B in others"
    return f"{named.pop()} is better"
