"""Whether an output is what was asked for, and if not, which limit changed it."""

from __future__ import annotations

import math

import numpy as np

from wm_bridge.core.types import FloatArray, Reason, SafetyMode
from wm_bridge.safety.box import Motion
from wm_bridge.safety.chooser import Choice
from wm_bridge.safety.limits import MotionLimits
from wm_bridge.safety.record import Intervention, InterventionRecord

_LIMITS = (Reason.POSITION_LIMIT, Reason.VELOCITY_LIMIT, Reason.ACCELERATION_LIMIT, Reason.JERK_LIMIT)


class Judge:
    """Compares each output with its request; a change that counts begins at a threshold and ends at half of it.

    Attributes:
        limiting: what changed the last output; NONE when nothing did that counts.

    Args:
        limits: of the joints. dt: control period, s. threshold_rad: smaller changes do not count. record: of all that do.
    """

    def __init__(self, limits: MotionLimits, dt: float, threshold_rad: float, record: InterventionRecord) -> None:
        self._limits, self._dt, self._threshold_rad, self._record = limits, dt, threshold_rad, record
        self.limiting = Reason.NONE

    def compare(self, requested: Motion, last: Motion, choice: Choice, pace: Reason, now_ns: int) -> str:
        """Look at the next output.

        Args:
            requested: for this tick. last: output of the tick before. choice: what goes out.
            pace: why the tool may not be faster. now_ns: node time.

        Returns:
            What was changed, in words; "" when it does not count.
        """
        change = float(np.maximum.reduce(np.abs(requested.q - choice.step.motion.q)))
        threshold = self._threshold_rad * (0.5 if self.limiting else 1.0)
        if change <= threshold and not choice.kept_off & Reason.TIME_BUDGET:
            self.limiting = Reason.NONE
            return ""
        found = choice.kept_off | self._broken(requested.q, last)
        if choice.kept_off & Reason.TOOL_SPEED:
            found |= pace
        # none of these: it had to slow down ahead of a position limit, or still catches up
        self.limiting = found or self.limiting or Reason.POSITION_LIMIT
        self.note(now_ns, SafetyMode.LIMITED, self.limiting, requested.q, choice)
        detail = f"changed by {change:.4f} rad"
        if choice.kept_off:
            room = choice.certificate
            detail += f"; {room.name} at {room.distance:.4f} m, margin {room.margin:.4f} m" * bool(room.name)
        return detail

    def note(self, now_ns: int, mode: SafetyMode, reasons: Reason, before: FloatArray, choice: Choice) -> None:
        """Record a tick whose output was not the request ``before``, (J,) rad."""
        found = choice.certificate
        near = bool(found.name)
        self._record.add(
            Intervention(
                now_ns,
                mode,
                reasons,
                before,
                choice.step.motion.q,
                found.distance if near else math.nan,
                found.margin if near else math.nan,
            )
        )

    def _broken(self, q: FloatArray, last: Motion) -> Reason:
        """Limits that an output at ``q`` (J,) rad would break."""
        limits, dt = self._limits, self._dt
        v = (q - last.q) / dt
        a = (v - last.v) / dt
        outside = np.maximum(limits.lower - q, q - limits.upper)
        speed, push, jerk = np.abs(v) - limits.velocity, np.abs(a) - limits.acceleration, np.abs(a - last.a)
        over = np.maximum.reduce((outside, speed, push, jerk - limits.jerk * dt), axis=1).tolist()
        found = Reason.NONE
        for excess, reason in zip(over, _LIMITS, strict=True):
            if excess > 0.0:
                found |= reason
        return found
