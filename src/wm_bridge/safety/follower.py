"""What the plan asks for, one sample per tick."""

from __future__ import annotations

from wm_bridge.core.joints import JointTable
from wm_bridge.core.tracking import TrajectoryTracker
from wm_bridge.core.types import Command, FloatArray, Trajectory
from wm_bridge.safety.monitor import MS

_SYNC_GAIN = 0.1  # share of the tick jitter that the sampling time follows
_SYNC_LOST_NS = 100 * MS


class Follower:
    """Samples plans on a time of its own that advances by one period per tick.

    Sampling at node time itself would turn the jitter of the ticks into acceleration.

    Args:
        spec: joints. dt: control period, s.
    """

    def __init__(self, spec: JointTable, dt: float) -> None:
        self._tracker = TrajectoryTracker(spec)
        self._period_ns = round(dt * 1e9)
        self._sample_ns = 0
        self.active = False
        self.lapsed = False

    def start(self, position: FloatArray) -> None:
        """Begin at rest; needed once before `take`."""
        self._tracker.start(position)
        self.active = False

    def take(self, plan: Trajectory, anew_from: tuple[FloatArray, FloatArray] | None) -> None:
        """Follow a plan.

        Args:
            anew_from: (position, velocity) to begin at, rad and rad/s; None goes on from the
                curve of the plan before.
        """
        if anew_from is not None:
            self._tracker.start(*anew_from, self._sample_ns)
        self._tracker.accept(plan, self._sample_ns)
        self.active, self.lapsed = True, False

    def drop(self) -> None:
        """Forget the plan."""
        self.active = False

    @property
    def end_position(self) -> FloatArray | None:
        """(J,) where the plan comes to rest, rad."""
        return self._tracker.end_position

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

    def sample(self) -> Command:
        """The request of this tick."""
        sample = self._tracker.sample(self._sample_ns)
        assert sample is not None, "take() comes after start()"
        return sample
