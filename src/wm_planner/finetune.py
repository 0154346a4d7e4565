"""Fine-tuning with little data: which weights may change, low-rank changes, and when to stop.

LoRA (Hu et al. 2021): a frozen weight W gets a change B A of small rank; B begins at zero, so training begins
at the old model. Here every matrix and convolution gets one; after training it is added to W, so that a
fine-tuned checkpoint is an ordinary one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wm_planner.errors import PlannerError
from wm_planner.world_model import WorldModel

PARTS = ("full", "predictor", "last-layers", "lora")
_CHANGES = {
    "predictor": ("predictor.",),
    "last-layers": ("encoder.head.", "encoder.change.", "predictor.latent_head.", "predictor.state_head.", "readout_head.", "prior_head."),
}


class LowRank(nn.Module):
    """Adds up @ down, of rank ``rank``, to a weight of any shape whose first axis is the output."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        self.down = nn.Parameter(torch.randn(rank, columns, device=weight.device) / math.sqrt(columns))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight."""
        return weight + (self.up @ self.down).view_as(weight)


def limit(model: WorldModel, part: str, rank: int = 8) -> int:
    """Let only a part of the weights change; returns how many numbers that are.

    Running statistics of frozen layers stay too: their modules go to evaluation.

    Args:
        part: of ``PARTS``. rank: of LoRA.
    """
    if part not in PARTS:
        raise PlannerError(f"part {part!r} of the model is none of {', '.join(PARTS)}")
    model.train().requires_grad_(True)
    if part == "lora":
        model.eval().requires_grad_(False)
        for module in list(model.modules()):
            weight = getattr(module, "weight", None)
            if isinstance(module, nn.Linear | nn.Conv2d) and weight is not None and min(weight.shape[0], weight[0].numel()) > rank:
                parametrize.register_parametrization(module, "weight", LowRank(weight, rank))
    elif part != "full":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(_CHANGES[part]))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(p.requires_grad for p in module.parameters()):
                module.eval()
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@torch.no_grad()
def merged(model: WorldModel) -> WorldModel:
    """A plain model with the same outputs: low-rank changes are added to the weights."""
    state = model.state_dict()
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            for key in [key for key in state if key.startswith(f"{name}.parametrizations.")]:
                del state[key]
            state[f"{name}.weight"] = module.weight
    plain = WorldModel(model.config)
    plain.load_state_dict({key: value.detach().cpu() for key, value in state.items()})
    return plain.eval()


@dataclass
class Patience:
    """Stops when a held-out figure has not become smaller ``allowed`` times in a row; 0 = never."""

    allowed: int
    best: float = math.inf
    step: int = 0
    waited: int = 0

    def better(self, value: float, step: int) -> bool:
        """Take a figure; True when it is the best so far. NaN never is."""
        if value < self.best:
            self.best, self.step, self.waited = value, step, 0
            return True
        self.waited += 1
        return False

    @property
    def over(self) -> bool:
        """True when it is time to stop."""
        return 0 < self.allowed <= self.waited
