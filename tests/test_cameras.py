"""Cameras: the simulated one and OpenCV on files; the same rules for both."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from wm_bridge.cameras.calibration import read_calibration
from wm_bridge.cameras.base import CameraError, CameraInfo, pinhole
from wm_bridge.cameras.mujoco import MujocoCamera
from wm_bridge.cameras.opencv import OpenCVCamera, OpenCVSettings
from wm_bridge.cameras.trigger import Trigger
from wm_bridge.robots import spec as robot_spec
from wm_bridge.sim.config import SceneConfig
from wm_bridge.sim.scene import front_optical_pose
from wm_bridge.sim.world import SimWorld


@pytest.fixture(scope="module")
def spec():
    return robot_spec.load("nico")


@pytest.fixture(scope="module")
def world(spec):
    world = SimWorld(spec)
    yield world
    world.close()


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    assert writer.isOpened()
    for level in (40, 120, 200):
        writer.write(np.full((48, 64, 3), (0, 0, level), np.uint8))  # BGR: red
    writer.release()
    return path


def test_simulated_pictures_are_those_of_the_world_at_its_time(spec, world):
    world.reset()
    world.step(0.2)
    with MujocoCamera(spec, world.state) as camera:
        frame = camera.read()
    assert frame.stamp_ns == world.time_ns
    assert frame.frame_id == "front_optical"
    np.testing.assert_array_equal(frame.image, world.render("front"))


def test_the_front_camera_matches_its_pinhole_model(spec, world):
    block = world.on_table("block", 0.45, -0.25)
    world.reset(objects={"block": block})
    q = spec.home.copy()
    q[:2] = (0.0, 1.7)
    world.reset(q, objects={"block": block})
    with MujocoCamera(spec, world.state, width=640, height=480) as camera:
        picture, K = camera.read().image.astype(int), camera.info.K
    red = (picture[..., 0] > 60) & (picture[..., 0] > 4 * picture[..., 1])
    red &= picture[..., 1] < picture[..., 2] + 15  # not the orange hand
    rows, columns = np.nonzero(red)
    p = np.linalg.inv(front_optical_pose(SceneConfig())) @ np.array([*block[:3], 1.0])
    u, v, w = K @ p[:3]
    assert w > 0
    assert abs(columns.mean() - u / w) < 4 and abs(rows.mean() - v / w) < 4


def test_latency_delays_pictures_and_their_stamps(spec, world):
    world.reset()
    with MujocoCamera(spec, world.state, width=64, height=48, latency_s=0.1) as camera:
        stamps = []
        for _ in range(6):
            stamps.append(camera.read().stamp_ns)
            world.step(0.04)
        assert stamps == [0, 0, 0, 0, 40_000_000, 80_000_000]
        world.reset()
        assert camera.read().stamp_ns == 0


def test_noise_has_the_wanted_size(spec, world):
    world.reset()
    clean = world.render("front", 160, 120).astype(float)
    with MujocoCamera(spec, world.state, width=160, height=120, noise=4.0) as camera:
        first, second = (camera.read().image.astype(float) for _ in range(2))
    inside = (clean > 30) & (clean < 225)
    assert 3.8 < (first - clean)[inside].std() < 4.2
    assert (first != second).mean() > 0.5


def test_the_coarse_floor_looks_as_a_fine_one(spec, world):
    """The floor is drawn in few squares, which saves half of the drawing.

    In the nominal look no pixel differs from fine squares; under other lights a level, and single pixels at edges.
    """
    fine = SimWorld(spec)
    fine.model.geom("floor").size[2] = 0.1  # before its first picture
    for seed in range(12):
        for each in (world, fine):
            each.nominal()
            each.reset(np.random.default_rng(seed).uniform(spec.lower, spec.upper))
            if seed > 2:
                each.randomize(np.random.default_rng(seed))
        difference = np.abs(world.render("front").astype(int) - fine.render("front"))
        assert not difference.any() if seed < 3 else (difference.max(axis=2) > 2).sum() <= 3, f"seed {seed}"
    fine.close()
    world.nominal()
    world.reset()


def test_no_state_yet_is_a_clear_error(spec):
    with MujocoCamera(spec, lambda: None) as camera, pytest.raises(CameraError, match="driver"):
        camera.read()


def test_unconnected_and_unknown_cameras_are_errors(spec, world):
    camera = MujocoCamera(spec, world.state)
    with pytest.raises(CameraError, match="connect"):
        camera.read()
    with pytest.raises(ValueError, match="left_eye"):
        MujocoCamera(spec, world.state, camera="back")


def test_video_files_give_rgb_frames_then_an_error(video):
    with OpenCVCamera(OpenCVSettings(video, 64, 48, real_time=False), lambda: 7) as camera:
        frames = [camera.read() for _ in range(3)]
        with pytest.raises(CameraError, match="loop"):
            camera.read()
    means = [frame.image.reshape(-1, 3).mean(axis=0) for frame in frames]
    assert all(mean[0] > 30 and mean[1] < 20 and mean[2] < 20 for mean in means)
    assert means[0][0] < means[1][0] < means[2][0]
    assert frames[0].stamp_ns == 7


def test_looped_files_go_on(video):
    with OpenCVCamera(OpenCVSettings(video, 64, 48, loop=True, real_time=False)) as camera:
        levels = [camera.read().image[..., 0].mean() for _ in range(7)]
    assert levels[3] == levels[0] and levels[6] == levels[0]


def test_wrong_size_missing_device_and_bad_file_say_what_to_do(video, tmp_path):
    with pytest.raises(CameraError, match="set width 64 and height 48"):
        OpenCVCamera(OpenCVSettings(video)).connect()
    with pytest.raises(CameraError, match="/dev/video97"):
        OpenCVCamera(OpenCVSettings(97)).connect()
    broken = tmp_path / "broken.avi"
    broken.write_text("no video")
    with pytest.raises(CameraError, match="path"):
        OpenCVCamera(OpenCVSettings(broken)).connect()


def test_pinhole_maps_the_field_of_view_onto_the_picture():
    K = pinhole(640, 480, 60.0)
    edge = np.tan(np.radians(30.0))
    np.testing.assert_allclose(K @ [0, edge, 1], [319.5, 479.5, 1])  # the lower edge of the last row
    with pytest.raises(ValueError, match="degrees"):
        pinhole(640, 480, 180.0)
    with pytest.raises(ValueError, match="positive"):
        CameraInfo(0, 480, K, "x")


def test_the_trigger_gives_even_stamps_and_a_late_state_does_not_shift_the_next():
    trigger = Trigger(20.0)
    fired = [ms for ms in range(0, 10_000, 10) if trigger.due(ms * 1_000_000)]
    assert fired == list(range(0, 10_000, 50))
    late = [ms for ms in (10_000, 10_070, 10_080, 10_100, 10_110) if trigger.due(ms * 1_000_000)]
    assert late == [10_000, 10_070, 10_100]
    assert trigger.due(0)  # the simulator began anew
    every = Trigger(100.0)
    assert all(every.due(ms * 1_000_000) for ms in range(0, 10_000, 10))


def test_a_camera_without_a_rate_is_refused():
    with pytest.raises(ValueError, match="rate must be positive"):
        Trigger(0.0)


CALIBRATION = """image_width: 64
image_height: 48
distortion_model: plumb_bob
camera_matrix: {rows: 3, cols: 3, data: [50, 0, 32, 0, 50, 24, 0, 0, 1]}
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, 0, 0, 0, 0]}
"""


def test_a_calibration_is_read_and_must_be_of_the_pictures_size(tmp_path, video):
    path = tmp_path / "c.yaml"
    path.write_text(CALIBRATION)
    info = read_calibration(path)
    assert (info.width, info.height, info.model, info.K[0, 0], info.D[0]) == (64, 48, "plumb_bob", 50.0, 0.1)
    with OpenCVCamera(OpenCVSettings(video, 64, 48, frame_id="eye", calibration=info)) as camera:
        assert camera.info.frame_id == "eye" and camera.info.D[0] == 0.1
    with pytest.raises(CameraError, match="64x48"):
        OpenCVCamera(OpenCVSettings(video, 640, 480, calibration=info))


@pytest.mark.parametrize(
    "change, word",
    [
        (("camera_matrix", "matrix"), "has no 'camera_matrix'"),
        (("50, 0, 32,", "50, 0,"), "not a calibration"),
        (("plumb_bob", "rational"), "distortion must be"),
        (("[0.1, 0,", "[.nan, 0,"), "distortion must be"),
        ((CALIBRATION, "- 1"), "not a calibration"),
        ((CALIBRATION, "{"), "not a calibration"),
    ],
)
def test_a_damaged_calibration_says_what_is_wrong(tmp_path, change, word):
    path = tmp_path / "c.yaml"
    path.write_text(CALIBRATION.replace(*change))
    with pytest.raises(CameraError, match=word):
        read_calibration(path)
    with pytest.raises(CameraError, match="no calibration"):
        read_calibration(tmp_path / "none.yaml")
