"""The encoder's last layers on features that are computed once: the cheap part of seeing sharply.

Nearly all of an encoder step is convolutions. What they see of every snapshot is kept, and the layers
that make a latent of it, and a readout of that, are fitted on it with large batches: a hundred times
as many pictures a second. The new latents are held near the old ones, so that what was learned about them stays true.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from wm_planner.data import Snapshots
from wm_planner.errors import PlannerError
from wm_planner.fit import fit
from wm_planner.preprocess import to_tensor
from wm_planner.world_model import Readout, WorldModel

_BATCH = 100  # pictures encoded at once
_HELD_OUT = 50  # every so many pictures one is not learned from


@dataclass(frozen=True)
class SharpenConfig:
    """How the last layers are fitted.

    Attributes:
        steps: optimiser steps. batch: pictures per step.
        learning_rate: peak; cosine decay to zero. ema: of the shipped average. weight_decay: of AdamW.
        loss_keep: weight of the squared distance to the old latents, beside the readout's 1.
    """

    steps: int = 4000
    batch: int = 256
    learning_rate: float = 6e-4
    ema: float = 0.995
    weight_decay: float = 1e-2
    loss_keep: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class Seen:
    """N snapshots as the convolutions see them.

    features (N, F) half precision; z (N, D) the old latents; truth (N, R) in network units, NaN where unknown.
    """

    features: Tensor
    z: Tensor
    truth: Tensor

    def part(self, held_out: bool) -> Seen:
        """Every fiftieth, or the others."""
        mine = (torch.arange(len(self.z)) % _HELD_OUT == _HELD_OUT - 1) == held_out
        return Seen(self.features[mine], self.z[mine], self.truth[mine])


@torch.inference_mode()
def look(model: WorldModel, snapshots: Snapshots) -> Seen:
    """Run the convolutions over all snapshots once, with a progress bar."""
    features, latents, truths = [], [], []
    with tqdm(total=len(snapshots), unit="picture", desc="look", mininterval=2.0) as bar:
        for shard in snapshots.shards:
            for first in range(0, len(shard["position"]), _BATCH):
                part = {name: torch.from_numpy(values[first : first + _BATCH, 0].copy()) for name, values in shard.items()}
                seen = model.encoder.features(to_tensor(part["images"]))
                features.append(seen.half())
                latents.append(model.encoder.head(seen))
                truths.append(model.join_readout(Readout(part["position"], part["hand"], part["objects"])))
                bar.update(len(seen))
    return Seen(*(torch.cat(values).clone() for values in (features, latents, truths)))


def sharpen(model: WorldModel, seen: Seen, config: SharpenConfig) -> WorldModel:
    """Fit the encoder's and the readout's last layers; returns the averaged model.

    Raises:
        PlannerError: fewer snapshots than one batch.
    """
    if len(seen.z) < config.batch:
        raise PlannerError(f"{len(seen.z)} snapshots are fewer than a batch of {config.batch}; `./wm collect --snapshots` makes more")
    generator = torch.Generator().manual_seed(config.seed)
    known = torch.isfinite(seen.truth)
    truth = torch.nan_to_num(seen.truth)

    def loss() -> Tensor:
        rows = torch.randint(len(seen.z), (config.batch,), generator=generator)
        z = model.encoder.head(seen.features[rows].float())
        error = functional.smooth_l1_loss(model.readout_head(z), truth[rows], beta=0.1, reduction="none")
        read = (error * known[rows]).sum() / known[rows].sum().clamp(min=1)
        return read + config.loss_keep * functional.mse_loss(z, seen.z[rows])

    parts = [model.encoder.head, model.readout_head]
    return fit(model.eval(), parts, loss, config, "sharpen", config.weight_decay)


@torch.inference_mode()
def hand_errors_m(model: WorldModel, seen: Seen) -> Tensor:
    """(N,) distance of the hand that is read from the true one, m."""
    read = model.read(model.encoder.head(seen.features.float()))
    errors: Tensor = (read.hand - model.split_readout(seen.truth).hand).norm(dim=-1)
    return errors
