"""Third training stage: the object skill, from demonstrations.

The policy learns the advice that a demonstration holds for each of its frames, toward the goal
it was given for. The remaining time is learned in hindsight, from what really happened: the
place where an episode left the object was its goal. Both learn from where the object was, with
an error as large as the eye's, drawn anew each time: the eye's own error is the same through
an episode and would tell which episode it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wm_planner.data import Dataset
from wm_planner.errors import PlannerError
from wm_planner.fit import fit
from wm_planner.skill import PERIODS_SCALE, SPREAD
from wm_planner.world_model import WorldModel, grown


@dataclass(frozen=True)
class ImitateConfig:
    """Third stage.

    Attributes:
        steps: optimiser steps. batch: frames per step.
        learning_rate: peak; cosine decay to zero. ema: of the shipped average.
        done_m: an object this near to its goal has arrived.
        noise_m: standard deviation added to the places of object and goal, which later are read
            from pictures.
    """

    steps: int = 15000
    batch: int = 512
    learning_rate: float = 1e-3
    ema: float = 0.998
    done_m: float = 0.015
    noise_m: float = 0.003
    seed: int = 0


def periods_left(place: Tensor, done_m: float) -> Tensor:
    """(E, L+1) periods until the object (E, L+1, 2) is within ``done_m`` of where it ends, for good."""
    away = (place - place[:, -1:]).norm(dim=-1) > done_m  # NaN counts as arrived
    frames = torch.arange(place.shape[1], dtype=place.dtype)
    arrival = torch.where(away, frames + 1, 0.0).amax(dim=1, keepdim=True)
    return (arrival - frames).clamp(min=0.0)


@dataclass(frozen=True)
class Lessons:
    """N frames of demonstrations in which the object was seen.

    position, reference (N, A) joints measured and last sent, scaled; hand (N, 3), here, goal and
    end (N, 2) m: where the hand and the object are, where the object shall be, and where the
    episode left it; advice (N, A) shares of the box; left (N,) periods until the object is at its
    end.
    """

    position: Tensor
    reference: Tensor
    hand: Tensor
    here: Tensor
    goal: Tensor
    end: Tensor
    advice: Tensor
    left: Tensor

    @classmethod
    def read(cls, model: WorldModel, folders: Sequence[Path], done_m: float, held_out: bool = False) -> Lessons:
        """All training episodes of folders that ``./wm collect --demonstrations`` made, or the held-out ones.

        Raises:
            PlannerError: a folder holds no advice, or none of the episodes shows the object (of fewer than 20 in a
                folder none is held out).
        """
        parts: list[dict[str, Tensor]] = []
        for folder in folders:
            data = Dataset([folder], pictures=False)
            if "advice" not in data.shards[0]:
                raise PlannerError(f"{folder} holds no advice; make some with `./wm collect --demonstrations`")
            for shard_index, episode in data.held_out if held_out else data.training:
                shard = {name: torch.from_numpy(np.array(v[episode])) for name, v in data.shards[shard_index].items()}
                place = shard["objects"][:, 0, :2]
                if not torch.isfinite(place).all():
                    continue
                frames = len(shard["advice"])
                parts.append({
                    "position": model.scaled_joints(shard["position"])[:frames],
                    "reference": model.scaled_joints(shard["reference"])[:frames],
                    "hand": shard["hand"][:frames],
                    "here": place[:frames],
                    "goal": shard["goal"].expand(frames, 2),
                    "end": place[-1].expand(frames, 2),
                    "advice": (shard["advice"] / model.action_scale).clamp(-1, 1),
                    "left": periods_left(place[None], done_m)[0, :frames],
                })  # fmt: skip
        if not parts:
            which, remedy = ("held-out ", "at least 20 of them") if held_out else ("", "them again")
            raise PlannerError(f"no {which}demonstration shows where the object is; collect {remedy}")
        every = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        advised = torch.isfinite(every["advice"]).all(-1)
        return cls(**{name: values[advised] for name, values in every.items()})

    def draw(self, rng: np.random.Generator, count: int) -> Lessons:
        """``count`` random ones."""
        pick = torch.from_numpy(rng.integers(len(self.left), size=count))
        return Lessons(**{field.name: getattr(self, field.name)[pick] for field in dataclasses.fields(self)})


def imitation_loss(model: WorldModel, frames: Lessons, rng: np.random.Generator, noise_m: float) -> Tensor:
    """Improbability of the advised action, error of the periods left and of where the skill believes the hand to be."""
    skill = model.object_skill

    def seen(place: Tensor) -> Tensor:
        noise = rng.normal(0.0, noise_m, size=tuple(place.shape)).astype(np.float32)
        return model.table_place(place + torch.from_numpy(noise))

    here = seen(frames.here)
    ways, log_weight = skill.ways(here, frames.reference, seen(frames.goal))
    advice = frames.advice[:, None].expand_as(ways)
    miss = functional.huber_loss(ways, advice, reduction="none", delta=3 * SPREAD).sum(-1) / SPREAD**2
    periods = skill.periods(here, frames.reference, seen(frames.end))
    hand = skill.body(frames.position)
    return (
        -SPREAD * torch.logsumexp(log_weight - miss, dim=-1).mean()
        + functional.smooth_l1_loss(periods / PERIODS_SCALE, frames.left / PERIODS_SCALE, beta=0.2)
        + functional.smooth_l1_loss(hand, (frames.hand - model.hand_centre) * 10.0, beta=0.1)
    )


@torch.inference_mode()
def unexplained(model: WorldModel, lessons: Lessons) -> dict[str, float]:
    """What the skill has not learned, as shares of the variance: of the advice, by the nearest of its ways and by
    the one that it takes, and of the periods left. On held-out episodes, since episodes can be learned by heart."""
    skill = model.object_skill
    here, goal, end = (model.table_place(place) for place in (lessons.here, lessons.goal, lessons.end))
    ways, log_weight = skill.ways(here, lessons.reference, goal)
    miss = (ways - lessons.advice[:, None]).square().mean(-1)
    taken = miss.take_along_dim(log_weight.argmax(-1, keepdim=True), dim=-1)
    variance = lessons.advice.var(0).mean()
    late = (skill.periods(here, lessons.reference, end) - lessons.left).square().mean() / lessons.left.var()
    return {
        "nearest_way": float(miss.amin(-1).mean() / variance),
        "taken_way": float(taken.mean() / variance),
        "periods": float(late),
    }


def imitate(model: WorldModel, lessons: Lessons, config: ImitateConfig) -> WorldModel:
    """Fit the skill; returns the averaged model, of which nothing else has changed."""
    model = model if model.config.object_skill else grown(model, object_skill=True)
    rng = np.random.default_rng(config.seed)

    def loss() -> Tensor:
        return imitation_loss(model, lessons.draw(rng, config.batch), rng, config.noise_m)

    return fit(model, [model.skill], loss, config, "imitate", weight_decay=1e-3)
