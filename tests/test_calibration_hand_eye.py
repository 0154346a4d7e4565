"""Hand-eye calibration on made-up views: the answer is known, bad data is named."""

from __future__ import annotations

import numpy as np
import pytest

from wm_bridge.calibration.board import Board, CalibrationError, Seen
from wm_bridge.calibration.fit import least_squares
from wm_bridge.calibration.hand_eye import View, calibrate
from wm_bridge.calibration.poses import angle_deg, exp_pose, inverse, rotation_vector
from wm_bridge.cameras.base import CameraInfo, pinhole
from wm_bridge.cameras.rectify import projected

BOARD = Board()
INFO = CameraInfo(640, 480, pinhole(640, 480, 50.0), "", np.array([-0.1, 0.02, 0.0, 0.0, 0.0]))
FISHEYE = CameraInfo(640, 480, np.array([[214.6, 0, 324.1], [0, 214.0, 233.8], [0, 0, 1]]), "", np.array([-0.0194, 0.0231, -0.0321, 0.0107]), "equidistant")
X = exp_pose([1.2, -1.1, 0.9, 0.8, -0.3, 0.6])  # T_link_camera
Z = exp_pose([0.3, 0.2, -0.4, 0.02, 0.05, 0.12])  # T_link_board
AXES = np.eye(3)


def made(count=16, seed=0, info=INFO, px=0.2, joints_mm=0.0, joints_deg=0.0, axes=AXES, turn=0.7, size=1.0, near=0.35, far=0.6, aside=0.25):
    """Views of a board that turns about ``axes``; noise of corners, and of the kinematics."""
    rng, views = np.random.default_rng(seed), []
    while len(views) < count:
        depth = rng.uniform(near, far)
        place = [*(rng.uniform(-aside, aside, 2) * depth), depth]
        B = exp_pose([*(np.asarray(axes).T @ rng.uniform(-turn, turn, len(axes))), *place])
        B = B @ exp_pose([0, 0, 0, *(-np.array(BOARD.size_m) / 2), 0])
        points = size * BOARD.points @ B[:3, :3].T + B[:3, 3]
        pixels = projected(info, points) + px * rng.standard_normal((len(points), 2))
        inside = ((pixels > 0) & (pixels < (info.width, info.height))).all(axis=1)
        if inside.sum() < 12:
            continue
        slack = exp_pose([*np.radians(joints_deg * rng.standard_normal(3)), *(1e-3 * joints_mm * rng.standard_normal(3))])
        A = slack @ Z @ inverse(X @ B)  # A X B = Z, but for the joints of the hand
        views.append(View(Seen(f"{len(views)}", np.flatnonzero(inside), pixels[inside], (info.width, info.height)), A))
    return views


def off(found):
    """How far the camera's pose is from the truth, mm and degrees."""
    return 1e3 * np.linalg.norm(found.T_link_camera[:3, 3] - X[:3, 3]), angle_deg(found.T_link_camera[:3, :3].T @ X[:3, :3])


@pytest.mark.parametrize("info, where", [(INFO, {}), (FISHEYE, {"near": 0.15, "far": 0.3, "aside": 0.6})], ids=["plumb_bob", "fisheye"])
def test_camera_and_board_are_found_exactly_without_noise(info, where):
    found = calibrate(made(info=info, px=0.0, **where), info, BOARD)
    mm, deg = off(found)
    assert mm < 0.02 and deg < 0.003 and found.rejected == () and abs(found.scale - 1.0) < 1e-4
    np.testing.assert_allclose(found.T_link_board, Z, atol=3e-5)


@pytest.mark.parametrize("joints_mm, joints_deg", [(0.0, 0.0), (1.0, 0.2)])
def test_the_true_error_is_within_three_times_the_stated_one(joints_mm, joints_deg):
    ratios = []
    for seed in range(5):
        found = calibrate(made(20, seed, joints_mm=joints_mm, joints_deg=joints_deg), INFO, BOARD)
        mm, deg = off(found)
        ratios.append((mm / found.position_mm, deg / found.rotation_deg))
        assert mm < (0.3 if not joints_mm else 3.0) and deg < (0.05 if not joints_mm else 0.4)
    assert np.max(ratios) < 5.0 and np.mean(np.max(ratios, axis=1) < 3.0) >= 0.6
    assert np.median(ratios) > 0.2, "and it is not stated as much worse than it is"


def test_held_out_error_tells_the_noise_of_the_joints():
    found = calibrate(made(24, 1, joints_mm=2.0, joints_deg=0.3), INFO, BOARD)
    wanted_mm = np.hypot(2.0 * np.sqrt(3), np.radians(0.3) * np.sqrt(2) * 1e3 * np.linalg.norm(Z[:3, 3] + Z[:3, :2] @ BOARD.size_m / 2))
    assert abs(found.joints_mm / wanted_mm - 1.0) < 0.35 and abs(found.joints_deg / (0.3 * np.sqrt(3)) - 1.0) < 0.35
    assert found.joints_mm < found.held_out_mm < 2.0 * wanted_mm and found.joints_deg < found.held_out_deg < 1.2


def test_views_that_do_not_fit_are_rejected_by_name():
    views = made(18, 2, joints_mm=0.3)
    views[4] = View(views[4].seen, views[4].A @ exp_pose([0.1, 0, 0, 0, 0.02, 0]))
    views[11] = View(views[11].seen, views[12].A)
    found = calibrate(views, INFO, BOARD)
    assert set(found.rejected) == {"4", "11"} and found.views == 16
    mm, deg = off(found)
    assert mm < 1.5 and deg < 0.15


def shuffled(views):
    return [View(view.seen, views[(index * 7 + 3) % len(views)].A) for index, view in enumerate(views)]


@pytest.mark.parametrize(
    "views, word, remedy",
    [
        (made(7), "7 usable views, at least 8", "take 15"),
        (made(16, axes=AXES[:1]), "about one axis only", "two axes"),
        (made(16, turn=0.02), "hardly", "30 degrees"),
        (made(20, size=0.93), "squares are 27.9. mm wide, 30.00 were given", "--square-mm"),
        (shuffled(made(17)), "contradict the others|do not agree", "slip"),
        (made(20, joints_mm=30.0, joints_deg=3.0), "do not agree|contradict", "slip"),
        ([*made(9), View(Seen("n", np.arange(12), np.ones((12, 2)), (640, 480)), np.full((4, 4), np.nan))], "joints of n are not finite", "leave"),
        ([*made(9), View(Seen("n", np.arange(12), np.ones((12, 2)), (320, 240)), np.eye(4))], "pictures of 320x240", "size"),
    ],
    ids=["few", "one axis", "no turn", "small board", "mixed up", "loose joints", "nan", "other size"],
)
def test_bad_views_are_named_with_the_remedy(views, word, remedy):
    with pytest.raises(CalibrationError, match=word) as error:
        calibrate(views, INFO, BOARD)
    assert remedy in error.value.remedy


def test_rotation_vectors_and_least_squares_are_right():
    vector = np.array([0.4, -2.0, 1.1])
    np.testing.assert_allclose(rotation_vector(exp_pose([*vector, 0, 0, 0])[:3, :3]), vector, atol=1e-9)
    target = np.array([0.7, -0.2])
    found = least_squares(lambda x: np.array([np.exp(x[0]) - np.exp(target[0]), 3 * (x[1] - target[1]) * (1 + x[0] ** 2)]), np.zeros(2))
    np.testing.assert_allclose(found, target, atol=1e-7)
