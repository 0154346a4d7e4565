"""recorder_node: every topic of the graph into a bag that rosbag2 reads."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image

from wm_bridge import resources
from wm_bridge.errors import UserError
from wm_bridge.ros import convert, qos
from wm_bridge.ros.diagnostics import OK, WARN, Diagnostics
from wm_bridge.ros.mailbox import Mailbox, stamp_of
from wm_bridge.ros.node import STEADY, leave, run, set_niceness
from wm_bridge.ros.params import declare, setting

_LEAST_FREE = 200_000_000  # bytes; recording stops below
_COLLECT_S = 0.1  # between two looks into the mailboxes
_DEPTH, _PICTURES = 300, 100  # messages and pictures per topic that a look may be late by


@dataclass(frozen=True)
class RecorderParams:
    """See the descriptions."""

    path: str = setting("runs/bag", "folder of the bag; must not exist yet")
    images: str = setting("png", "camera/image_raw as raw, png (lossless, compressed) or none")
    cameras: list[str] = setting(["camera"], "camera nodes whose topics are recorded")

    def __post_init__(self) -> None:
        if self.images not in ("raw", "png", "none"):
            raise ValueError(f"images must be raw, png or none, got '{self.images}'")


class RecorderNode(Node):
    """Writes serialized messages, stamped with the node time at which they came (mcap, rosbag2 version 9).

    It looks for messages ten times a second instead of being woken by each of them: DDS keeps
    them meanwhile and notes when each came. In simulation that moment is told by ``/clock``, which
    is in the bag as well. It runs behind everything else, so that recording delays nobody.

    The bag gets its index on a clean stop (SIGINT, SIGTERM, full disk). After a SIGKILL the
    messages that had reached the disk are there, ``mcap recover`` makes the index.
    """

    def __init__(self) -> None:
        super().__init__("recorder")
        set_niceness(5)
        self.params = declare(self, RecorderParams)
        self._path = Path(self.params.path)
        self._connections: dict[str, Any] = {}
        self._boxes: list[tuple[Mailbox, Any, bool]] = []  # topic, its place in the bag, to png
        self._simulated = bool(self.get_parameter("use_sim_time").value)
        self._clock_ns = 0
        self._problem = ""
        self._last_ns = 0
        self._writer: Any = self._open()
        for row in qos.rows(self.params.cameras):
            if row.recorded and not (qos.is_picture(row.name) and self.params.images == "none"):
                self._follow(row)
        self.diagnostics = Diagnostics(self, self._details)
        self._rate = self.diagnostics.rate("messages")
        self.create_timer(_COLLECT_S, self._collect, clock=STEADY)
        self.create_timer(1.0, self._keep_safe, clock=STEADY)

    def stop(self) -> None:
        """Write what is left and close the bag."""
        self._collect()
        self._close()

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except OSError as error:
            print(f"recorder: bag {self._path} could not be finished: {error}", file=sys.stderr)

    def _open(self) -> Any:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.rosbag2.errors import WriterError
        from rosbags.typesys import Stores, get_typestore, get_types_from_msg

        self._store = get_typestore(Stores.ROS2_JAZZY)
        for file in sorted(message_folder("wm_interfaces").glob("*.msg")):
            name = f"wm_interfaces/msg/{file.stem}"
            self._store.register(get_types_from_msg(file.read_text(encoding="utf-8"), name))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            writer = Writer(self._path, version=9, storage_plugin=StoragePlugin.MCAP)
            writer.open()
        except (OSError, WriterError) as error:
            raise UserError(
                f"cannot record to {self._path}: {error}",
                "choose a new folder on a writable disk: parameter path",
                exit_code=2,
            ) from error
        return writer

    def _follow(self, row: qos.Topic) -> None:
        png = qos.is_picture(row.name) and self.params.images == "png"
        if qos.is_picture(row.name, "image_raw/compressed") and self.params.images == "png":
            return  # made here, without loss
        name, kind = (f"{row.name}/compressed", "sensor_msgs/msg/CompressedImage") if png else (row.name, row.type)
        full = self.resolve_topic_name(name)
        if full not in self._connections:
            self._connections[full] = self._writer.add_connection(
                full, kind, typestore=self._store, offered_qos_profiles=[bag_qos(row)]
            )
        box = Mailbox(self, row.name, _PICTURES if row.type.endswith("Image") else _DEPTH, raw=True)
        self._boxes.append((box, self._connections[full], png))

    def _collect(self) -> None:
        """Write what has come since the last look, in the order in which it came."""
        found = [
            (info["received_timestamp"], box.name != "/clock", number, data)
            for number, (box, _, _) in enumerate(self._boxes)
            for data, info in box.take()
        ]
        for received_ns, is_other, number, data in sorted(found, key=itemgetter(0, 1)):
            if not is_other:
                self._clock_ns = stamp_of(data)
            _, connection, png = self._boxes[number]
            now = self._clock_ns if self._simulated else received_ns
            self._write(connection, now, to_png(data) if png else data)

    def _write(self, connection: Any, now_ns: int, data: bytes) -> None:
        if self._writer is None:
            return
        self._last_ns = max(self._last_ns, now_ns)
        try:
            self._writer.write(connection, self._last_ns, data)
            self._rate.mark()
        except OSError as error:
            self._give_up(f"cannot write {self._path}: {error}")

    def _keep_safe(self) -> None:
        """Hand over to the disk what is there; stop before the disk is full."""
        if self._writer is None:
            return
        free = shutil.disk_usage(self._path).free
        if free < _LEAST_FREE:
            self._give_up(f"only {free // 1_000_000} MB left for {self._path}; free some space")
            return
        stream = getattr(self._writer.storage, "bio", None)
        if stream is not None:
            stream.flush()

    def _give_up(self, why: str) -> None:
        self._problem = f"recording has stopped: {why}"
        self.get_logger().error(self._problem)
        self._close()

    def _details(self) -> tuple[int, str, dict[str, str]]:
        return (WARN if self._problem else OK), self._problem, {"bag": str(self._path)}


def to_png(data: bytes) -> bytes:
    """Serialized Image to a serialized CompressedImage without loss."""
    import cv2

    image = deserialize_message(data, Image)
    frame = convert.from_image(image)
    # OpenCV's default favours speed; naming a compression level turns on slower row filters.
    _, png = cv2.imencode(".png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    message = CompressedImage(header=image.header, format="rgb8; png compressed bgr8")
    message.data = png.tobytes()
    return serialize_message(message)


def message_folder(package: str) -> Path:
    """Folder of a package's ``.msg`` files: from the ROS installation, else from the checkout.

    Raises:
        UserError: neither has it.
    """
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    for prefix in filter(None, prefixes):
        folder = Path(prefix) / "share" / package / "msg"
        if folder.is_dir():
            return folder
    try:
        return resources.path(f"ros2_ws/src/{package}/msg")
    except FileNotFoundError as error:
        raise UserError(f"no message files of {package}", "build it: ./wm doctor says how", 2) from error


def bag_qos(row: qos.Topic) -> Any:
    """QoS as the bag's metadata keeps it."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    never = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST,
        row.depth,
        QosReliability.RELIABLE if row.reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if row.latched else QosDurability.VOLATILE,
        QosTime(0, row.deadline_ms * 1_000_000),
        never,
        QosLiveliness.AUTOMATIC,
        never,
        False,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(RecorderNode, argv)

if __name__ == "__main__":
    leave(main())
