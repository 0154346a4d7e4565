"""What a planner can be asked for: a picture, part of a picture, joints, a pose of the tool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.config import ModelConfig
from wm_planner.errors import PlannerError
from wm_planner.preprocess import check_picture, square_resize, to_tensor
from wm_planner.world_model import Readout, WorldModel


@dataclass(frozen=True)
class Goal:
    """An embedded goal picture.

    Attributes:
        latent: (D,). readout: decoded scene.
        novelty: see ``WorldModel.novelty``; above ``limit`` the picture shows another scene.
        target: "hand" or "object": what has to match the picture.
    """

    latent: Tensor
    readout: Readout
    novelty: float
    limit: float
    target: str = "hand"

    @property
    def trust(self) -> float:
        """1 inside the novelty limit, falling to 0 at twice the limit and beyond."""
        return min(1.0, max(0.0, 2.0 - self.novelty / self.limit)) if self.novelty > self.limit else 1.0


@dataclass(frozen=True)
class MaskedGoal:
    """A goal picture of which only a part counts.

    The compact encoder has one latent for the whole picture and cannot leave places out. So what does not
    count is taken from the present frame: picture and frame are put together anew at every plan, and only
    what the mask shows asks for a change. Where the mask cuts through the arm, or shows it while the present
    arm stands outside, the composite shows two halves of an arm, which the model has never seen.

    Attributes:
        picture: (S, S, 3) uint8. share: (S, S, 1) 0..1, how much of each pixel counts.
        target: as of ``Goal``.
    """

    picture: NDArray[np.uint8]
    share: NDArray[np.float32]
    target: str = "hand"
    trust: float = 1.0  # known when a frame is: see ``Plan.goal_trust``

    def beside(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The goal (S, S, 3) as it looks with all that does not count taken from ``frame`` (S, S, 3)."""
        mixed = self.share * self.picture + (1 - self.share) * frame
        whole: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
        return whole


@dataclass(frozen=True)
class JointsGoal:
    """Joints to be brought to angles.

    Attributes:
        joints: (A,) rad; NaN: where the joint is when planning begins.
    """

    joints: Tensor
    target: str = "joints"
    trust: float = 1.0


@dataclass(frozen=True)
class PoseGoal:
    """A pose of the tool, base frame.

    Attributes:
        position: (3,) m. rotation: (3, 3) ``R_base_tool``, None: free.
        postures: (K, A) rad, arm postures that have the tool there; K = 0 without kinematics.
        joints: (A,) rad, the one that is aimed at; None until planning begins, and without kinematics.
    """

    position: Tensor
    rotation: Tensor | None
    postures: Tensor
    joints: Tensor | None = None
    target: str = "pose"
    trust: float = 1.0


AnyGoal = Goal | MaskedGoal | JointsGoal | PoseGoal
CertainGoal = Goal | JointsGoal | PoseGoal  # nothing in it depends on the present frame any more


def picture_goal(model: WorldModel, small: NDArray[np.uint8], target: str = "hand") -> Goal:
    """Embed a (S, S, 3) uint8 RGB goal picture in network size."""
    pixels = to_tensor(small[None])
    z = model.encode(pixels)
    return Goal(z[0], model.read(z[0]), float(model.novelty(pixels)[0]), float(model.novelty_limit), target)


def masked_goal(image: NDArray[np.uint8], mask: NDArray[np.uint8], size: int, target: str = "hand") -> MaskedGoal:
    """Part of a (H, W, 3) uint8 RGB goal picture.

    Args:
        mask: (H, W) uint8; what is not zero counts. size: S, side of the network input.

    Raises:
        PlannerError: the mask does not fit, or nothing counts.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.shape != image.shape[:2]:
        found = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise PlannerError(f"the mask must be uint8 of the goal picture's height and width {image.shape[:2]}, got {found}")
    counts = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    share = (square_resize(counts, size)[..., :1] / 255.0).astype(np.float32)
    if not share.any():
        where = "inside of the middle square that the model sees" if mask.any() else "in it"
        raise PlannerError(f"the mask leaves nothing of the goal picture: no pixel is set {where}")
    return MaskedGoal(square_resize(image, size), share, target)


def known_targets(config: ModelConfig) -> tuple[str, ...]:
    """What a model can bring to where a picture shows it."""
    return ("hand", "object") if config.object_skill else ("hand",)


def check_target(config: ModelConfig, target: str) -> None:
    """Raise PlannerError unless a model can bring ``target`` to where a picture shows it."""
    if target not in known_targets(config):
        known = "hand or object" if config.object_skill else "hand; this model has not learned to move objects"
        raise PlannerError(f"unknown goal target {target!r}; expected {known}")


def joints_goal(config: ModelConfig, joints: Mapping[str, float]) -> JointsGoal:
    """A goal for joints by name, rad; those that are not named stay where they are.

    Raises:
        PlannerError: none named, a name that is not planned, a value that is not finite or outside of its limits.
    """
    names = config.joint_names
    if not joints:
        raise PlannerError(f"the goal names no joint; name some of {', '.join(names)}")
    unknown = [name for name in joints if name not in names]
    if unknown:
        raise PlannerError(f"the goal names {', '.join(unknown)}, which the planner does not move; it moves {', '.join(names)}")
    wanted = torch.full((len(names),), math.nan)
    for name, value in joints.items():
        place = names.index(name)
        low, high = config.lower[place], config.upper[place]
        if not math.isfinite(value):
            raise PlannerError(f"the goal of joint {name} is {value}; give a number in rad between {low:.3f} and {high:.3f}")
        if not low <= value <= high:
            raise PlannerError(f"the goal of joint {name}, {value:.3f} rad, is outside of its limits {low:.3f} to {high:.3f} rad")
        wanted[place] = value
    return JointsGoal(wanted)


def checked_picture(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(S, S, 3) network input of a camera picture; PlannerError when it is none."""
    check_picture(image)
    return square_resize(image, size)
