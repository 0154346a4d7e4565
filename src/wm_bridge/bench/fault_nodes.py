"""Processes of the fault benchmark: a planner that only swings the arm, and the safety node with switches.

The planner stands in for ``planner_node`` on its topic: plans of the right arm at 10 Hz, and mistakes on
request (``fault/mode``). The safety process is ``safety_node`` itself; a signal makes one of its parts
misbehave from then on, as no message can.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from wm_bridge.core.types import Trajectory
from wm_bridge.robots import spec as robot_spec
from wm_bridge.ros import convert, qos
from wm_bridge.ros.node import STEADY, leave, now_ns, publisher, run

MODES = ("", "silent", "nan", "names", "future", "delay", "duplicate", "reorder", "besteffort")
RAISE, HANG, CORE, SLOW = signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN, signal.SIGRTMIN + 1
_DELAY = 10  # plans
_OMEGA = 2.5  # rad/s of the swing


class SwingNode(Node):
    """Publishes a swing of the robot's first arm around home on ``wm/action``, 10 Hz."""

    def __init__(self) -> None:
        super().__init__("planner")
        spec = robot_spec.load(self.declare_parameter("robot", "nico").value)
        self._names = spec.groups[next(iter(spec.tools))]
        self._home = spec.home[[spec.index(name) for name in self._names]]
        self._amplitude = np.full(len(self._names), 0.05)
        self._amplitude[3] = 0.25  # NICO's elbow
        self._mode = ""
        self._kept: list[Trajectory] = []
        self._out = publisher(self, "wm/action")
        self.create_subscription(String, "fault/mode", self._on_mode, 10)
        self.create_timer(0.1, self._plan, clock=STEADY)

    def _on_mode(self, message: String) -> None:
        if message.data not in MODES:
            self.get_logger().error(f"mode {message.data!r} is unknown; known are {MODES}")
            return
        wanted, self._mode = message.data, message.data
        self._kept = self._kept[-1:]
        self.destroy_publisher(self._out)
        self._out = publisher(self, "wm/action")
        if wanted == "besteffort":  # the safety node asks for a reliable writer: never matched
            self.destroy_publisher(self._out)
            loose = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._out = self.create_publisher(qos.message_type("wm/action"), "wm/action", loose)

    def _plan(self) -> None:
        now = now_ns(self)
        if not now or self._mode == "silent":
            return
        times = tuple(round(1e8 * (k + 0.5)) for k in range(9))
        angle = _OMEGA * np.array([(now + t) * 1e-9 for t in times])[:, None]
        positions = self._home + self._amplitude * np.sin(angle)
        velocities = self._amplitude * _OMEGA * np.cos(angle)
        velocities[-1] = 0.0
        plan = Trajectory(self._names, times, positions, velocities, now)
        for sent in self._spoil(plan):
            self._out.publish(convert.to_trajectory(sent))

    def _spoil(self, plan: Trajectory) -> list[Trajectory]:
        if self._mode in ("", "besteffort"):
            self._kept = [plan]
            return [plan]
        if self._mode == "nan":
            return [Trajectory(plan.names, plan.times_ns, plan.positions * np.nan, plan.velocities, plan.stamp_ns)]
        if self._mode == "names":
            return [Trajectory((*plan.names[:-1], "x_wing"), plan.times_ns, plan.positions, plan.velocities, plan.stamp_ns)]
        if self._mode == "future":
            return [Trajectory(plan.names, plan.times_ns, plan.positions, plan.velocities, plan.stamp_ns + 10**9)]
        if self._mode == "duplicate":
            return self._kept[-1:] * 2
        self._kept.append(plan)
        if self._mode == "delay":
            return [self._kept.pop(0)] if len(self._kept) > _DELAY else []
        return [self._kept.pop(0)] if len(self._kept) > 20 else [self._kept[0]]  # reorder: old ones again


def faulty_safety() -> int:
    """``safety_node`` whose parts fail on a signal."""
    from wm_bridge.nodes import safety
    from wm_bridge.safety.filter import SafetyFilter

    active: set[int] = set()
    for number in (RAISE, HANG, CORE, SLOW):
        signal.signal(number, lambda received, _: active.add(received))

    def patched(name: str, number: int, effect: Callable[..., Any]) -> None:
        owner: Any = safety.SafetyNode if name.startswith("_on") else SafetyFilter
        true = getattr(owner, name)

        def wrapper(self: Any, *args: Any) -> Any:
            if number in active:
                effect()
            return true(self, *args)

        setattr(owner, name, wrapper)

    def fail() -> None:
        raise RuntimeError("injected: an exception in a callback")

    def hang() -> None:
        while True:  # sleeping, so that a real-time process does not take the whole core
            time.sleep(1.0)

    def slow() -> None:
        time.sleep(0.15)

    patched("_on_joints", RAISE, fail)
    patched("tick", HANG, hang)
    patched("_tick", CORE, fail)  # inside the filter: its own last resort has to catch it
    patched("submit", SLOW, slow)
    return safety.main()


def main(argv: list[str]) -> int:
    """``python -m wm_bridge.bench.fault_nodes planner|safety --ros-args ...``."""
    which, sys.argv[1:] = argv[0], argv[1:]
    return faulty_safety() if which == "safety" else run(SwingNode)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
