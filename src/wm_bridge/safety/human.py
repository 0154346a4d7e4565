"""Speed and separation: how fast the arm may be for the distance of the nearest person."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wm_bridge.core.types import Reason
from wm_bridge.safety.monitor import MS, StampCheck, Watchdog
from wm_bridge.safety.settings import check_plain


@dataclass(frozen=True, slots=True)
class HumanSettings:
    """See the comments in ``config/safety.yaml``."""

    enabled: bool
    walking_speed_m_s: float
    reaction_ms: float
    deceleration_m_s2: float
    clearance_m: float
    least_speed_m_s: float
    timeout_ms: float

    def __post_init__(self) -> None:
        check_plain(self, "human")


def allowed_speed(distance_m: float, settings: HumanSettings) -> float:
    """Fastest speed of the arm for a person at a distance.

    ISO/TS 15066 (5.5.4): the distance must hold the way of the person during reaction and
    stop, the way of the arm during both, and the clearance C:
    S = v_h (T_r + v/a) + v T_r + v^2 / (2 a) + C, solved for the arm's speed v.

    Args:
        distance_m: smallest distance of arm and person now, m.

    Returns:
        m/s; 0 when even a resting arm is too near.
    """
    T, a, v_h = settings.reaction_ms * 1e-3, settings.deceleration_m_s2, settings.walking_speed_m_s
    spare = distance_m - settings.clearance_m - v_h * T
    if not spare > 0.0:
        return 0.0
    half = T + v_h / a
    return a * (math.sqrt(half * half + 2.0 * spare / a) - half)


class HumanMonitor:
    """Last seen distance of a person; silence counts as a person beside the arm."""

    def __init__(self, settings: HumanSettings, future_ns: int) -> None:
        self.settings = settings
        limit = round(settings.timeout_ms * MS)
        self._stamps = StampCheck(limit, future_ns, Reason.HUMAN_NEAR)
        self._alive, self._limit_ns = Watchdog(), limit
        self._distance_m = 0.0
        self._seen_ns = 0

    def observe(self, distance_m: float, stamp_ns: int, now_ns: int, steady_ns: int) -> Reason:
        """Take a distance, m; infinite when nobody is there. Returns why it was not used."""
        wrong = self._stamps.check(stamp_ns, now_ns)
        if math.isnan(distance_m) or distance_m < 0.0:
            wrong |= Reason.NONFINITE
        if wrong:
            return wrong
        self._stamps.accept(stamp_ns)
        self._alive.feed(steady_ns)
        self._distance_m, self._seen_ns = distance_m, stamp_ns
        return Reason.NONE

    def speed_limit(self, now_ns: int, steady_ns: int) -> float:
        """m/s that the arm may move at now; infinite when the check is off."""
        if not self.settings.enabled:
            return math.inf
        if self._alive.expired(steady_ns, self._limit_ns):
            return 0.0
        walked = self.settings.walking_speed_m_s * max(now_ns - self._seen_ns, 0) * 1e-9
        return allowed_speed(self._distance_m - walked, self.settings)
