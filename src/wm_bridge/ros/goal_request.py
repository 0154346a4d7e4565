"""A ReachGoal request: from what is asked for and back, and what becomes of it."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.task import Future
from sensor_msgs.msg import Image
from wm_interfaces.action import ReachGoal

from wm_bridge.bags.picture import picture_at
from wm_bridge.core.goal import GoalConfig
from wm_bridge.core.goal_kinds import BagFrame, GoalKind, JointsGoal, PictureGoal, PoseGoal, Request
from wm_bridge.core.goal_text import rotation_of
from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.core.types import Frame, ImageArray
from wm_bridge.ros import convert

Kind = ReachGoal.Goal
_NUMBERS = ("tolerance_m", "tolerance_rad", "hold_s", "switch_energy", "switch_hold_s", "timeout_s")


class Goal:
    """One accepted goal: its handle, its loop, its stages, and the future of its (outcome, text)."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.done: Future = Future()
        self.loop: PlanLoop | None = None
        self.stages: tuple[GoalKind, ...] = ()
        self.shown = 0
        self.begin = self.seen = time.monotonic()
        self.plans = 0
        self.distance_m, self.angle_rad = float("nan"), 0.0


def to_request(asked: Request, target: str = "", **numbers: float) -> ReachGoal.Goal:
    """The request that asks for something; ``numbers`` are its fields for tolerances and times, 0 = the planner's own."""
    request = ReachGoal.Goal(target=target, **{name: float(value) for name, value in numbers.items()})
    if isinstance(asked, JointsGoal):
        request.kind = Kind.GOAL_JOINTS
        request.joints.name, request.joints.position = list(asked.joints), [float(value) for value in asked.joints.values()]
    elif isinstance(asked, PoseGoal):
        request.kind, request.turn = Kind.GOAL_POSE, asked.rotation is not None
        place, turn = request.pose.pose.position, request.pose.pose.orientation
        place.x, place.y, place.z = (float(value) for value in asked.position)
        if asked.rotation is not None:
            turn.x, turn.y, turn.z, turn.w = (float(value) for value in convert.quaternion(asked.rotation))
    else:
        mask = asked.mask if isinstance(asked, BagFrame | PictureGoal) else asked[0].mask
        if mask is not None:
            request.mask = convert.to_mask(mask)
        if isinstance(asked, BagFrame):
            request.kind = Kind.GOAL_BAG_FRAME
            request.bag, request.bag_topic, request.bag_time_s = asked.bag, asked.topic, float(asked.time_s)
        else:
            request.kind = Kind.GOAL_IMAGE
            pictures = [asked] if isinstance(asked, PictureGoal) else asked
            request.image, *request.more = (convert.to_image(Frame(goal.picture, 0, "goal")) for goal in pictures)
    return request


def from_request(request: ReachGoal.Goal, live: Image | None, base_frame: str) -> GoalKind | Sequence[PictureGoal]:
    """What a request asks for; a bag is read.

    Args:
        live: a picture of the planner's camera, when there is one already. base_frame: of the robot.

    Raises:
        ValueError: why it cannot be pursued, in one sentence.
    """
    for name in _NUMBERS:
        value = getattr(request, name)
        if not (np.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name} must be finite and not negative, got {value}")
    if request.kind in (Kind.GOAL_IMAGE, Kind.GOAL_BAG_FRAME):
        return _pictures(request, live)
    if request.kind not in (Kind.GOAL_JOINTS, Kind.GOAL_POSE):
        raise ValueError(f"goal kind {request.kind} is not known; kinds are 0 image, 1 joints, 2 pose, 3 bag frame")
    if request.more or request.mask.data or request.target not in ("", "hand"):
        raise ValueError("more pictures, a mask and a target object go with goal pictures only; leave them empty")
    return _joints(request) if request.kind == Kind.GOAL_JOINTS else _pose(request, base_frame)


def goal_config(request: ReachGoal.Goal, usual: GoalConfig) -> GoalConfig:
    """When the goal counts as reached: the usual settings but where the request says otherwise."""
    return dataclasses.replace(usual, **{name: getattr(request, name) or getattr(usual, name) for name in _NUMBERS})


def _pictures(request: ReachGoal.Goal, live: Image | None) -> PictureGoal | Sequence[PictureGoal]:
    if request.kind == Kind.GOAL_BAG_FRAME:
        if request.more:
            raise ValueError("more pictures go with a goal picture, not with a bag frame")
        pictures = [picture_at(Path(request.bag), request.bag_time_s, request.bag_topic)]
    else:
        pictures = []
        for number, message in enumerate([request.image, *request.more], 1):
            try:
                pictures.append(convert.as_picture(message))
            except ValueError as error:
                raise ValueError(f"goal picture{f' {number}' if request.more else ''}: {error}") from error
    for picture in pictures:
        if live is not None and picture.shape[0] * live.width != picture.shape[1] * live.height:
            raise ValueError(
                f"goal picture is {picture.shape[1]}x{picture.shape[0]}, the camera gives "
                f"{live.width}x{live.height}; take it with the planner's camera"
            )
    mask = _mask(request)
    goals = [PictureGoal(picture, mask) for picture in pictures]
    return goals[0] if len(goals) == 1 else goals


def _mask(request: ReachGoal.Goal) -> ImageArray | None:
    if not request.mask.data and not request.mask.width:
        return None
    try:
        return convert.from_mask(request.mask)
    except ValueError as error:
        raise ValueError(f"mask: {error}") from error


def _joints(request: ReachGoal.Goal) -> JointsGoal:
    names, position = list(request.joints.name), list(request.joints.position)
    if len(names) != len(position):
        raise ValueError(f"the goal has {len(names)} joint names and {len(position)} positions; give one position per name")
    if len(set(names)) != len(names):
        raise ValueError(f"the goal names joints twice: {names}")
    return JointsGoal(dict(zip(names, position, strict=True)))


def _pose(request: ReachGoal.Goal, base_frame: str) -> PoseGoal:
    frame = request.pose.header.frame_id.strip("/")
    if frame not in ("", base_frame):
        raise ValueError(f"the goal pose is in frame '{frame}'; give it in '{base_frame}' (transform it first, e.g. with tf2)")
    place, turn = request.pose.pose.position, request.pose.pose.orientation
    rotation = rotation_of(np.array([turn.x, turn.y, turn.z, turn.w])) if request.turn else None
    return PoseGoal(np.array([place.x, place.y, place.z]), rotation)
