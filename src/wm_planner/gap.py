"""How far the present frame is from the goal: what the monitor of a goal decides on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from wm_planner.goals import CertainGoal, Goal, JointsGoal
from wm_planner.plan import FloatArray
from wm_planner.posture import Forward, gaps
from wm_planner.world_model import Readout


@dataclass(frozen=True)
class Gap:
    """What is left to the goal.

    Of a picture everything is decoded from the latents. Of joints and of a pose it comes from the measured joints,
    and with ``forward`` from the robot's kinematics; without it the hand is decoded.

    Attributes:
        hand_m: of the hand; NaN when not known. object_m: of the object; NaN when the model reads none.
        joints_rad: largest distance of a joint.
        angle_rad: what has to turn as well: the furthest joint of a goal for joints, the tool for a pose; else 0.
        hand: (3,) m where the hand is wanted; NaN when not known.
    """

    hand_m: float
    object_m: float
    joints_rad: float
    angle_rad: float
    hand: FloatArray


def gap_to(goal: CertainGoal, read: Readout, position: Tensor, forward: Forward | None) -> Gap:
    """The gap between a present frame and a goal.

    Args:
        read: decoded present frame. position: (A,) rad, measured. forward: see ``posture``.
    """
    if isinstance(goal, Goal):
        there = goal.readout
        hand_m, joints = float((read.hand - there.hand).norm()), float((read.joints - there.joints).abs().max())
        object_m = float((read.objects - there.objects)[..., :2].norm(dim=-1).max()) if len(read.objects) else math.nan
        return Gap(hand_m, object_m, joints, 0.0, there.hand.double().numpy())
    here = position.double().numpy()
    if isinstance(goal, JointsGoal):
        apart = float((position - goal.joints).abs().max())
        if forward is None:
            return Gap(math.nan, math.nan, apart, apart, np.full(3, math.nan))
        now, then = forward(np.stack([here, goal.joints.double().numpy()]))[:, :3, 3]
        return Gap(float(np.linalg.norm(now - then)), math.nan, apart, apart, then)
    wanted = goal.position.double().numpy()
    if forward is None:
        return Gap(float((read.hand - goal.position).norm()), math.nan, 0.0, 0.0, wanted)
    rotation = None if goal.rotation is None else goal.rotation.double().numpy()
    off_m, off_rad = gaps(forward(here[None]), wanted, rotation)
    return Gap(float(off_m[0]), math.nan, 0.0, float(off_rad[0]), wanted)
