"""What the trust monitor asks of a world model; the monitor itself knows none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.imagine import Imagination
from wm_planner.terms import Uncertainty
from wm_planner.world_model import WorldModel

FloatArray = NDArray[np.float32]

MOST_PERIODS = 4  # since the last step: what is older is not predicted from


@dataclass(frozen=True)
class Moment:
    """One planning step: latent z (D,) or (N, D), joints measured and last sent (A,) rad."""

    z: Tensor
    position: Tensor
    reference: Tensor


class Foresight(Protocol):
    """A model that predicts one planning step from the one before."""

    def missed(self, before: Moment, now: Moment, periods: int) -> FloatArray:
        """(3,) how far the latent is from the one predicted under the references that were really sent, how far from
        the one predicted under none, and how uncertain the first one was (NaN: the model has no ensemble).

        Distances are the model's own measure; a calibration gives them their meaning.
        """

    def decoded(self, z: Tensor) -> FloatArray:
        """(A,) rad, joints read from a latent; NaN where the model reads none."""


class CompactForesight:
    """Of the compact model: mean squares of its latent.

    Args:
        model: reads joints. imagine: of at least ``MOST_PERIODS``.
        uncertainty: gives what tells how little the model knows imagined frames; None: nothing does.
    """

    def __init__(self, model: WorldModel, imagine: Imagination, uncertainty: Callable[[], Uncertainty | None] = lambda: None) -> None:
        self.model, self.imagine, self.uncertainty = model, imagine, uncertainty

    @torch.no_grad()
    def missed(self, before: Moment, now: Moment, periods: int) -> FloatArray:
        """See ``Foresight``."""
        sent = (now.reference - before.reference) / self.model.action_scale / periods
        actions = torch.stack([sent, torch.zeros_like(sent)])[:, None].repeat(1, periods, 1)
        state = self.model.proprioception(before.position, before.reference)
        latents, states = self.imagine(before.z[None], state[None], actions)
        moved, still = (latents[:, -1] - now.z).square().mean(-1)
        estimate = self.uncertainty()
        spread = float("nan") if estimate is None else float(estimate(latents[:1], states[:1], actions[:1])[0, -1])
        return np.array([float(moved), float(still), spread], np.float32)

    @torch.no_grad()
    def decoded(self, z: Tensor) -> FloatArray:
        """See ``Foresight``."""
        joints: FloatArray = self.model.read(z).joints.numpy()
        return joints
