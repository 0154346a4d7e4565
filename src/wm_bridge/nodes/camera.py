"""camera_node: pictures, their intrinsics, and where the camera is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from tf2_msgs.msg import TFMessage

from wm_bridge.cameras.base import Camera, CameraError
from wm_bridge.cameras.calibration import read_calibration
from wm_bridge.cameras.trigger import Trigger
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.ros import convert
from wm_bridge.ros.diagnostics import ERROR, OK, Diagnostics
from wm_bridge.ros.node import STEADY, leave, now_ns, publisher, run, set_niceness, subscribe
from wm_bridge.ros.params import declare, setting


DRIVERS = ("mujoco", "opencv", "realsense", "topic")


@dataclass(frozen=True)
class CameraParams:
    """See the descriptions."""

    robot: str = setting("nico", "name in config/robots or path of a YAML file")
    camera_driver: str = setting("mujoco", "mujoco, opencv, realsense, or topic: pictures of another driver")
    camera: str = setting("front", "simulation: front, left_eye or right_eye")
    source: str = setting("0", "opencv: device number, path, or stream address; topic: its name, .../compressed for JPEG")
    width: int = setting(320, "pixels", 16, 4096)
    height: int = setting(240, "pixels", 16, 4096)
    rate_hz: float = setting(15.0, "pictures per second (node time)", 0.5, 120.0)
    realtime_factor: float = setting(1.0, "as of the driver, simulation only", 0.01, 100.0)
    jpeg: bool = setting(False, "publish image_raw/compressed as well")
    noise: float = setting(0.0, "simulation: standard deviation of colour values (of 255)", 0.0, 128.0)
    latency_s: float = setting(0.0, "simulation: age of the drawn state, s", 0.0, 10.0)
    calibration: str = setting("", "opencv: file of the camera's intrinsics, as camera_calibration writes it")
    fovy_deg: float = setting(45.0, "opencv: vertical field of view without calibration", 1.0, 170.0)
    serial: str = setting("", "realsense: serial number; empty: the only one")
    playback: str = setting("", "realsense: recording (.db3) instead of a camera, played again and again")
    depth: bool = setting(False, "realsense: publish depth as well, aligned with the picture")
    exposure_us: float = setting(0.0, "realsense: exposure of the colour sensor, microseconds; 0: automatic", 0.0, 1e6)
    frame_id: str = setting("camera_optical", "real cameras: optical frame (topic: name that driver's here, its pictures keep it)")
    parent_frame: str = setting("base_link", "real cameras: frame that the pose is given in")
    pose: list[float] = setting(
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], "real cameras: x y z (m) and quaternion x y z w of the camera"
    )
    seed: int = setting(0, "of the simulated noise", 0, 2**31 - 1)

    def __post_init__(self) -> None:
        if self.camera_driver not in DRIVERS:
            raise ValueError(f"camera_driver must be one of {', '.join(DRIVERS)}, got '{self.camera_driver}'")
        if len(self.pose) != 7 or abs(np.linalg.norm(self.pose[3:]) - 1.0) > 1e-3:
            raise ValueError(f"pose must be x y z and a unit quaternion x y z w, got {self.pose}")


class CameraNode(Node):
    """Publishes a picture per period; a camera that fails is reported and opened again.

    A real camera is read by a timer. The simulated one is triggered by the simulated time.
    """

    def __init__(self) -> None:
        super().__init__("camera")
        set_niceness(-5)
        self.params = declare(self, CameraParams)
        self._state: Float64MultiArray | None = None
        self._last_ns = -1
        self._trigger = Trigger(self.params.rate_hz)
        self._problem = ""
        self.camera = self._make_camera()
        self.camera.connect()
        self._image = publisher(self, "camera/image_raw")
        self._jpeg = publisher(self, "camera/image_raw/compressed") if self.params.jpeg else None
        self._depth = publisher(self, "camera/depth/image_raw") if self.params.depth else None
        self._info_out = publisher(self, "camera/camera_info")
        self._publish_pose()
        self.diagnostics = Diagnostics(self, self._details)
        scale = self.params.realtime_factor if self.params.camera_driver == "mujoco" else 1.0
        hz = self.params.rate_hz * scale
        self._rate = self.diagnostics.rate("pictures", 0.7 * hz, 1.0, required=True)
        if self.params.camera_driver == "mujoco":
            self._problem = "waiting for sim/state; start the simulated robot's driver"
            subscribe(self, "sim/state", self._on_state)
        else:
            self.create_timer(1.0 / hz, self._shoot, clock=STEADY)

    def stop(self) -> None:
        """Release the camera."""
        self.camera.disconnect()

    def _on_state(self, message: Float64MultiArray) -> None:
        self._state = message
        if self._trigger.due(int(message.data[0]) * 1_000_000_000 + int(message.data[1])):
            self._shoot()

    def _shoot(self) -> None:
        try:
            self.camera.connect()
            frame = self.camera.read()
        except (CameraError, ValueError) as error:
            self._problem = str(error)
            self.get_logger().error(f"no picture: {error}", throttle_duration_sec=5.0)
            if self.params.camera_driver != "mujoco":
                self.camera.disconnect()  # opened again at the next period
            return
        if frame.stamp_ns == self._last_ns:
            return  # nothing new
        self._last_ns, self._problem = frame.stamp_ns, ""
        self._image.publish(convert.to_image(frame))
        try:
            self._info_out.publish(convert.to_camera_info(self.camera.info, frame.stamp_ns))
        except CameraError as error:
            self._problem = str(error)
        if self._jpeg is not None:
            self._jpeg.publish(convert.to_jpeg(frame))
        if self._depth is not None and (depth := self.camera.depth) is not None:
            self._depth.publish(convert.to_depth_image(depth))
        self._rate.mark()

    def _publish_pose(self) -> None:
        self._static = publisher(self, "/tf_static")
        if self.params.camera_driver != "mujoco":
            xyz, xyzw = np.array(self.params.pose[:3]), np.array(self.params.pose[3:])
            transform = convert.to_transform_parts(self.params.parent_frame, self.params.frame_id, xyz, xyzw, 0)
        elif self.params.camera == "front":
            from wm_bridge.sim.config import SceneConfig
            from wm_bridge.sim.scene import front_optical_pose

            transform = convert.to_transform(
                self._base_frame, self.camera.info.frame_id, front_optical_pose(SceneConfig()), 0
            )
        else:
            return  # the eyes are links of the robot
        self._static.publish(TFMessage(transforms=[transform]))

    def _make_camera(self) -> Camera:
        params = self.params
        if params.camera_driver == "opencv":
            from wm_bridge.cameras.opencv import OpenCVCamera

            return OpenCVCamera(
                params.source,
                params.width,
                params.height,
                params.rate_hz,
                fovy_deg=params.fovy_deg,
                frame_id=params.frame_id,
                now_ns=lambda: now_ns(self),
                calibration=read_calibration(Path(params.calibration)) if params.calibration else None,
            )
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
                frame_id=params.frame_id,
            )
            return RealSenseCamera(settings, lambda: now_ns(self))
        if params.camera_driver == "topic":
            from wm_bridge.ros.topic_camera import TopicCamera

            return TopicCamera(self, params.source)
        # Mesa draws with all cores unless told otherwise; the planner needs one of them.
        os.environ.setdefault("LP_NUM_THREADS", "1")
        from wm_bridge.cameras.mujoco import MujocoCamera
        from wm_bridge.sim.state import SimState

        spec = robot_spec.load(params.robot)
        self._base_frame = spec.base_frame

        def newest() -> SimState | None:
            if self._state is None:
                return None
            return SimState.from_array(convert.from_numbers(self._state))

        return MujocoCamera(
            spec,
            newest,
            camera=params.camera,
            width=params.width,
            height=params.height,
            noise=params.noise,
            latency_s=params.latency_s,
            seed=params.seed,
        )

    def _details(self) -> tuple[int, str, dict[str, str]]:
        return ERROR if self._problem else OK, self._problem, {}


def _make() -> CameraNode:
    try:
        return CameraNode()
    except CameraError as error:
        raise UserError(error.message, error.remedy, 2) from error


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(_make, argv)

if __name__ == "__main__":
    leave(main())
