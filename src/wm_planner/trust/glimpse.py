"""What a planning step saw, as far as trust is judged by it: small enough to be kept for every step, whatever the latent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from wm_planner.world_model import SCENE_SIDE

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Glimpse:
    """One planning step.

    Attributes:
        thumbnail: (T, T, 3) the picture, mean levels 0..255.
        same: the picture is the one of the step before, to the bit (as the network gets it).
        position, reference: (A,) rad, measured and last sent.
        periods: control periods since the step before; 0 at the first step of an episode.
        missed: (3,) of the prediction from the step before, see ``foresight.Foresight``; NaN: nothing to compare with.
        decoded: (A,) rad, joints read from the picture; NaN where the model reads none.
        failed: the encoder gave something that is not finite.
    """

    thumbnail: FloatArray
    same: bool
    position: FloatArray
    reference: FloatArray
    periods: int
    missed: FloatArray
    decoded: FloatArray
    failed: bool = False


def thumbnail(small: NDArray[np.uint8]) -> FloatArray:
    """(T, T, 3) mean levels of a (S, S, 3) picture, T = ``SCENE_SIDE``."""
    pooled = functional.adaptive_avg_pool2d(torch.from_numpy(small).permute(2, 0, 1).float(), SCENE_SIDE)
    levels: FloatArray = pooled.permute(1, 2, 0).numpy()
    return levels
