"""What demonstrations teach about objects: which motion comes next, and how long it takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wm_planner.config import ModelConfig

PERIODS_SCALE = 20.0  # periods per unit of the time head
WAYS = 8  # actions that the policy weighs against each other
SPREAD = 0.1  # standard deviation of what is done around each of them, shares of the box


class ObjectSkill(nn.Module):
    """Goal-conditioned policy and temporal distance for bringing the first object to a place.

    Both see where the object is, the references last sent and the goal's place: no pixels, and
    of the latent nothing else, since the rest tells demonstrations apart, which could then be
    learned by heart. There is more than one way behind a thing: the policy is a mixture (Bishop
    1994, "Mixture density networks") of which the likeliest way is taken, since between two ways
    lies none, and who learns their mean stops before the fork. Nor do they see how the arm moves: in a demonstration an arm at rest is one
    that has finished, and who learned that stops for good once it has stopped (de Haan et al.
    2019, "Causal confusion in imitation learning"). Where the hand is they learn from the joints,
    which the robot knows better than its eye does. Imitation gives proposals for the search; the
    remaining time tells it whether a plan that has not moved the object yet is on the right way
    (Eysenbach et al. 2019, "Search on the replay buffer", learn such distances; RC-aux, arXiv
    2605.07278, plans with one).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        joints, width = config.action_dim, config.readout_width
        scene, deep = joints + 16, 3 * width // 2
        self.body = nn.Sequential(
            nn.Linear(joints, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 3)
        )
        self.policy = nn.Sequential(
            nn.Linear(scene, deep), nn.GELU(), nn.Linear(deep, deep), nn.GELU(), nn.Linear(deep, deep), nn.GELU(),
            nn.Linear(deep, WAYS * (joints + 1)),
        )  # fmt: skip
        self.time = nn.Sequential(
            nn.Linear(scene, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1)
        )

    def scene(self, here: Tensor, reference: Tensor, goal: Tensor) -> Tensor:
        """(..., A + 16): references, hand, object and goal, and what lies between them."""
        hand = self.body(reference).detach()
        goal = goal.expand_as(here)
        error = goal - here
        distance = (error.square().sum(-1, keepdim=True) + 1e-4).sqrt()
        along = error / (distance + 0.1)
        beside = here - hand[..., :2]
        turned = torch.stack([-along[..., 1], along[..., 0]], dim=-1)
        ways = [3 * (beside * axis).sum(-1, keepdim=True) for axis in (along, turned)]
        return torch.cat([reference, hand, here, goal, 3 * error, 3 * beside, along, distance, *ways], dim=-1)

    def ways(self, here: Tensor, reference: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """What could be done next.

        Args:
            here: (..., 2) place of the object in the table plane, network units.
            reference: (..., A) last sent, as ``WorldModel.scaled_joints`` gives them.
            goal: (..., 2) or (2,) where the object shall be.

        Returns:
            actions (..., WAYS, A) in [-1, 1], and the logarithm of their probabilities (..., WAYS).
        """
        out = self.policy(self.scene(here, reference, goal)).unflatten(-1, (WAYS, -1))
        return out[..., :-1].tanh(), out[..., -1].log_softmax(-1)

    def action(self, here: Tensor, reference: Tensor, goal: Tensor) -> Tensor:
        """(..., A) in [-1, 1], the likeliest of the ``ways``; arguments as there."""
        actions, log_weight = self.ways(here, reference, goal)
        return actions.take_along_dim(log_weight.argmax(-1)[..., None, None], dim=-2).squeeze(-2)

    def periods(self, here: Tensor, reference: Tensor, goal: Tensor) -> Tensor:
        """(...,) control periods until the object is there; arguments as of ``ways``."""
        time: Tensor = self.time(self.scene(here, reference, goal)).squeeze(-1)
        return PERIODS_SCALE * time
