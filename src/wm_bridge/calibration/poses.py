"""Rigid transforms, and the pose of a board from its corners."""

from __future__ import annotations

import cv2
import numpy as np

from wm_bridge.calibration.board import Board, Seen
from wm_bridge.cameras.base import CameraInfo
from wm_bridge.cameras.rectify import projected, undistorted
from wm_bridge.core.types import FloatArray

_WIDEST = 20.0  # tangent beyond which a fisheye's corner says little about the pose


def exp_pose(vector: FloatArray) -> FloatArray:
    """(6,) rotation vector (rad) and translation (m) to a (4, 4) transform."""
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.asarray(vector[:3], dtype=float))[0]
    T[:3, 3] = vector[3:]
    return T


def rotation_vector(R: FloatArray) -> FloatArray:
    """(3, 3) rotation to (3,) rad, its axis times its angle of 0..pi."""
    return np.asarray(cv2.Rodrigues(np.ascontiguousarray(R))[0]).ravel()


def angle_deg(R: FloatArray) -> float:
    """Angle of a (3, 3) rotation."""
    return float(np.degrees(np.linalg.norm(rotation_vector(R))))


def inverse(T: FloatArray) -> FloatArray:
    """Inverse of a (4, 4) rigid transform."""
    found = np.eye(4)
    found[:3, :3] = T[:3, :3].T
    found[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return found


def board_pose(info: CameraInfo, board: Board, seen: Seen, near: FloatArray | None = None) -> tuple[FloatArray, float]:
    """Where the board is in the camera's optical frame, from one picture.

    A plane that is seen from afar has two poses; the one that fits the corners better is given, or that nearer to ``near``.

    Returns:
        (4, 4) ``T_camera_board``, and the root mean square of the reprojection, pixels; inf when there is no pose.
    """
    rays, points = undistorted(info, seen.corners), board.points[seen.ids]
    good = (np.abs(rays) < _WIDEST).all(axis=1)
    if good.sum() < 6:
        return np.eye(4), float("inf")
    rays, points = rays[good], points[good]
    try:
        count, turns, places, _ = cv2.solvePnPGeneric(points, rays, np.eye(3), None, flags=cv2.SOLVEPNP_IPPE)
    except cv2.error:
        return np.eye(4), float("inf")
    found, starts = [], list(zip(turns[:count], places[:count], strict=True))
    if near is not None:
        starts.append((rotation_vector(near[:3, :3]).reshape(3, 1), near[:3, 3].reshape(3, 1).copy()))
    for turn, place in starts:
        turn, place = cv2.solvePnPRefineLM(points, rays, np.eye(3), None, turn, place)
        T = exp_pose(np.concatenate([turn.ravel(), place.ravel()]))
        if T[2, 3] > 0.0:
            error = reprojection_px(info, board, seen, T)
            found.append((T, error, error if near is None else angle_deg(near[:3, :3].T @ T[:3, :3])))
    T, error, _ = min(found, key=lambda one: one[2], default=(np.eye(4), float("inf"), 0.0))
    return T, error


def reprojection_px(info: CameraInfo, board: Board, seen: Seen, T_camera_board: FloatArray) -> float:
    """Root mean square distance of seen and expected corners, pixels."""
    points = board.points[seen.ids] @ T_camera_board[:3, :3].T + T_camera_board[:3, 3]
    gaps = projected(info, points) - seen.corners
    return float(np.sqrt((gaps**2).sum(axis=1).mean()))
