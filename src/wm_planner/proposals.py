"""Candidates that are worth trying first: what the model's prior and its object skill would do."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wm_planner.actions import ActionSpec
from wm_planner.config import PlannerConfig
from wm_planner.goals import CertainGoal, Goal
from wm_planner.imagine import Imagination
from wm_planner.plan import Situation
from wm_planner.world_model import WorldModel


def arm_proposals(model: WorldModel, config: PlannerConfig, actions: ActionSpec, there: Situation, goal: CertainGoal) -> Tensor:
    """(P, H, A) candidates for a goal of the arm: rest, and straight ways in joint space.

    To a picture the prior's, and the way by the decoded joint difference. To known joints the way of the reference to
    them, and the way by what the measured joints still lack, which also makes up for a servo that hangs behind.
    """
    rest = torch.zeros(1, config.horizon, len(there.reference))
    if config.prior_samples < 1:
        return rest
    if not isinstance(goal, Goal):
        if goal.joints is None:
            return rest
        ways = [goal.joints - there.reference, goal.joints - there.position]
        lines = [line for way in ways for line in straight_lines(way / actions.scale, config.horizon)]
        return torch.cat([rest, *lines])[: config.prior_samples + 1]
    chunk = model.propose(there.z, there.state, goal.latent[None])
    prior = torch.zeros_like(rest)
    length = min(config.horizon, chunk.shape[1])
    prior[:, :length] = chunk[:, :length]
    prior[:, length:] = chunk[:, length - 1 : length]
    scaled = [prior, 0.6 * prior, 0.3 * prior]
    decoded = model.read(there.z[0]).joints
    wanted = there.position + goal.readout.joints - decoded  # the decoder's bias cancels near the goal
    lines = straight_lines((wanted - there.reference) / actions.scale, config.horizon)
    return torch.cat([rest, *scaled, *lines])[: config.prior_samples + 1]


def straight_lines(way: Tensor, horizon: int) -> list[Tensor]:
    """(1, H, A) each: ``way`` (A,), in shares of the box, at full, half and quarter speed, then rest."""
    lines = []
    for share in (1.0, 0.5, 0.25):
        speed = way.abs().max().clamp(min=1e-6)
        steps = max(1.0, math.ceil(float(speed) / share))
        line = torch.zeros(1, horizon, len(way))
        line[:, : min(horizon, int(steps))] = way / steps
        lines.append(line)
    return lines


def object_ways(
    model: WorldModel, config: PlannerConfig, actions: ActionSpec, imagine: Imagination, there: Situation, goal: Goal
) -> Tensor:
    """(P, H, A) each likely way of the object skill, gone on with in imagination, the likeliest first."""
    skill, place = model.object_skill, model.table_place(goal.readout.objects[0])

    def seen(z: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return model.table_place(model.read(z).objects[..., 0, :]), model.scaled_joints(reference), place

    first, log_weight = skill.ways(*seen(there.z, there.reference[None]))
    order = log_weight[0].argsort(descending=True)
    likely = order[: max(1, int((log_weight[0].exp() >= config.skill_share).sum()))]

    def policy(z: Tensor, taken: Tensor) -> Tensor:
        return skill.action(*seen(z, there.reference + taken.sum(1) * actions.scale))

    return imagine.follow(there.z, there.state, policy, first[0, likely], config.horizon, config.skill_hold)
