"""Bags of an arm that moves on known curves before a camera that writes the time into its pictures; also ugly ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

S = 1_000_000_000
BEGIN_S = 100.0
JOINTS = ("r_shoulder_z", "r_shoulder_y", "r_arm_x", "r_elbow_y", "r_wrist_z", "r_wrist_x")
SPEED = np.array([0.3, -0.2, 0.1, -0.15, 0.25, -0.05])  # rad/s
START = np.array([0.0, 0.5, -0.3, -0.8, 0.2, 0.1])


def where(at_s: float | np.ndarray) -> np.ndarray:
    """(..., 6) rad of the joints at a time: there and back every four seconds, exactly linear in between."""
    phase = np.abs((np.asarray(at_s) - BEGIN_S) % 4.0 - 2.0)
    return START + phase[..., None] * SPEED if np.ndim(phase) else START + phase * SPEED


def painted(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A picture that carries its number in 16 stripes, with something to compress."""
    bits = [(number >> k) & 1 for k in range(16)]
    row = np.repeat(np.array(bits, np.uint8) * 160 + 40, width // 16)
    picture = np.repeat(np.broadcast_to(row, (height, width))[..., None], 3, axis=2).copy()
    picture[: height // 4, :, 0] = 90
    return picture


def number_of(picture: np.ndarray) -> int:
    """Inverse of ``painted``, for pictures of any size that went through a video."""
    stripes = picture[picture.shape[0] // 2 :, :, 1].mean(0).reshape(16, -1).mean(1)
    return int(sum(1 << k for k, level in enumerate(stripes) if level > 120))


@dataclass
class Plan:
    """What a bag holds. ``pictures``: (time s, number). ``names``, ``scale``: of the joints in the bag.
    ``clock``: from true time, at which a message is recorded, to its stamp; the joints follow the stamps."""

    duration_s: float = 8.0
    picture_hz: float = 30.0
    pictures: Iterable[tuple[float, int]] | None = None
    size: tuple[int, int] = (64, 48)
    encoding: str = "png"
    joint_hz: float = 100.0
    clock: Callable[[float], float] = lambda at_s: at_s
    camera: str = "camera/image_raw"
    joints: str = "joint_states"
    commands: str = "hw/command"
    names: tuple[str, ...] = JOINTS
    array: bool = False
    scale: float = 1.0
    marks_s: tuple[float, ...] = ()
    storage: StoragePlugin = StoragePlugin.MCAP
    paint: Callable[..., np.ndarray] = painted


def write(folder: Path, plan: Plan) -> Path:
    """Write a bag; every message is recorded 2 ms after its stamp."""
    store = get_typestore(Stores.ROS2_JAZZY)
    kinds = store.types
    rows: list[tuple[float, str, Any, str]] = []

    def header(at_s: float) -> Any:
        ns = round(plan.clock(at_s) * S)
        return kinds["std_msgs/msg/Header"](stamp=kinds["builtin_interfaces/msg/Time"](sec=ns // S, nanosec=ns % S), frame_id="")

    count = int(plan.duration_s * plan.picture_hz)
    pictures = plan.pictures if plan.pictures is not None else [(BEGIN_S + k / plan.picture_hz, k) for k in range(count)]
    for at_s, number in pictures:
        picture = plan.paint(number, *plan.size)
        if plan.encoding == "raw":
            message = kinds["sensor_msgs/msg/Image"](header(at_s), plan.size[1], plan.size[0], "rgb8", 0, 3 * plan.size[0], picture.ravel())
            rows.append((at_s, f"/{plan.camera}", message, "sensor_msgs/msg/Image"))
        else:
            data = cv2.imencode(f".{plan.encoding}", picture[..., ::-1])[1].ravel()
            rows.append((at_s, f"/{plan.camera}/compressed", kinds["sensor_msgs/msg/CompressedImage"](header(at_s), plan.encoding, data), "sensor_msgs/msg/CompressedImage"))
    times = BEGIN_S + np.arange(int(plan.duration_s * plan.joint_hz)) / plan.joint_hz
    for topic, ahead in ((plan.joints, 0.0), (plan.commands, 0.05)):
        for at_s in times if topic else ():
            place = where(plan.clock(at_s) + ahead) * plan.scale
            if plan.array:
                layout = kinds["std_msgs/msg/MultiArrayLayout"]([], 0)
                rows.append((at_s, f"/{topic}", kinds["std_msgs/msg/Float64MultiArray"](layout, place), "std_msgs/msg/Float64MultiArray"))
            else:
                message = kinds["sensor_msgs/msg/JointState"](header(at_s), list(plan.names), place, np.zeros(0), np.zeros(0))
                rows.append((at_s, f"/{topic}", message, "sensor_msgs/msg/JointState"))
    rows += [(at_s, "/record/mark", kinds["std_msgs/msg/String"]("next"), "std_msgs/msg/String") for at_s in plan.marks_s]
    with Writer(folder, version=9, storage_plugin=plan.storage) as writer:
        open_topics: dict[str, Any] = {}
        for at_s, topic, message, kind in sorted(rows, key=lambda row: row[0]):
            if topic not in open_topics:
                open_topics[topic] = writer.add_connection(topic, kind, typestore=store)
            late = 0 if plan.array else 2_000_000
            writer.write(open_topics[topic], round(at_s * S) + late, store.serialize_cdr(message, kind))
    return folder
