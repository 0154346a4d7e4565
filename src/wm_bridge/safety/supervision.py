"""Everything that is watched besides joints, camera and plans: people, motors, hands, trust."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wm_bridge.core.types import FloatArray, Reason
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.health import Health, HealthMonitor, Level
from wm_bridge.safety.human import HumanMonitor
from wm_bridge.safety.monitor import MS
from wm_bridge.safety.presence import Deadman, Heartbeat
from wm_bridge.safety.trust import TrustMonitor

Cause = tuple[Reason, str]


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast any point of the robot may be, and why.

    Attributes:
        limit_m_s: infinite when nothing slows the arm.
        reason: bits for the verdict.
    """

    limit_m_s: float
    reason: Reason


class Supervision:
    """Asked once per tick: must it latch, must it hold, how fast may it be?

    Args:
        config: time-outs and thresholds. effort: (J,) rated effort, N m, when known.
    """

    def __init__(self, config: SafetyConfig, effort: FloatArray | None) -> None:
        future = round(config.future_tolerance_ms * MS)
        self._config = config
        self.human = HumanMonitor(config.human, future)
        self.trust = TrustMonitor(config.trust, future)
        self.health = HealthMonitor(config.health, effort)
        self.deadman = Deadman(config.deadman)
        self.driver = Heartbeat(config.driver)
        self.reduced = config.reduced
        self._writers = 1
        self._writer_names = ""

    def inherit(self, known: Supervision) -> None:
        """Under new settings: what slowed or held the arm goes on doing so until it is told otherwise."""
        self.health.level, self.health.detail = known.health.level, known.health.detail
        self.trust.inherit(known.trust)
        self.reduced = self.reduced or known.reduced

    def count_writers(self, found: int | Sequence[str]) -> None:
        """Who writes to the hardware: a count, or the names of the nodes."""
        if isinstance(found, int):
            self._writers, self._writer_names = found, ""
        else:
            self._writers, self._writer_names = len(found), f": {', '.join(sorted(map(str, found)))}"

    def observe_health(self, health: Health, steady_ns: int) -> Level:
        """Take a report of the motors."""
        return self.health.observe(health, steady_ns)

    def faults(self, steady_ns: int) -> list[Cause]:
        """What latches, as it stands now."""
        found: list[Cause] = []
        if self.health.level is Level.STOP:
            found.append((Reason.HEALTH, self.health.detail))
        if self.driver.dead(steady_ns):
            found.append((Reason.DRIVER_DEAD, "no living heartbeat of the driver"))
        if self._writers > 1:
            names = self._writer_names
            found.append(
                (Reason.SECOND_WRITER, f"{self._writers} nodes write to the hardware{names}; stop the other one")
            )
        return found

    def holds(self, now_ns: int, steady_ns: int) -> Cause:
        """What forbids motion for the moment; (NONE, "") when nothing does."""
        if self.deadman.released(steady_ns):
            return Reason.DEADMAN, "deadman switch released or silent"
        human = self._config.human
        if self.human.speed_limit(now_ns, steady_ns) < human.least_speed_m_s:
            return Reason.HUMAN_NEAR, "a person is near, or nobody looks for one"
        if self.trust.holds():
            return Reason.LOW_TRUST, "the planner does not trust its model"
        return Reason.NONE, ""

    def pace(self, now_ns: int, steady_ns: int) -> Pace:
        """The strictest of all speed limits."""
        slow = self._config.reduced_speed_m_s
        limit, reason = math.inf, Reason.NONE
        for applies, why in (
            (self.reduced, Reason.TOOL_SPEED),
            (self.health.level is Level.DERATE, Reason.HEALTH),
            (self.trust.slows(steady_ns), Reason.LOW_TRUST),
        ):
            if applies:
                limit, reason = slow, reason | why
        human = self.human.speed_limit(now_ns, steady_ns)
        if human < limit:
            limit, reason = human, Reason.HUMAN_NEAR
        return Pace(limit, reason)
