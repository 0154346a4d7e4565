"""Which of two checkpoints is better on the same episodes, with an answer only where the data give one.

Every held-out episode gives one number per figure and model, so the two models are compared on the same
episodes (paired), and the interval of the mean difference is a bootstrap over episodes (Efron and Tibshirani 1993, ch. 13):
windows of one episode are not independent. Successes of paired trials are compared by those in which the two differ
(McNemar 1947): given how many these are, the number that B wins is binomial, and its interval exact (Clopper and Pearson 1934).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.config import PlannerConfig
from wm_planner.data import Dataset
from wm_planner.errors import PlannerError
from wm_planner.goals import Goal
from wm_planner.objective import frame_energy
from wm_planner.preprocess import to_tensor
from wm_planner.terms import Seen
from wm_planner.world_model import WorldModel

FloatArray = NDArray[np.float64]
HORIZONS = (1, 5, 10)
CANDIDATES = 31  # other action sequences that the recorded one is ranked among
OFFSETS = np.linspace(-0.6, 0.6, 13)  # of one joint's recorded actions, as shares of the action box
AHEAD = 5  # periods for which an action is off
LEAST_EPISODES = 8
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Scores:
    """One row per held-out episode, (E,) each.

    Attributes:
        hand_cm: per horizon, distance of the hand decoded from the imagined latent to where it then was.
        error_ratio: per horizon, squared latent error against that of predicting no change.
        rank: 0..1, share of random action sequences with a lower energy to the frame at the last horizon than the recorded one.
        curve_cm, curve_ratio: (E, H) hand distance and error ratio after 1..H steps.
        minimum: 0..0.6, how far from the recorded action the planner's energy to the frame that it led to is least, in shares of
            the action box, mean over the joints, each of which is varied by itself.
        landscape: (E, K) that energy at ``OFFSETS`` from the recorded action, less its least value.
    """

    hand_cm: dict[int, FloatArray]
    error_ratio: dict[int, FloatArray]
    rank: FloatArray
    curve_cm: FloatArray
    curve_ratio: FloatArray
    minimum: FloatArray
    landscape: FloatArray


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
    hand, ratio, rank, minimum, landscape = (np.array(values) for values in zip(*rows, strict=True))
    return Scores({h: hand[:, h - 1] for h in steps}, {h: ratio[:, h - 1] for h in steps}, rank, hand, ratio, minimum, landscape)


def _episode(model: WorldModel, shard: dict[str, NDArray[np.generic]], episode: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, float, float, FloatArray]:
    """(H,) cm, (H,) ratios, the mean rank, the landscape's minimum and the landscape (K,), over windows that begin every half horizon."""
    z = torch.cat([model.encode(to_tensor(part)) for part in np.array_split(np.array(shard["images"][episode]), 4)])
    position, reference, hand = (torch.from_numpy(np.array(shard[name][episode], np.float32)) for name in ("position", "reference", "hand"))
    begins = torch.arange(0, len(z) - horizon, max(1, horizon // 2))
    ahead = begins[:, None] + torch.arange(1, horizon + 1)
    state = model.proprioception(position, reference)
    actions = (reference[ahead] - reference[ahead - 1]) / model.action_scale
    imagined, _ = model.rollout(z[begins, None], state[begins, None], actions)
    off = 100.0 * (model.read(imagined).hand - hand[ahead]).norm(dim=-1).mean(0)
    error, copied = (imagined - z[ahead]).square().mean((0, 2)), (z[begins, None] - z[ahead]).square().mean((0, 2))
    curves = off.double().numpy(), (error / copied.clamp_min(1e-12)).double().numpy()
    return *curves, _rank(model, z, state, begins, actions, imagined, rng), *_landscape(model, z, state, begins, actions[:, :AHEAD])


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


def _landscape(model: WorldModel, z: Tensor, state: Tensor, begins: Tensor, actions: Tensor) -> tuple[float, FloatArray]:
    """Where the planner's energy is least, and the energy (K,), when one joint's actions are off by ``OFFSETS``."""
    count, ahead, joints = actions.shape
    off = torch.from_numpy(OFFSETS.astype(np.float32))
    tried = actions[:, None, None] + torch.eye(joints)[None, :, None, None] * off[None, None, :, None, None]  # (N, A, K, T, A)
    each = joints * len(off)
    starts, ends = (index.repeat_interleave(each) for index in (begins, begins + ahead))
    latents, states = model.rollout(z[starts, None], state[starts, None], tried.reshape(-1, ahead, joints))
    goal = Goal(z[ends], model.read(z[ends]), 0.0, math.inf)
    energy = frame_energy(goal, PlannerConfig())(Seen(model, latents[:, -1], states[:, -1], states[:, -1, :joints])).reshape(count, joints, -1)
    least = off[energy.argmin(-1)].abs().mean()
    return float(least), (energy - energy.amin(-1, keepdim=True)).mean((0, 1)).double().numpy()


def columns(scores: Scores) -> dict[str, FloatArray]:
    """Per figure, a value of each episode; smaller is better."""
    found = {f"hand, {h} steps ahead, cm": values for h, values in scores.hand_cm.items()}
    found |= {f"latent error / no change, {h} steps": values for h, values in scores.error_ratio.items()}
    return found | {"rank of the recorded action": scores.rank, "energy least so far off the recorded action": scores.minimum}


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


@dataclass(frozen=True)
class Paired:
    """Successes of A and B in the same trials.

    Attributes:
        trials, a, b: how many, and how many each won. only_a, only_b: won by one of them alone.
        low, high: 95 % interval of the rate of B less that of A, given the number of trials in which the two differ.
        p: that the two would differ so clearly or more so if each were as likely to win alone (McNemar, exact, two sides).
        better: "A", "B" or "".
    """

    trials: int
    a: int
    b: int
    only_a: int
    only_b: int
    low: float
    high: float
    p: float
    better: str

    @property
    def mean(self) -> float:
        """Rate of B less that of A."""
        return (self.b - self.a) / self.trials


def paired(a: Sequence[bool], b: Sequence[bool]) -> Paired:
    """Compare successes of two models in the same trials; nobody is better where p is above 0.05."""
    if len(a) != len(b) or not len(a):
        raise PlannerError(f"the same trials are needed for both models, got {len(a)} and {len(b)}")
    only_a, only_b = (sum(x and not y for x, y in zip(first, second, strict=True)) for first, second in ((a, b), (b, a)))
    differ = only_a + only_b
    low, high = clopper_pearson(only_b, differ)
    p = min(1.0, 2.0 * min(_at_most(only_b, differ, 0.5), _at_most(only_a, differ, 0.5)))
    better = ("B" if only_b > only_a else "A") if p < 0.05 else ""
    share = differ / len(a)
    return Paired(len(a), sum(map(bool, a)), sum(map(bool, b)), only_a, only_b, (2 * low - 1) * share, (2 * high - 1) * share, p, better)


def clopper_pearson(successes: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial rate; (0, 1) for no trials."""
    tail = 0.5 * (1.0 - level)
    low = 0.0 if successes == 0 else _root(lambda rate: _at_most(count - successes, count, 1.0 - rate) - tail)
    high = 1.0 if successes == count else _root(lambda rate: tail - _at_most(successes, count, rate))
    return low, high


def _at_most(successes: int, count: int, rate: float) -> float:
    """Probability of at most so many successes."""
    return math.fsum(math.comb(count, k) * rate**k * (1.0 - rate) ** (count - k) for k in range(successes + 1))


def _root(rises: Callable[[float], float]) -> float:
    """Where a rising function of 0..1 is zero."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if rises(middle) > 0.0 else (middle, high)
    return 0.5 * (low + high)


def verdict(differences: Sequence[Difference | Paired]) -> str:
    """One sentence over several figures: a winner only where no figure speaks for the other."""
    named = {d.better for d in differences if d.better}
    if not named:
        return "no verdict: the intervals hold 0, or there are too few episodes"
    if len(named) == 2:
        return "no verdict: A is better in some figures, B in others"
    return f"{named.pop()} is better"
