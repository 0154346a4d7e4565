"""What a bag holds, as time series: joints and commands in memory, pictures by the times at which they were taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_bridge.bags.messages import header_ns, joint_state_values, stamp_of
from wm_bridge.bags.reader import opened
from wm_bridge.core.images import decode, decompress
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.dataset.mapping import UNITS, DataMapping, JointSource

S = 1_000_000_000
BACK_NS = S // 2  # a stamp that is so much older than the one before: the clock was set back
PICTURES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
JOINTS = ("sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray")
Stamps = NDArray[np.int64]


@dataclass
class Series:
    """One stream between two clock jumps: ascending stamps (N,) ns, and a value for each."""

    stamps: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """Everything of a bag between two clock jumps.

    Attributes:
        cameras: per camera, stamps (N,) ns and the numbers (N,) of these messages among those of the camera.
        joints, commands: stamps (N,) ns and values (N, A) rad; commands None where states stand for them.
        begins: (M,) ns, when an episode begins.
    """

    cameras: dict[str, tuple[Stamps, Stamps]]
    joints: tuple[Stamps, FloatArray]
    commands: tuple[Stamps, FloatArray] | None
    begins: Stamps


@dataclass(frozen=True)
class Streams:
    """A bag. ``note``: what is wrong with the file; ``left_out``: why messages were not used, and how many."""

    parts: tuple[Part, ...]
    topics: dict[str, str]
    note: str
    left_out: Counter[str]


class _Track:
    """Collects a stream; a clock that is set back begins a new series."""

    def __init__(self, what: str, left_out: Counter[str]) -> None:
        self.series = [Series()]
        self._what, self._left_out = what, left_out

    def add(self, stamp: int, value: Any) -> None:
        stamps = self.series[-1].stamps
        if stamps and 0 < stamp < stamps[-1] - BACK_NS:
            self.series.append(Series())
            stamps = self.series[-1].stamps
        if stamp <= 0 or (stamps and stamp <= stamps[-1]):
            self._left_out[f"{self._what}: stamp zero, old or used before"] += 1
            return
        stamps.append(stamp)
        self.series[-1].values.append(value)


def read_streams(bag: Path, mapping: DataMapping, names: Sequence[str]) -> Streams:
    """Read all but the pixels.

    Args:
        names: (A,) joints of the robot that are wanted, in this order.

    Raises:
        ValueError: the bag lacks what the mapping names; says what there is. OSError: it cannot be read.
    """
    left_out: Counter[str] = Counter()
    with _reading(bag) as (reader, note):
        topics = camera_topics(reader.connections, mapping, bag)
        joints_topic = _topic(reader.connections, mapping.joints.topic, JOINTS, bag, "joints")
        tracks = {topic: _Track(name, left_out) for name, topic in topics.items()}
        counts: Counter[str] = Counter()
        joints = _Track("joints", left_out)
        commands = None if mapping.commands is None else _Track("commands", left_out)
        command_topic = "" if mapping.commands is None else _topic(reader.connections, mapping.commands.topic, JOINTS, bag, "commands")
        begins = _Track("episodes", left_out)
        taken = [(source, track, _Rows(source, names, left_out)) for source, track in ((mapping.joints, joints), (mapping.commands, commands)) if source and track]
        wanted = {topic.strip("/") for topic in mapping.episodes}
        for connection, recorded_ns, data in reader.messages():
            topic = connection.topic
            if topic in tracks:
                tracks[topic].add(stamp_of(data), counts[topic])
                counts[topic] += 1
            elif topic in (joints_topic, command_topic):
                for source, track, rows in taken:
                    if topic.strip("/") == source.topic.strip("/"):
                        rows.take(track, reader, connection.msgtype, data, recorded_ns)
            elif topic.strip("/") in wanted:
                begins.add(recorded_ns, None)
    return Streams(_parts(topics, tracks, joints, commands, begins, left_out), topics, note, left_out)


def camera_topics(connections: Sequence[Any], mapping: DataMapping, bag: Path) -> dict[str, str]:
    """Full topic of each camera: as named, or its compressed sibling."""
    return {name: _topic(connections, topic, PICTURES, bag, f"camera {name}") for name, topic in mapping.cameras.items()}


def pictures(bag: Path, topic: str, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """(number, message) of the pictures of a topic with these ascending numbers; ``pixels`` decodes one."""
    wanted = iter(numbers)
    following = next(wanted, None)
    with _reading(bag) as (reader, _):
        connections = [c for c in reader.connections if c.topic == topic]
        for number, (connection, _, data) in enumerate(reader.messages(connections)):
            if following is None:
                return
            if number == following:
                yield number, reader.deserialize(data, connection.msgtype)
                following = next(wanted, None)


def pixels(message: Any) -> ImageArray:
    """(H, W, 3) uint8 RGB of an Image or CompressedImage.

    Raises:
        ValueError: it is no picture.
    """
    if hasattr(message, "format"):
        return decompress(message.data)
    return decode(message.data, message.height, message.width, message.encoding, message.step)


class _reading:
    """`bags.reader.opened` whose errors are ValueErrors of one sentence: foreign files raise anything."""

    def __init__(self, bag: Path) -> None:
        self._bag = bag

    def __enter__(self) -> tuple[Any, str]:
        if not self._bag.exists():
            raise ValueError(f"{self._bag} does not exist")
        try:
            self._context = opened(self._bag)
            return self._context.__enter__()
        except Exception as error:  # noqa: BLE001
            raise ValueError(f"{self._bag} cannot be read: {error}") from error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._context.__exit__(None, None, None)
        if isinstance(error, Exception) and not isinstance(error, ValueError):
            raise ValueError(f"{self._bag} cannot be read: {error}") from error


def _topic(connections: Sequence[Any], wanted: str, kinds: Sequence[str], bag: Path, what: str) -> str:
    """The topic of this name (with or without slash, or its compressed sibling) with one of these types."""
    bare = wanted.strip("/")
    for name in (bare, f"{bare}/compressed"):
        found = [c for c in connections if c.topic.strip("/") == name]
        for connection in found:
            if connection.msgtype not in kinds:
                raise ValueError(f"{bag}: {what} on {connection.topic} are {connection.msgtype}; {' or '.join(kinds)} can be read")
            return str(connection.topic)
    fitting = sorted({c.topic for c in connections if c.msgtype in kinds}) or ["none"]
    raise ValueError(f"{bag} has no topic {wanted} for {what}; topics of a fitting type: {', '.join(fitting)}; say which in the mapping")


class _Rows:
    """Takes joint values out of messages. A JointState with the names of the one before is not parsed again."""

    def __init__(self, source: JointSource, names: Sequence[str], left_out: Counter[str]) -> None:
        self._source, self._left_out = source, left_out
        self._asked = [source.rename.get(name, name) for name in names]
        self._columns: dict[tuple[str, ...], list[int] | None] = {}
        self._same: tuple[bytes, int, int, list[int]] | None = None  # all between stamp and values, where these begin, their number, columns

    def take(self, track: _Track, reader: Any, kind: str, data: bytes, recorded_ns: int) -> None:
        """One message with joint values, if it has all that are wanted."""
        if self._same is not None and data[12 : self._same[1]] == self._same[0]:
            _, begin, count, columns = self._same
            self._add(track, stamp_of(data), np.frombuffer(data, "<f8", count, begin), columns)
            return
        message, stamp = reader.deserialize(data, kind), recorded_ns
        if hasattr(message, "header"):
            stamp = header_ns(message)
        if hasattr(message, "points"):
            known, values = message.joint_names, message.points[-1].positions if len(message.points) else ()
        elif hasattr(message, "position"):
            known, values = message.name, message.position
        else:
            known, values = self._source.order, message.data
        known = tuple(known) or self._source.order
        if known not in self._columns:
            places = {name: k for k, name in enumerate(known)}
            self._columns[known] = [places[name] for name in self._asked] if all(name in places for name in self._asked) else None
        found = self._columns[known]
        if found is None or len(values) != len(known):
            self._left_out[f"{self._source.topic}: other joints than {', '.join(self._asked)}"] += 1
            return
        if kind == JOINTS[0] and data[1] & 1:
            begin, count = joint_state_values(data)
            self._same = bytes(data[12:begin]), begin, count, found
        self._add(track, stamp, np.asarray(values, float), found)

    def _add(self, track: _Track, stamp: int, values: FloatArray, columns: list[int]) -> None:
        row = values[columns] * UNITS[self._source.unit]
        if not np.isfinite(row).all():
            self._left_out[f"{self._source.topic}: not finite"] += 1
            return
        track.add(stamp, row)


def _parts(
    topics: dict[str, str], cameras: dict[str, _Track], joints: _Track, commands: _Track | None, begins: _Track, left_out: Counter[str]
) -> tuple[Part, ...]:
    """Series number k of every stream together; where streams disagree how often the clock was set back, what they share."""
    tracks = [*cameras.values(), joints, *([commands] if commands is not None else [])]
    count = min(len(track.series) for track in tracks)
    for track in tracks:
        for extra in track.series[count:]:
            left_out["after a clock jump that other streams do not show"] += len(extra.stamps)
    parts = []
    for k in range(count):

        def series(track: _Track, k: int = k) -> tuple[Stamps, Any]:
            found = track.series[k]
            return np.array(found.stamps, np.int64), np.array(found.values)

        marks = begins.series[k].stamps if k < len(begins.series) else []
        parts.append(
            Part(
                {name: series(cameras[topic]) for name, topic in topics.items()},
                series(joints),
                None if commands is None else series(commands),
                np.array(marks, np.int64),
            )
        )
    return tuple(parts)
