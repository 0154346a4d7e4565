"""Forward kinematics of many postures at once, from the URDF that pinocchio read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pinocchio
from numpy.typing import NDArray

from wm_bridge.core.kinematics import RobotDescription
from wm_bridge.core.types import FloatArray


class Tree:
    """Frames of some joints and of all that carry them, level by level from the root.

    Attributes:
        joints: which, in the order of the frames; 0, the root, is the first.
        place: (N,) place of each joint of the robot among the frames, -1 when it is not there.

    Args:
        needed: joint ids, each with all its carriers. parents: (N,) parent of each joint.
        column: (N,) place of each joint in joint arrays. T_base_root: (4, 4).
        parts: fixed, sine and cosine part of each joint's frame in its parent's, (N, 4, 4).
    """

    def __init__(
        self,
        needed: list[int],
        parents: NDArray[np.intp],
        column: NDArray[np.intp],
        T_base_root: FloatArray,
        parts: tuple[FloatArray, FloatArray, FloatArray],
    ) -> None:
        below = {joint: 0 for joint in needed}  # joints on the longest way out
        for joint in reversed(needed):  # a parent's id is below its children's
            parent = int(parents[joint])
            if parent:
                below[parent] = max(below[parent], below[joint] + 1)
        self.joints = [0]
        self._levels: list[tuple[slice, slice | NDArray[np.intp]]] = []
        level = [0]
        while level:
            # Longest branches first: the parents of a level are then mostly a slice of the last.
            children = [joint for joint in needed if int(parents[joint]) in level]
            children.sort(key=lambda joint: -below[joint])
            if children:
                begin = len(self.joints)
                found = [self.joints.index(int(parents[joint])) for joint in children]
                row = list(range(found[0], found[0] + len(found)))
                place = slice(row[0], row[-1] + 1) if found == row else np.array(found)
                self.joints += children
                self._levels.append((slice(begin, len(self.joints)), place))
            level = children
        self._root, self._columns = T_base_root, column[self.joints[1:]]
        fixed, across, along = (part[self.joints[1:]] for part in parts)
        self._fixed, self._across, self._along = fixed, across, along
        self.place = np.full(len(parents), -1)
        self.place[self.joints] = np.arange(len(self.joints))

    def frames(self, q: FloatArray) -> FloatArray:
        """(T, M, 4, 4) ``T_base_joint`` of the joints, for (T, J) rad."""
        angle = q[:, self._columns, None, None]
        local = self._fixed + np.sin(angle) * self._across + (1.0 - np.cos(angle)) * self._along
        frames = np.empty((len(q), len(self.joints), 4, 4))
        frames[:, 0] = self._root
        for here, parent in self._levels:
            frames[:, here] = frames[:, parent] @ local[:, here.start - 1 : here.stop - 1]
        return frames


class Chain:
    """All joint frames of a robot with revolute joints, batched over postures.

    pinocchio gives one posture per call and Python reads its frames one by one; a look
    along a whole brake would take a millisecond. The tests hold it against pinocchio.

    Args:
        spec: robot; joint arrays are in ``spec.joint_names`` order.

    Raises:
        ValueError: a joint that is not revolute, or joints that differ from the spec's.
    """

    def __init__(self, spec: RobotDescription) -> None:
        self.model = pinocchio.buildModelFromUrdf(str(spec.urdf_path()))
        data = self.model.createData()
        count = self.model.njoints
        if sorted(self.model.names[1:]) != sorted(spec.joint_names):
            raise ValueError(
                f"joints of {spec.urdf_path().name} {list(self.model.names[1:])} are not those "
                f"of the configuration {list(spec.joint_names)}"
            )
        if self.model.nq != count - 1 or self.model.nv != count - 1:
            raise ValueError(f"{spec.urdf_path().name}: only revolute joints are supported")
        pinocchio.computeJointJacobians(self.model, data, np.zeros(self.model.nq))
        pinocchio.framesForwardKinematics(self.model, data, np.zeros(self.model.nq))
        base = self.model.frames[self.model.getFrameId(spec.base_frame)]
        if base.parentJoint != 0:
            raise ValueError(f"base frame {spec.base_frame} moves with a joint; name a fixed one")
        self.T_base_root = np.array(base.placement.inverse().homogeneous)
        order = [spec.joint_names.index(name) for name in self.model.names[1:]]
        self.column = np.array([-1, *order])  # joint id of pinocchio -> place in joint arrays
        self.parents = np.array([self.model.parents[i] for i in range(count)])
        self.axes = np.zeros((count, 3))
        fixed, across, along = np.zeros((3, count, 4, 4))
        fixed[0] = self.T_base_root
        for i in range(1, count):
            axis = pinocchio.getJointJacobian(self.model, data, i, pinocchio.LOCAL)
            axis = axis.reshape(6, -1)[:, self.model.joints[i].idx_v]  # flat for a single joint
            if np.abs(axis[:3]).max() > 1e-12:
                raise ValueError(f"joint {self.model.names[i]} is not revolute")
            x, y, z = self.axes[i] = axis[3:]
            skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
            place = np.array(self.model.jointPlacements[i].homogeneous)
            fixed[i] = place
            across[i, :3, :3] = place[:3, :3] @ skew
            along[i, :3, :3] = place[:3, :3] @ skew @ skew
        self.parts = fixed, across, along  # of each joint's frame in its parent's: plus sine, plus 1 - cosine
        self.carried = np.zeros((count, count))  # [link frame, joint]: 1 when the joint moves it
        for link in range(count):
            self.carried[link, self.carriers(link)] = 1.0
        self._whole = self.tree(range(count))

    def tree(self, joints: Iterable[int]) -> Tree:
        """The part of the robot that carries the given joint frames."""
        needed = sorted({carrier for joint in joints for carrier in self.carriers(joint)})
        return Tree(needed, self.parents, self.column, self.T_base_root, self.parts)

    def frames(self, q: FloatArray) -> FloatArray:
        """(..., N, 4, 4) ``T_base_joint`` of all N joint frames, frame 0 the root, for (..., J) rad."""
        rows = q.reshape(-1, q.shape[-1])
        frames = self._whole.frames(rows)[:, self._whole.place]
        return np.asarray(frames.reshape(*q.shape[:-1], len(self.parents), 4, 4))

    def limits(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The URDF's own lower, upper (rad) and velocity (rad/s) limits, (J,) in spec order."""
        place = np.argsort(self.column[1:])
        model = self.model
        found = (model.lowerPositionLimit, model.upperPositionLimit, model.velocityLimit)
        lower, upper, velocity = (np.array(part)[place] for part in found)
        return lower, upper, velocity

    def carriers(self, joint: int) -> list[int]:
        """Joints that move what hangs on ``joint``, from it to the root."""
        found = []
        while joint:
            found.append(joint)
            joint = int(self.parents[joint])
        return found
