"""Views for a camera calibration from the running graph. It listens; whoever moves the robot is somebody else."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from wm_bridge.calibration.board import CalibrationError
from wm_bridge.calibration.taker import STILL_NS, Taker
from wm_bridge.core.types import JointState

_LOOK_S = 0.2  # between two pictures that are searched for the board
_PATIENCE_S = 10.0


def listen(taker: Taker, camera: str, joints: bool, most: int, seconds: float) -> None:
    """Show the taker pictures of a camera node until it has ``most`` views, Ctrl-C comes, or the time is over.

    Raises:
        CalibrationError: no pictures, or no joint states.
    """
    import rclpy
    from rclpy.context import Context
    from rclpy.signals import SignalHandlerOptions

    from wm_bridge.ros import convert, qos
    from wm_bridge.ros.executor import LeanExecutor

    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("calibrate_camera", context=context)
    executor = LeanExecutor(context=context)
    executor.add_node(node)
    newest: dict[str, Any] = {}
    history: list[JointState] = []

    def on_joints(message: Any) -> None:
        try:
            state = convert.from_joint_state(message)
        except ValueError:
            return
        if state.is_finite():
            history.append(state)
        while history and not 0 <= history[-1].stamp_ns - history[0].stamp_ns <= 8 * STILL_NS:
            history.pop(0)

    pictures, intrinsics = f"{camera}/image_raw", f"{camera}/camera_info"
    for name, take in (
        (pictures, lambda message: newest.__setitem__(pictures, message)),
        (intrinsics, lambda message: newest.__setitem__(intrinsics, message)),
        ("joint_states", on_joints),
    ):
        node.create_subscription(qos.message_type(name), name, take, qos.monitor_profile(name, 10))
    told, begin, looked = "", time.monotonic(), 0.0
    try:
        while len(taker.shots) < most and time.monotonic() - begin < seconds:
            executor.spin_once(timeout_sec=0.1)
            missing = pictures if pictures not in newest else "joint_states" if joints and not history else ""
            if missing:
                if time.monotonic() - begin > _PATIENCE_S:
                    domain = os.environ.get("ROS_DOMAIN_ID", "0")
                    raise CalibrationError(f"nothing on {missing}", f"start the graph with ROS_DOMAIN_ID={domain}; name the camera node with --camera")
                continue
            if time.monotonic() - looked < _LOOK_S:
                continue
            looked = time.monotonic()
            if taker.info is None and intrinsics in newest:
                taker.info = convert.from_camera_info(newest[intrinsics])
            text = taker.look(convert.from_image(newest.pop(pictures)), history)
            if text != told:
                print(text, flush=True)
            told = text
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown(context=context)
