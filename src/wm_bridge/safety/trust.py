"""How much the planner believes its own model: little trust slows, less holds; unknown, old or missing trust slows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wm_bridge.core.types import Reason
from wm_bridge.safety.monitor import MS, StampCheck, Watchdog
from wm_bridge.safety.settings import check_order, check_plain


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """See the comments in ``config/safety.yaml``."""

    enabled: bool
    hold_below: float
    slow_below: float
    hysteresis: float
    timeout_ms: float

    def __post_init__(self) -> None:
        check_plain(self, "trust", may_be_zero=("hysteresis",))
        check_order(self, "trust", "hold_below", "slow_below")
        if self.slow_below + self.hysteresis > 1.0:
            raise ValueError("safety: trust.slow_below + hysteresis must be at most 1, trust never gets better")


class TrustMonitor:
    """Holds and slows with hysteresis.

    NaN is trust that nobody knows: it slows, as silence does; any other number outside 0..1 is the
    worst. What held the arm holds it until a better trust is told: silence is none.
    """

    def __init__(self, settings: TrustSettings, future_ns: int) -> None:
        self.settings = settings
        self._limit_ns = round(settings.timeout_ms * MS)
        self._stamps = StampCheck(self._limit_ns, future_ns, Reason.LOW_TRUST)
        self._alive = Watchdog()
        self._slow, self._hold = True, False

    def inherit(self, known: TrustMonitor) -> None:
        """Hold if ``known`` did, until a better trust is told; slow until any is told."""
        self._hold = known._hold

    def observe(self, trust: float, stamp_ns: int, now_ns: int, steady_ns: int) -> Reason:
        """Take a trust, 0..1 or NaN. Returns why it was not used."""
        wrong = self._stamps.check(stamp_ns, now_ns)
        if wrong:
            return wrong
        self._stamps.accept(stamp_ns)
        self._alive.feed(steady_ns)
        if math.isnan(trust):
            self._slow, self._hold = True, False
            return Reason.NONE
        known, s = trust if 0.0 <= trust <= 1.0 else 0.0, self.settings
        self._hold = known < s.hold_below + (s.hysteresis if self._hold else 0.0)
        self._slow = known < s.slow_below + (s.hysteresis if self._slow else 0.0)
        return Reason.NONE

    def holds(self) -> bool:
        """True when the planner must not be followed."""
        return self.settings.enabled and self._hold

    def slows(self, steady_ns: int) -> bool:
        """True when the planner may be followed slowly only."""
        return self.settings.enabled and (self._slow or self._alive.expired(steady_ns, self._limit_ns))
