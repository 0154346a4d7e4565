"""The cross-entropy search of V-JEPA 2-AC (Assran et al. 2025, section 4.1) on cached rollouts.

Same samples in the same order, same iterations, same elites as the public planner: only the energies are found
faster. Searched are xyz and gripper; rotations stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wm_planner.vjepa.energy import Energy

GRIPPER_BOX, SMALL_GRIPPER = 0.75, 0.25
RESCORED = 2  # candidates scored again in float32, per elite


@dataclass(frozen=True)
class Settings:
    """Of the public planner, with its defaults.

    Attributes:
        horizon, samples, iterations, elites: of the search.
        box: largest change of each coordinate per step, m.
        keep_mean, keep_deviation: share of the last distribution that is kept, for xyz and gripper alike.
    """

    horizon: int = 2
    samples: int = 400
    iterations: int = 10
    elites: int = 10
    box: float = 0.05
    keep_mean: float = 0.15
    keep_deviation: float = 0.15

    def public(self) -> dict[str, Any]:
        """The same in the words of the public planner's `mpc_args`."""
        return {
            "rollout": self.horizon,
            "samples": self.samples,
            "cem_steps": self.iterations,
            "topk": self.elites,
            "maxnorm": self.box,
            "momentum_mean": self.keep_mean,
            "momentum_std": self.keep_deviation,
            "momentum_mean_gripper": self.keep_mean,
            "momentum_std_gripper": self.keep_deviation,
        }


def search(energy: Energy, settings: Settings, seed: int, device: torch.device | str = "cpu") -> Tensor:
    """(H, 7) mean of the last elites; the last elites are chosen in float32."""
    generator = torch.Generator(device).manual_seed(seed)
    mean = torch.zeros(settings.horizon, 4, device=device)
    deviation = torch.tensor([settings.box] * 3 + [1.0], device=device).repeat(settings.horizon, 1)
    limit = torch.tensor([settings.box] * 3 + [GRIPPER_BOX], device=device)
    for iteration in range(settings.iterations):
        noise = torch.stack(
            [torch.randn(settings.samples, 4, generator=generator, device=device) for _ in range(settings.horizon)], dim=1
        )
        drawn = (noise * deviation + mean).clamp(-limit, limit)  # (S, H, 4)
        candidates = with_rotation(drawn)
        costs = energy(candidates)
        if iteration + 1 == settings.iterations:
            chosen = energy.best(candidates, RESCORED * settings.elites, costs).index[: settings.elites]
        else:
            chosen = costs.topk(settings.elites, largest=False).indices
        elites = drawn[chosen]
        mean = elites.mean(0) * (1 - settings.keep_mean) + mean * settings.keep_mean
        deviation = elites.std(0) * (1 - settings.keep_deviation) + deviation * settings.keep_deviation
    gripper = mean[:, 3:].masked_fill(mean[:, 3:].abs() < SMALL_GRIPPER, 0)
    return with_rotation(torch.cat([mean[:, :3], gripper], dim=1))


def with_rotation(moves: Tensor) -> Tensor:
    """(..., 4) xyz and gripper to (..., 7) with a rotation of zero."""
    return torch.cat([moves[..., :3], torch.zeros_like(moves[..., :3]), moves[..., 3:]], dim=-1)
