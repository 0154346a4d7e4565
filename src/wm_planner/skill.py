"""What demonstrations teach about objects: which motion comes next, and how long it takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wm_planner.config import ModelConfig

PERIODS_SCALE = 20.0  # periods per unit of the time head


class ObjectSkill(nn.Module):
    """Goal-conditioned policy and temporal distance for bringing the first object to a place.

    Both see what the latent says of the scene (the readout in network units), the measured
    joints and the goal's place; no pixels. They do not see the servos' lag: in a demonstration
    an arm at rest is one that has finished, and a policy that knows how it moves just goes on
    (de Haan et al. 2019, "Causal confusion in imitation learning"). Imitating the demonstrations gives proposals for the search;
    the remaining time, learned on real and on imagined frames, tells the search whether a
    plan that has not moved the object yet is on the right way (Eysenbach et al. 2019, "Search
    on the replay buffer", learn such distances; RC-aux, arXiv 2605.07278, plans with one).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.chunk = (config.prior_horizon, config.action_dim)
        self.object = config.action_dim + 3  # where the first object begins in a readout
        inputs, width = config.action_dim + config.readout_dim + 9, 2 * config.readout_width
        self.trunk = nn.Sequential(
            nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.action_head = nn.Linear(width, config.prior_horizon * config.action_dim)
        self.time_head = nn.Linear(width, 1)

    def forward(self, readout: Tensor, state: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """Propose and judge.

        Args:
            readout: (..., R) of a frame, network units (decimetres for places).
            state: (..., 2A) proprioception, of which the first A count.
            goal: (..., 2) where the object shall be in the table plane, network units.

        Returns:
            actions (..., prior_horizon, A) in [-1, 1] and periods still needed (...).
        """
        here = readout[..., self.object : self.object + 2]
        beside = here - readout[..., self.object - 3 : self.object - 1]  # from the hand to the object
        error = goal - here
        distance = (error.square().sum(-1, keepdim=True) + 1e-4).sqrt()
        relative = torch.cat([goal, 3 * error, 3 * beside, error / (distance + 0.1), distance], dim=-1)
        joints = state[..., : self.chunk[1]]
        x = self.trunk(torch.cat([joints, readout, relative], dim=-1))
        actions = torch.unflatten(self.action_head(x).tanh(), -1, self.chunk)
        time: Tensor = PERIODS_SCALE * self.time_head(x).squeeze(-1)
        return actions, time
