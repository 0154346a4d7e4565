"""The camera process with real drivers: a RealSense recording and a video file."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from conftest import wait_until
from ros_probe import Probe, probing, use_fast_dds_profile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from wm_bridge.bags.reader import opened
from wm_bridge.calibration.board import Board
from wm_bridge.calibration.simulated import simulate
from wm_bridge.cameras import recording
from wm_bridge.cameras.base import CameraInfo as CameraInfoValue
from wm_bridge.cameras.calibration import write_calibration
from wm_bridge.cameras.extrinsics import Extrinsics, read_extrinsics, write_extrinsics
from wm_bridge.cameras.recording import COEFFICIENTS, HEIGHT, WIDTH
from wm_bridge.core.types import Frame, JointState
from wm_bridge.robots import spec as robots
from wm_bridge.ros import convert, qos
from wm_bridge.supervisor import Graph


EYE = CameraInfoValue(64, 48, np.array([[44.0, 0, 31], [0, 45, 23], [0, 0, 1]]), "", np.array([-0.02, 0.03, -0.01, 0.001]), "equidistant")


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


def make_video(path, level, pictures=600):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(pictures):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


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
    video, calibration = make_video(tmp_path / "clip.avi", 90), tmp_path / "eye.yaml"
    write_calibration(calibration, EYE, "eye", {})
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


def test_two_cameras_at_once_have_their_own_topics_frames_and_intrinsics_and_are_recorded(tmp_path):
    calibration, extrinsics = tmp_path / "eye.yaml", tmp_path / "where.yaml"
    write_calibration(calibration, EYE, "eye", {})
    write_extrinsics(extrinsics, Extrinsics("head", "right_optical", [0.1, 0.2, 0.3], [0.5, -0.5, 0.5, -0.5]), {"found": "in a test"})
    size = {"width": 64, "height": 48, "rate_hz": 20.0}
    overrides = {
        "camera": {**size, "source": str(make_video(tmp_path / "one.avi", 60)), "calibration": str(calibration), "rectify": True},
        "camera2": {**size, "source": str(make_video(tmp_path / "two.avi", 180, 15)), "extrinsics": str(extrinsics)},
    }
    skip = ("driver", "safety", "planner", "goal", "viz")
    with Graph.start("robot", overrides, tmp_path / "run", skip, say=lambda text: None, cameras=("camera", "camera2")) as graph:
        use_fast_dds_profile(graph.env)
        with probing(graph.domain) as probe:
            heard = {}

            def listen(name):
                heard[name] = []
                probe.node.create_subscription(qos.message_type(name), name, heard[name].append, qos.monitor_profile(name))

            for name in ("camera/image_raw", "camera2/image_raw", "camera/camera_info", "camera2/camera_info", "camera/image_rect"):
                listen(name)
            counts: dict[str, int] = {}

            def enough():
                counts.update({name: len(found) for name, found in heard.items()})
                return min(counts.values()) > 20

            wait_until(enough, 40.0, counts)
            frames = [t for message in probe.heard["/tf_static"] for t in message.transforms]
        (one, two), (info, info2) = ([heard[f"{name}/{kind}"][-1] for name in ("camera", "camera2")] for kind in ("image_raw", "camera_info"))
        assert abs(pixels(one).mean() - 60) < 4 and abs(pixels(two).mean() - 180) < 4
        assert one.header.frame_id == info.header.frame_id == "camera_optical"
        assert two.header.frame_id == info2.header.frame_id == "right_optical"
        assert (info.distortion_model, info2.distortion_model) == ("equidistant", "plumb_bob")
        assert info.p[0] != info.k[0] and list(info2.p)[:3] == list(info2.k)[:3]
        stamps = [{convert.from_time(message.header.stamp) for message in heard[name]} for name in ("camera/image_rect", "camera/image_raw")]
        assert len(stamps[0] & stamps[1]) > 10, "a rectified picture has the stamp of its picture"
        found = {t.child_frame_id: t for t in frames}
        assert found["camera_optical"].header.frame_id == "base_link" and found["right_optical"].header.frame_id == "head"
        assert found["right_optical"].transform.translation.z == 0.3 and found["right_optical"].transform.rotation.w == -0.5
    with opened(tmp_path / "run" / "bag") as (reader, note):
        counts = {c.topic: c.msgcount for c in reader.connections}
    assert not note and all(counts[f"/{name}/{kind}"] > 20 for name in ("camera", "camera2") for kind in ("image_raw/compressed", "camera_info"))


@pytest.mark.parametrize(
    "parameters, word",
    [
        (("frame_id:=left_eye_optical", "extrinsics:={}"), "is of eye_optical, the pictures are of left_eye_optical"),
        (("extrinsics:=none.yaml",), "no extrinsics none.yaml"),
        (("parent_frame:=nowhere",), "parent frame nowhere is no link of nico"),
        (("pose:=[0.0,0.0,.nan,0.0,0.0,0.0,1.0]",), "pose must be"),
        (("pixel_format:=MPEG4",), "four letters"),
    ],
)
def test_a_place_of_the_camera_that_makes_no_sense_is_refused(ros_env, tmp_path, parameters, word):
    where = tmp_path / "where.yaml"
    write_extrinsics(where, Extrinsics("base_link", "eye_optical", np.zeros(3), [0, 0, 0, 1]), {})
    words = [part for text in (f"source:={tmp_path}/clip.avi", "camera_driver:=opencv", *parameters) for part in ("-p", text.format(where))]
    make_video(tmp_path / "clip.avi", 50, 3)
    command = [sys.executable, "-m", "wm_bridge.nodes.camera", "--ros-args", *words]
    done = subprocess.run(command, env=ros_env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr


def test_a_live_calibration_takes_a_view_at_every_posture_and_finds_the_camera(ros_env, tmp_path):
    """The simulated robot's pictures and joints on the topics of a graph, one posture after another."""
    spec = robots.load("nico")
    scene = simulate(spec, Board(), spec.base_frame, spec.tools["right_arm"], seed=1, count=10, joint_deg=0.0)
    use_fast_dds_profile(ros_env)
    out = tmp_path / "where.yaml"
    words = ["hand-eye", "--live", "--views", "9", "--out", str(out)]
    command = [sys.executable, "-u", "-m", "wm_bridge.cli.main", "calibrate-camera", *words]
    process = subprocess.Popen(command, env=ros_env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        with probing(int(ros_env["ROS_DOMAIN_ID"])) as probe:
            pictures, infos, states = (
                probe.node.create_publisher(qos.message_type(name), name, qos.profile(name)) for name in ("camera/image_raw", "camera/camera_info", "joint_states")
            )
            heard: list[str] = []
            threading.Thread(target=lambda: heard.extend(iter(process.stdout.readline, "")), daemon=True).start()
            for count, shot in enumerate(scene.taker.shots):
                q = np.array([shot.joints[name] for name in spec.joint_names])

                def taken(count=count, shot=shot, q=q):
                    now = probe.node.get_clock().now().nanoseconds
                    states.publish(convert.to_joint_state(JointState(spec.joint_names, q, 0 * q, 0 * q, now)))
                    if now - sent[-1] > 150_000_000:
                        sent.append(now)
                        infos.publish(convert.to_camera_info(scene.info, now))
                        pictures.publish(convert.to_image(Frame(shot.picture, now, "front_optical")))
                    return f"view {count + 1} taken" in "".join(heard) or process.poll() is not None

                sent = [0]
                wait_until(taken, 40.0, f"view {count + 1}: {heard[-3:]}")
        assert process.wait(60.0) == 0, heard
    finally:
        process.kill()
    assert np.linalg.norm(read_extrinsics(out).position - scene.T_link_camera[:3, 3]) < 2e-3
    assert any("tilt or turn it more" in line or "enough" in line for line in heard)
