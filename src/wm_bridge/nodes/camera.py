"""camera_node: pictures, their intrinsics, and where the camera is.

Topics are named after the node: ``camera/image_raw``, or ``camera2/image_raw`` of a node ``camera2``.
"""

from __future__ import annotations

import time

from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from tf2_msgs.msg import TFMessage

from wm_bridge.cameras.base import CameraError
from wm_bridge.cameras.rectify import Rectifier
from wm_bridge.cameras.trigger import Trigger
from wm_bridge.core.types import Frame
from wm_bridge.errors import UserError
from wm_bridge.ros import convert
from wm_bridge.nodes.camera_setup import CameraParams, camera_transform, make_camera
from wm_bridge.ros.diagnostics import ERROR, OK, Diagnostics
from wm_bridge.ros.node import STEADY, leave, publisher, run, set_niceness, subscribe
from wm_bridge.ros.params import declare
from wm_bridge.sim.state import SimState

_S = 1_000_000_000
_AGAIN_S = 0.25  # between two tries to open a camera that failed
_SILENT_S = 0.5  # between two looks whether another driver is silent
_CLOSER = 0.7  # of a period: a picture this close to the last one is one too many


class CameraNode(Node):
    """Publishes pictures as they come, at most ``rate_hz``; a camera that fails is reported and opened again.

    A device is waited for: each pass of the executor takes its next picture. Another driver's pictures
    wake this node. The simulated camera is triggered by the simulated time.
    """

    def __init__(self) -> None:
        super().__init__("camera")
        set_niceness(-5)
        self.params = declare(self, CameraParams)
        self._driver = self.params.camera_driver
        self._state: Float64MultiArray | None = None
        self._last_ns = -1
        self._trigger = Trigger(self.params.rate_hz)
        self._problem = ""
        self._rectifier: Rectifier | None = None
        self.camera = make_camera(self, self.params, self._newest, self._shoot)
        transform = camera_transform(self, self.params)
        self.camera.connect()
        name = self.get_name()
        self._image = publisher(self, "camera/image_raw", name)
        self._jpeg = publisher(self, "camera/image_raw/compressed", name) if self.params.jpeg else None
        self._rectified = publisher(self, "camera/image_rect", name) if self.params.rectify else None
        self._depth = publisher(self, "camera/depth/image_raw", name) if self.params.depth else None
        self._info_out = publisher(self, "camera/camera_info", name)
        if transform is not None:
            self._static = publisher(self, "/tf_static")
            self._static.publish(TFMessage(transforms=[transform]))
        self.diagnostics = Diagnostics(self, self._details)
        hz = self.params.rate_hz * (self.params.realtime_factor if self._driver == "mujoco" else 1.0)
        self._rate = self.diagnostics.rate("pictures", 0.7 * hz, 1.0, required=True)
        if self._driver == "mujoco":
            self._problem = "waiting for sim/state; start the simulated robot's driver"
            subscribe(self, "sim/state", self._on_state)
        else:
            self.create_timer(_SILENT_S if self._driver == "topic" else 1e-3, self._shoot, clock=STEADY)

    def stop(self) -> None:
        """Release the camera."""
        self.camera.disconnect()

    def _on_state(self, message: Float64MultiArray) -> None:
        self._state = message
        if self._trigger.due(int(message.data[0]) * _S + int(message.data[1])):
            self._shoot()

    def _newest(self) -> SimState | None:
        return None if self._state is None else SimState.from_array(convert.from_numbers(self._state))

    def _shoot(self) -> None:
        try:
            self.camera.connect()
            frame = self.camera.read()
        except (CameraError, ValueError) as error:
            self._problem = str(error)
            self.get_logger().error(f"no picture: {error}", throttle_duration_sec=5.0)
            if self._driver in ("opencv", "realsense"):
                self.camera.disconnect()
                time.sleep(_AGAIN_S)
            return
        passed_ns = frame.stamp_ns - self._last_ns
        if passed_ns == 0 or self._driver != "mujoco" and 0 < passed_ns < _CLOSER * _S / self.params.rate_hz:
            return  # nothing new, or more often than asked for
        self._last_ns, self._problem = frame.stamp_ns, ""
        self._image.publish(convert.to_image(frame))
        self._tell_intrinsics(frame)
        if self._jpeg is not None:
            self._jpeg.publish(convert.to_jpeg(frame))
        if self._depth is not None and (depth := self.camera.depth) is not None:
            self._depth.publish(convert.to_depth_image(depth))
        self._rate.mark()

    def _tell_intrinsics(self, frame: Frame) -> None:
        """camera_info with the stamp of the picture, and the rectified picture."""
        try:
            info = self.camera.info
        except CameraError as error:
            self._problem = str(error)
            return
        if self._rectified is not None:
            if self._rectifier is None or self._rectifier.source != info:
                self._rectifier = Rectifier(info)
            info = self._rectifier.info
            self._rectified.publish(convert.to_image(self._rectifier.rectify(frame)))
        self._info_out.publish(convert.to_camera_info(info, frame.stamp_ns))

    def _details(self) -> tuple[int, str, dict[str, str]]:
        return ERROR if self._problem else OK, self._problem, {}


def _make() -> CameraNode:
    try:
        return CameraNode()
    except CameraError as error:
        raise UserError(error.message, error.remedy, 2) from error
    except (FileNotFoundError, ValueError) as error:
        raise UserError(str(error), "correct the node's parameters", 2) from error


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(_make, argv)

if __name__ == "__main__":
    leave(main())
