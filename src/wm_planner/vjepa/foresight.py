"""An AC predictor as the trust monitor sees it: one step ahead, in the measure that it plans with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.trust.foresight import Moment
from wm_planner.vjepa.energy import Energy

FloatArray = NDArray[np.float32]


class ACForesight:
    """Of an AC predictor: mean absolute differences of layer-normed latents, in float32 on every device, so that a calibration holds.

    Args:
        joints: A. energy: gives that of the planner; what it observes is replaced.
        state: the model's state (P,) of joints measured and sent (A,). moves: its actions (N, P) along joints (N + 1, A).
    """

    def __init__(
        self, joints: int, energy: Callable[[], Energy], state: Callable[[Tensor, Tensor], Tensor], moves: Callable[[Tensor], Tensor]
    ) -> None:
        self.joints, self.energy, self.state, self.moves = joints, energy, state, moves

    @torch.no_grad()
    def missed(self, before: Moment, now: Moment, periods: int) -> FloatArray:
        """See ``trust.foresight.Foresight``; there is no ensemble."""
        share = torch.linspace(0.0, 1.0, periods + 1)[:, None]
        moves = self.moves(before.reference + share * (now.reference - before.reference))
        energy = self.energy()
        energy.observe(before.z[None], self.state(before.position, before.reference)[None], now.z)
        moved, still = energy.exactly(torch.stack([moves, torch.zeros_like(moves)]).to(before.z))
        return np.array([float(moved), float(still), np.nan], np.float32)

    def decoded(self, z: Tensor) -> FloatArray:
        """See ``trust.foresight.Foresight``: no joints are decoded."""
        return np.full(self.joints, np.nan, np.float32)
