"""A tiny bag as the recorder writes it, without a graph: a square moves, a goal comes, the safety filter limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

ROOT = Path(__file__).resolve().parents[1]
S = 1_000_000_000
BEGIN_S, GOAL_S, END_S = 10.0, 11.0, 14.0  # node time


def make_bag(folder: Path, duration_s: float = END_S - BEGIN_S, goal: bool = True, state: Any = None, joints: tuple[str, ...] = ()) -> Path:
    """Write ``folder``; ten pictures and plans a second. ``state``: flat simulator state, repeated.
    ``joints``: moved at 1 rad/s, 0.02 rad behind what is sent."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for file in sorted((ROOT / "ros2_ws/src/wm_interfaces/msg").glob("*.msg")):
        store.register(get_types_from_msg(file.read_text(), f"wm_interfaces/msg/{file.stem}"))
    kinds, noise = store.types, np.random.default_rng(0)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:

        def channel(topic: str, kind: str) -> Any:
            connection = writer.add_connection(f"/{topic}", kind, typestore=store)
            return lambda at_s, message: writer.write(connection, round(at_s * S), store.serialize_cdr(message, kind))

        def header(at_s: float) -> Any:
            stamp = kinds["builtin_interfaces/msg/Time"](sec=int(at_s), nanosec=round(at_s % 1 * S))
            return kinds["std_msgs/msg/Header"](stamp=stamp, frame_id="")

        camera = channel("camera/image_raw/compressed", "sensor_msgs/msg/CompressedImage")
        goals = channel("wm/goal", "sensor_msgs/msg/Image")
        plans = channel("wm/report", "wm_interfaces/msg/PlanReport")
        safety = channel("safety/state", "wm_interfaces/msg/SafetyState")
        verdicts = channel("safety/verdict", "wm_interfaces/msg/SafetyVerdict")
        measured = channel("joint_states", "sensor_msgs/msg/JointState")
        sent = channel("hw/command", "sensor_msgs/msg/JointState")
        states = channel("sim/state", "std_msgs/msg/Float64MultiArray") if state is not None else None

        def say_safety(at_s: float, enabled: bool) -> None:
            message = kinds["wm_interfaces/msg/SafetyState"](
                header(at_s), 0 if enabled else 4, "NORMAL" if enabled else "LATCHED", 0, [], enabled, not enabled, 0, 0, 2, ""
            )
            safety(at_s, message)

        say_safety(BEGIN_S, False)
        for k in range(round(duration_s * 10)):
            at_s = BEGIN_S + k / 10
            picture = np.full((240, 320, 3), 30, np.uint8)
            picture[150:235, :160] = noise.integers(0, 255, (85, 160, 3))  # so that a bag has several chunks
            picture[100:140, 4 * k : 4 * k + 40] = (0, 200, 0)
            png = cv2.imencode(".png", picture)[1].ravel()
            camera(at_s, kinds["sensor_msgs/msg/CompressedImage"](header(at_s), "rgb8; png compressed bgr8", png))
            if k == 5:
                say_safety(at_s, True)
            if goal and at_s == GOAL_S:
                data = np.full(240 * 320 * 3, 90, np.uint8)
                goals(at_s, kinds["sensor_msgs/msg/Image"](header(at_s), 240, 320, "rgb8", 0, 960, data))
            if goal and at_s >= GOAL_S:
                left = max(0.2 - 0.02 * (k - 10), 0.01)
                plans(
                    at_s,
                    kinds["wm_interfaces/msg/PlanReport"](
                        header(at_s), k, left, np.array([left]), left * 5, left, float("nan"), left, 1 - left / 0.2,
                        64, 3, 8, 0, 1.0, 4.0, 25.0 + k, 40.0 + k, 80.0, 0.375, True, 1.0, 0.0, 0, "",
                    ),
                )  # fmt: skip
            reasons = 1 << 14 if k < 5 else 1 << 10 if 15 <= k < 18 else 0
            names = {1 << 14: ["NOT_ENABLED"], 1 << 10: ["VELOCITY_LIMIT"], 0: []}[reasons]
            verdicts(
                at_s,
                kinds["wm_interfaces/msg/SafetyVerdict"](
                    header(at_s), k, 4 if k < 5 else int(bool(reasons)), reasons, names, ["a"],
                    np.array([0.5]), np.array([0.4 if reasons else 0.5]), 0.3, 50.0, -1, "",
                ),
            )  # fmt: skip
            for out, ahead in ((measured, 0.0), (sent, 0.02)):
                if joints:
                    place = np.full(len(joints), at_s - GOAL_S + 1.0 + ahead)
                    out(at_s, kinds["sensor_msgs/msg/JointState"](header(at_s), list(joints), place, 0 * place, 0 * place))
            if states is not None:
                values = np.array(state, float)
                values[:2] = int(at_s), round(at_s % 1 * S)
                dim = kinds["std_msgs/msg/MultiArrayLayout"]([], 0)
                states(at_s, kinds["std_msgs/msg/Float64MultiArray"](dim, values))
    return folder


def write_pictures(folder: Path, pictures: list[Any]) -> Path:
    """Write ``folder``: raw pictures (H, W, 3) RGB on camera/image_raw, ten a second."""
    store = get_typestore(Stores.ROS2_JAZZY)
    kinds, kind = store.types, "sensor_msgs/msg/Image"
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/camera/image_raw", kind, typestore=store)
        for k, picture in enumerate(pictures):
            stamp = kinds["builtin_interfaces/msg/Time"](sec=1, nanosec=k * S // 10)
            header = kinds["std_msgs/msg/Header"](stamp=stamp, frame_id="front_optical")
            height, width = picture.shape[:2]
            message = kinds[kind](header, height, width, "rgb8", 0, 3 * width, np.ascontiguousarray(picture).ravel())
            writer.write(connection, S + k * S // 10, store.serialize_cdr(message, kind))
    return folder
