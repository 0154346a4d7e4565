"""One picture out of a bag."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from wm_bridge.bags.reader import opened
from wm_bridge.core.images import decode, decompress
from wm_bridge.core.types import ImageArray

S = 1_000_000_000
_KINDS = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_LOOK_BACK_NS = 2 * S  # first look, so that a long bag need not be read from its start
_USUAL = ("camera/image_raw", "camera/image_raw/compressed")


def picture_at(bag: Path, time_s: float, topic: str = "") -> ImageArray:
    """The newest picture of a camera at a time of a bag.

    Args:
        bag: folder of a bag, or its mcap file. One that was cut off is read up to the cut.
        time_s: after the bag's start, by the times at which the messages were recorded.
        topic: of pictures, with or without the slash; "" = camera/image_raw, raw or compressed.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: what is wrong with bag, time or topic, in one sentence.
    """
    if not math.isfinite(time_s) or time_s < 0.0:
        raise ValueError(f"the time in the bag must be finite and not negative, got {time_s}")
    if not bag.exists():
        raise ValueError(f"bag {bag} does not exist on the planner's machine")
    try:
        with opened(bag) as (reader, note):
            return _picture(reader, note, bag, time_s, topic)
    except (ValueError, OSError) as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # noqa: BLE001  foreign files raise anything
        raise ValueError(f"bag {bag} cannot be read: {error}") from error


def _picture(reader: Any, note: str, bag: Path, time_s: float, topic: str) -> ImageArray:
    names = (topic.strip("/"),) if topic else _USUAL
    cut = f" (as far as it goes: {note})" if note else ""
    cameras = [c for c in reader.connections if c.msgtype in _KINDS]
    wanted = [c for c in cameras if c.topic.strip("/") in names]
    if not wanted:
        known = ", ".join(sorted({c.topic for c in cameras})) or "none"
        raise ValueError(f"bag {bag}{cut} has no pictures on {' or '.join(names)}; its camera topics: {known}")
    length_s = (reader.end_time - reader.start_time) / S
    if time_s > length_s:
        raise ValueError(f"bag {bag} is {length_s:.1f} s long{cut}, a picture at {time_s:g} s was asked for")
    at_ns = reader.start_time + round(time_s * S)
    found = None
    for begin_ns in (max(reader.start_time, at_ns - _LOOK_BACK_NS), reader.start_time):
        for connection, _, data in reader.messages(wanted, start=begin_ns, stop=at_ns + 1):
            found = connection, data
        if found is not None:
            break
    if found is None:
        first_s = next((stamp - reader.start_time for _, stamp, _ in reader.messages(wanted)), 0) / S
        raise ValueError(f"bag {bag}{cut} has no picture yet at {time_s:g} s; the first one on {wanted[0].topic} comes at {first_s:.2f} s")
    connection, data = found
    message = reader.deserialize(data, connection.msgtype)
    if connection.msgtype == _KINDS[1]:
        return decompress(bytes(message.data))
    return decode(bytes(message.data), message.height, message.width, message.encoding, message.step)
