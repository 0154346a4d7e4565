"""Pictures of another driver (realsense2_camera, usb_cam, v4l2_camera), raw or compressed, as a camera of ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSPresetProfiles
from sensor_msgs.msg import CameraInfo as CameraInfoMsg
from sensor_msgs.msg import CompressedImage, Image

from wm_bridge.cameras.base import Camera, CameraError, CameraInfo
from wm_bridge.core.types import Frame
from wm_bridge.ros import convert

_COMPRESSED = "/compressed"


class TopicCamera(Camera):
    """The newest picture of a topic, decoded only when it is asked for; stamp and frame stay the other driver's.

    Args:
        node: subscribes, with the QoS for sensors, which writers of either reliability serve.
        source: topic; one that ends in ``/compressed`` holds PNG or JPEG pictures. Intrinsics are those of
            ``camera_info`` beside the raw topic.
        arrived: called with every picture.
        timeout_s: without a new picture for this long, reading is an error; until then the last one is given again.
    """

    def __init__(self, node: Node, source: str, arrived: Callable[[], None], timeout_s: float = 1.0) -> None:
        super().__init__()
        self._source, self._timeout_s = node.resolve_topic_name(source), timeout_s
        self._arrived = arrived
        self._compressed = self._source.endswith(_COMPRESSED)
        raw = self._source.removesuffix(_COMPRESSED)
        self._info_topic = f"{raw.rpartition('/')[0]}/camera_info"
        self._message: Any = None
        self._info: CameraInfo | None = None
        self._heard = time.monotonic()
        self._given: Frame | None = None
        qos = QoSPresetProfiles.SENSOR_DATA.value
        node.create_subscription(CompressedImage if self._compressed else Image, self._source, self._on_picture, qos)
        node.create_subscription(CameraInfoMsg, self._info_topic, self._on_info, qos)

    @property
    def info(self) -> CameraInfo:
        """As the other driver tells it; a CameraError before it did."""
        if self._info is None:
            raise CameraError(f"no intrinsics on {self._info_topic} yet", "calibrate that camera, or let its driver publish camera_info")
        return self._info

    def _open(self) -> None:
        self._heard = time.monotonic()

    def _close(self) -> None:
        self._given = None

    def _read(self) -> Frame:
        """The newest picture; again the last one while there is none."""
        message, self._message = self._message, None
        if message is not None:
            try:
                self._given = convert.from_compressed(message) if self._compressed else convert.from_image(message)
            except ValueError as error:
                raise CameraError(f"a picture on {self._source} cannot be used: {error}", "choose a colour topic, raw or JPEG") from error
        if self._given is None or time.monotonic() - self._heard > self._timeout_s:
            raise CameraError(f"no picture on {self._source}", "start that camera's driver; ros2 topic hz shows what comes")
        return self._given

    def _on_picture(self, message: Any) -> None:
        self._message, self._heard = message, time.monotonic()
        self._arrived()

    def _on_info(self, message: CameraInfoMsg) -> None:
        try:
            self._info = convert.from_camera_info(message)
        except ValueError:
            self._info = None
