"""What a good plan is: distance of imagined latents to the goal, in decoded and raw form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.config import PlannerConfig
from wm_planner.world_model import Readout, WorldModel


@dataclass(frozen=True)
class Goal:
    """An embedded goal picture.

    Attributes:
        latent: (D,). readout: decoded scene.
        novelty: see ``WorldModel.novelty``; above ``limit`` the picture shows another scene.
        target: "hand" or "object": what has to match the picture.
    """

    latent: Tensor
    readout: Readout
    novelty: float
    limit: float
    target: str = "hand"

    @property
    def trust(self) -> float:
        """1 inside the novelty limit, falling to 0 at twice the limit and beyond."""
        return min(1.0, max(0.0, 2.0 - self.novelty / self.limit)) if self.novelty > self.limit else 1.0


class GoalEnergy:
    """Energy of imagined rollouts against a goal; smaller is closer.

    The energy of one imagined frame is

        E(z) = w_latent |z - z_g|^2 / D + w_hand d_hand + w_joints d_joints

    with d_hand in decimetres and d_joints in radians (mean), read out of both latents by the same head. A raw latent distance saturates some centimetres from the goal;
    the readout keeps ranking far away, the latent term decides near it.

    When the goal's target is the object, the arm need not look as in the picture, so the
    energy is E(z, q) = w_object d_object + w_time t: d_object in decimetres in the table
    plane, t the periods that a demonstrator would still need (``skill.ObjectSkill``), which
    falls while the hand is on its way and the object has not moved yet.

    The energy of a rollout is the mean over its frames, later frames weighing more, plus an
    action cost.
    """

    def __init__(self, model: WorldModel, config: PlannerConfig) -> None:
        self.model, self.config = model, config
        weight = torch.linspace(0.5, 1.5, config.horizon)
        self.time_weight = weight / weight.sum()

    def frame(self, z: Tensor, reference: Tensor, goal: Goal) -> Tensor:
        """(...,) energy of latents (..., D) with references (..., A), scaled."""
        config = self.config
        raw = self.model.readout_head(z)
        if goal.target == "object":
            return self.object_energy(raw, reference, goal)
        read = self.model.split_readout(raw)
        energy = config.weight_hand * 10 * soft_norm(read.hand - goal.readout.hand)
        energy = energy + config.weight_joints * (read.joints - goal.readout.joints).abs().mean(-1)
        if config.weight_latent:
            energy = energy + config.weight_latent * (z - goal.latent).square().mean(-1)
        return energy

    def object_energy(self, raw: Tensor, reference: Tensor, goal: Goal) -> Tensor:
        """(...,) energy of readouts (..., R) in network units against a goal whose target is the object."""
        config, model = self.config, self.model
        here, there = model.split_readout(raw).objects[..., 0, :2], goal.readout.objects[0, :2]
        periods = model.object_skill.periods(model.table_place(here), reference, model.table_place(there))
        return 10 * config.weight_object * soft_norm(here - there) + config.weight_time * periods

    def __call__(self, latents: Tensor, references: Tensor, actions: Tensor, goal: Goal) -> Tensor:
        """(S,) energy of rollouts.

        Args:
            latents: (S, H, D). references: (S, H, A), scaled. actions: (S, H, A) as shares of the box.
        """
        frames = self.frame(latents, references, goal) @ self.time_weight
        change = actions[:, 1:] - actions[:, :-1]
        effort = actions.square().mean((1, 2)) + change.square().mean((1, 2))
        return frames + self.config.weight_action * effort


def soft_norm(x: Tensor, rounding: float = 0.003) -> Tensor:
    """Euclidean length of the last axis, rounded off within ``rounding`` metres of zero."""
    return (x.square().sum(-1) + rounding**2).sqrt() - rounding
