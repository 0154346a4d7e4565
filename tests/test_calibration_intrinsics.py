"""Intrinsics from pictures of the board: the camera that drew them is found, and bad pictures are named."""

from __future__ import annotations

import numpy as np
import pytest
from board_pictures import BoardCamera, poses

from wm_bridge.calibration.board import Board, CalibrationError, Seen, find_all, require
from wm_bridge.calibration.intrinsics import calibrate, coverage
from wm_bridge.calibration.poses import angle_deg, board_pose
from wm_bridge.cameras.base import CameraInfo
from wm_bridge.cameras.rectify import projected

BOARD = Board()
PINHOLE = CameraInfo(640, 480, np.array([[521.0, 0, 310.0], [0, 519.0, 244.0], [0, 0, 1]]), "", np.array([-0.2, 0.06, 0.001, -0.001, 0.0]))
FISHEYE = CameraInfo(
    640, 480, np.array([[214.6, 0, 324.1], [0, 214.0, 233.8], [0, 0, 1]]), "", np.array([-0.0194, 0.0231, -0.0321, 0.0107]), "equidistant"
)


def views_of(info, count=13, seed=0, board=BOARD, **where):
    camera = BoardCamera(info, board)
    return find_all(BOARD, [(f"{k}.png", camera.draw(T, seed=k)) for k, T in enumerate(poses(board, count, seed, **where))])


def ideal(info, count=16, seed=0, noise=0.05, **where):
    """The same without pictures: corners where they must be, and a little noise."""
    rng, found = np.random.default_rng(seed), []
    for k, T in enumerate(poses(BOARD, count, seed, **where)):
        points = BOARD.points @ T[:3, :3].T + T[:3, 3]
        pixels = projected(info, points) + noise * rng.standard_normal((len(points), 2))
        inside = ((pixels > 0) & (pixels < (info.width, info.height))).all(axis=1)
        found.append(Seen(f"{k}.png", np.flatnonzero(inside), pixels[inside], (info.width, info.height)))
    return found


@pytest.mark.parametrize("info, where", [(PINHOLE, {}), (FISHEYE, {"near": 0.12, "far": 0.22, "aside": 0.8})], ids=["plumb_bob", "fisheye"])
def test_the_camera_that_drew_the_pictures_is_found(info, where):
    views, without = views_of(info, **where)
    assert len(views) >= 10 and len(views) + len(without) == 13
    found = calibrate(views, BOARD, info.model)
    assert found.info.model == info.model and found.rms_px < 0.25 and found.held_out_px < 0.3
    assert np.abs(found.info.K - info.K).max() < 0.005 * info.K[0, 0]
    grid = np.stack(np.meshgrid(np.linspace(-0.45, 0.45, 5), np.linspace(-0.35, 0.35, 5), [1.0]), -1).reshape(-1, 3)
    assert np.abs(projected(found.info, grid) - projected(info, grid)).max() < 1.0, "the same directions at the same pixels"
    assert abs(found.info.K[0, 0] / info.K[0, 0] - 1.0) < 4.0 * found.focal_spread + 1e-3, "within what it says of itself"


def test_corners_are_where_they_were_drawn_and_the_pose_is_found():
    camera, (T, *_) = BoardCamera(PINHOLE, BOARD), poses(BOARD, 1, 3)
    seen = BOARD.find(camera.draw(T), "a.png")
    expected = projected(PINHOLE, BOARD.points[seen.ids] @ T[:3, :3].T + T[:3, 3])
    assert np.abs(seen.corners - expected).max() < 0.35 and len(seen.ids) >= 33
    pose, error = board_pose(PINHOLE, BOARD, seen)
    assert error < 0.2 and np.abs(pose[:3, 3] - T[:3, 3]).max() < 0.001 and angle_deg(pose[:3, :3].T @ T[:3, :3]) < 0.3


def test_a_view_that_contradicts_the_others_is_left_out_by_name():
    views = ideal(PINHOLE, 20)
    views[7] = Seen("7.png", views[7].ids, views[7].corners + 6.0 * np.random.default_rng(1).standard_normal(views[7].corners.shape), views[7].size)
    found = calibrate(views, BOARD)
    assert found.rejected == ("7.png",) and found.views == 19
    np.testing.assert_allclose(found.info.K, PINHOLE.K, atol=1.5)


@pytest.mark.parametrize(
    "views, model, word",
    [
        (ideal(PINHOLE, 7), "plumb_bob", "7 views of the board, at least 8"),
        (ideal(PINHOLE, 12, tilt=0.02), "plumb_bob", "nearly the same angle"),
        (ideal(PINHOLE, 10, noise=1.5, near=1.9, far=2.0, tilt=0.2), "plumb_bob", "not determined|pixels off|same angle"),
        ([*ideal(PINHOLE, 9), Seen("x", np.arange(12), np.ones((12, 2)), (320, 240))], "plumb_bob", "different sizes"),
    ],
    ids=["few", "flat", "far", "sizes"],
)
def test_views_that_determine_nothing_are_refused(views, model, word):
    with pytest.raises(CalibrationError, match=word) as error:
        calibrate(views, BOARD, model)
    assert error.value.remedy


def test_another_board_no_board_and_a_hidden_board_are_told_apart():
    other = Board(7, 9)
    camera, T = BoardCamera(PINHOLE, other), poses(other, 3, 1)
    views, without = find_all(BOARD, [(f"{k}", camera.draw(pose)) for k, pose in enumerate(T)])
    if not views:  # its markers have the same numbers in other places
        with pytest.raises(CalibrationError, match="markers are seen") as error:
            require(0, 8, BOARD, without)
        assert "--squares" in error.value.remedy and "--legacy" in error.value.remedy
    blank = np.full((480, 640, 3), 90, np.uint8)
    with pytest.raises(CalibrationError, match="0 of 1 pictures") as error:
        require(0, 8, BOARD, {"a": BOARD.find(blank)})
    assert "--print-board" in error.value.remedy
    with pytest.raises(CalibrationError, match="more pictures") as error:
        require(3, 8, BOARD, {})
    assert views or without


@pytest.mark.parametrize(
    "change, word",
    [({"columns": 2}, "3 to 40"), ({"marker_m": 0.05}, "do not fit"), ({"dictionary": "3X3_7"}, "there is no dictionary"), ({"columns": 14, "rows": 12}, "need 84 markers")],
)
def test_boards_that_cannot_be_are_refused(change, word):
    with pytest.raises(CalibrationError, match=word):
        Board(**{"columns": 8, "rows": 6, **change})


def test_coverage_counts_the_parts_of_the_picture():
    corner = Seen("", np.arange(2), np.array([[1.0, 1.0], [639.0, 479.0]]), (640, 480))
    assert coverage([corner]) == 2 / 24 and coverage([]) == 0.0
