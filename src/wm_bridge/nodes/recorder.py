"""recorder_node: every topic of the graph into a bag that rosbag2 reads."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from wm_bridge import resources
from wm_bridge.bags.messages import stamp_of
from wm_bridge.bags.writer import STORAGES, BagWriter, Split
from wm_bridge.core.goal_record import to_png
from wm_bridge.errors import UserError
from wm_bridge.resources import git_revision
from wm_bridge.ros import convert, qos
from wm_bridge.ros.bag_types import Definitions, bag_qos, listening
from wm_bridge.ros.diagnostics import OK, WARN, Diagnostics
from wm_bridge.ros.mailbox import Mailbox
from wm_bridge.ros.node import STEADY, leave, publisher, run, set_niceness
from wm_bridge.ros.params import declare, setting

LABELS = ("success", "failure", "take_over")  # services record/LABEL
IMAGES = ("raw", "png", "jpeg", "none")
MARK, INFO = "record/mark", "record/info"
_COLLECT_S = 0.1  # between two looks into the mailboxes
_DEPTH, _PICTURES = 300, 100  # messages and pictures per topic that a look may be late by


@dataclass(frozen=True)
class RecorderParams:
    """See the descriptions."""

    path: str = setting("runs/bag", "folder of the bag; must not exist yet")
    images: str = setting("png", "colour pictures as raw, png (lossless), jpeg (smaller) or none")
    cameras: list[str] = setting(["camera"], "camera nodes whose topics are recorded")
    storage: str = setting("mcap", "file format: mcap or sqlite3")
    split_mb: int = setting(0, "a new file after so many MB; 0 = never", 0, 1_000_000)
    split_s: float = setting(0.0, "a new file after so many seconds; 0 = never", 0.0, 1e6)
    discover: bool = setting(False, "record every topic that there is, not only those of our graph")
    robot: str = setting("", "name of the robot, for the bag's metadata")
    operator: str = setting("", "who operates it, for the bag's metadata")
    note: str = setting("", "anything else, for the bag's metadata")
    least_free_mb: int = setting(200, "recording stops when less than this is left on the disk", 1, 1_000_000)

    def __post_init__(self) -> None:
        if self.images not in IMAGES:
            raise ValueError(f"images must be one of {', '.join(IMAGES)}, got '{self.images}'")
        if self.storage not in STORAGES:
            raise ValueError(f"storage must be one of {', '.join(STORAGES)}, got '{self.storage}'")


@dataclass(frozen=True)
class Followed:
    """A topic that is recorded: where it comes from, its place in the bag, and how it is changed before."""

    box: Mailbox
    connection: Any
    change: Callable[[bytes], bytes] | None


class RecorderNode(Node):
    """Writes serialized messages, stamped with the node time at which they came (rosbag2 version 9).

    It looks for messages ten times a second instead of being woken by each of them: DDS keeps
    them meanwhile and notes when each came. In simulation that moment is told by ``/clock``, which
    is in the bag as well. It runs behind everything else, so that recording delays nobody.

    What was written at a look outlives a SIGKILL, what was written a second ago a power cut; the index is
    written on a clean stop (SIGINT, SIGTERM, full disk). ``record/success``, ``failure`` and ``take_over`` (or a
    message on ``record/mark``) mark the moment, in the bag and in its metadata.
    """

    def __init__(self) -> None:
        super().__init__("recorder")
        set_niceness(5)
        self.params = params = declare(self, RecorderParams)
        self._path = Path(params.path)
        self._followed: dict[str, Followed] = {}
        self._left_out: set[str] = set()
        self._simulated = bool(self.get_parameter("use_sim_time").value)
        self._clock_ns = self._last_ns = 0
        self._early: list[tuple[Followed, bytes]] = []  # came before the first /clock
        self._problem = ""
        self._damaged = 0
        self.messages = 0
        self._marks: list[dict[str, Any]] = []
        self._free_or_raise()
        self._definitions = Definitions()
        self._info = self._describe()
        self._writer: BagWriter | None = BagWriter(self._path, params.storage, Split(params.split_mb * 10**6, params.split_s), self._custom())
        self._note = self._connect(self.resolve_topic_name(INFO), "std_msgs/msg/String", qos.profile(MARK))
        for row in qos.rows(params.cameras):
            if row.recorded:
                self._follow_row(row)
        self._mark = publisher(self, MARK)
        for label in LABELS:
            self.create_service(Trigger, f"record/{label}", partial(self._on_mark, label))
        self.diagnostics = Diagnostics(self, self._details)
        self._rate = self.diagnostics.rate("messages")
        self.create_timer(_COLLECT_S, self._collect, clock=STEADY)
        self.create_timer(1.0, self._keep_safe, clock=STEADY)
        if params.discover:
            self.create_timer(1.0, self._discover, clock=STEADY)

    def stop(self) -> None:
        """Write what is left and close the bag."""
        self._collect()
        self._write_early()
        self._close()

    @property
    def size(self) -> int:
        """Bytes of messages so far."""
        return sum(part.size for part in self._writer.parts) if self._writer is not None else 0

    @property
    def problem(self) -> str:
        """Why recording has stopped; "" while it goes on."""
        return self._problem

    @property
    def labels(self) -> list[str]:
        """Of all marks so far."""
        return [mark["mark"].split(":")[0].strip() for mark in self._marks]

    def mark(self, label: str) -> None:
        """Say on ``record/mark`` what has happened; recorded like any message."""
        self._mark.publish(String(data=label))

    # Topics -------------------------------------------------------------------------------

    def _follow_row(self, row: qos.Topic) -> None:
        if row.type == "sensor_msgs/msg/CompressedImage" and self.params.images == "png":
            return  # made here, without loss
        box = partial(Mailbox, self, row.name, _depth(row.type), raw=True)
        self._follow(self.resolve_topic_name(row.name), row.type, qos.profile(row.name), box)

    def _follow(self, full: str, kind: str, offered: QoSProfile, box: Callable[[], Mailbox]) -> None:
        images, change, name, stored = self.params.images, None, full, kind
        if kind == "sensor_msgs/msg/Image" and full.endswith("image_raw") and "depth" not in full:
            if images == "none":
                return
            if images != "raw":
                change = to_compressed if images == "png" else to_jpeg
                name, stored = f"{full}/compressed", "sensor_msgs/msg/CompressedImage"
        if name not in {followed.connection.topic for followed in self._followed.values()}:
            connection = self._connect(name, stored, offered)
            self._followed[full] = Followed(box(), connection, change)

    def _connect(self, name: str, kind: str, offered: QoSProfile) -> Any:
        assert self._writer is not None
        return self._writer.add(name, kind, *self._definitions.of(kind), [bag_qos(offered)])

    def _discover(self) -> None:
        """Follow what is new in the graph, with the QoS that its writers offer."""
        if self._writer is None:
            return
        for full, kinds in self.get_topic_names_and_types():
            if full in self._followed or full in self._left_out or "/_" in full:
                continue
            offered = [info.qos_profile for info in self.get_publishers_info_by_topic(full)]
            if not offered:
                continue
            try:
                kind, depth = qos.message_class(kinds[0]), _depth(kinds[0])
                self._follow(full, kinds[0], offered[0], partial(Mailbox, self, full, depth, True, (kind, listening(offered, depth))))
            except (UserError, ImportError, AttributeError, ValueError) as error:
                self.get_logger().warning(f"{full} is not recorded: {error}")
            self._left_out.add(full)

    # Messages -----------------------------------------------------------------------------

    def _collect(self) -> None:
        """Write what has come since the last look, in the order in which it came."""
        found = [
            (info["received_timestamp"], followed.box.name != "/clock", number, followed, data)
            for number, followed in enumerate(self._followed.values())
            for data, info in followed.box.take()
        ]
        for received_ns, is_other, _, followed, data in sorted(found, key=itemgetter(0, 1, 2)):
            if not is_other:
                self._clock_ns = stamp_of(data)
            if followed.box.name.endswith(MARK):
                self._note_mark(data)
            if self._simulated and not self._clock_ns:
                self._early.append((followed, data))
                continue
            now_ns = self._clock_ns if self._simulated else received_ns
            self._write_early(now_ns)
            self._record(followed, now_ns, data)
        self._flush(False)

    def _write_early(self, now_ns: int = 0) -> None:
        early, self._early = self._early, []
        if not self.messages:
            self._write(self._note, now_ns, serialize_message(String(data=json.dumps(self._info))))
        for followed, data in early:
            self._record(followed, now_ns, data)

    def _record(self, followed: Followed, now_ns: int, data: bytes) -> None:
        if followed.change is not None:
            try:
                data = followed.change(data)
            except ValueError as error:
                self._damaged += 1
                self.get_logger().warning(f"{followed.box.name}: not recorded: {error}", throttle_duration_sec=5.0)
                return
        self._write(followed.connection, now_ns, data)

    def _write(self, connection: Any, now_ns: int, data: bytes) -> None:
        if self._writer is None:
            return
        self._last_ns = max(self._last_ns, now_ns)
        try:
            self._writer.write(connection, self._last_ns, data)
            self.messages += 1
            self._rate.mark()
        except OSError as error:
            self._give_up(f"cannot write {self._path}: {error}")

    # Disk ---------------------------------------------------------------------------------

    def _flush(self, to_disk: bool) -> None:
        if self._writer is None:
            return
        try:
            self._writer.flush(to_disk)
        except OSError as error:
            self._give_up(f"cannot write {self._path}: {error}")

    def _keep_safe(self) -> None:
        """Hand over to the disk what is there; stop before the disk is full."""
        if self._writer is None:
            return
        free = shutil.disk_usage(self._path).free
        if free < self.params.least_free_mb * 10**6:
            self._give_up(f"only {free // 1_000_000} MB left for {self._path}; free some space")
            return
        self._flush(True)

    def _free_or_raise(self) -> None:
        place = next(parent for parent in (self._path.absolute(), *self._path.absolute().parents) if parent.exists())
        free = shutil.disk_usage(place).free
        if free < self.params.least_free_mb * 10**6:
            raise UserError(
                f"only {free // 1_000_000} MB are left for {self._path}, at least {self.params.least_free_mb} MB are needed", "free some space, or record elsewhere", 2
            )

    def _give_up(self, why: str) -> None:
        self._problem = f"recording has stopped: {why}"
        self.get_logger().error(self._problem)
        self._close()

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.custom = self._custom()
        try:
            writer.close()
        except OSError as error:
            print(f"recorder: bag {self._path} could not be finished: {error}; ./wm record --mend {self._path} makes it whole", file=sys.stderr)

    # What is known of the run -------------------------------------------------------------

    def _on_mark(self, label: str, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._writer is not None
        response.message = f"marked: {label}" if response.success else self._problem
        if response.success:
            self.mark(label)
        return response

    def _note_mark(self, data: bytes) -> None:
        text = str(deserialize_message(data, String).data)
        self._marks.append({"time_ns": max(self._clock_ns, self._last_ns), "mark": text})
        self.get_logger().info(f"marked: {text}")

    def _describe(self) -> dict[str, Any]:
        """What was configured, for ``record/info``."""
        params = self.params
        texts = {f"config/{file.relative_to(folder)}": file.read_text(encoding="utf-8") for folder in [resources.path("config")] for file in sorted(folder.rglob("*.yaml"))}
        return {"git": git_revision(), "robot": params.robot, "operator": params.operator, "note": params.note, "config": texts}

    def _custom(self) -> dict[str, str]:
        """The same for metadata.yaml, with marks instead of files."""
        verdicts = self.labels
        last = next((verdict for verdict in reversed(verdicts) if verdict in ("success", "failure")), "")
        texts = json.dumps(self._info["config"], sort_keys=True).encode()
        found = {name: str(self._info[name]) for name in ("git", "robot", "operator", "note")}
        found |= {"config_sha256": hashlib.sha256(texts).hexdigest()[:16], "label": last, "take_overs": str(verdicts.count("take_over"))}
        return found | {"marks": json.dumps(self._marks)}

    def _details(self) -> tuple[int, str, dict[str, str]]:
        trouble = self._problem or (f"{self._damaged} pictures could not be compressed" if self._damaged else "")
        return (WARN if trouble else OK), trouble, {"bag": str(self._path), "messages": str(self.messages), "marks": str(len(self._marks))}


def _depth(kind: str) -> int:
    return _PICTURES if kind.endswith("Image") else _DEPTH


def to_compressed(data: bytes) -> bytes:
    """Serialized Image to a serialized CompressedImage without loss.

    Raises:
        ValueError: an unknown encoding, or sizes that do not fit together.
    """
    image = deserialize_message(data, Image)
    message = CompressedImage(header=image.header, format="rgb8; png compressed bgr8")
    message.data = to_png(convert.from_image(image).image)
    return serialize_message(message)


def to_jpeg(data: bytes) -> bytes:
    """Serialized Image to a serialized CompressedImage, smaller and with loss. Raises as ``to_compressed``."""
    return serialize_message(convert.to_jpeg(convert.from_image(deserialize_message(data, Image)), 90))


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(RecorderNode, argv)

if __name__ == "__main__":
    leave(main())
