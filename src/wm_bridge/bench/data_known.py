"""A bag of which everything is known: joints on smooth curves, pictures of the simulated arm that say their number in stripes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.sim.world import SimWorld

S = 1_000_000_000
BEGIN_S = 1000.0
SIZE = (640, 480)  # pixels
BITS, STRIPES_PX = 16, 40  # of the number, in the topmost rows of the centre square
PICTURE_HZ, JOINT_HZ = 30.0, 100.0
PICTURE_JITTER_S, JOINT_JITTER_S = 4e-3, 2e-3  # taken so much earlier or later than the rate says, at most
LATE_S = 0.04  # recorded so much after it was taken, at most
LOST = 0.03  # share of messages that never came
_DRAWN = 120  # different pictures; then they are shown again, with other numbers


@dataclass(frozen=True)
class Known:
    """The truth. ``taken_s`` (N,): when picture number k was taken."""

    taken_s: FloatArray
    middle: FloatArray
    reach: FloatArray

    def joints(self, at_s: FloatArray) -> FloatArray:
        """(T, A) rad at times (T,) s."""
        return self.middle + self.reach * np.sin(self._phase(at_s))

    def speed(self, at_s: FloatArray) -> FloatArray:
        """(T, A) rad/s at times (T,) s; some joint always moves."""
        return self.reach * np.cos(self._phase(at_s)) * self._pace()

    def late_s(self, position: FloatArray, at_s: FloatArray) -> FloatArray:
        """(T,) s by which positions (T, A) are later than times (T,) say: least squares over the joints."""
        speed = self.speed(at_s)
        late: FloatArray = ((position - self.joints(at_s)) * speed).sum(1) / np.square(speed).sum(1)
        return late

    def _pace(self) -> FloatArray:
        return 0.9 + 0.35 * np.arange(len(self.middle))

    def _phase(self, at_s: FloatArray) -> FloatArray:
        return (np.asarray(at_s) - BEGIN_S)[..., None] * self._pace() + np.arange(len(self.middle))


def painted(picture: ImageArray, number: int) -> ImageArray:
    """The picture with its number in stripes above it."""
    found = picture.copy()
    side = min(picture.shape[:2])
    left = (picture.shape[1] - side) // 2
    levels = np.array([215 if (number >> bit) & 1 else 40 for bit in range(BITS)], np.uint8)
    found[:STRIPES_PX, left : left + side] = np.repeat(levels, side // BITS)[None, :, None]
    return found


def numbers_of(small: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(T,) numbers of pictures (T, S, S, 3) that were cut square and made smaller, S a multiple of ``BITS``."""
    size = small.shape[1]
    rows = small[:, 1 : size * STRIPES_PX // SIZE[1] - 1].astype(float).mean((1, 3))  # the edges are mixed with their neighbours
    bits = rows.reshape(len(small), BITS, -1)[:, :, 1:-1].mean(2) > 127
    return (bits * (1 << np.arange(BITS))).sum(1).astype(np.int64)


def write_bag(folder: Path, spec: RobotSpec, group: str, duration_s: float, encoding: str, seed: int) -> Known:
    """Write the bag.

    Args:
        group: joints that move. encoding: jpeg, png or rgb8 (not compressed).
    """
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    rng = np.random.default_rng(seed)
    indices = spec.indices(group)
    half = 0.5 * (spec.upper[indices] - spec.lower[indices])
    taken = _times(rng, duration_s, PICTURE_HZ, PICTURE_JITTER_S)
    known = Known(taken, spec.lower[indices] + half, 0.5 * half)
    store = get_typestore(Stores.ROS2_JAZZY)
    kinds = store.types

    def header(at_s: float) -> Any:
        ns = round(at_s * S)
        return kinds["std_msgs/msg/Header"](stamp=kinds["builtin_interfaces/msg/Time"](sec=ns // S, nanosec=ns % S), frame_id="front_optical")

    drawn = _drawn(known, spec, group)
    names = [spec.joint_names[i] for i in indices]
    rows = [(at + rng.uniform(0, LATE_S), "camera", at, number) for number, at in enumerate(taken) if rng.uniform() > LOST]
    for topic, ahead in (("joint_states", 0.0), ("hw/command", 0.05)):
        for at in _times(rng, duration_s, JOINT_HZ, JOINT_JITTER_S):
            if rng.uniform() > LOST:
                rows.append((at + rng.uniform(0, 0.1 * LATE_S), topic, at, ahead))
    raw = encoding == "rgb8"
    camera = ("/camera/image_raw", "sensor_msgs/msg/Image") if raw else ("/camera/image_raw/compressed", "sensor_msgs/msg/CompressedImage")
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {name: writer.add_connection(f"/{name}", "sensor_msgs/msg/JointState", typestore=store) for name in ("joint_states", "hw/command")}
        topics["camera"] = writer.add_connection(*camera, typestore=store)
        for recorded_s, topic, at, extra in sorted(rows):
            if topic == "camera":
                picture = painted(drawn[int(extra) % _DRAWN], int(extra))
                if raw:
                    message = kinds[camera[1]](header(at), SIZE[1], SIZE[0], encoding, 0, 3 * SIZE[0], picture.ravel())
                else:
                    message = kinds[camera[1]](header(at), encoding, cv2.imencode(f".{encoding}", picture[..., ::-1])[1].ravel())
            else:
                message = kinds["sensor_msgs/msg/JointState"](header(at), names, known.joints(np.array([at + extra]))[0], np.zeros(0), np.zeros(0))
            kind = topics[topic].msgtype
            writer.write(topics[topic], round(recorded_s * S), store.serialize_cdr(message, kind))
    return known


def _times(rng: np.random.Generator, duration_s: float, rate_hz: float, jitter_s: float) -> FloatArray:
    count = int(duration_s * rate_hz)
    return BEGIN_S + np.arange(count) / rate_hz + rng.uniform(-jitter_s, jitter_s, count)


def _drawn(known: Known, spec: RobotSpec, group: str) -> list[ImageArray]:
    """Pictures of the arm where it is at the first times."""
    world, q, found = SimWorld(spec), spec.home.copy(), []
    for at in known.taken_s[:_DRAWN]:
        q[spec.indices(group)] = known.joints(np.array([at]))[0]
        world.reset(q, objects={})
        found.append(world.render("front", *SIZE))
    world.close()
    return found * (-(-_DRAWN // len(found)))
