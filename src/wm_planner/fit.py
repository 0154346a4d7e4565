"""The optimiser loop of the training stages that see no pixels."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from wm_planner.errors import PlannerError
from wm_planner.world_model import WorldModel

_WARM_UP = 100  # steps


class Pace(Protocol):
    """How long and how fast; satisfied by the configuration of a stage."""

    @property
    def steps(self) -> int:
        """Optimiser steps."""

    @property
    def learning_rate(self) -> float:
        """Peak; linear warm-up, cosine decay to zero."""

    @property
    def ema(self) -> float:
        """Decay of the weight average."""


def fit(
    model: WorldModel,
    parts: Sequence[nn.Module],
    loss: Callable[[], Tensor],
    pace: Pace,
    name: str,
    weight_decay: float = 1e-2,
) -> WorldModel:
    """Minimise ``loss`` over ``parts`` of the model, with a progress bar.

    Args:
        parts: modules of ``model``; all other weights stay as they are.
        loss: draws a batch and returns its scalar loss.
        name: of the stage, shown on the bar.

    Returns:
        A copy of the model with the exponential moving average of the parts' weights.

    Raises:
        PlannerError: the gradient is not finite.
    """
    model.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    average = copy.deepcopy(model).requires_grad_(False)
    parameters = [p for part in parts for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=pace.learning_rate, weight_decay=weight_decay)
    bar = tqdm(range(pace.steps), unit="step", desc=name, mininterval=2.0)
    for step in bar:
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / _WARM_UP)
            group["lr"] = pace.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / pace.steps))
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        if not torch.isfinite(norm):
            raise PlannerError(f"the gradient is not finite at step {step}; lower learning_rate")
        optimizer.step()
        decay = min(pace.ema, (1 + step) / (10 + step))
        with torch.no_grad():  # otherwise the average would remember every step
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{value.detach():.4f}")
    return average.eval()
