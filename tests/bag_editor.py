"""Recorded bags made ugly: messages changed, dropped or doubled, topics of another type."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from wm_bridge.bags.reader import opened
from wm_bridge.bags.writer import BagWriter

S = 1_000_000_000
Message = tuple[str, int, bytes]  # topic, when it was recorded (ns), serialized
Change = Callable[[Iterator[Message]], Iterable[Message]]
STRING = "std_msgs/msg/String"


def stamp_of(data: bytes) -> int:
    """Stamp of a little-endian message that begins with a Header."""
    sec, nanosec = struct.unpack_from("<iI", data, 4)
    return int(sec) * S + int(nanosec)


def stamped(data: bytes, stamp_ns: int) -> bytes:
    """The same message with another stamp."""
    return data[:4] + struct.pack("<iI", *divmod(stamp_ns, S)) + data[12:]


def edited(bag: Path, into: Path, change: Change = lambda messages: messages, types: dict[str, str] | None = None, best_effort: bool = False) -> Path:
    """Write a bag anew.

    Args:
        change: gives the messages. types: topics that claim to be of another type. best_effort: QoS of all topics.
    """
    never = QosTime(0, 0)
    qos = Qos(QosHistory.KEEP_ALL, 0, QosReliability.BEST_EFFORT, QosDurability.VOLATILE, never, never, QosLiveliness.MANUAL_BY_TOPIC, never, True)
    with opened(bag) as (reader, _):
        writer = BagWriter(into)
        store, places = reader.typestore, {}
        for c in reader.connections:
            kind = (types or {}).get(c.topic, c.msgtype)
            definition, digest = store.generate_msgdef(kind, ros_version=2)[0], store.hash_rihs01(kind)
            places[c.topic] = writer.add(c.topic, kind, definition, digest, [qos] if best_effort else c.ext.offered_qos_profiles)
        for topic, log_ns, data in change((c.topic, log_ns, bytes(data)) for c, log_ns, data in reader.messages()):
            writer.write(places[topic], log_ns, data)
        writer.close()
    return into
