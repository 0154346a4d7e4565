"""From the parameters of a camera node to a camera of ours, and to where it is."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node

from wm_bridge.cameras.base import Camera, CameraError
from wm_bridge.cameras.calibration import read_calibration
from wm_bridge.cameras.extrinsics import read_extrinsics
from wm_bridge.robots import spec as robot_spec
from wm_bridge.ros import convert
from wm_bridge.ros.node import now_ns
from wm_bridge.ros.params import setting
from wm_bridge.sim.state import SimState

DRIVERS = ("mujoco", "opencv", "realsense", "topic")
EYES = ("left_eye", "right_eye")


@dataclass(frozen=True)
class CameraParams:
    """See the descriptions."""

    robot: str = setting("nico", "name in config/robots or path of a YAML file")
    camera_driver: str = setting("mujoco", "mujoco, opencv, realsense, or topic: pictures of another driver")
    camera: str = setting("front", "simulation: front, left_eye or right_eye")
    source: str = setting("0", "opencv: device (/dev/v4l/by-id/... or number), file, or stream address; topic: its name, .../compressed for JPEG")
    width: int = setting(320, "width of the pictures", 16, 4096, unit="pixels")
    height: int = setting(240, "height of the pictures", 16, 4096, unit="pixels")
    rate_hz: float = setting(15.0, "pictures per second (node time)", 0.5, 120.0)
    realtime_factor: float = setting(1.0, "as of the driver, simulation only", 0.01, 100.0, unit="s per s")
    jpeg: bool = setting(False, "publish image_raw/compressed as well")
    rectify: bool = setting(False, "publish image_rect as well: without distortion, with P of camera_info")
    noise: float = setting(0.0, "simulation: standard deviation of colour values", 0.0, 128.0, unit="of 255")
    latency_s: float = setting(0.0, "simulation: age of the drawn state, s", 0.0, 10.0)
    calibration: str = setting("", "opencv: file of intrinsics, of ./wm calibrate-camera intrinsics or camera_calibration")
    fovy_deg: float = setting(45.0, "opencv: vertical field of view without calibration", 1.0, 170.0)
    pixel_format: str = setting("MJPG", "opencv: format of a device, as of v4l2-ctl --list-formats; empty: as it is")
    loop: bool = setting(False, "opencv: begin a file again at its end")
    serial: str = setting("", "realsense: serial number; empty: the only one")
    playback: str = setting("", "realsense: recording (.db3) instead of a camera, played again and again")
    depth: bool = setting(False, "realsense: publish depth as well, aligned with the picture")
    exposure_us: float = setting(0.0, "opencv device, realsense: exposure, microseconds; 0: automatic", 0.0, 1e6)
    tf_prefix: str = setting("", "before the names of all frames, for two arms in one graph: left/ (pictures of another driver keep theirs)")
    frame_id: str = setting("", "real cameras: optical frame; empty: NODE_optical (topic: name that driver's here, its pictures keep it)")
    extrinsics: str = setting("", "real cameras: file of ./wm calibrate-camera hand-eye: where the camera is, instead of the two below")
    parent_frame: str = setting("base_link", "real cameras: frame that the pose is given in")
    pose: list[float] = setting(
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], "real cameras: x y z and quaternion x y z w of the camera", unit="m, 1"
    )
    seed: int = setting(0, "of the simulated noise", 0, 2**31 - 1, unit="1")

    def __post_init__(self) -> None:
        if self.camera_driver not in DRIVERS:
            raise ValueError(f"camera_driver must be one of {', '.join(DRIVERS)}, got '{self.camera_driver}'")
        if len(self.pose) != 7 or not np.isfinite(self.pose).all() or abs(np.linalg.norm(self.pose[3:]) - 1.0) > 1e-3:
            raise ValueError(f"pose must be x y z and a unit quaternion x y z w, got {self.pose}")
        if len(self.pixel_format) not in (0, 4):
            raise ValueError(f"pixel_format must have four letters, as MJPG or YUYV, got '{self.pixel_format}'")


def optical_frame(node: Node, params: CameraParams) -> str:
    """Frame of the pictures (REP 103)."""
    if params.camera_driver == "mujoco":
        return f"{params.camera}_optical"
    return params.frame_id or (read_extrinsics(Path(params.extrinsics)).frame_id if params.extrinsics else f"{node.get_name()}_optical")


def make_camera(node: Node, params: CameraParams, newest: Callable[[], SimState | None], arrived: Callable[[], None]) -> Camera:
    """The camera that the parameters describe, not connected yet.

    Args:
        newest: the simulator's state. arrived: called with every picture of another driver.

    Raises:
        CameraError: a calibration does not fit. FileNotFoundError, ValueError: no such robot.
    """
    frame_id = params.tf_prefix + optical_frame(node, params)
    if params.camera_driver == "opencv":
        from wm_bridge.cameras.opencv import OpenCVCamera, OpenCVSettings

        usb = OpenCVSettings(
            source=params.source,
            width=params.width,
            height=params.height,
            fps=params.rate_hz,
            pixel_format=params.pixel_format,
            exposure_us=params.exposure_us,
            fovy_deg=params.fovy_deg,
            frame_id=frame_id,
            calibration=read_calibration(Path(params.calibration)) if params.calibration else None,
            loop=params.loop,
        )
        return OpenCVCamera(usb, lambda: now_ns(node))
    if params.camera_driver == "realsense":
        from wm_bridge.cameras.realsense import RealSenseCamera, RealSenseSettings

        settings = RealSenseSettings(
            serial=params.serial,
            width=params.width,
            height=params.height,
            fps=round(params.rate_hz),
            depth=params.depth,
            exposure_us=params.exposure_us,
            playback=Path(params.playback) if params.playback else None,
            loop=True,
            frame_id=frame_id,
        )
        return RealSenseCamera(settings, lambda: now_ns(node))
    if params.camera_driver == "topic":
        from wm_bridge.ros.topic_camera import TopicCamera

        return TopicCamera(node, params.source, arrived)
    # Mesa draws with all cores unless told otherwise; the planner needs one of them.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    from wm_bridge.cameras.mujoco import MujocoCamera

    return MujocoCamera(
        robot_spec.load(params.robot),
        newest,
        camera=params.camera,
        width=params.width,
        height=params.height,
        noise=params.noise,
        latency_s=params.latency_s,
        seed=params.seed,
    )


def camera_transform(node: Node, params: CameraParams) -> TransformStamped | None:
    """Where the camera is; None where the robot's description says it.

    Raises:
        CameraError: extrinsics that cannot be read, or that the robot's description contradicts.
    """
    found = _transform(node, params)
    if found is not None:
        found.header.frame_id = params.tf_prefix + found.header.frame_id
        found.child_frame_id = params.tf_prefix + found.child_frame_id
    return found


def _transform(node: Node, params: CameraParams) -> TransformStamped | None:
    frame_id = optical_frame(node, params)
    if params.camera_driver == "mujoco":
        if params.camera in EYES:
            return None  # links of the robot
        from wm_bridge.sim.config import SceneConfig
        from wm_bridge.sim.scene import front_optical_pose

        return convert.to_transform(robot_spec.load(params.robot).base_frame, frame_id, front_optical_pose(SceneConfig()), 0)
    known = _links(params.robot)
    if params.extrinsics:
        found = read_extrinsics(Path(params.extrinsics))
        parent, xyz, xyzw = found.parent_frame, found.position, found.orientation
        if found.frame_id != frame_id:
            raise CameraError(
                f"{params.extrinsics} is of {found.frame_id}, the pictures are of {frame_id}", "leave frame_id empty, or calibrate this camera"
            )
    else:
        if frame_id in known:
            return None
        parent, xyz, xyzw = params.parent_frame, np.array(params.pose[:3]), np.array(params.pose[3:])
    if frame_id in known:
        raise CameraError(
            f"{frame_id} is a link of {params.robot} already, and a frame has one place",
            "calibrate with another --frame-id, or put the pose into the URDF",
        )
    if known and parent not in known:
        raise CameraError(f"the camera's parent frame {parent} is no link of {params.robot}", f"it has {', '.join(sorted(known))}")
    return convert.to_transform_parts(parent, frame_id, xyz, xyzw, 0)


def _links(robot: str) -> set[str]:
    """Names of the robot's links; none when it has no description."""
    spec = robot_spec.load(robot)
    if not spec.urdf:
        return set()
    return {str(link.get("name")) for link in ElementTree.parse(spec.urdf_path()).getroot().findall("link")}
