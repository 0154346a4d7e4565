"""Waits until nodes are running, by their full names: ``python -m wm_bridge.ros.await_nodes SECONDS /NODE ...``."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray

from wm_bridge.ros import qos


def wait_for(names: list[str], timeout_s: float) -> list[str]:
    """Return the nodes whose diagnostics did not come in time; empty = all are there."""
    rclpy.init()
    node = rclpy.create_node("await_nodes")
    missing = set(names)

    def note(message: DiagnosticArray) -> None:
        for status in message.status:
            missing.discard(status.name)

    node.create_subscription(DiagnosticArray, "/diagnostics", note, qos.profile("/diagnostics"))
    deadline = time.monotonic() + timeout_s
    while missing and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.2)
    node.destroy_node()
    rclpy.try_shutdown()
    return sorted(missing)


if __name__ == "__main__":
    late = wait_for(sys.argv[2:], float(sys.argv[1]))
    if late:
        print(f"no sign of {', '.join(late)} within {sys.argv[1]} s")
    raise SystemExit(1 if late else 0)
