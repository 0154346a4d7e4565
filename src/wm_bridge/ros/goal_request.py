"""A ReachGoal request: what is wrong with it, and what becomes of it."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rclpy.task import Future
from sensor_msgs.msg import Image
from wm_interfaces.action import ReachGoal

from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.ros import convert


class Goal:
    """One accepted goal: its handle, its loop, and the future of its (outcome, text)."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.done: Future = Future()
        self.loop: PlanLoop | None = None
        self.begin = self.seen = time.monotonic()
        self.plans = 0
        self.distance_m = float("nan")


def goal_problem(request: ReachGoal.Goal, live: Image | None) -> str:
    """Why a goal cannot be pursued; "" when it can.

    Args:
        request: the goal. live: a picture of the planner's camera, when there is one already.
    """
    if request.kind != ReachGoal.Goal.GOAL_IMAGE:
        return f"goal kind {request.kind} is not supported; send a picture (GOAL_IMAGE = 0)"
    for name in ("tolerance_m", "hold_s", "timeout_s"):
        value = getattr(request, name)
        if not (np.isfinite(value) and value >= 0.0):
            return f"{name} must be finite and not negative, got {value}"
    try:
        picture = convert.as_picture(request.image)
    except ValueError as error:
        return f"goal picture: {error}"
    if live is not None and picture.shape[0] * live.width != picture.shape[1] * live.height:
        return (
            f"goal picture is {picture.shape[1]}x{picture.shape[0]}, the camera gives "
            f"{live.width}x{live.height}; take it with the planner's camera"
        )
    return ""
