"""What a plan costs: mean absolute distance of the last imagined frame to the goal (Assran et al. 2025, eq. 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wm_planner.errors import PlannerError
from wm_planner.vjepa.captured import Captured, capture_on
from wm_planner.vjepa.predictor import ACPredictor
from wm_planner.vjepa.rollout import Present, Rollout

Integrate = Callable[[Tensor, Tensor], Tensor]  # state (S, P), actions (S, H, A) -> states (S, H + 1, P)


@dataclass(frozen=True)
class Ranked:
    """Cheapest candidates, best first: ``index`` (E,) among those given, ``costs`` (E,) in float32 arithmetic."""

    index: Tensor
    costs: Tensor


class Energy:
    """Cost of candidate actions for the present frame and a goal.

    It computes on the device of the model, wherever what it is given lies; costs come back to where the actions were.

    Args:
        model: the predictor. horizon: most frames imagined. integrate: states along actions (``pose.integrate``).
        dtype: of the search; the cheapest can be scored again in float32 (``best``).
        context: most known frames. chunk: candidates at a time, None chooses.
        graphs: capture CUDA graphs where they pay (``captured``); means nothing on a CPU.
    """

    def __init__(
        self,
        model: ACPredictor,
        horizon: int,
        integrate: Integrate,
        dtype: torch.dtype = torch.float32,
        context: int = 1,
        chunk: int | None = None,
        graphs: bool = True,
    ) -> None:
        self.exact = Rollout(model, horizon, context, torch.float32, chunk)
        self.fast = self.exact if dtype == torch.float32 else Rollout(model, horizon, context, dtype, chunk)
        capture = capture_on(self.exact.device) if graphs else None
        exactly = Captured(partial(measured, integrate, self.exact), self.exact.device, capture)
        fast = exactly if self.fast is self.exact else Captured(partial(measured, integrate, self.fast), self.fast.device, capture)
        self.measures = exactly, fast
        self.goal = torch.empty(0)
        self.weight: Tensor | None = None
        self.seen: tuple[Present, Present] | None = None

    def observe(
        self, latents: Tensor, states: Tensor, goal: Tensor, actions: Tensor | None = None, weight: Tensor | None = None
    ) -> None:
        """Encode the present once, for all calls until the next.

        Args:
            latents: (T, N, D), states: (T, P), actions: (T - 1, A) as of ``Rollout.begin``. goal: (N, D), layer-normed.
            weight: (N,) how much each token counts, see ``token_weight``; None: all alike.
        """
        device = self.exact.device
        latents, states, goal = latents.to(device), states.to(device), goal.to(device)
        actions, weight = (None if t is None else t.to(device) for t in (actions, weight))
        exact = self.exact.begin(latents, states, actions)
        self.seen = (exact, exact if self.fast is self.exact else self.fast.begin(latents, states, actions))
        self.state, self.goal, self.weight = states[-1], goal, weight

    def __call__(self, actions: Tensor) -> Tensor:
        """Energies (S,) float32 of actions (S, H, A), in the precision of the search."""
        return self.score(1, actions)

    def exactly(self, actions: Tensor) -> Tensor:
        """Energies (S,) in float32 arithmetic."""
        return self.score(0, actions)

    def best(self, actions: Tensor, count: int, costs: Tensor) -> Ranked:
        """The ``count`` cheapest by ``costs`` (S,), scored again in float32: bfloat16 changes near ties."""
        index = costs.topk(min(count, len(costs)), largest=False).indices
        exact = costs[index] if self.fast is self.exact else self.exactly(actions[index])
        exact, order = exact.sort()
        return Ranked(index[order], exact)

    def score(self, which: int, actions: Tensor) -> Tensor:
        """Energies by one of the two rollouts, 0: the exact one."""
        if self.seen is None:
            raise PlannerError("no present frame and no goal yet; call observe before asking for energies")
        there = actions.to(self.exact.device)
        costs = self.measures[which](there, self.state, self.goal, self.weight, *self.seen[which].tensors())
        return costs.to(actions.device)


def measured(integrate: Integrate, rollout: Rollout, actions: Tensor, state: Tensor, goal: Tensor, weight: Tensor | None, *present: Tensor) -> Tensor:
    """(S,) energies, all on one device: a function of tensors alone, see ``captured``."""
    states = integrate(state.expand(len(actions), -1), actions)[:, :-1]
    costs = torch.empty(len(actions), device=actions.device)

    def put(these: slice, step: int, latents: Tensor) -> None:
        apart = latents.sub_(goal).abs_()
        costs[these] = weighed(apart, weight).flatten(1).mean(1)

    rollout.unroll(Present(present[0], present[1], present[2:]), actions, states, put, last_only=True)
    return costs


def weighed(apart: Tensor, weight: Tensor | None) -> Tensor:
    """(..., N, D) each token times its weight (N,); None: as it is."""
    return apart if weight is None else apart * weight[:, None]


def token_weight(mask: NDArray[np.uint8], grid: int) -> Tensor:
    """(grid * grid,) weights of patch tokens, of mean 1: the share of each patch that a mask (H, W) uint8 counts.

    A token of these encoders has seen the whole picture, so what is not counted still has some influence on the others.

    Raises:
        PlannerError: the mask counts nothing of the middle square.
    """
    side = min(mask.shape)
    top, left = (mask.shape[0] - side) // 2, (mask.shape[1] - side) // 2
    square = torch.from_numpy((mask[top : top + side, left : left + side] > 0).astype(np.float32))
    share = functional.interpolate(square[None, None], size=(grid, grid), mode="area").flatten()
    if not bool(share.any()):
        raise PlannerError("the mask leaves nothing of the goal picture: no pixel is set inside of the middle square that the model sees")
    return share / share.mean()
