"""Which space the planner searches: joints as they are, or the end effector's pose through inverse kinematics."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.actions import ActionSpec
from wm_planner.config import PlannerConfig
from wm_planner.errors import PlannerError
from wm_planner.vjepa.pose import difference, euler

FloatArray = NDArray[np.float64]


class Effector(Protocol):
    """The robot's kinematics, as the bridge gives it (``wm_bridge.core.effector.EffectorMotion``)."""

    def frames(self, joints: FloatArray) -> FloatArray:
        """(..., 4, 4) ``T_base_tool`` at joints (..., A) rad."""

    def follow(self, start: FloatArray, moves: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Joints that follow motions of the tool within the joints' box and limits.

        Args:
            start: (A,) rad. moves: (S, H, 6) xyz [m] and xyz-Euler [rad] per period, base axes.

        Returns:
            joints (S, H, A) rad, ``T_base_tool`` (S, H, 4, 4) there, and (S, H, A, 6) how the joints' change of
            each period depends on its move.
        """


class Space(Protocol):
    """What candidates are, and which joint actions they stand for; both as shares of their box."""

    @property
    def spec(self) -> ActionSpec:
        """Of the candidates."""

    def joints(self, start: Tensor, actions: Tensor) -> Tensor:
        """(S, H, A) joint actions that candidates (S, H, D) stand for, from references ``start`` (A,) rad."""

    def imagined(self, start: Tensor, actions: Tensor, joints: Tensor) -> Tensor:
        """(S, H, A) joint actions that the model has to be told, where ``joints`` are sent.

        They differ where the model's action axes lie otherwise than the base's: what it takes for its own x
        is sent along the axis that looks like it.
        """

    def actions(self, start: Tensor, joints: Tensor) -> Tensor:
        """(S, H, D) candidates that come nearest to joint actions (S, H, A)."""

    def project(self, start: Tensor, actions: Tensor) -> Tensor:
        """Candidates (S, H, D) brought into the action box."""


class JointSpace:
    """Candidates are joint actions."""

    def __init__(self, spec: ActionSpec) -> None:
        self.spec = spec

    def joints(self, start: Tensor, actions: Tensor) -> Tensor:
        """See ``Space``."""
        return actions

    def imagined(self, start: Tensor, actions: Tensor, joints: Tensor) -> Tensor:
        """See ``Space``."""
        return joints

    def actions(self, start: Tensor, joints: Tensor) -> Tensor:
        """See ``Space``."""
        return joints

    def project(self, start: Tensor, actions: Tensor) -> Tensor:
        """See ``Space``."""
        return self.spec.project(start, actions)


class EffectorSpace:
    """Candidates are changes of the end effector's pose (xyz, xyz-Euler angles, gripper).

    Args:
        spec: of the end effector. joints: of the joints that the model imagines.

    Attributes:
        effector: the robot's kinematics; has to be set before the first plan.
    """

    def __init__(self, spec: ActionSpec, joints: ActionSpec) -> None:
        self.spec, self.joint_spec = spec, joints
        self.effector: Effector | None = None

    def joints(self, start: Tensor, actions: Tensor) -> Tensor:
        """See ``Space``; autograd can follow it to first order."""
        return self.follow(start, self.spec.in_base(actions * self.spec.scale))

    def imagined(self, start: Tensor, actions: Tensor, joints: Tensor) -> Tensor:
        """See ``Space``."""
        return joints if self.spec.R_base_frame is None else self.follow(start, actions * self.spec.scale)

    def follow(self, start: Tensor, moves: Tensor) -> Tensor:
        """(S, H, A) joint actions that follow tool motions (S, H, 7) in base axes."""
        changes: Tensor = Following.apply(moves[..., :6], start, self.kinematics)  # type: ignore[no-untyped-call]
        return changes / self.joint_spec.scale

    def actions(self, start: Tensor, joints: Tensor) -> Tensor:
        """See ``Space``."""
        poses = self.poses(torch.cat([start.expand_as(joints[:, :1]), self.joint_spec.references(start, joints)], dim=1))
        return difference(poses[:, :-1], poses[:, 1:]) / self.spec.scale  # joints that the model knows: its own axes

    def project(self, start: Tensor, actions: Tensor) -> Tensor:
        """See ``Space``."""
        return self.spec.project(start, actions)

    def poses(self, joints: Tensor) -> Tensor:
        """(..., 7) end-effector poses at joints (..., A) rad, base frame; the gripper is not known: 0."""
        return as_pose(self.kinematics.frames(joints.detach().double().numpy())).to(joints)

    @property
    def kinematics(self) -> Effector:
        """``effector``; a PlannerError when it was not given."""
        if self.effector is None:
            raise PlannerError(
                "action_space end_effector needs the robot's kinematics; set planner.space.effector, "
                "see wm_bridge.core.effector.EffectorMotion"
            )
        return self.effector


class Following(torch.autograd.Function):
    """Joint changes (S, H, A) rad that follow tool motions (S, H, 6); its slope is that of each period by itself."""

    @staticmethod
    def forward(ctx: Any, moves: Tensor, start: Tensor, effector: Effector) -> Tensor:
        """Inverse kinematics; no slope flows from one period's posture into the next one's."""
        begin = start.detach().double().numpy()
        joints, _, slope = effector.follow(begin, moves.detach().double().numpy())
        ctx.save_for_backward(torch.from_numpy(slope).to(moves))
        first = np.broadcast_to(begin, joints[:, :1].shape)
        return torch.from_numpy(np.diff(joints, axis=1, prepend=first)).to(moves)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        """Transposed least-squares inverse."""
        (slope,) = ctx.saved_tensors
        return torch.einsum("shad,sha->shd", slope, slopes[0]), None, None


def as_pose(frames: FloatArray) -> Tensor:
    """(..., 7) poses xyz [m], xyz-Euler [rad], gripper 0 of frames (..., 4, 4), float64."""
    T = torch.from_numpy(frames)
    xyz = T[..., :3, 3]
    return torch.cat([xyz, euler(T[..., :3, :3]), torch.zeros_like(xyz[..., :1])], dim=-1)


def make_space(config: PlannerConfig, joints: ActionSpec) -> Space:
    """The space that ``config`` names, for a model that imagines ``joints``."""
    if config.action_space == "joints":
        return JointSpace(joints)
    return EffectorSpace(ActionSpec.end_effector(config, joints.period_s), joints)
