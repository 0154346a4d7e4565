"""Action spaces: names, units and bounds of what the planner may ask for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.config import ModelConfig


@dataclass(frozen=True)
class ActionSpec:
    """Joint-reference changes per control period, searched as shares of the action box.

    Attributes:
        names: (A,) joints. unit: of one action.
        scale: (A,) largest change per period. lower, upper: (A,) limits of the references.
        period_s: control period.
    """

    names: tuple[str, ...]
    unit: str
    scale: Tensor
    lower: Tensor
    upper: Tensor
    period_s: float

    @classmethod
    def from_model(cls, config: ModelConfig) -> ActionSpec:
        """The action space that a model was trained in."""
        return cls(
            config.joint_names,
            "rad",
            torch.tensor(config.action_scale),
            torch.tensor(config.lower),
            torch.tensor(config.upper),
            config.period_s,
        )

    def references(self, start: Tensor, actions: Tensor) -> Tensor:
        """(..., H, A) references after each action (shares of the box), kept inside the limits."""
        path = start + (actions.clamp(-1, 1) * self.scale).cumsum(-2)
        return path.clamp(self.lower, self.upper)

    def project(self, start: Tensor, actions: Tensor) -> Tensor:
        """Actions (..., H, A) changed as little as needed to keep box and reference limits.

        Clamping the path never lengthens a step, so the result stays inside the box.
        """
        path = self.references(start, actions)
        previous = torch.cat([start.expand_as(path[..., :1, :]), path[..., :-1, :]], dim=-2)
        return (path - previous) / self.scale
