"""End-effector motion as joint motion: batched differential inverse kinematics for the planner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pinocchio

from wm_bridge.core import inverse
from wm_bridge.core.joints import JointTable, find_joints
from wm_bridge.core.kinematics import RobotDescription
from wm_bridge.core.types import FloatArray, JointState

DAMPING_M = 0.002  # m per box: how much joint motion a millimetre is worth near a singular posture


class ArmDescription(JointTable, RobotDescription, Protocol):
    """What is needed of a robot; ``robots.spec.RobotSpec`` satisfies it."""

    @property
    def home(self) -> FloatArray:
        """(J,) rest pose, rad."""

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Joints of each arm."""

    @property
    def tools(self) -> Mapping[str, str]:
        """Tool frame of each arm."""


class EffectorMotion:
    """Tool poses of some joints, and the joints that follow tool motions within box and limits.

    It is what ``wm_planner.effector.Effector`` asks for. The other joints on the way from base to tool stay where they
    were last seen.

    Args:
        spec: robot with a URDF of revolute joints. names: (A,) planned joints, all of one of its arms.
        period_s: one period; the box of a joint is its speed limit times this.
        rotation_weight: m per rad, how much the orientation counts beside the position; 0: it is free.

    Raises:
        ValueError: no arm has these joints, or the way to its tool has a joint that is not revolute.
    """

    def __init__(self, spec: ArmDescription, names: tuple[str, ...], period_s: float, rotation_weight: float = 0.0) -> None:
        arms = [arm for arm in spec.tools if set(names) <= set(spec.groups[arm])]
        if not arms:
            raise ValueError(f"no arm of this robot has the joints {list(names)}; arms are {sorted(spec.tools)}")
        self.tool, self.base, self.weight = spec.tools[arms[0]], spec.base_frame, float(rotation_weight)
        index = find_joints(names, spec.joint_names)
        self.scale = np.asarray(spec.velocity, float)[index] * period_s
        self.lower, self.upper = (np.ascontiguousarray(np.asarray(limit, float)[index]) for limit in (spec.lower, spec.upper))
        self._chain, links = chain_to(spec, self.tool, names)
        self._place = {name: place for place, name in enumerate(links)}
        self._posture = np.asarray(spec.home, float)[find_joints(links, spec.joint_names)]

    def observe(self, joints: JointState) -> None:
        """Where the joints are that are not planned; what is unknown or not finite stays as it was."""
        for name, position in zip(joints.names, joints.position, strict=True):
            if name in self._place and np.isfinite(position):
                self._posture[self._place[name]] = position

    def frames(self, joints: FloatArray) -> FloatArray:
        """(..., 4, 4) ``T_base_tool`` at joints (..., A) rad."""
        rows = np.ascontiguousarray(joints, dtype=float).reshape(-1, len(self.scale))
        upper = inverse.place(self._chain, self._posture, rows).reshape(*np.shape(joints)[:-1], 3, 4)
        return homogeneous(upper)

    def follow(self, start: FloatArray, moves: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Joints that follow tool motions as well as box and limits allow.

        Args:
            start: (A,) rad; moved into the limits.
            moves: (S, H, 6) change of the tool's pose per period: xyz [m], xyz-Euler [rad], base axes.

        Returns:
            joints (S, H, A) rad after each period, ``T_base_tool`` (S, H, 4, 4) there, and (S, H, A, 6) how the joints'
            change of each period depends on its move.
        """
        count, size = moves.shape[:2], len(self.scale)
        begin = np.clip(np.ascontiguousarray(start, dtype=float), self.lower, self.upper)
        rows = inverse.follow(
            self._chain, (self.scale, self.lower, self.upper), self._posture, begin,
            np.ascontiguousarray(moves, dtype=float), self.weight, DAMPING_M,
        )  # fmt: skip
        upper = rows[:, size : size + 12].reshape(*count, 3, 4)
        return rows[:, :size].reshape(*count, size), homogeneous(upper), rows[:, size + 12 :].reshape(*count, size, 6)


def give_kinematics(planner: Any, spec: ArmDescription) -> EffectorMotion:
    """Tell a planner where its joints bring the tool, and one that searches end-effector motion how joints follow it."""
    motion = EffectorMotion(spec, planner.joint_names, planner.period_s, planner.config.rotation_weight)
    planner.forward = motion.frames
    if planner.config.action_space != "joints":
        planner.space.effector = motion
    return motion


def homogeneous(upper: FloatArray) -> FloatArray:
    """(..., 4, 4) of its upper rows (..., 3, 4)."""
    bottom = np.broadcast_to(np.array([0.0, 0.0, 0.0, 1.0]), (*upper.shape[:-2], 1, 4))
    return np.concatenate([upper, bottom], axis=-2)


def chain_to(
    spec: RobotDescription, frame: str, names: tuple[str, ...]
) -> tuple[tuple[FloatArray, FloatArray, FloatArray, np.ndarray], tuple[str, ...]]:
    """The joints from the base to a frame, as ``inverse.follow`` takes them, and their names.

    Raises:
        ValueError: unknown frame, a planned joint that is not on the way, or a joint that is not revolute.
    """
    model = pinocchio.buildModelFromUrdf(str(spec.urdf_path()))
    if not model.existFrame(frame):
        raise ValueError(f"no frame {frame!r} in {spec.urdf_path().name}")
    base, tool = (model.frames[model.getFrameId(name)] for name in (spec.base_frame, frame))
    if base.parentJoint != 0:
        raise ValueError(f"base frame {spec.base_frame} moves with a joint; name a fixed one")
    way = []
    joint = tool.parentJoint
    while joint:
        way.append(joint)
        joint = model.parents[joint]
    way.reverse()
    links = tuple(str(model.names[joint]) for joint in way)
    lost = [name for name in names if name not in links]
    if lost:
        raise ValueError(f"joints {lost} do not move {frame!r}; those on the way are {list(links)}")
    data = model.createData()
    pinocchio.computeJointJacobians(model, data, pinocchio.neutral(model))
    axes = []
    for joint in way:
        column = pinocchio.getJointJacobian(model, data, joint, pinocchio.LOCAL).reshape(6, -1)[:, model.joints[joint].idx_v]
        if model.joints[joint].nq != 1 or np.abs(column[:3]).max() > 1e-12:
            raise ValueError(f"joint {model.names[joint]} is not revolute")
        axes.append(column[3:])
    placements = np.array([model.jointPlacements[joint].homogeneous[:3] for joint in way])
    placements[0] = (base.placement.inverse() * model.jointPlacements[way[0]]).homogeneous[:3]
    column = np.array([names.index(name) if name in names else -1 for name in links], dtype=np.intp)
    chain = (np.ascontiguousarray(placements), np.array(axes), np.ascontiguousarray(tool.placement.homogeneous[:3]), column)
    return chain, links
