"""Rates and ages of what a node hears and does, once a second on /diagnostics."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from wm_bridge.ros import qos

OK, WARN, ERROR = 0, 1, 2


@dataclass
class Rate:
    """Counts events of one kind.

    Attributes:
        name: what is counted.
        least_hz: fewer per second is a warning; 0 = any rate is fine.
        timeout_s: silence longer than this is a warning (an error when ``required``); 0 = never.
    """

    name: str
    least_hz: float = 0.0
    timeout_s: float = 0.0
    required: bool = False

    def __post_init__(self) -> None:
        self.total = 0
        self._before = 0
        self._since = self._last = time.monotonic()

    def mark(self) -> None:
        """One more."""
        self.total += 1
        self._last = time.monotonic()

    def report(self) -> tuple[int, str, dict[str, str]]:
        """Return level, message and values since the last call."""
        now = time.monotonic()
        hz = (self.total - self._before) / max(now - self._since, 1e-6)
        age = now - self._last
        self._before, self._since = self.total, now
        level, message = OK, ""
        if self.timeout_s and age > self.timeout_s:
            level = ERROR if self.required else WARN
            message = f"no {self.name} for {age:.1f} s"
        elif hz < self.least_hz:
            level, message = WARN, f"{self.name} at {hz:.1f} Hz, expected {self.least_hz:.1f}"
        values = {f"{self.name} [Hz]": f"{hz:.1f}", f"{self.name} [count]": str(self.total)}
        return level, message, values


class Diagnostics:
    """Publishes one status per node at 1 Hz (steady clock).

    Args:
        node: whose status it is.
        details: gives (level, message, values) of the node's own matters.
    """

    def __init__(
        self,
        node: Node,
        details: Callable[[], tuple[int, str, dict[str, str]]] | None = None,
    ) -> None:
        self._node = node
        self._details = details
        self._rates: list[Rate] = []
        name = "/diagnostics"
        # The plain class: a lifecycle publisher would be silent while the node is inactive.
        self._publisher = Node.create_publisher(
            node, qos.message_type(name), name, qos.profile(name)
        )
        self._timer = node.create_timer(
            1.0, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def rate(self, name: str, least_hz: float = 0.0, timeout_s: float = 0.0, required: bool = False) -> Rate:
        """Add a counter; see ``Rate``."""
        self._rates.append(Rate(name, least_hz, timeout_s, required))
        return self._rates[-1]

    def publish(self) -> None:
        """Send the present status."""
        parts = [rate.report() for rate in self._rates]
        if self._details is not None:
            parts.insert(0, self._details())
        level = max([part[0] for part in parts], default=OK)
        values = {key: value for part in parts for key, value in part[2].items()}
        status = DiagnosticStatus(
            level=bytes([level]),
            name=self._node.get_fully_qualified_name(),
            message="; ".join(part[1] for part in parts if part[1]) or "running",
            hardware_id=self._node.get_name(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
