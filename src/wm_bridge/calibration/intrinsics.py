"""Intrinsics and distortion of a camera from views of the board (Zhang 2000; fisheye: Kannala and Brandt 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from wm_bridge.calibration.board import Board, CalibrationError, Seen
from wm_bridge.calibration.poses import board_pose
from wm_bridge.cameras.base import CameraInfo
from wm_bridge.core.types import FloatArray

LEAST_VIEWS = 8
_FOLDS = 5
_FOCAL_SPREAD = 0.02  # of the focal length between parts of the views: more means it is not determined
_TILT_DEG = 15.0  # between the boards' normals, at least
_WORST_PX = 2.0
_ACROSS = (1.0, 0.6)  # half turns that a fisheye may see across its picture, to begin with
_GRID = (6, 4)  # parts of the picture, columns and rows


@dataclass(frozen=True)
class Intrinsics:
    """What was found and how good it is.

    Attributes:
        info: the camera, frame_id empty.
        views: that were used. rejected: names of those that do not fit the others.
        rms_px: reprojection in the views used. held_out_px: in views that were left out of the fit.
        focal_spread: relative standard deviation of the focal length between parts of the views.
        coverage: share of the picture (in 24 parts) in which corners were seen.
    """

    info: CameraInfo
    views: int
    rejected: tuple[str, ...]
    rms_px: float
    held_out_px: float
    focal_spread: float
    coverage: float


def calibrate(views: Sequence[Seen], board: Board, model: str = "plumb_bob") -> Intrinsics:
    """Fit a camera model.

    Args:
        views: of one camera. model: plumb_bob or equidistant (fisheye).

    Raises:
        CalibrationError: too few or too similar views, pictures of different sizes, another board or model.
    """
    if len(views) < LEAST_VIEWS:
        raise CalibrationError(f"{len(views)} views of the board, at least {LEAST_VIEWS} are needed", "take more pictures of it, from other angles")
    if len({seen.size for seen in views}) != 1:
        raise CalibrationError(f"pictures of different sizes: {sorted({seen.size for seen in views})}", "take all with the same camera and size")
    used = list(views)
    rejected: list[str] = []
    while True:
        info, errors = _fit(used, board, model)
        limit = max(3.0 * float(np.median(errors)), 0.3)
        bad = [seen for seen, error in zip(used, errors, strict=True) if error > limit]
        if not bad:
            break
        rejected += [seen.name for seen in bad]
        used = [seen for seen in used if seen not in bad]
        if len(used) < max(LEAST_VIEWS, len(views) * 2 // 3):
            raise CalibrationError(
                f"{len(rejected)} of {len(views)} views contradict the others", "is the board flat and stiff, and are all pictures of one camera and zoom?"
            )
    rms = float(np.sqrt(np.mean(np.square(errors))))
    if not rms <= _WORST_PX:
        other = "equidistant (a fisheye)" if model == "plumb_bob" else "plumb_bob"
        raise CalibrationError(
            f"corners are {rms:.1f} pixels off where {model} expects them",
            f"check --squares and --dictionary; hold the board flat; a camera of another kind needs --model {other}",
        )
    _require_tilt(info, board, used)
    focals, held_out = [], []
    for fold in range(_FOLDS):
        inside = [seen for index, seen in enumerate(used) if index % _FOLDS != fold]
        outside = [seen for index, seen in enumerate(used) if index % _FOLDS == fold]
        part, _ = _fit(inside, board, model)
        focals.append(part.K[0, 0])
        held_out += [board_pose(part, board, seen)[1] for seen in outside]
    spread = float(np.std(focals) * np.sqrt(_FOLDS - 1) / info.K[0, 0])  # jackknife over folds
    if spread > _FOCAL_SPREAD:
        raise CalibrationError(
            f"the focal length is not determined: it varies by {100 * spread:.1f} % between parts of the views",
            "tilt the board by 30 degrees and more, to all sides, near and far; take 15 views or more",
        )
    return Intrinsics(info, len(used), tuple(rejected), rms, float(np.sqrt(np.mean(np.square(held_out)))), spread, coverage(used))


def coverage(views: Sequence[Seen]) -> float:
    """Share of the picture, in 24 parts, where corners were seen; 0 without views."""
    if not views:
        return 0.0
    cells = np.vstack([seen.corners / seen.size for seen in views]) * _GRID
    return len({tuple(cell) for cell in np.clip(cells.astype(int), 0, np.array(_GRID) - 1)}) / (_GRID[0] * _GRID[1])


def _fit(views: Sequence[Seen], board: Board, model: str) -> tuple[CameraInfo, list[float]]:
    """The model that fits best, and per view its reprojection, pixels."""
    points, pixels = [board.points[seen.ids][None] for seen in views], [seen.corners[None] for seen in views]
    found, problem = [], ""
    for turns in _ACROSS if model == "equidistant" else (0.5,):
        try:
            found.append(_solve(points, pixels, views[0].size, model, turns))
        except (cv2.error, ValueError) as error:
            problem = str(error).strip().splitlines()[-1]
    fits = [(info, [board_pose(info, board, seen)[1] for seen in views]) for info in found]
    if not fits:
        raise CalibrationError(
            f"{model} cannot be fitted: {problem}",
            "take views with the board at other angles and places; leave out those at the very edge of a fisheye",
        )
    return min(fits, key=lambda fit: float(np.median(fit[1])))


def _solve(points: list[FloatArray], pixels: list[FloatArray], size: tuple[int, int], model: str, turns: float) -> CameraInfo:
    """OpenCV's fit, begun with a camera that sees so many half turns across its picture."""
    focal = size[0] / (np.pi * turns)
    start = np.array([[focal, 0.0, (size[0] - 1) / 2], [0.0, focal, (size[1] - 1) / 2], [0.0, 0.0, 1.0]])
    end = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-9)
    if model == "equidistant":
        flags = cv2.CALIB_RECOMPUTE_EXTRINSIC | cv2.CALIB_FIX_SKEW | cv2.CALIB_USE_INTRINSIC_GUESS
        _, K, D, _, _ = cv2.fisheye.calibrate(points, pixels, size, start, np.zeros(4), flags=flags, criteria=end)
        return CameraInfo(*size, K, "", np.ravel(D)[:4], model)
    single = [values.astype(np.float32) for values in points], [values.astype(np.float32) for values in pixels]
    _, K, D, _, _ = cv2.calibrateCamera(*single, size, start, np.zeros(5), criteria=end)
    return CameraInfo(*size, K, "", np.ravel(D)[:5], model)


def _require_tilt(info: CameraInfo, board: Board, views: Sequence[Seen]) -> None:
    normals = np.array([board_pose(info, board, seen)[0][:3, 2] for seen in views])
    widest = float(np.degrees(np.arccos(np.clip(normals @ normals.T, -1.0, 1.0))).max())
    if widest < _TILT_DEG:
        raise CalibrationError(
            f"the board is at nearly the same angle in all views ({widest:.0f} degrees between them)",
            "tilt it by 30 degrees and more, to all sides: from one angle a focal length looks like a distance",
        )
