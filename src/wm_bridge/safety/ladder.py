"""Where the filter stands on NORMAL > LIMITED > HOLD > BRAKE > LATCHED, and why."""

from __future__ import annotations

from wm_bridge.core.types import Reason, SafetyMode


class Ladder:
    """Latch, brake and enable flags, and the mode of the last tick.

    Starts latched and not enabled. Only `release` leaves the latch.
    """

    def __init__(self) -> None:
        self.enabled = False
        self.latched, self.latch_detail = Reason.NOT_ENABLED, "not reset since the start"
        self.braking, self.brake_detail = Reason.NONE, ""
        self.mode, self.reasons, self.detail = SafetyMode.LATCHED, Reason.NOT_ENABLED, ""

    def latch(self, reason: Reason, detail: str) -> None:
        """Stop until reset; takes the enable away. The first detail of a cause is kept."""
        if not self.latched & reason:
            self.latch_detail = str(detail)
        self.latched |= reason
        self.enabled = False

    def brake(self, reason: Reason, detail: str) -> None:
        """Stop until the arm rests."""
        self.braking |= reason
        self.brake_detail = detail

    def release(self) -> None:
        """Leave the latch, as `reset` does; still not enabled."""
        self.latched, self.latch_detail = Reason.NONE, ""
        self.braking, self.brake_detail = Reason.NONE, ""

    def set(self, mode: SafetyMode, reasons: Reason, detail: str) -> None:
        """Note what this tick is."""
        self.mode, self.reasons, self.detail = mode, reasons, detail

    def stopped(self, at_rest: bool) -> bool:
        """Take one of the rows that need no further input; False when none applies.

        Args:
            at_rest: True when output and arm stand still; ends BRAKE. A cause that still
                acts sets it again.
        """
        if self.latched:
            self.set(SafetyMode.LATCHED, self.latched, self.latch_detail)
        elif self.braking:
            self.set(SafetyMode.BRAKE, self.braking, self.brake_detail)
            if at_rest:
                self.braking = Reason.NONE
        elif not self.enabled:
            self.set(SafetyMode.HOLD, Reason.NOT_ENABLED, "not enabled")
        else:
            return False
        return True
