"""Goals that are poses of the tool: made when they can be reached, aimed at by the easiest posture."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from wm_planner.actions import ActionSpec
from wm_planner.errors import PlannerError
from wm_planner.goals import PoseGoal
from wm_planner.plan import FloatArray
from wm_planner.posture import Forward, Reached, bring_tool, easiest, spread_starts
from wm_planner.terms import Intrusion

NEAR_M, NEAR_RAD = 0.002, 0.01  # a posture that brings the tool so near to the pose has it there


def pose_goal(forward: Forward | None, actions: ActionSpec, position: FloatArray, rotation: FloatArray | None) -> PoseGoal:
    """A goal for the tool, base frame.

    Args:
        forward: the robot's kinematics; None: the hand is read out of the latents, its orientation is not known.
        position: (3,) m. rotation: (3, 3) ``R_base_tool``, None: free.

    Raises:
        PlannerError: not a pose, or out of reach.
    """
    position = np.asarray(position, dtype=np.float64)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise PlannerError(f"the goal position must be three finite numbers in m, got {position}")
    place = torch.from_numpy(position).float()
    if rotation is not None:
        rotation = np.asarray(rotation, dtype=np.float64)
        if rotation.shape != (3, 3) or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4) or np.linalg.det(rotation) < 0:
            raise PlannerError(f"the goal orientation must be a rotation matrix (3, 3), got {rotation.tolist()}")
    if forward is None:
        if rotation is not None:
            raise PlannerError("an orientation needs the robot's kinematics: set planner.forward, or leave it free")
        return PoseGoal(place, None, torch.zeros(0, len(actions.lower)))
    lower, upper = limits(actions)
    found = bring_tool(forward, lower, upper, spread_starts(lower, upper), position, rotation)
    good = _there(found)
    if not good.any():
        best = int((found.off_m + 0.15 * found.off_rad).argmin())
        turn = "" if rotation is None else f" and {np.degrees(found.off_rad[best]):.0f} degrees"
        raise PlannerError(
            f"the pose is out of reach: the nearest posture that was found leaves {100 * found.off_m[best]:.1f} cm{turn}; "
            f"choose a nearer place{'' if rotation is None else ', or leave the orientation free'}"
        )
    turned = None if rotation is None else torch.from_numpy(rotation).float()
    return PoseGoal(place, turned, torch.from_numpy(found.postures[good]).float())


def aimed(goal: PoseGoal, forward: Forward, actions: ActionSpec, here: FloatArray, intrusion: Intrusion | None) -> PoseGoal:
    """The goal with the posture that is easiest reached from joints ``here`` (A,) rad; see ``posture.easiest``."""
    rotation = None if goal.rotation is None else goal.rotation.double().numpy()
    nearest = bring_tool(forward, *limits(actions), here[None], goal.position.double().numpy(), rotation)
    postures = np.concatenate([nearest.postures[_there(nearest)], goal.postures.double().numpy()])
    chosen = easiest(postures, here, actions.scale.double().numpy(), intrusion)
    return dataclasses.replace(goal, joints=torch.from_numpy(postures[chosen]).float())


def limits(actions: ActionSpec) -> tuple[FloatArray, FloatArray]:
    """Lower and upper (A,) rad."""
    return actions.lower.double().numpy(), actions.upper.double().numpy()


def _there(found: Reached) -> np.ndarray:
    return np.asarray((found.off_m <= NEAR_M) & (found.off_rad <= NEAR_RAD))
