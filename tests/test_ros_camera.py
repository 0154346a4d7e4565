"""The camera process with real drivers: a RealSense recording and a video file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import realsense_recording as recording
from conftest import wait_until
from realsense_recording import COEFFICIENTS, HEIGHT, WIDTH
from ros_probe import Probe, probing, use_fast_dds_profile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from wm_bridge.core.types import Frame
from wm_bridge.ros import convert, qos


@contextmanager
def camera(env: dict[str, str], *parameters: str) -> Iterator[tuple[subprocess.Popen[str], Probe]]:
    use_fast_dds_profile(env)
    words = [word for text in parameters for word in ("-p", text)]
    command = [sys.executable, "-m", "wm_bridge.nodes.camera", "--ros-args", *words]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        with probing(int(env["ROS_DOMAIN_ID"])) as probe:
            yield process, probe
    finally:
        process.terminate()
        assert process.wait(15.0) == 0


def pixels(message, dtype=np.uint8, channels=3):
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width, channels)


@pytest.fixture(scope="module")
def wall(tmp_path_factory):
    path = tmp_path_factory.mktemp("realsense") / "wall.db3"
    recording.record(path, pictures=30, depth_m=1.2)
    return path


def test_a_realsense_recording_runs_through_the_node_with_its_depth(ros_env, wall):
    size = (f"width:={WIDTH}", f"height:={HEIGHT}", "rate_hz:=30.0")
    with camera(ros_env, "camera_driver:=realsense", f"playback:={wall}", "depth:=true", *size) as (_, probe):
        depths = []
        name = "camera/depth/image_raw"
        probe.node.create_subscription(qos.message_type(name), name, depths.append, qos.monitor_profile(name))
        wait_until(lambda: len(depths) > 5 and probe.count["camera/image_raw"] > 40, 30.0, "pictures of two rounds, and depth")
        info, image = probe.fresh("camera/camera_info"), probe.last["camera/image_raw"]
        assert info.distortion_model == "plumb_bob"
        np.testing.assert_allclose(info.d, COEFFICIENTS, rtol=1e-6)
        assert (image.width, image.height, image.header.frame_id) == (WIDTH, HEIGHT, "camera_optical")
        assert np.ptp(pixels(image)) == 0
        depth = depths[-1]
        assert depth.encoding == "16UC1" and depth.header.frame_id == "camera_optical"
        assert set(np.unique(pixels(depth, np.uint16, 1))) == {0, 1200}
        transform = probe.last["/tf_static"].transforms[0]
        assert (transform.header.frame_id, transform.child_frame_id) == ("base_link", "camera_optical")


def test_a_calibrated_fisheye_tells_its_distortion(ros_env, tmp_path):
    video, calibration = tmp_path / "clip.avi", tmp_path / "eye.yaml"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(600):
        writer.write(np.full((48, 64, 3), 90, np.uint8))
    writer.release()
    calibration.write_text(
        "image_width: 64\nimage_height: 48\ncamera_name: eye\ndistortion_model: equidistant\n"
        "camera_matrix: {rows: 3, cols: 3, data: [44.0, 0, 31.0, 0, 45.0, 23.0, 0, 0, 1]}\n"
        "distortion_coefficients: {rows: 1, cols: 4, data: [-0.02, 0.03, -0.01, 0.001]}\n"
    )
    words = ("camera_driver:=opencv", f"source:={video}", "width:=64", "height:=48", "rate_hz:=20.0", f"calibration:={calibration}")
    with camera(ros_env, *words) as (_, probe):
        info = probe.fresh("camera/camera_info", 30.0)
        assert info.distortion_model == "equidistant" and list(info.d) == [-0.02, 0.03, -0.01, 0.001]
        assert list(info.k) == [44.0, 0, 31.0, 0, 45.0, 23.0, 0, 0, 1]


@pytest.mark.parametrize("compressed", [False, True])
def test_pictures_of_another_driver_keep_their_stamp_and_frame(ros_env, compressed):
    source = "/other/image_raw" + "/compressed" * compressed
    with camera(ros_env, "camera_driver:=topic", f"source:={source}", "rate_hz:=20.0") as (_, probe):
        kind = CompressedImage if compressed else Image
        pictures, infos = probe.node.create_publisher(kind, source, 1), probe.node.create_publisher(CameraInfo, "/other/camera_info", 1)
        wait_until(lambda: pictures.get_subscription_count() and infos.get_subscription_count(), 20.0, "the camera node listens")
        info = CameraInfo(width=32, height=24, k=[40.0, 0, 16, 0, 40, 12, 0, 0, 1], distortion_model="equidistant", d=[0.1, 0.0, 0.0, 0.0])
        frame = Frame(np.full((24, 32, 3), (200, 100, 50), np.uint8), 0, "left_eye_optical")

        def heard():
            frame.image[0, 0, 0] ^= 1
            stamped = Frame(frame.image, probe.node.get_clock().now().nanoseconds, frame.frame_id)
            infos.publish(info)
            pictures.publish(convert.to_jpeg(stamped, 95) if compressed else convert.to_image(stamped))
            sent.append(stamped.stamp_ns)
            return probe.count["camera/image_raw"] > 3 and probe.count["camera/camera_info"] > 1

        sent = []
        wait_until(heard, 20.0, "pictures go through")
        image, told = probe.last["camera/image_raw"], probe.last["camera/camera_info"]
        assert convert.from_time(image.header.stamp) in sent and image.header.frame_id == "left_eye_optical"
        assert np.abs(pixels(image).astype(int).mean((0, 1)) - (200, 100, 50)).max() < 4
        assert told.distortion_model == "equidistant" and list(told.d) == [0.1, 0, 0, 0] and told.width == 32
        before = probe.count["camera/image_raw"]
        wait_until(lambda: any("no picture on /other" in s.message for m in probe.heard["/diagnostics"] for s in m.status), 20.0, "silence is told")
        assert probe.count["camera/image_raw"] <= before + 2, "an old picture is not sent again"


def test_a_camera_that_is_not_there_says_so_and_what_to_do(ros_env):
    command = [sys.executable, "-m", "wm_bridge.nodes.camera", "--ros-args", "-p", "camera_driver:=realsense"]
    done = subprocess.run(command, env=ros_env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "0 RealSense cameras are connected" in done.stderr and "plug it in" in done.stderr and "Traceback" not in done.stderr
