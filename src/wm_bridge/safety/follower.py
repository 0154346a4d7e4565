"""What the plan asks for, one sample per tick."""

from __future__ import annotations

import math

import numpy as np

from wm_bridge.core.joints import JointTable
from wm_bridge.core.tracking import TrajectoryTracker
from wm_bridge.core.types import FloatArray, Trajectory
from wm_bridge.safety.box import Motion
from wm_bridge.safety.limits import MotionLimits
from wm_bridge.safety.monitor import MS

_SYNC_GAIN = 0.1  # share of the tick jitter that the sampling time follows
_SYNC_LOST_NS = 100 * MS


class Follower:
    """Samples plans on a time of its own that advances by one period per tick.

    Sampling at node time itself would turn the jitter of the ticks into acceleration.
    The tracker's curve has steps in acceleration, at way points and where a new plan joins.
    Its mean over the time that the jerk limit needs from full deceleration to full
    acceleration has none: a curve inside the acceleration limit becomes a request inside the
    jerk limit. The mean is centred (the curve is read ahead by half of it), so the request
    is not late.

    Args:
        spec: joints. limits: of the same joints. dt: control period, s.
    """

    def __init__(self, spec: JointTable, limits: MotionLimits, dt: float) -> None:
        self._tracker = TrajectoryTracker(spec)
        self._dt = dt
        self._period_ns = round(dt * 1e9)
        ramp = float((limits.acceleration / limits.jerk).max())
        self._ahead = math.ceil(ramp / dt - 1e-9)  # periods
        self._ahead_ns = self._ahead * self._period_ns
        joints = limits.lower.size
        self._window = np.zeros((2 * self._ahead + 1, joints))
        zero = np.zeros(joints)
        self._sample_ns = 0
        self.active = False
        self.lapsed = False
        self.requested = Motion(zero, zero, zero)  # of the last tick
        self.source_stamp_ns = 0

    def start(self, motion: Motion) -> None:
        """Begin at a motion; needed once before `take`."""
        q, v, _ = motion
        times = self._dt * np.arange(-self._ahead, self._ahead + 1)[:, None]
        self._window = q + v * times
        self._tracker.start(self._window[-1], v, self._sample_ns + self._ahead_ns)
        self.requested = motion
        self.active = False

    def take(self, plan: Trajectory) -> None:
        """Follow a plan, from the present request on."""
        self._tracker.accept(plan, self._sample_ns + self._ahead_ns)
        self.active, self.lapsed = True, False

    def drop(self) -> None:
        """Forget the plan."""
        self.active = False

    @property
    def end_position(self) -> FloatArray:
        """(J,) where the plan comes to rest, rad."""
        end = self._tracker.end_position
        assert end is not None, "a plan was taken after start()"
        return end

    def advance(self, now_ns: int) -> None:
        """Move the sampling time by one period, and gently towards node time."""
        late = now_ns - (self._sample_ns + self._period_ns)
        if abs(late) > _SYNC_LOST_NS:
            self._sample_ns = now_ns
        else:
            self._sample_ns += self._period_ns + round(late * _SYNC_GAIN)

    def resume_at(self, now_ns: int) -> None:
        """After a clock jump."""
        self._sample_ns = now_ns

    def sample(self) -> tuple[Motion, Motion]:
        """The request of the last tick and the one of this tick."""
        window = self._window
        window[:-1] = window[1:]
        window[-1] = self._tracker.position(self._sample_ns + self._ahead_ns)
        middle = window[self._ahead]
        q = middle + np.add.reduce(window - middle) / len(window)
        self.source_stamp_ns = self._tracker.source_stamp_ns
        last = self.requested
        v = (q - last.q) / self._dt
        self.requested = Motion(q, v, (v - last.v) / self._dt)
        return last, self.requested
