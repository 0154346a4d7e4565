"""A goal in one word, as commands and parameters take it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from transforms3d.quaternions import quat2mat

from wm_bridge.core.goal_forms import FORMS
from wm_bridge.core.goal_kinds import BagFrame, JointsGoal, PictureGoal, PoseGoal, Request
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.errors import UserError


def parse_goal(text: str, load: Callable[[Path], ImageArray], mask: ImageArray | None = None) -> Request:
    """What a word asks for.

    Args:
        text: one of ``FORMS``; metres and radians in the base frame, without a quaternion the orientation is free.
            Several pictures are pursued one after the other.
        load: reads a picture file as (H, W, 3) uint8 RGB; raises UserError.
        mask: (H, W), of the pictures; see ``PictureGoal``.

    Raises:
        UserError: what is wrong, and the forms.
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in ("joints", "pose", "bag"):
        return _pictures(text, load, mask)
    if mask is not None and kind != "bag":
        raise UserError(f"a mask goes with pictures, not with {kind}", f"goals are {FORMS}", 2)
    try:
        if kind == "joints":
            return _joints(rest)
        return _pose(rest) if kind == "pose" else _bag(rest, mask)
    except ValueError as error:
        raise UserError(f"goal {text!r}: {error}", f"goals are {FORMS}", 2) from error


def rotation_of(quaternion: FloatArray) -> FloatArray:
    """(3, 3) of a quaternion x, y, z, w (ROS order).

    Raises:
        ValueError: not of length one, within a percent.
    """
    length = float(np.linalg.norm(quaternion))
    if not abs(length - 1.0) <= 0.01:
        raise ValueError(f"the orientation must be a quaternion x, y, z, w of length 1, got {np.asarray(quaternion).tolist()}")
    x, y, z, w = np.asarray(quaternion, dtype=float) / length
    return np.asarray(quat2mat([w, x, y, z]))


def _pictures(text: str, load: Callable[[Path], ImageArray], mask: ImageArray | None) -> Request:
    files = [text] if Path(text).exists() else text.split(",")
    pictures = [PictureGoal(load(Path(file)), mask) for file in files]
    return pictures[0] if len(pictures) == 1 else pictures


def _joints(words: str) -> JointsGoal:
    joints: dict[str, float] = {}
    for word in words.split(","):
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"expected NAME=RAD, got {word!r}")
        if name.strip() in joints:
            raise ValueError(f"joint {name.strip()} is named twice")
        joints[name.strip()] = _number(value)
    return JointsGoal(joints)


def _pose(words: str) -> PoseGoal:
    numbers = np.array([_number(word) for word in words.split(",")])
    if len(numbers) not in (3, 7):
        raise ValueError(f"expected 3 numbers (x, y, z) or 7 (and a quaternion x, y, z, w), got {len(numbers)}")
    return PoseGoal(numbers[:3], rotation_of(numbers[3:]) if len(numbers) == 7 else None)


def _bag(words: str, mask: ImageArray | None) -> BagFrame:
    bag, *rest = words.split("@")
    if len(rest) not in (1, 2) or not bag:
        raise ValueError("expected FILE@SECONDS or FILE@SECONDS@TOPIC")
    return BagFrame(str(Path(bag).absolute()), _number(rest[0]), rest[1] if len(rest) == 2 else "", mask)


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{word!r} is not a finite number")
    return value
