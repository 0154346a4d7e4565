"""What demonstrations teach about objects: which motion comes next, and how long it takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wm_planner.config import ModelConfig

PERIODS_SCALE = 20.0  # periods per unit of the time head


class ObjectSkill(nn.Module):
    """Goal-conditioned policy and temporal distance for bringing the first object to a place.

    Both see what the latent says of the scene (the readout in network units), proprioception
    and the goal's place; no pixels. The policy also sees the servos' lag, which tells which of
    several ways the arm has begun. The time must not: in a demonstration an arm at rest is one
    that has finished (de Haan et al. 2019, "Causal confusion in imitation learning"), and the
    search would learn to stop. Imitating the demonstrations gives proposals for the search;
    the remaining time, learned on real and on imagined frames, tells the search whether a
    plan that has not moved the object yet is on the right way (Eysenbach et al. 2019, "Search
    on the replay buffer", learn such distances; RC-aux, arXiv 2605.07278, plans with one).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.chunk = (config.prior_horizon, config.action_dim)
        self.object = config.action_dim + 3  # where the first object begins in a readout
        scene, width = config.readout_dim + 9, config.readout_width
        self.policy = nn.Sequential(
            nn.Linear(scene + config.state_dim, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * width), nn.GELU(),
            nn.Linear(2 * width, config.prior_horizon * config.action_dim),
        )  # fmt: skip
        self.time = nn.Sequential(
            nn.Linear(scene + config.action_dim, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1)
        )

    def forward(self, readout: Tensor, state: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """Propose and judge.

        Args:
            readout: (..., R) of a frame, network units (decimetres for places).
            state: (..., 2A) proprioception.
            goal: (..., 2) where the object shall be in the table plane, network units.

        Returns:
            actions (..., prior_horizon, A) in [-1, 1] and periods still needed (...).
        """
        here = readout[..., self.object : self.object + 2]
        beside = here - readout[..., self.object - 3 : self.object - 1]  # from the hand to the object
        error = goal - here
        distance = (error.square().sum(-1, keepdim=True) + 1e-4).sqrt()
        relative = torch.cat([goal, 3 * error, 3 * beside, error / (distance + 0.1), distance], dim=-1)
        scene = torch.cat([readout, relative], dim=-1)
        actions = torch.unflatten(self.policy(torch.cat([state, scene], dim=-1)).tanh(), -1, self.chunk)
        joints = state[..., : self.chunk[1]]
        periods: Tensor = PERIODS_SCALE * self.time(torch.cat([joints, scene], dim=-1)).squeeze(-1)
        return actions, periods
