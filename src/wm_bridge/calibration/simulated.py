"""The simulated robot with a board in its hand: views whose true answer is known."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from wm_bridge.calibration.board import Board, CalibrationError, Seen
from wm_bridge.calibration.poses import inverse
from wm_bridge.calibration.taker import Taker
from wm_bridge.calibration.views import Shot, is_new
from wm_bridge.cameras.base import CameraInfo, pinhole
from wm_bridge.cameras.rectify import projected
from wm_bridge.core.kinematics import Kinematics
from wm_bridge.core.types import FloatArray
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.sim.config import PlateConfig, SceneConfig

_SIZE = (640, 480)
_TRIES = 3000
_REACH_RAD = 0.9  # of each joint from home
_TOWARDS_M = 0.06  # board before the tool, seen from the camera
_FACING = 0.6  # least cosine between the board's normal and the line of sight
_DOTS = 60  # pixels of the board's picture per square


@dataclass(frozen=True)
class Simulated:
    """Views, the true intrinsics, and the true ``T_link_camera``, ``T_link_board``."""

    taker: Taker
    info: CameraInfo
    T_link_camera: FloatArray
    T_link_board: FloatArray


def simulate(spec: RobotSpec, board: Board, camera_link: str, board_link: str, seed: int, count: int = 20, joint_deg: float = 0.05) -> Simulated:
    """Draw ``count`` views of the board, which ``board_link`` holds so that the camera sees it when the robot is at home.

    Args:
        camera_link: the base (camera ``front``) or a link of the head (``left_eye``).
        joint_deg: standard deviation of the joint angles that are told.

    Raises:
        CalibrationError: the camera hardly ever sees the board.
    """
    from wm_bridge.sim.scene import front_optical_pose, to_quaternion
    from wm_bridge.sim.world import SimWorld

    rng, kinematics, scene = np.random.default_rng(seed), Kinematics(spec), SceneConfig()
    camera = "front" if camera_link == spec.base_frame else "left_eye"

    def camera_pose(q: FloatArray) -> FloatArray:
        return front_optical_pose(scene) if camera == "front" else kinematics.forward(q, f"{camera}_optical")

    info = CameraInfo(*_SIZE, pinhole(*_SIZE, scene.fovy_deg(camera)), f"{camera}_optical")
    T_link_board = _held(board, camera_pose(spec.home), kinematics.forward(spec.home, board_link))
    picture = np.repeat(board.picture(_DOTS)[..., None], 3, axis=2)
    plate = PlateConfig(
        "board", board_link, tuple(T_link_board[:3, 3]), tuple(to_quaternion(T_link_board[:3, :3])), board.size_m,
        (picture.shape[1], picture.shape[0]), picture.tobytes(),
    )  # fmt: skip
    world = SimWorld(spec, dataclasses.replace(scene, plates=(plate,)))
    taker = Taker(board, True, info)
    edge = np.array([[x, y, 0.0] for x in (0.0, board.size_m[0]) for y in (0.0, board.size_m[1])])
    try:
        for _ in range(_TRIES):
            q = spec.clip(spec.home + rng.uniform(-_REACH_RAD, _REACH_RAD, len(spec.home)))
            T_camera_board = inverse(camera_pose(q)) @ kinematics.forward(q, board_link) @ T_link_board
            places = edge @ T_camera_board[:3, :3].T + T_camera_board[:3, 3]
            sight = places.mean(axis=0) / np.linalg.norm(places.mean(axis=0))
            if places[:, 2].min() < 0.1 or T_camera_board[:3, 2] @ sight < _FACING:
                continue
            pixels = projected(info, places)
            if (pixels < 0.0).any() or (pixels > np.array(_SIZE) - 1.0).any():
                continue
            world.reset(q, objects={})
            name = f"{len(taker.shots):03d}.png"
            image = world.render(camera, *_SIZE)
            seen = board.find(image, name)
            if not isinstance(seen, Seen) or not is_new(seen, taker.seen):
                continue  # an arm is in between, or it is too far away
            told = q + np.radians(joint_deg) * rng.standard_normal(len(q))
            taker.seen.append(seen)
            taker.shots.append(Shot(name, image, dict(zip(spec.joint_names, map(float, told), strict=True))))
            if len(taker.shots) == count:
                break
        else:
            raise CalibrationError(f"{camera} sees the board of {board_link} in {len(taker.shots)} of {_TRIES} postures", "a smaller board, or another link")
    finally:
        world.close()
    T_link_camera = inverse(kinematics.forward(spec.home, camera_link)) @ camera_pose(spec.home)
    return Simulated(taker, info, T_link_camera, T_link_board)


def _held(board: Board, T_base_camera: FloatArray, T_base_link: FloatArray) -> FloatArray:
    """(4, 4) ``T_link_board`` of a board that faces the camera, a little before the link."""
    sight = T_base_link[:3, 3] - T_base_camera[:3, 3]
    z = sight / np.linalg.norm(sight)
    x = T_base_camera[:3, 0] - z * (T_base_camera[:3, 0] @ z)
    T = np.eye(4)
    T[:3, 0], T[:3, 2] = x / np.linalg.norm(x), z
    T[:3, 1] = np.cross(T[:3, 2], T[:3, 0])
    T[:3, 3] = T_base_link[:3, 3] - _TOWARDS_M * z - T[:3, :2] @ (np.array(board.size_m) / 2.0)
    return inverse(T_base_link) @ T
