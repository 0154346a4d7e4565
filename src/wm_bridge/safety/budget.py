"""How long a tick may take."""

from __future__ import annotations

STRIKES = 3


class TimeBudget:
    """Counts ticks in a row that took too long."""

    def __init__(self, limit_ms: float) -> None:
        self._limit_ns = round(limit_ms * 1e6)
        self._strikes = 0

    def exceeded(self, spent_ns: int) -> bool:
        """True when this tick took too long."""
        self._strikes = self._strikes + 1 if spent_ns > self._limit_ns else 0
        return self._strikes > 0

    @property
    def lost(self) -> bool:
        """True after three such ticks in a row."""
        return self._strikes >= STRIKES
