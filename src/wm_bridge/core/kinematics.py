"""Where the robot's frames are and how they move with the joints (pinocchio on our URDF)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pinocchio

from wm_bridge.core.types import FloatArray


@runtime_checkable
class RobotDescription(Protocol):
    """What is needed of a robot; ``robots.spec.RobotSpec`` satisfies it."""

    @property
    def joint_names(self) -> tuple[str, ...]:
        """(J,) names; the order of every joint array."""

    @property
    def base_frame(self) -> str:
        """Frame in which results are given."""

    def urdf_path(self) -> Path:
        """Where the URDF lies."""


class Kinematics:
    """Forward kinematics and Jacobians by frame name.

    All joint arrays are in ``spec.joint_names`` order, whatever order pinocchio has.
    Not thread safe: one instance per thread.
    """

    def __init__(self, spec: RobotDescription) -> None:
        self._model = pinocchio.buildModelFromUrdf(str(spec.urdf_path()))
        self._data = self._model.createData()
        known = set(self._model.names) - {"universe"}
        if known != set(spec.joint_names):
            raise ValueError(
                f"joints differ between {spec.urdf_path().name} and the configuration: "
                f"{sorted(known ^ set(spec.joint_names))}"
            )
        ids = [self._model.getJointId(name) for name in spec.joint_names]
        self._q = np.array([self._model.joints[joint].idx_q for joint in ids])
        self._v = np.array([self._model.joints[joint].idx_v for joint in ids])
        self._names = {frame.name: index for index, frame in enumerate(self._model.frames)}
        self._base = self._frame(spec.base_frame)

    def forward(self, q: FloatArray, frame: str) -> FloatArray:
        """Return (4, 4) ``T_base_frame`` for (J,) joint positions in rad.

        Raises:
            ValueError: unknown frame, wrong shape, or a number that is not finite.
        """
        index = self._frame(frame)
        pinocchio.framesForwardKinematics(self._model, self._data, self._order(q))
        base = self._data.oMf[self._base]
        return np.array((base.inverse() * self._data.oMf[index]).homogeneous)

    def positions(self, q: FloatArray, frame: str) -> FloatArray:
        """Return (..., 3) frame origins in the base frame, m, for (..., J) joint positions."""
        q = np.asarray(q, dtype=float)
        flat = q.reshape(-1, q.shape[-1])
        points = [self.forward(row, frame)[:3, 3] for row in flat]
        return np.array(points).reshape(*q.shape[:-1], 3)

    def jacobian(self, q: FloatArray, frame: str) -> FloatArray:
        """Return (6, J): linear (m/s) over angular (rad/s) velocity per joint speed.

        Taken at the frame's origin, in base-frame axes.
        """
        index = self._frame(frame)
        jacobian = pinocchio.computeFrameJacobian(
            self._model, self._data, self._order(q), index, pinocchio.LOCAL_WORLD_ALIGNED
        )[:, self._v]
        pinocchio.framesForwardKinematics(self._model, self._data, self._order(q))
        R_world_base = self._data.oMf[self._base].rotation
        return np.vstack([R_world_base.T @ jacobian[:3], R_world_base.T @ jacobian[3:]])

    def limits(self) -> tuple[FloatArray, FloatArray]:
        """Return the URDF's own (J,) lower and upper position limits, rad."""
        return (
            np.array(self._model.lowerPositionLimit)[self._q],
            np.array(self._model.upperPositionLimit)[self._q],
        )

    def _order(self, q: FloatArray) -> FloatArray:
        q = np.asarray(q, dtype=float)
        if q.shape != self._q.shape or not np.isfinite(q).all():
            raise ValueError(f"expected {self._q.size} finite joint positions, got {q}")
        ordered = np.empty(self._model.nq)
        ordered[self._q] = q
        return ordered

    def _frame(self, name: str) -> int:
        if name not in self._names:
            raise ValueError(f"no frame {name!r} in the URDF; have {sorted(self._names)}")
        return self._names[name]
