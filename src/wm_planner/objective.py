"""What a good plan is: a sum of terms, each with a weight in ``PlannerConfig``."""

from __future__ import annotations

import torch
from torch import Tensor

from wm_planner.actions import ActionSpec
from wm_planner.config import PlannerConfig
from wm_planner.goals import CertainGoal, Goal, JointsGoal
from wm_planner.posture import Forward
from wm_planner.terms import (
    Effort,
    HandDistance,
    Intruding,
    Intrusion,
    JointDistance,
    LatentDistance,
    ObjectDistance,
    OverTime,
    PostureDistance,
    Sum,
    Term,
    TimeLeft,
    ToolDistance,
    Uncertain,
    Uncertainty,
)


def frame_energy(goal: CertainGoal, config: PlannerConfig, forward: Forward | None = None) -> Term:
    """Energy of one frame, seen or imagined, against a goal.

        E(z) = w_hand d_hand + w_joints d_joints + w_latent |z - z_g|^2 / D

    with d_hand in decimetres and d_joints in radians (mean), read out of both latents by the same head.
    A raw latent distance saturates some centimetres from the goal; the readout keeps ranking far away,
    the latent term decides near it.

    When the goal's target is the object, the arm need not look as in the picture, so the energy is

        E(z, q) = w_object d_object + w_time t

    with d_object in decimetres in the table plane and t the periods that a demonstrator would still need,
    which falls while the hand is on its way and the object has not moved yet.

    Joints and poses are judged by the proprioception that the model imagines, not by its eye: joints by

        E(q) = w_posture |q - q_g|          (mean, rad)

    and a pose by where the kinematics ``forward`` put the tool with those joints, and by the way to the posture
    q_p that was found to have the tool there, which leads out of dead ends:

        E(q) = w_hand d_tool + w_joints |q - q_p|                       where the orientation is free
        E(q) = w_hand d_tool + w_turn a_tool + w_posture |q - q_p|      else (a_tool in rad)

    A place leaves the arm much freedom, so its posture is a hint; an orientation as well leaves a few postures,
    with walls of energy between them. Without kinematics d_hand of the decoded hand is all that is known of a pose.
    """
    if isinstance(goal, JointsGoal):
        return PostureDistance(goal.joints, config.weight_posture)
    if not isinstance(goal, Goal):
        if forward is None or goal.joints is None:
            return HandDistance(goal.position, config.weight_hand)
        tool = ToolDistance(forward, goal.position, goal.rotation, config.weight_hand, config.weight_turn)
        pull = config.weight_joints if goal.rotation is None else config.weight_posture
        return Sum((tool, PostureDistance(goal.joints, pull)))
    read = goal.readout
    if goal.target == "object":
        place = read.objects[0, :2]
        return Sum((ObjectDistance(place, config.weight_object), TimeLeft(place, config.weight_time)))
    terms: tuple[Term, ...] = (HandDistance(read.hand, config.weight_hand), JointDistance(read.joints, config.weight_joints))
    if config.weight_latent:
        terms += (LatentDistance(goal.latent, config.weight_latent, config.latent_distance),)
    return Sum(terms)


def rollout_energy(
    frame: Term,
    config: PlannerConfig,
    actions: ActionSpec,
    intrusion: Intrusion | None = None,
    uncertainty: Uncertainty | None = None,
) -> Term:
    """Energy (S,) of imagined rollouts: the mean over their frames, later ones weighing more, and what the way costs.

    Args:
        frame: energy of one frame.
        intrusion, uncertainty: see ``terms``; None leaves the term out, as does a weight of 0.
    """
    weight = time_weight(config.horizon)
    terms: tuple[Term, ...] = (OverTime(frame, weight),)
    if config.weight_action or config.weight_smoothness:
        terms += (Effort(config.weight_action, config.weight_smoothness),)
    if intrusion is not None and config.weight_intrusion:
        terms += (Intruding(intrusion, actions, config.weight_intrusion),)
    if uncertainty is not None and config.weight_uncertainty:
        terms += (OverTime(Uncertain(uncertainty, config.weight_uncertainty), weight),)
    return Sum(terms)


def time_weight(horizon: int) -> Tensor:
    """(H,) weights of the frames of a rollout: the last counts three times as much as the first."""
    weight = torch.linspace(0.5, 1.5, horizon)
    return weight / weight.sum()
