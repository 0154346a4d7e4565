"""When a simulated camera takes its pictures."""

from __future__ import annotations

S = 1_000_000_000


class Trigger:
    """Fires at the first state of every period, periods counted from time 0.

    So stamps are even, like those of a camera with a hardware trigger, and a state is drawn
    as soon as it is there. A late state fires late and leaves the next ones where they were.

    Args:
        rate_hz: pictures per second of simulated time.
    """

    def __init__(self, rate_hz: float) -> None:
        if not rate_hz > 0.0:
            raise ValueError(f"rate must be positive, got {rate_hz}")
        self._rate_hz = rate_hz
        self._period: int | None = None

    def due(self, stamp_ns: int) -> bool:
        """True when the state of this time is the first one seen of its period (or time began anew)."""
        period = int(stamp_ns / S * self._rate_hz + 1e-6)  # 0.15 s at 20 Hz is period 3, not 2.9999
        if period == self._period:
            return False
        self._period = period
        return True
