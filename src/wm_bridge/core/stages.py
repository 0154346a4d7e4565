"""Goals one after the other, each watched by a monitor of its own."""

from __future__ import annotations

import dataclasses

from wm_bridge.core.goal import GoalConfig, GoalMonitor, GoalPhase, GoalStatus, Outcome, PlanSummary, S


class Stages:
    """Follows a sequence of goals from the first to the outcome.

    | stage    | goes to    | when                                                                        |
    |----------|------------|-----------------------------------------------------------------------------|
    | not last | the next   | energy of the present frame <= ``switch_energy`` for ``switch_hold_s``      |
    | not last | the next   | its monitor says REACHED: held within the tolerance                         |
    | not last | the end    | its monitor says STALLED, TIMEOUT or NOT_TRUSTED: so does the whole         |
    | last     | the end    | its monitor decides                                                         |

    ``timeout_s`` is that of the whole. A goal by itself is a sequence of one.
    """

    def __init__(self, config: GoalConfig | None = None) -> None:
        self._config = config or GoalConfig()
        self._monitor = GoalMonitor(self._config)
        self._count = 1
        self._low_ns: int | None = None
        self._begin_ns = 0
        self.stage = 0
        self.status = self._monitor.status

    def begin(self, now_ns: int, count: int = 1, config: GoalConfig | None = None) -> None:
        """``count`` goals start; ``config`` replaces the settings for them and later ones."""
        self._config = config or self._config
        self._count, self._begin_ns, self.stage = count, now_ns, 0
        self._start(now_ns)
        self.status = self._told(self._monitor.status, now_ns)

    def update(self, summary: PlanSummary | None, now_ns: int) -> GoalStatus:
        """Take in one planning call for the present stage, or None when only time has passed."""
        if self.status.phase in (GoalPhase.IDLE, GoalPhase.DONE):
            return self.status
        status = self._monitor.update(summary, now_ns)
        if self.stage + 1 < self._count and (status.outcome is Outcome.REACHED or self._passed(summary, status, now_ns)):
            self.stage += 1
            self._start(now_ns)
            status = dataclasses.replace(self._monitor.status, distance_m=status.distance_m, angle_rad=status.angle_rad)
        self.status = self._told(status, now_ns)
        return self.status

    def _start(self, now_ns: int) -> None:
        left_s = max(self._config.timeout_s - (now_ns - self._begin_ns) / S, 1e-9)
        self._monitor.begin(now_ns, dataclasses.replace(self._config, timeout_s=left_s))
        self._low_ns = None

    def _passed(self, summary: PlanSummary | None, status: GoalStatus, now_ns: int) -> bool:
        """The energy has been low for long enough; a plan that failed changes nothing."""
        if summary is None or status.outcome is not None:
            return False
        if not summary.energy <= self._config.switch_energy:
            self._low_ns = None
            return False
        self._low_ns = now_ns if self._low_ns is None else self._low_ns
        return now_ns - self._low_ns >= self._config.switch_hold_s * S

    def _told(self, status: GoalStatus, now_ns: int) -> GoalStatus:
        """The monitor's status as that of the whole."""
        message = status.message
        if self._count > 1 and status.outcome is not None:
            message = f"goal {self.stage + 1} of {self._count}: {message}"
        return dataclasses.replace(
            status,
            progress=(self.stage + status.progress) / self._count,
            elapsed_s=(now_ns - self._begin_ns) / S,
            message=message,
            stage=self.stage + 1,
            stages=self._count,
        )
