"""Where a camera is on the robot, from pictures of a board and the joints at that moment.

The board is fixed to a link m, the camera to a link p (one of the two may be the base: a camera on a stand that
looks at a board in the hand, or one on the hand that looks at a board on the table). With the kinematics
``A_i = T_m_p`` of view i, the board's pose ``B_i = T_camera_board`` in its picture, and the two unknowns
``X = T_p_camera``, ``Z = T_m_board``: ``A_i X B_i = Z``. Pairs of views give ``M X = X N``, which is solved in closed form,
rotation first (Park and Martin 1994); then X and Z together make the reprojection of all corners least, which shows the
views that contradict the others; what is left is weighed as in ``weighted``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from wm_bridge.calibration import weighted
from wm_bridge.calibration.board import Board, CalibrationError, Seen
from wm_bridge.calibration.fit import least_squares
from wm_bridge.calibration.poses import angle_deg, board_pose, exp_pose, inverse, reprojection_px, rotation_vector
from wm_bridge.cameras.base import CameraInfo
from wm_bridge.cameras.rectify import projected
from wm_bridge.core.types import FloatArray

LEAST_VIEWS = 8
_FOLDS = 5
_LEAST_TURN_DEG = 8.0  # about the second axis, root mean square over pairs of views
_FULL_TURN = np.radians(170.0)  # beyond, the axis of a turn may be the opposite one
_SCALE, _BETTER = 0.01, 0.85  # the board is of another size when it is off by more, and the error then falls below this share


@dataclass(frozen=True)
class View:
    """One picture: the board's corners, and ``T_board_link_camera_link`` (4, 4) by the joints."""

    seen: Seen
    A: FloatArray


@dataclass(frozen=True)
class HandEye:
    """Where camera and board are, and how good that is.

    Attributes:
        T_link_camera: (4, 4) optical frame on the camera's link. T_link_board: (4, 4) board on its link.
        views: that were used. rejected: names of those that do not fit the others.
        reprojection_px: root mean square over the corners used.
        held_out_mm, held_out_deg: root mean square error of the board's middle and orientation, as seen by the camera,
            in views that were left out of the fit.
        position_mm, rotation_deg: standard error of the camera's own pose (jackknife over parts of the views).
        joints_mm, joints_deg: how far off the joints bring the board, root mean square, as estimated.
        scale: size of the board as the robot's motion tells it, of that which was given.
    """

    T_link_camera: FloatArray
    T_link_board: FloatArray
    views: int
    rejected: tuple[str, ...]
    reprojection_px: float
    held_out_mm: float
    held_out_deg: float
    position_mm: float
    rotation_deg: float
    joints_mm: float
    joints_deg: float
    scale: float


def calibrate(views: Sequence[View], info: CameraInfo, board: Board, worst_mm: float = 15.0, worst_deg: float = 2.0) -> HandEye:
    """Find camera and board.

    Args:
        info: intrinsics of the camera. worst_mm, worst_deg: held-out error that is still accepted.

    Raises:
        CalibrationError: too few views, too little turning, views that contradict each other, a board of another size.
    """
    for view in views:
        if view.seen.size != (info.width, info.height):
            raise CalibrationError(
                f"pictures of {view.seen.size[0]}x{view.seen.size[1]}, the intrinsics are of {info.width}x{info.height}",
                "calibrate the intrinsics with pictures of this size",
            )
        if not np.isfinite(view.A).all():
            raise CalibrationError(f"the joints of {view.seen.name} are not finite", "leave this view out")
    used = list(views)
    rejected: list[str] = []
    while True:
        if len(used) < max(LEAST_VIEWS, len(views) * 2 // 3):
            if not rejected:
                raise CalibrationError(f"{len(used)} usable views, at least {LEAST_VIEWS} are needed", "take 15, each with the hand turned another way")
            raise CalibrationError(
                f"{len(rejected)} of {len(views)} views contradict the others",
                "did board or camera slip? are joints and pictures of the same moment and robot, and the links the right ones?",
            )
        B = [board_pose(info, board, view.seen)[0] for view in used]
        _require_turns(B)
        X, Z = _closed_form([view.A for view in used], B)
        X, Z, _ = _refine(used, info, board, X, Z, robust=True)
        errors = [_error_px(view, info, board, X, Z) for view in used]
        limit = max(4.0 * float(np.median(errors)), 1.0)
        bad = {view.seen.name for view, error in zip(used, errors, strict=True) if error > limit}
        if not bad:
            break
        rejected += sorted(bad)
        used = [view for view in used if view.seen.name not in bad]
    X, Z, _ = _refine(used, info, board, X, Z)
    result = _judged(used, tuple(rejected), info, board, X, Z)
    if not (result.held_out_mm <= worst_mm and result.held_out_deg <= worst_deg):
        raise CalibrationError(
            f"the views do not agree: {result.held_out_mm:.1f} mm and {result.held_out_deg:.2f} degrees off in those left out, "
            f"{worst_mm:g} mm and {worst_deg:g} degrees are accepted",
            "let the robot stand still for each view; check joint zeros, intrinsics, the two links, and that nothing slipped; "
            "or accept it: --accept-mm, --accept-deg",
        )
    return result


def _judged(used: list[View], rejected: tuple[str, ...], info: CameraInfo, board: Board, X: FloatArray, Z: FloatArray) -> HandEye:
    """The best camera and board near X and Z, and their errors."""
    scale = _require_size(used, info, board, X, Z, _rms([_error_px(view, info, board, X, Z) for view in used]))
    A = np.array([view.A for view in used])
    sight = weighted.look([view.seen for view in used], info, board, [inverse(a @ X) @ Z for a in A])
    X, T_link_middle, joints = weighted.fit(A, sight, X, Z @ weighted.middle_of(board))
    off, found = [], []
    for fold in range(_FOLDS):
        inside, outside = ([k for k in range(len(used)) if (k % _FOLDS == fold) is out] for out in (False, True))
        part_X, part_middle, _ = weighted.fit(A[inside], sight.part(inside), X, T_link_middle)
        found.append(np.concatenate([rotation_vector(X[:3, :3].T @ part_X[:3, :3]), part_X[:3, 3] - X[:3, 3]]))
        off.append(weighted.errors(A[outside], sight.part(outside), part_X, part_middle))
    held_out = np.vstack(off)
    spread = np.sqrt((_FOLDS - 1) / _FOLDS * ((np.array(found) - np.mean(found, axis=0)) ** 2).sum(axis=0))
    Z = T_link_middle @ inverse(weighted.middle_of(board))
    return HandEye(
        T_link_camera=X,
        T_link_board=Z,
        views=len(used),
        rejected=rejected,
        reprojection_px=_rms([_error_px(view, info, board, X, Z) for view in used]),
        held_out_mm=1e3 * _rms(np.linalg.norm(held_out[:, 3:], axis=1)),
        held_out_deg=float(np.degrees(_rms(np.linalg.norm(held_out[:, :3], axis=1)))),
        position_mm=1e3 * float(np.linalg.norm(spread[3:])),
        rotation_deg=float(np.degrees(np.linalg.norm(spread[:3]))),
        joints_mm=1e3 * float(np.linalg.norm(joints[3:])),
        joints_deg=float(np.degrees(np.linalg.norm(joints[:3]))),
        scale=scale,
    )


def _require_size(used: list[View], info: CameraInfo, board: Board, X: FloatArray, Z: FloatArray, error_px: float) -> float:
    """How much larger the board is than given, by the robot's motion; a CalibrationError when that explains the errors."""
    X, Z, scale = _refine(used, info, board, X, Z, scaled=True)
    sized = replace(board, square_m=board.square_m * scale, marker_m=board.marker_m * scale)
    if abs(scale - 1.0) > _SCALE and _rms([_error_px(view, info, sized, X, Z) for view in used]) < _BETTER * error_px:
        raise CalibrationError(
            f"by the robot's motion the board's squares are {1e3 * sized.square_m:.2f} mm wide, {1e3 * board.square_m:.2f} were given",
            "measure ten squares with a ruler and give --square-mm and --marker-mm; or the intrinsics are of another camera",
        )
    return scale


def _rms(values: Sequence[float] | FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _require_turns(B: Sequence[FloatArray]) -> None:
    """The board must have turned, relative to the camera, about two axes: one leaves a shift along it unknown."""
    turns = np.array([rotation_vector(b[:3, :3] @ a[:3, :3].T) for a, b in combinations(B, 2)])
    widest, second, _ = np.degrees(np.linalg.svd(turns, compute_uv=False)) / np.sqrt(len(turns))
    if second < _LEAST_TURN_DEG:
        what = f"about one axis only ({widest:.0f} degrees, {second:.1f} about a second one)" if widest >= _LEAST_TURN_DEG else f"hardly ({widest:.1f} degrees)"
        raise CalibrationError(
            f"between the views the board turned {what}: where the camera is cannot be told from that",
            "turn hand or head by 30 degrees and more about at least two axes between the views",
        )


def _closed_form(A: Sequence[FloatArray], B: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """X and Z from M X = X N over all pairs of views; pairs that fit badly count less."""
    pairs = [(inverse(A[j]) @ A[i], B[j] @ inverse(B[i])) for i, j in combinations(range(len(A)), 2)]
    alpha, beta = (np.array([rotation_vector(pair[side][:3, :3]) for pair in pairs]) for side in (0, 1))
    weight = (np.linalg.norm(beta, axis=1) < _FULL_TURN) & (np.linalg.norm(alpha, axis=1) < _FULL_TURN)
    good, R = weight.astype(float), np.eye(3)
    for _ in range(8):
        U, _, Vt = np.linalg.svd((alpha * weight[:, None]).T @ beta)
        R = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
        gaps = np.linalg.norm(alpha - beta @ R.T, axis=1)
        weight = good / (1.0 + (gaps / max(float(np.median(gaps)), 1e-6)) ** 2)
    rows = np.vstack([w * (M[:3, :3] - np.eye(3)) for w, (M, _) in zip(weight, pairs, strict=True)])
    right = np.concatenate([w * (R @ N[:3, 3] - M[:3, 3]) for w, (M, N) in zip(weight, pairs, strict=True)])
    X = np.eye(4)
    X[:3, :3], X[:3, 3] = R, np.linalg.lstsq(rows, right, rcond=None)[0]
    boards = [a @ X @ b for a, b in zip(A, B, strict=True)]
    middle = int(np.argmin([sum(angle_deg(p[:3, :3].T @ q[:3, :3]) for q in boards) for p in boards]))  # least far from the others
    return X, boards[middle]


def _refine(
    views: Sequence[View], info: CameraInfo, board: Board, X: FloatArray, Z: FloatArray, robust: bool = False, scaled: bool = False
) -> tuple[FloatArray, FloatArray, float]:
    """X, Z (and the board's scale) that make the reprojection least; ``robust``: views that fit badly count less."""
    weights = np.ones(len(views))

    def moved(x: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        return X @ exp_pose(x[:6]), Z @ exp_pose(x[6:12]), float(np.exp(x[12])) if scaled else 1.0

    def residuals(x: FloatArray) -> FloatArray:
        new_X, new_Z, scale = moved(x)
        places = []
        for view in views:
            T = inverse(view.A @ new_X) @ new_Z
            places.append(scale * board.points[view.seen.ids] @ T[:3, :3].T + T[:3, 3])
        gaps = projected(info, np.vstack(places)) - seen
        return np.asarray((gaps * each[:, None]).ravel())

    seen = np.vstack([view.seen.corners for view in views])
    counts = [len(view.seen.ids) for view in views]
    x = np.zeros(13 if scaled else 12)
    for _ in range(5 if robust else 1):
        each = np.repeat(weights, counts)
        x = least_squares(residuals, x)
        errors = np.array([_error_px(view, info, board, *moved(x)[:2]) for view in views])
        weights = 1.0 / np.sqrt(1.0 + (errors / (2.0 * max(float(np.median(errors)), 0.05))) ** 2)
    return moved(x)


def _error_px(view: View, info: CameraInfo, board: Board, X: FloatArray, Z: FloatArray) -> float:
    return reprojection_px(info, board, view.seen, inverse(view.A @ X) @ Z)
