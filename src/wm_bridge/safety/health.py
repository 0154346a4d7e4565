"""Temperature, voltage, effort and error flags of the motors: warn, derate, stop."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.safety.settings import check_order, check_plain


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """See the comments in ``config/safety.yaml``."""

    temperature_warn_c: float
    temperature_derate_c: float
    temperature_stop_c: float
    temperature_hysteresis_c: float
    voltage_warn_v: float
    voltage_derate_v: float
    voltage_stop_v: float
    voltage_hysteresis_v: float
    effort_warn: float
    effort_derate: float
    effort_stop: float
    effort_hysteresis: float
    effort_ms: float

    def __post_init__(self) -> None:
        check_plain(self, "health")
        check_order(self, "health", "temperature_warn_c", "temperature_derate_c", "temperature_stop_c")
        check_order(self, "health", "voltage_stop_v", "voltage_derate_v", "voltage_warn_v")
        check_order(self, "health", "effort_warn", "effort_derate", "effort_stop")


class Level(enum.IntEnum):
    """How bad it is."""

    OK = 0
    WARN = 1
    DERATE = 2
    STOP = 3


@dataclass(frozen=True, slots=True)
class Health:
    """What the motors report; any part may be empty when the robot does not tell.

    Attributes:
        temperature_c: of the motors. voltage_v: of the supply or of each motor.
        effort: (J,) N m, or empty. errors: names of error flags that are set.
    """

    temperature_c: Sequence[float] = ()
    voltage_v: Sequence[float] = ()
    effort: Sequence[float] = ()
    errors: tuple[str, ...] = field(default=())


class Grade:
    """One quantity against three thresholds; goes down only past the hysteresis."""

    def __init__(self, thresholds: tuple[float, float, float], hysteresis: float) -> None:
        self._thresholds, self._hysteresis = thresholds, hysteresis
        self.level = Level.OK

    def update(self, value: float) -> Level:
        """Level of a value that is worse when larger; NaN is the worst."""
        if math.isnan(value):
            self.level = Level.STOP
            return self.level
        reached = Level(sum(value >= limit for limit in self._thresholds))
        kept = Level(sum(value > limit - self._hysteresis for limit in self._thresholds))
        self.level = max(reached, min(self.level, kept))
        return self.level


class HealthMonitor:
    """The worst of all reports.

    Args:
        settings: thresholds. effort: (J,) rated effort, N m; None leaves effort unjudged.
    """

    def __init__(self, settings: HealthSettings, effort: FloatArray | None) -> None:
        s = self._settings = settings
        self._rated = None if effort is None else np.asarray(effort, dtype=np.float64)
        self._temperature = Grade(
            (s.temperature_warn_c, s.temperature_derate_c, s.temperature_stop_c), s.temperature_hysteresis_c
        )
        self._voltage = Grade((-s.voltage_warn_v, -s.voltage_derate_v, -s.voltage_stop_v), s.voltage_hysteresis_v)
        self._effort = Grade((s.effort_warn, s.effort_derate, s.effort_stop), s.effort_hysteresis)
        self._heavy_since_ns: int | None = None
        self.level, self.detail = Level.OK, ""

    def observe(self, health: Health, steady_ns: int) -> Level:
        """Take a report; parts that are empty keep their last level."""
        found = [(self._temperature.level, "temperature"), (self._voltage.level, "voltage")]
        if len(health.temperature_c):
            hottest = float(np.max(np.asarray(health.temperature_c, dtype=np.float64)))
            found[0] = (self._temperature.update(hottest), f"motor at {hottest:.0f} C")
        if len(health.voltage_v):
            lowest = float(np.min(np.asarray(health.voltage_v, dtype=np.float64)))
            found[1] = (self._voltage.update(-lowest), f"supply at {lowest:.1f} V")
        found.append(self._judge_effort(health, steady_ns))
        if health.errors:
            found.append((Level.STOP, f"motor error: {', '.join(map(str, health.errors))}"))
        self.level, self.detail = max(found, key=lambda item: item[0])
        return self.level

    def _judge_effort(self, health: Health, steady_ns: int) -> tuple[Level, str]:
        """Effort counts only when it lasts: short peaks are normal."""
        if len(health.effort) and self._rated is not None:
            effort = np.asarray(health.effort, dtype=np.float64)
            if effort.shape != self._rated.shape:
                return Level.STOP, f"effort of {effort.size} joints reported, expected {self._rated.size}"
            share = float(np.max(np.abs(effort) / self._rated))
            before = self._effort.level
            level = self._effort.update(share)
            if level <= before:
                self._heavy_since_ns = None
            elif not math.isnan(share):
                since = self._heavy_since_ns = steady_ns if self._heavy_since_ns is None else self._heavy_since_ns
                if steady_ns - since < self._settings.effort_ms * 1e6:
                    self._effort.level = before
            return self._effort.level, f"effort at {100 * share:.0f} % of its rating"
        return self._effort.level, "effort"
