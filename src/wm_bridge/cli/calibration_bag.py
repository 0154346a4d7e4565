"""Views for a camera calibration out of a recording of the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from wm_bridge.bags.reader import opened
from wm_bridge.calibration.board import CalibrationError
from wm_bridge.calibration.taker import STILL_NS, Taker
from wm_bridge.core.images import decode, decompress
from wm_bridge.core.types import Frame, JointState
from wm_bridge.ros import convert

S = 1_000_000_000
_APART_NS = S // 4  # between two pictures that are looked at


def read_bag(taker: Taker, bag: Path, camera: str, joints: bool) -> None:
    """Show the taker the pictures of a camera node, with the joint states around each.

    Raises:
        CalibrationError: no such bag, pictures or joints in it.
    """
    if not bag.exists():
        raise CalibrationError(f"there is no bag {bag}", "name the folder that the recorder made", 2)
    topics = {f"/{camera}/{rest}": rest for rest in ("image_raw", "image_raw/compressed", "camera_info")} | {"/joint_states": "joint_states"}
    pictures: list[tuple[int, bytes]] = []
    history: list[JointState] = []
    try:
        with opened(bag) as (reader, _):
            wanted = [connection for connection in reader.connections if connection.topic in topics]
            for connection, _, data in reader.messages(wanted) if wanted else ():  # none named would mean all
                rest, message = topics[connection.topic], reader.deserialize(data, connection.msgtype)
                if rest == "camera_info":
                    taker.info = taker.info or convert.from_camera_info(message)
                elif rest == "joint_states":
                    state = convert.from_joint_state(message)
                    if state.is_finite() and (not history or state.stamp_ns > history[-1].stamp_ns):
                        history.append(state)
                elif not pictures or convert.from_time(message.header.stamp) - pictures[-1][0] >= _APART_NS:
                    pictures.append((convert.from_time(message.header.stamp), _encoded(message, rest)))
    except (ValueError, OSError) as error:
        raise CalibrationError(f"{bag} cannot be used: {error}", "record a run of the graph with the recorder node", 2) from error
    if not pictures:
        raise CalibrationError(f"{bag} holds no pictures of the camera node {camera}", "name it with --camera", 2)
    if joints and not history:
        raise CalibrationError(f"{bag} holds no joint_states", "record a run of the graph with the recorder node", 2)
    first = 0
    moving = 0
    for stamp, data in tqdm(pictures, desc="looking for the board", unit="picture"):
        while first < len(history) and history[first].stamp_ns < stamp - STILL_NS:
            first += 1
        last = first
        while last < len(history) and history[last].stamp_ns <= stamp + STILL_NS:
            last += 1
        text = taker.look(Frame(decompress(data), stamp, ""), history[first:last], f"{stamp / S:.3f}.png")
        moving += text == "stand still"
    if not taker.shots and moving:
        raise CalibrationError(f"in {bag} the robot moves in all {moving} pictures with the board", "let it stand for a second at each view, and record again")


def _encoded(message: Any, rest: str) -> bytes:
    """Picture as PNG or JPEG: a long recording in memory."""
    if rest.endswith("compressed"):
        return bytes(message.data)
    picture = decode(bytes(message.data), message.height, message.width, message.encoding, message.step)
    return bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])
