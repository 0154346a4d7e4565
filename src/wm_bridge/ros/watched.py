"""Messages of a running graph as the values that the browser view shows."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from wm_interfaces.msg import PlanReport, SafetyInterventions, SafetyState, SafetyVerdict

from wm_bridge.core.types import Reason, SafetyMode
from wm_bridge.ros.convert import from_time, reason_names
from wm_bridge.view.shown import Intervention, NodeHealth, Numbers, Safety

_TRUST = {
    PlanReport.TRUST_OK: "OK",
    PlanReport.TRUST_SLOW: "SLOW",
    PlanReport.TRUST_STOP: "STOP",
    PlanReport.TRUST_UNKNOWN: "UNKNOWN",
}
_RATE = " [Hz]"
_ROW_NS = 500_000_000  # interventions this near to each other, for the same reasons, are one row


def numbers(message: PlanReport, age_s: float) -> Numbers:
    """Of ``wm/report``."""
    return Numbers(
        message.energy,
        message.distance_m,
        message.progress,
        message.total_ms,
        message.trust,
        _TRUST.get(message.trust_state, "UNKNOWN"),
        message.trust_cause,
        age_s,
    )


def safety(state: SafetyState, verdict: SafetyVerdict | None, age_s: float) -> Safety:
    """Of ``safety/state`` and the newest ``safety/verdict``."""
    nan = float("nan")
    return Safety(
        state.mode_name,
        tuple(state.reason_names),
        state.enabled,
        state.latched,
        state.detail,
        state.interventions,
        age_s,
        nan if verdict is None else verdict.margin,
        nan if verdict is None else verdict.filter_us,
        nan if verdict is None or verdict.source_age_ns < 0 else verdict.source_age_ns * 1e-6,
    )


def health(status: DiagnosticStatus, age_s: float) -> NodeHealth:
    """Of one status of ``/diagnostics``."""
    rates = {item.key.removesuffix(_RATE): _float(item.value) for item in status.values if item.key.endswith(_RATE)}
    return NodeHealth(status.hardware_id or status.name, ord(status.level), status.message, rates, age_s)


class Interventions:
    """The last interventions of the safety node, those of one cause as one.

    Args:
        depth: how many are kept.
    """

    def __init__(self, depth: int = 12) -> None:
        self._rows: deque[Intervention] = deque(maxlen=depth)

    def hear(self, message: SafetyInterventions) -> None:
        """Take in ``safety/interventions``; a message whose arrays do not fit together is left out."""
        names, count = list(message.joint_names), len(message.stamp_ns)
        before, after = np.asarray(message.before), np.asarray(message.after)
        if len({len(message.mode), len(message.reasons), len(message.distance), len(message.margin), count}) != 1:
            return
        if before.size != count * len(names) or after.size != before.size:
            return
        change = np.abs(after - before).reshape(count, len(names))
        for row in range(count):
            self._add(message, row, names, change[row])

    def rows(self) -> tuple[Intervention, ...]:
        """Oldest first."""
        return tuple(self._rows)

    def _add(self, message: SafetyInterventions, row: int, names: Sequence[str], change: np.ndarray) -> None:
        reasons = tuple(reason_names(Reason(int(message.reasons[row]))))
        mode = SafetyMode(int(message.mode[row])).name if int(message.mode[row]) in set(SafetyMode) else str(message.mode[row])
        stamp = int(message.stamp_ns[row])
        worst = int(change.argmax()) if change.size else -1
        size, joint = (float(change[worst]), names[worst]) if worst >= 0 else (0.0, "")
        distance, margin, ticks = float(message.distance[row]), float(message.margin[row]), 1
        last = self._rows[-1] if self._rows else None
        if last is not None and last.reasons == reasons and last.mode == mode and 0 <= stamp - last.stamp_ns < _ROW_NS:
            self._rows.pop()
            ticks += last.ticks
            if last.change_rad > size:
                size, joint = last.change_rad, last.joint
            if not distance < last.distance_m and not np.isnan(last.distance_m):
                distance, margin = last.distance_m, last.margin_m
        self._rows.append(Intervention(mode, reasons, ticks, joint, size, distance, margin, stamp))


class Latest:
    """A message and when it came, steady clock."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.came = time.monotonic()

    @property
    def age_s(self) -> float:
        """Since it came."""
        return time.monotonic() - self.came


def plan_seconds(message: PlanReport) -> float:
    """Stamp of the picture that was planned from, s."""
    return from_time(message.header.stamp) * 1e-9


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
