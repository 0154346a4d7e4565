"""What the arm is asked for until the plan that is made now is followed."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.joints import JointTable, find_joints
from wm_bridge.core.tracking import TrajectoryTracker
from wm_bridge.core.types import FloatArray, Trajectory


class Committed:
    """The plan that is followed, those on their way, and where they lead.

    A tracker like the safety node's follows them, without the filter's limits: what it says of
    the next half second is what will be sent when nothing is filtered.

    Args:
        spec: all joints of the robot. names: (A,) the planned ones.
    """

    def __init__(self, spec: JointTable, names: tuple[str, ...]) -> None:
        self._spec, self._place = spec, find_joints(names, spec.joint_names)
        self.clear()

    def clear(self) -> None:
        """Nothing is followed."""
        self._tracker = TrajectoryTracker(self._spec)
        self._followed: Trajectory | None = None
        self._coming: list[tuple[int, Trajectory]] = []

    def send(self, trajectory: Trajectory, arrives_ns: int) -> None:
        """A plan was sent and is followed from ``arrives_ns`` on, node time."""
        self._coming.append((arrives_ns, trajectory))

    def references(self, reference: FloatArray, now_ns: int, period_ns: int, count: int) -> FloatArray:
        """Where the arm will have been sent.

        Args:
            reference: (J,) rad, what is sent at ``now_ns``, node time.
            period_ns: between two results. count: N.

        Returns:
            (N, A) rad at ``now_ns`` + 1 ... N periods.
        """
        if self._tracker.sample(now_ns) is None:
            self._tracker.start(reference, now_ns=now_ns)
        while self._coming and self._coming[0][0] <= now_ns:
            arrives_ns, self._followed = self._coming.pop(0)
            self._tracker.accept(self._followed, arrives_ns)
        self._tracker = self._follower(reference, now_ns)
        ahead, coming, found = self._follower(reference, now_ns), list(self._coming), []
        for at_ns in range(now_ns + period_ns, now_ns + (count + 1) * period_ns, period_ns):
            while coming and coming[0][0] <= at_ns:
                arrives_ns, trajectory = coming.pop(0)
                ahead.accept(trajectory, arrives_ns)
            found.append(ahead.position(at_ns)[self._place])
        return np.array(found).reshape(count, len(self._place))

    def _follower(self, reference: FloatArray, now_ns: int) -> TrajectoryTracker:
        """A tracker at (J,) rad that goes on with the plan at its speed."""
        command = self._tracker.sample(now_ns)
        tracker = TrajectoryTracker(self._spec)
        tracker.start(reference, None if command is None else command.velocity, now_ns)
        if self._followed is not None:
            tracker.accept(self._followed, now_ns)
        return tracker
