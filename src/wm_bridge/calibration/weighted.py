"""Camera and board with the least error, when both the corners and the robot's joints are uncertain.

Each view says where the board is twice: by its corners, with a covariance that follows from their pixels (large along
the line of sight), and by the joints. How much joints are wrong is not known beforehand: one standard deviation of
angle and one of position, seen at the board's middle, are estimated together with the poses (variance components). So
a precise arm is trusted where the picture is poor, and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wm_bridge.calibration.board import Board, Seen
from wm_bridge.calibration.fit import least_squares
from wm_bridge.calibration.poses import board_pose, exp_pose, inverse
from wm_bridge.cameras.base import CameraInfo
from wm_bridge.cameras.rectify import projected
from wm_bridge.core.types import FloatArray

_LEAST_PX = 0.05  # no corner is known better
_LEAST = np.array([1e-5] * 3 + [1e-5] * 3)  # rad and m: no robot is better
_STEP = 1e-5


@dataclass(frozen=True)
class Sight:
    """What the pictures alone say; N views.

    Attributes:
        B: (N, 4, 4) ``T_camera_middle``, of a frame at the board's middle.
        C: (N, 6, 6) covariance of rotation (rad) and place (m) in that frame.
    """

    B: FloatArray
    C: FloatArray

    def part(self, which: Sequence[int]) -> Sight:
        """Some of the views."""
        return Sight(self.B[list(which)], self.C[list(which)])


def middle_of(board: Board) -> FloatArray:
    """(4, 4) ``T_board_middle``."""
    T = np.eye(4)
    T[:2, 3] = np.array(board.size_m) / 2.0
    return T


def look(seen: Sequence[Seen], info: CameraInfo, board: Board, expected: Sequence[FloatArray]) -> Sight:
    """Board poses from the corners; of the two that a plane may have, the one nearer to ``expected`` T_camera_board."""
    T_board_middle = middle_of(board)
    found = [board_pose(info, board, one, near) for one, near in zip(seen, expected, strict=True)]
    pixel = max(float(np.sqrt(np.mean([error**2 for _, error in found]) / 2.0)), _LEAST_PX)
    poses, covariances = [], []
    for one, (T, _) in zip(seen, found, strict=True):
        pose = T @ T_board_middle
        points = board.points[one.ids] - T_board_middle[:3, 3]

        def pixels(x: FloatArray, pose: FloatArray = pose, points: FloatArray = points) -> FloatArray:
            moved = pose @ exp_pose(x)
            return projected(info, points @ moved[:3, :3].T + moved[:3, 3]).ravel()

        at = pixels(np.zeros(6))
        J = np.stack([(pixels(_STEP * unit) - at) / _STEP for unit in np.eye(6)], axis=1)
        poses.append(pose)
        covariances.append(pixel**2 * np.linalg.inv(J.T @ J + 1e-6 * np.eye(6)))
    return Sight(np.array(poses), np.array(covariances))


def errors(A: FloatArray, sight: Sight, X: FloatArray, T_link_middle: FloatArray) -> FloatArray:
    """(N, 6) rotation (rad) and place (m) of the board by the joints, in its frame by the picture."""
    E = np.array([inverse(pose) for pose in sight.B]) @ (inverse(X) @ np.array([inverse(a) for a in A]) @ T_link_middle)
    return _small(E)


def fit(A: FloatArray, sight: Sight, X: FloatArray, T_link_middle: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """X, T_link_middle, and the joints' (6,) standard deviations, from poses close by.

    Args:
        A: (N, 4, 4) ``T_board_link_camera_link``.
    """
    B_inverse, A_inverse = np.array([inverse(pose) for pose in sight.B]), np.array([inverse(a) for a in A])
    joints = np.maximum(np.sqrt((errors(A, sight, X, T_link_middle) ** 2).mean(axis=0)), _LEAST)
    x = np.zeros(12)
    for _ in range(6):
        whiten = np.linalg.cholesky(np.linalg.inv(sight.C + np.diag(joints**2))).transpose(0, 2, 1)

        def residuals(x: FloatArray, whiten: FloatArray = whiten) -> FloatArray:
            E = B_inverse @ (inverse(X @ exp_pose(x[:6])) @ A_inverse @ (T_link_middle @ exp_pose(x[6:])))
            return np.asarray((whiten @ _small(E)[:, :, None]).ravel())

        x = least_squares(residuals, x)
        new_X, new_middle = X @ exp_pose(x[:6]), T_link_middle @ exp_pose(x[6:])
        e, K = errors(A, sight, new_X, new_middle), whiten.transpose(0, 2, 1) @ whiten
        prior = np.diag(joints**2)
        share = (prior @ K @ e[:, :, None])[:, :, 0]  # expected joint error of each view, and what remains unsure of it
        left = np.diagonal(prior - prior @ K @ prior, axis1=1, axis2=2)
        square = (share**2 + left).mean(axis=0) * len(A) / max(len(A) - 2, 1)  # 12 unknowns of 6 numbers per view
        joints = np.maximum(np.sqrt(np.repeat(square.reshape(2, 3).mean(axis=1), 3)), _LEAST)
    return new_X, new_middle, joints


def _small(E: FloatArray) -> FloatArray:
    """(N, 6) rotation vectors and places of (N, 4, 4) transforms that turn by less than a right angle."""
    R = E[:, :3, :3]
    vector = 0.5 * np.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], axis=1)
    sine = np.minimum(np.linalg.norm(vector, axis=1, keepdims=True), 1.0)
    return np.hstack([vector * np.where(sine > 1e-9, np.arcsin(sine) / np.maximum(sine, 1e-9), 1.0), E[:, :3, 3]])
