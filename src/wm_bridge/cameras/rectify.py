"""Pictures as a pinhole without distortion would show them."""

from __future__ import annotations

import dataclasses

import numpy as np

from wm_bridge.cameras.base import CameraError, CameraInfo
from wm_bridge.core.types import FloatArray, Frame


def undistorted(info: CameraInfo, points: FloatArray) -> FloatArray:
    """(N, 2) pixels of the camera to (N, 2) directions x / z, y / z of its optical frame."""
    import cv2

    undo = cv2.fisheye.undistortPoints if info.model == "equidistant" else cv2.undistortPoints
    flat = np.asarray(points, dtype=float).reshape(-1, 1, 2)
    return np.asarray(undo(flat, info.K, info.D, criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-9))).reshape(-1, 2)


def projected(info: CameraInfo, points: FloatArray) -> FloatArray:
    """(N, 3) points of the optical frame, m, to (N, 2) pixels; only what lies in front of the camera has a meaning."""
    import cv2

    project = cv2.fisheye.projectPoints if info.model == "equidistant" else cv2.projectPoints
    flat, zero = np.asarray(points, dtype=float).reshape(-1, 1, 3), np.zeros(3)
    return np.asarray(project(flat, zero, zero, info.K, info.D)[0]).reshape(-1, 2)


def rectified_matrix(info: CameraInfo) -> FloatArray:
    """(3, 3) matrix of the widest pinhole, of the same size, all of whose pixels the camera saw.

    Found by halving its focal length's range. OpenCV's own estimates fail for fisheyes that see more than 180 degrees.

    Raises:
        CameraError: there is none; the calibration makes no sense.
    """
    width, height = info.width, info.height
    columns, rows = np.linspace(0.0, width - 1.0, 33), np.linspace(0.0, height - 1.0, 33)
    border = np.array([(u, v) for u in columns for v in (0.0, height - 1.0)] + [(u, v) for v in rows for u in (0.0, width - 1.0)])
    centre = np.array([info.K[0, 2], info.K[1, 2]])
    low, high = 0.05 * float(info.K[0, 0]), 20.0 * float(info.K[0, 0])

    def seen(focal: float) -> bool:
        """Whether the whole border comes from the picture, where directions further out lie further out."""
        rays = np.hstack([(border - [(width - 1) / 2, (height - 1) / 2]) / focal, np.ones((len(border), 1))])
        pixels, inner = projected(info, rays), projected(info, rays * [0.98, 0.98, 1.0])
        outward = np.linalg.norm(pixels - centre, axis=1) > np.linalg.norm(inner - centre, axis=1)
        inside = ((pixels >= 0.0) & (pixels <= [width - 1.0, height - 1.0])).all(axis=1)
        return bool(outward.all() and inside.all())

    if not seen(high):
        raise CameraError(f"no picture without distortion comes out of K {info.K.tolist()} and D {info.D.tolist()}", "calibrate the camera again")
    while high - low > 0.01:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if seen(middle) else (middle, high)
    return np.array([[high, 0.0, (width - 1) / 2], [0.0, high, (height - 1) / 2], [0.0, 0.0, 1.0]])


class Rectifier:
    """Takes the distortion out of pictures of one camera; size and optical frame stay.

    Of a fisheye only the middle is left, see ``rectified_matrix``.

    Attributes:
        source: intrinsics that it was made for. info: the same, with the matrix of the rectified pictures.
    """

    def __init__(self, info: CameraInfo) -> None:
        import cv2

        new, size = rectified_matrix(info), (info.width, info.height)
        make = cv2.fisheye.initUndistortRectifyMap if info.model == "equidistant" else cv2.initUndistortRectifyMap
        self._maps = make(info.K, info.D, np.eye(3), new, size, cv2.CV_16SC2)
        self.source = info
        self.info = dataclasses.replace(info, rectified=new)

    def rectify(self, frame: Frame) -> Frame:
        """The same picture without distortion."""
        import cv2

        return Frame(cv2.remap(frame.image, *self._maps, cv2.INTER_LINEAR), frame.stamp_ns, frame.frame_id)
