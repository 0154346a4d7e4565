"""Forward kinematics of many postures at once, from the URDF that pinocchio read."""

from __future__ import annotations

import numpy as np
import pinocchio

from wm_bridge.core.kinematics import RobotDescription
from wm_bridge.core.types import FloatArray


class Chain:
    """All joint frames of a robot with revolute joints, batched over postures.

    pinocchio gives one posture per call and Python reads its frames one by one; all rows of a
    brake would take a millisecond. The tests hold it against pinocchio.

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

    def frames(self, q: FloatArray) -> FloatArray:
        """(..., N, 4, 4) ``T_base_joint`` of all N joint frames, frame 0 the root, for (..., J) rad."""
        fixed, across, along = self.parts
        angle = q[..., self.column, None, None]  # the root's is not used
        local = fixed + np.sin(angle) * across + (1.0 - np.cos(angle)) * along
        frames = np.empty_like(local)
        frames[..., 0, :, :] = self.T_base_root
        for joint, parent in enumerate(self.parents[1:].tolist(), 1):  # a parent's id is below its children's
            frames[..., joint, :, :] = frames[..., parent, :, :] @ local[..., joint, :, :]
        return np.asarray(frames)

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
