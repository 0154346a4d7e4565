"""Which move a model takes to have happened between two pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.actions import ActionSpec
from wm_planner.config import PlannerConfig
from wm_planner.effector import FloatArray, Space
from wm_planner.errors import PlannerError
from wm_planner.search.choose import make_optimiser
from wm_planner.search.trial import Cost

SEARCH = PlannerConfig(horizon=1, samples=48, iterations=6, elites=6, initial_std=0.6, prior_samples=0)


@dataclass(frozen=True)
class Glimpse:
    """One look at the resting arm: image (H, W, 3) uint8 RGB; position, reference (A,) rad."""

    image: NDArray[np.uint8]
    position: FloatArray
    reference: FloatArray


class Believing(Protocol):
    """A planner that can say how well moves explain a picture: ``mpc.Planner``, ``vjepa.planner.ACPlanner``."""

    config: PlannerConfig
    space: Space

    def mismatch(self, image: NDArray[np.uint8], position: FloatArray, reference: FloatArray, after: NDArray[np.uint8]) -> Cost:
        """Cost (S,) of candidates (S, H, D)."""


def believed_move(planner: Believing, before: Glimpse, after: Glimpse, size_m: float, seed: int = 0) -> FloatArray:
    """(3,) m: the translation in the model's axes whose imagined end looks most like the picture afterwards.

    The move takes the first half of the horizon and rest the other one. Its least mismatch is searched for among moves of
    up to twice ``size_m`` along each axis, as far as the action box holds them.

    Raises:
        PlannerError: the planner searches joints, or its box does not hold such moves.
    """
    spec, horizon = planner.space.spec, planner.config.horizon
    if spec.units[:3] != ("m",) * 3:
        raise PlannerError("moves of the tool are asked for; set action_space: end_effector")
    periods = max(1, horizon // 2)
    largest = (periods * spec.scale[:3]).clamp(max=2 * size_m)
    if bool((largest < 1.2 * size_m).any()):
        raise PlannerError(f"{periods} periods of {spec.scale[:3].tolist()} m do not hold moves of {size_m} m; make them smaller")
    mismatch = planner.mismatch(before.image, before.position, before.reference, after.image)

    def candidates(moves: Tensor) -> Tensor:
        steps = torch.zeros(len(moves), horizon, len(spec.names))
        steps[:, :periods, :3] = moves * largest / periods / spec.scale[:3]
        return steps

    search = make_optimiser(SEARCH, ActionSpec.shares(3), seed)
    rest = torch.zeros(1, 1, 3)
    found = search.search(lambda moves: mismatch(candidates(moves)), lambda moves: moves.clamp(-1, 1), rest)
    return (found.best[0] * largest).double().numpy()
