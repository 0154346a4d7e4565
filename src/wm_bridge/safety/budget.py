"""How long a tick may take."""

from __future__ import annotations


class TimeBudget:
    """Judges the wall time of ticks: one too slow brakes, a row of them latches.

    A late answer is dropped at once, whatever made it late. On a busy machine without
    real-time scheduling single ticks are late because another process had the core; a
    solver that hangs makes every tick late. So the latch waits for a row.

    Args:
        limit_ms: a tick that takes longer is late.
        latch_ms: late ticks in a row that together took so long are a hanging solver.
    """

    def __init__(self, limit_ms: float, latch_ms: float) -> None:
        self._limit_ns, self._latch_ns = round(limit_ms * 1e6), round(latch_ms * 1e6)
        self._row_ns = 0

    def exceeded(self, spent_ns: int) -> bool:
        """True when this tick took too long."""
        late = spent_ns > self._limit_ns
        self._row_ns = self._row_ns + spent_ns if late else 0
        return late

    @property
    def lost(self) -> bool:
        """True when the late ticks in a row, this one included, took ``latch_ms`` together."""
        return self._row_ns >= self._latch_ns
