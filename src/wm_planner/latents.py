"""Episodes encoded once: what the later training stages learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from wm_planner.data import Dataset
from wm_planner.preprocess import to_tensor
from wm_planner.world_model import WorldModel


@dataclass(frozen=True)
class Latents:
    """Encoded episodes.

    z (E, L+1, D); state (E, L+1, 2A); actions (E, L, A) shares of the box.
    """

    z: Tensor
    state: Tensor
    actions: Tensor


@torch.inference_mode()
def encode_episodes(model: WorldModel, data: Dataset, episodes: list[tuple[int, int]]) -> Latents:
    """Encode every frame of ``episodes`` once, with a progress bar."""
    latents, states, actions = [], [], []
    for shard_index, episode in tqdm(episodes, unit="episode", desc="encode", mininterval=2.0):
        shard = data.shards[shard_index]
        latents.append(model.encode(to_tensor(np.array(shard["images"][episode]))))
        position = torch.from_numpy(np.array(shard["position"][episode]))
        reference = torch.from_numpy(np.array(shard["reference"][episode]))
        states.append(model.proprioception(position, reference))
        actions.append((reference[1:] - reference[:-1]) / model.action_scale)
    return Latents(*(torch.stack(values).clone() for values in (latents, states, actions)))


def windows(latents: Latents, rng: np.random.Generator, count: int, horizon: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw ``count`` windows: their episode (B,), first frame (B,), and frames (B, H+1)."""
    episodes, frames = latents.z.shape[:2]
    e = torch.from_numpy(rng.integers(episodes, size=count))
    t = torch.from_numpy(rng.integers(frames - horizon, size=count))
    return e, t, t[:, None] + torch.arange(horizon + 1)[None]


def chosen(data: Dataset, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """At most ``count`` training episodes of a dataset."""
    picks = rng.choice(len(data.training), size=min(count, len(data.training)), replace=False)
    return [data.training[int(i)] for i in picks]
