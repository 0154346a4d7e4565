"""Pictures of a board through any camera model, by following the ray of every pixel."""

from __future__ import annotations

import cv2
import numpy as np

from wm_bridge.calibration.poses import exp_pose
from wm_bridge.cameras.rectify import undistorted

_FINE = 2  # rays per pixel and direction
_DOTS = 60  # pixels of the board's picture per square


class BoardCamera:
    """Draws a board wherever it is; grey level 110 around it."""

    def __init__(self, info, board):
        self.info, self.board = info, board
        u, v = np.meshgrid(*((np.arange(size * _FINE) + 0.5) / _FINE - 0.5 for size in (info.width, info.height)))
        self._rays = np.hstack([undistorted(info, np.stack([u.ravel(), v.ravel()], 1)), np.ones((u.size, 1))])
        self._shape = u.shape
        self._picture = board.picture(_DOTS)

    def draw(self, T_camera_board, noise=2.0, seed=0):
        """(H, W, 3) uint8."""
        R, t = T_camera_board[:3, :3], T_camera_board[:3, 3]
        depth = (R[:, 2] @ t) / (self._rays @ R[:, 2])
        places = (self._rays * depth[:, None] - t) @ R
        dots = places[:, :2] / self.board.square_m * _DOTS - 0.5
        dots[(depth <= 0.0) | ~np.isfinite(dots).all(axis=1)] = -1e4
        maps = [dots[:, axis].reshape(self._shape).astype(np.float32) for axis in (0, 1)]
        fine = cv2.remap(self._picture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=110)
        grey = cv2.resize(fine, (self.info.width, self.info.height), interpolation=cv2.INTER_AREA).astype(float)
        grey += noise * np.random.default_rng(seed).standard_normal(grey.shape)
        return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def poses(board, count, seed, near=0.3, far=0.5, tilt=0.6, aside=0.35):
    """``count`` times T_camera_board: the board's middle at most ``aside`` of its distance beside the axis, tilted up to ``tilt`` rad."""
    rng, found = np.random.default_rng(seed), []
    middle = np.eye(4)
    middle[:2, 3] = -np.array(board.size_m) / 2
    for _ in range(count):
        depth = rng.uniform(near, far)
        x, y = rng.uniform(-aside, aside, 2) * depth * (1.0, 0.75)
        found.append(exp_pose([*rng.uniform(-tilt, tilt, 2), rng.uniform(-0.5, 0.5), x, y, depth]) @ middle)
    return found
