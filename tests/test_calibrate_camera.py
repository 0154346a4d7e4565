"""The command ./wm calibrate-camera: board on paper, folders, bags, the simulated robot whose true answer is known."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from board_pictures import BoardCamera, poses
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from wm_bridge.calibration.board import Board, CalibrationError, Seen, find_all
from wm_bridge.calibration.poses import angle_deg
from wm_bridge.calibration.simulated import simulate
from wm_bridge.calibration.taker import Taker
from wm_bridge.calibration.views import Shot, advice, is_new, link_poses, read_folder, write_folder
from wm_bridge.cameras.base import CameraError, CameraInfo
from wm_bridge.cameras.calibration import read_calibration
from wm_bridge.cameras.extrinsics import read_extrinsics
from wm_bridge.cli import calibrate_camera
from wm_bridge.cli.calibration_bag import read_bag
from wm_bridge.core.types import Frame, JointState
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots

S = 1_000_000_000
BOARD = Board()
INFO = CameraInfo(640, 480, np.array([[521.0, 0, 310.0], [0, 519.0, 244.0], [0, 0, 1]]), "", np.array([-0.2, 0.06, 0.001, -0.001, 0.0]))


def run(*words):
    return calibrate_camera.main([str(word) for word in words])


@pytest.fixture(scope="module")
def scene():
    """Twenty views of the simulated robot that holds the board, exact joints."""
    spec = robots.load("nico")
    return spec, simulate(spec, BOARD, spec.base_frame, spec.tools["right_arm"], seed=1, joint_deg=0.0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, camera = tmp_path_factory.mktemp("pictures"), BoardCamera(INFO, BOARD)
    write_folder(folder, [Shot(f"{k:02d}.png", camera.draw(T, seed=k)) for k, T in enumerate(poses(BOARD, 12, 0))])
    return folder


# ---- paper ------------------------------------------------------------------------------


def test_the_printed_board_has_its_true_size_and_says_what_it_is(tmp_path, capsys):
    assert run("--print-board", tmp_path / "board.png") == 0
    assert "A4" in capsys.readouterr().out
    page = cv2.imread(str(tmp_path / "board.png"))
    assert np.abs(np.array(page.shape[:2]) - np.array([210, 297]) / 25.4 * 300).max() <= 1.0
    seen = BOARD.find(page)
    assert len(seen.ids) == 35
    mm = seen.corners / 300 * 25.4
    np.testing.assert_allclose(np.diff(mm.reshape(5, 7, 2), axis=1), np.broadcast_to([30.0, 0.0], (5, 6, 2)), atol=0.08)
    np.testing.assert_allclose(np.diff(mm.reshape(5, 7, 2), axis=0), np.broadcast_to([0.0, 30.0], (4, 7, 2)), atol=0.08)
    assert run("--print-board", tmp_path / "board.pdf", "--squares", "10x7", "--paper", "A3") == 0
    assert (tmp_path / "board.pdf").read_bytes()[:5] == b"%PDF-"


@pytest.mark.parametrize(
    "words, word",
    [
        (("--print-board", "b.txt"), "no .pdf or .png"),
        (("--print-board", "b.pdf", "--squares", "40x40", "--dictionary", "4X4_1000"), "does not fit on any"),
        (("--print-board", "b.pdf", "--paper", "B7"), "no paper"),
        (("--print-board", "b.pdf", "--squares", "eight"), "columns x rows"),
        (("intrinsics", "--pictures", "nowhere"), "holds no pictures"),
        (("hand-eye", "--bag", "nowhere"), "there is no bag"),
        (("hand-eye", "--simulate", "--robot", "nobody"), "no robot"),
    ],
)
def test_wrong_arguments_say_what_is_right(words, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=word) as error:
        run(*words)
    assert error.value.exit_code == 2 and error.value.remedy


# ---- intrinsics -------------------------------------------------------------------------


def test_intrinsics_of_a_folder_are_written_for_ros_and_the_camera_node(pictures, tmp_path, capsys):
    out = tmp_path / "made" / "eye.yaml"
    assert run("intrinsics", "--pictures", pictures, "--out", out, "--name", "left") == 0
    info, text = read_calibration(out), out.read_text()
    assert np.abs(info.K - INFO.K).max() < 4.0 and info.model == "plumb_bob" and info.width == 640
    assert "camera_name: left" in text and "projection_matrix" in text and "# reprojection: 0." in text
    assert "in views that were left out" in capsys.readouterr().out


def test_pictures_without_the_board_are_named_in_the_error(pictures, tmp_path):
    with pytest.raises(CalibrationError, match="markers are seen, but not as on this board|only .* corners") as error:
        run("intrinsics", "--pictures", pictures, "--squares", "5x9")
    assert "--squares" in error.value.remedy or "sharp" in error.value.remedy


# ---- hand-eye ---------------------------------------------------------------------------


def test_the_true_place_of_the_simulated_camera_is_found(scene, tmp_path, capsys):
    spec, made = scene
    write_folder(tmp_path / "kept", made.taker.shots)
    calibration = tmp_path / "eye.yaml"
    from wm_bridge.cameras.calibration import write_calibration

    write_calibration(calibration, made.info, "front", {})
    out = tmp_path / "where.yaml"
    assert run("hand-eye", "--pictures", tmp_path / "kept", "--intrinsics", calibration, "--out", out, "--frame-id", "eye_optical") == 0
    found = read_extrinsics(out)
    assert (found.parent_frame, found.frame_id) == ("base_link", "eye_optical")
    assert np.linalg.norm(found.position - made.T_link_camera[:3, 3]) < 5e-4
    from transforms3d.quaternions import quat2mat

    R = quat2mat(np.roll(found.orientation, 1))
    assert angle_deg(R.T @ made.T_link_camera[:3, :3]) < 0.05
    text = capsys.readouterr().out
    assert "standard error of this pose" in text and "held-out error" in text


def test_an_eye_in_the_head_that_looks_at_a_board_in_the_hand_is_found_and_the_true_error_is_told(tmp_path, capsys):
    assert run("hand-eye", "--simulate", "--camera-on", "head", "--out", tmp_path / "eye.yaml") == 0
    text = capsys.readouterr().out
    mm, deg = (float(part.split()[0]) for part in text.split("true error: ")[1].split(", "))
    stated = [float(part.split()[0]) for part in text.split("standard error of this pose: ")[1].split(", ")]
    assert mm < 3.0 and deg < 0.3 and mm < 4.0 * stated[0] and deg < 4.0 * stated[1]
    assert read_extrinsics(tmp_path / "eye.yaml").parent_frame == "head"


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda joints: joints.pop("r_elbow_y"), "r_elbow_y between base_link and right_tcp are not told"),
        (lambda joints: joints.update(r_elbow_y=float("nan")), "not finite"),
        (lambda joints: joints.update(knee=1.0), "no joints knee"),
    ],
)
def test_joints_that_are_missing_unknown_or_not_finite_are_named(scene, change, word):
    spec, made = scene
    joints = dict(made.taker.shots[0].joints)
    change(joints)
    with pytest.raises(CalibrationError, match=word):
        link_poses(spec, [dataclasses.replace(made.taker.shots[0], joints=joints)], spec.home, "base_link", "right_tcp")


@pytest.mark.parametrize("camera, board, word", [("base_link", "base_link", "both on"), ("nose", "right_tcp", "no frame 'nose'")])
def test_links_that_cannot_be_are_refused(scene, camera, board, word):
    spec, made = scene
    with pytest.raises(CalibrationError, match=word):
        link_poses(spec, made.taker.shots[:1], spec.home, camera, board)


def test_folders_without_joints_or_with_damaged_ones_are_errors(scene, tmp_path):
    write_folder(tmp_path, [Shot("a.png", np.zeros((8, 8, 3), np.uint8))])
    for text, word in ((None, "does not tell"), ("- 1", "does not tell"), ("b.png: {r_elbow_y: 0.1}", "names none"), ("a.png: {r_elbow_y: x}", "does not tell")):
        if text is not None:
            (tmp_path / "joints.yaml").write_text(text)
        with pytest.raises(CalibrationError, match=word):
            read_folder(tmp_path, True)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(CalibrationError, match="b.png cannot be read"):
        read_folder(tmp_path, False)


@pytest.mark.parametrize(
    "text, word",
    [
        ("parent_frame: a\nframe_id: b\nposition: [0, .nan, 0]\norientation: [0, 0, 0, 1]\n", "position must be 3 finite"),
        ("parent_frame: a\nframe_id: b\nposition: [0, 0, 0]\norientation: [0, 0, 0, 2]\n", "unit quaternion"),
        ("parent_frame: a\nframe_id: a\nposition: [0, 0, 0]\norientation: [0, 0, 0, 1]\n", "two frames"),
        ("parent_frame: a\nframe_id: b\nposition: [0, 0, 0]\n", "has no 'orientation'"),
        ("[1", "holds no extrinsics"),
        ("- 1", "holds no extrinsics"),
    ],
)
def test_damaged_extrinsics_say_what_is_wrong(tmp_path, text, word):
    path = tmp_path / "where.yaml"
    path.write_text(text)
    with pytest.raises(CameraError, match=word):
        read_extrinsics(path)


# ---- bags and live views ------------------------------------------------------------------


def bag_of(scene, folder, still=True, joints=True):
    """Each view for a second, with the joints at rest or moving, as the recorder writes it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    kinds = store.types
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:

        def channel(topic, kind):
            connection = writer.add_connection(topic, kind, typestore=store)
            return lambda at, message: writer.write(connection, at, store.serialize_cdr(message, kind))

        image, info = channel("/camera/image_raw/compressed", "sensor_msgs/msg/CompressedImage"), channel("/camera/camera_info", "sensor_msgs/msg/CameraInfo")
        states = channel("/joint_states", "sensor_msgs/msg/JointState") if joints else None

        def header(at):
            return kinds["std_msgs/msg/Header"](stamp=kinds["builtin_interfaces/msg/Time"](sec=at // S, nanosec=at % S), frame_id="front_optical")

        roi = kinds["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        K = scene.info.K
        told = kinds["sensor_msgs/msg/CameraInfo"](
            header(S), 480, 640, "plumb_bob", np.zeros(5), K.ravel(), np.eye(3).ravel(), np.hstack([K, np.zeros((3, 1))]).ravel(), 0, 0, roi
        )
        info(S, told)
        for k, shot in enumerate(scene.taker.shots):
            begin = (10 + k) * S
            png = cv2.imencode(".png", shot.picture[..., ::-1])[1].ravel()
            for step in range(11):
                at = begin + step * S // 10
                if states is not None:
                    q = np.array(list(shot.joints.values())) + (0.0 if still and 2 <= step else 0.05 * step)
                    states(at, kinds["sensor_msgs/msg/JointState"](header(at), list(shot.joints), q, np.zeros(len(q)), np.zeros(len(q))))
            image(begin + S * 6 // 10, kinds["sensor_msgs/msg/CompressedImage"](header(begin + S * 6 // 10), "rgb8; png compressed bgr8", png))
    return folder


def test_a_bag_gives_the_camera_its_place_with_the_intrinsics_that_it_holds(scene, tmp_path):
    bag, out = bag_of(scene[1], tmp_path / "bag"), tmp_path / "where.yaml"
    assert run("hand-eye", "--bag", bag, "--out", out, "--keep", tmp_path / "kept") == 0
    assert np.linalg.norm(read_extrinsics(out).position - scene[1].T_link_camera[:3, 3]) < 1e-3
    assert len(read_folder(tmp_path / "kept", True)) == len(scene[1].taker.shots)


def test_bags_in_which_the_robot_moves_or_that_lack_something_say_so(scene, tmp_path):
    with pytest.raises(CalibrationError, match="the robot moves in all 20 pictures"):
        read_bag(Taker(BOARD, True), bag_of(scene[1], tmp_path / "moving", still=False), "camera", True)
    with pytest.raises(CalibrationError, match="holds no joint_states"):
        read_bag(Taker(BOARD, True), bag_of(scene[1], tmp_path / "joints", joints=False), "camera", True)
    with pytest.raises(CalibrationError, match="no pictures of the camera node left_eye"):
        read_bag(Taker(BOARD, True), tmp_path / "joints", "left_eye", True)


def test_the_taker_waits_for_stillness_and_for_new_places(scene):
    shots, spec = scene[1].taker.shots, scene[0]
    taker = Taker(BOARD, True, scene[1].info)

    def states(shot, speed=0.0):
        q = np.array([shot.joints[name] for name in spec.joint_names])
        return [JointState(spec.joint_names, q + speed * k, 0 * q, 0 * q, S + k * S // 20) for k in range(-4, 5)]

    first = Frame(shots[0].picture, S, "front_optical")
    assert taker.look(Frame(np.full((480, 640, 3), 90, np.uint8), S, ""), states(shots[0])) == "no marker is seen"
    assert taker.look(first, states(shots[0], 0.02)) == "stand still"
    assert taker.look(first, []) == "stand still"
    assert taker.look(first, states(shots[0])).startswith("view 1 taken")
    assert taker.look(first, states(shots[0])) == "move on: the board is where it was"
    for shot in shots[1:]:
        text = taker.look(Frame(shot.picture, S, "front_optical"), states(shot))
    assert len(taker.shots) == len(shots) and "enough" in text
    by_hand = Taker(BOARD, False)
    assert by_hand.look(first, []) == "hold it still"
    assert by_hand.look(first, []).startswith("view 1 taken")


def test_advice_asks_for_what_is_missing():
    left = Seen("", np.arange(35), BOARD.points[:, :2] * 400 + 20, (640, 480))
    assert advice([], BOARD, None, False) == "show the board"
    assert advice([left] * 3, BOARD, None, False) == "show it at the bottom right of the picture, tilted"
    flat = [T for T in poses(BOARD, 4, 0, tilt=0.01)]
    seen, _ = find_all(BOARD, [(str(k), BoardCamera(INFO, BOARD).draw(T)) for k, T in enumerate(flat[:3])])
    assert "tilt or turn it more" in advice(seen, BOARD, INFO, True)
    assert not is_new(left, [left]) and is_new(dataclasses.replace(left, corners=left.corners + 40), [left])
