"""From way points at plan rate to a smooth reference at control rate."""

from __future__ import annotations

import bisect

import numpy as np

from wm_bridge.core.joints import JointTable, find_joints
from wm_bridge.core.types import Command, FloatArray, Trajectory, frozen_array

NS = 1e-9
State = tuple[FloatArray, FloatArray]  # position, velocity: (J,) rad, rad/s


class TrajectoryTracker:
    """Cubic Hermite interpolation through positions and velocities; no limits.

    The curve of an accepted plan begins at the tracker's own sample (position and
    velocity) of that moment, so a new plan causes no jump in either. It joins the plan at
    the first way point that can be reached in time without exceeding the acceleration
    that the robot is made for (the gentlest one if none can), then goes exactly through
    all later ones, and ends at rest at the last. Way points that are past (a late plan)
    are left out: the plan is joined at the right time instead of being replayed. If even
    the last one is past, it is approached within ``min_join_s``.
    Joints that the plan does not name come to rest where their last curve ends.

    Args:
        spec: names, order and accelerations of all J joints.
        min_join_s: shortest first segment, s.
    """

    def __init__(self, spec: JointTable, min_join_s: float = 0.05) -> None:
        if not min_join_s > 0.0:
            raise ValueError(f"min_join_s must be positive, got {min_join_s}")
        self._names = tuple(spec.joint_names)
        self._acceleration = frozen_array(spec.acceleration)
        self._min_join_ns = round(min_join_s / NS)
        self._times: list[int] = []
        self._positions: list[FloatArray] = []
        self._velocities: list[FloatArray] = []
        self._bends: dict[int, tuple[FloatArray, FloatArray]] = {}  # of the segments visited so far
        self._source_stamp_ns = 0

    @property
    def end_position(self) -> FloatArray | None:
        """(J,) where the curve comes to rest, rad; None before `start`."""
        return self._positions[-1] if self._positions else None

    def start(self, position: FloatArray, velocity: FloatArray | None = None, now_ns: int = 0) -> None:
        """Forget any plan and begin at a state.

        Args:
            position: (J,) rad. velocity: (J,) rad/s, zero when None.
            now_ns: when the output was there, node time.

        Raises:
            ValueError: wrong shape.
        """
        shape = (len(self._names),)
        q = frozen_array(position)
        dq = frozen_array(np.zeros(shape) if velocity is None else velocity)
        if q.shape != shape or dq.shape != shape:
            raise ValueError(f"start needs shapes {shape}, got {q.shape} and {dq.shape}")
        self._times, self._positions, self._velocities = [now_ns], [q], [dq]
        self._bends = {}
        self._source_stamp_ns = 0

    def accept(self, trajectory: Trajectory, now_ns: int) -> None:
        """Follow a new plan from the present sample on.

        Args:
            trajectory: checked plan (finite, known names, increasing times).
            now_ns: node time; the curve starts at this tracker's sample at that time.

        Raises:
            ValueError: not started, no way point, or an unknown joint.
        """
        if not self._times:
            raise ValueError("the tracker has no position yet; call start(position) first")
        if not trajectory.times_ns:
            raise ValueError("the trajectory has no way point; send at least one")
        place = find_joints(trajectory.names, self._names)
        start = self._state(now_ns)
        hold = self._positions[-1]
        times, states = [], []
        last = len(trajectory.times_ns) - 1
        for index, after_ns in enumerate(trajectory.times_ns):
            time = trajectory.stamp_ns + after_ns
            if time < now_ns + self._min_join_ns:
                if index < last:
                    continue
                time = now_ns + self._min_join_ns
            position, velocity = hold.copy(), np.zeros_like(hold)
            position[place] = trajectory.positions[index]
            velocity[place] = trajectory.velocities[index] if index < last else 0.0
            times.append(time)
            states.append((position, velocity))
        first = self._join(start, states, [(time - now_ns) * NS for time in times])
        self._times = [now_ns, *times[first:]]
        self._positions = [start[0], *(position for position, _ in states[first:])]
        self._velocities = [start[1], *(velocity for _, velocity in states[first:])]
        self._bends = {}
        self._source_stamp_ns = trajectory.stamp_ns

    def _join(self, start: State, states: list[State], after_s: list[float]) -> int:
        """Index of the way point to go to first, see the class docstring."""
        effort = [
            float((peak_acceleration(T, start, end) / self._acceleration).max())
            for T, end in zip(after_s, states, strict=True)
        ]
        gentle = (index for index, share in enumerate(effort) if share <= 1.0)
        return next(gentle, int(np.argmin(effort)))

    def sample(self, now_ns: int) -> Command | None:
        """The reference at ``now_ns``; None before `start`.

        Before the curve's beginning the first state is returned, after its end the
        last position at rest.
        """
        if not self._times:
            return None
        q, dq = self._state(now_ns)
        return Command(self._names, q, dq, now_ns, self._source_stamp_ns)

    @property
    def source_stamp_ns(self) -> int:
        """Stamp of the camera frame behind the present plan; 0 without one."""
        return self._source_stamp_ns

    def position(self, now_ns: int) -> FloatArray:
        """(J,) position of the curve, rad: `sample` for the control rate, after `start` only."""
        times = self._times
        if now_ns >= times[-1] or now_ns <= times[0]:
            return self._state(now_ns)[0]
        k = bisect.bisect_right(times, now_ns) - 1
        if k not in self._bends:
            states = list(zip(self._positions[k : k + 2], self._velocities[k : k + 2], strict=True))
            self._bends[k] = bend((times[k + 1] - times[k]) * NS, *states)
        t, T = (now_ns - times[k]) * NS, (times[k + 1] - times[k]) * NS
        return along(t, T, self._positions[k], self._velocities[k], self._bends[k])

    def _state(self, now_ns: int) -> State:
        """Position and velocity of the curve at a time, (J,) each."""
        times = self._times
        if now_ns >= times[-1] and len(times) > 1:
            return self._positions[-1], np.zeros_like(self._positions[-1])
        if now_ns <= times[0] or len(times) == 1:
            return self._positions[0], self._velocities[0]
        k = bisect.bisect_right(times, now_ns) - 1
        return hermite(
            (now_ns - times[k]) * NS,
            (times[k + 1] - times[k]) * NS,
            (self._positions[k], self._velocities[k]),
            (self._positions[k + 1], self._velocities[k + 1]),
        )


def hermite(t: float, T: float, begin: State, end: State) -> State:
    """Cubic through two states.

    Args:
        t: time since the beginning, 0..T, s. T: duration, s.
        begin, end: (position, velocity), each (J,), rad and rad/s.

    Returns:
        (position, velocity) at t.
    """
    (p0, v0), u = begin, t / T
    c, d = bend(T, begin, end)
    velocity = v0 + (2.0 * c + 3.0 * d * u) * (u / T)
    return along(t, T, p0, v0, (c, d)), velocity


def bend(T: float, begin: State, end: State) -> tuple[FloatArray, FloatArray]:
    """c and d, (J,) rad, of the cubic p0 + t v0 + c u^2 + d u^3, u = t / T, that meets the end state."""
    (p0, v0), (p1, v1) = begin, end
    way = p1 - p0
    return 3.0 * way - (2.0 * v0 + v1) * T, (v0 + v1) * T - 2.0 * way


def along(t: float, T: float, p0: FloatArray, v0: FloatArray, bends: tuple[FloatArray, FloatArray]) -> FloatArray:
    """(J,) position on that cubic at ``t``, rad."""
    u, (c, d) = t / T, bends
    return np.asarray(p0 + t * v0 + u * u * (c + d * u))


def peak_acceleration(T: float, begin: State, end: State) -> FloatArray:
    """Largest acceleration of that cubic, at one of its ends: (J,) rad/s^2, positive."""
    (p0, v0), (p1, v1) = begin, end
    way = 6.0 * (p1 - p0)
    first = way - (4.0 * v0 + 2.0 * v1) * T
    final = way - (2.0 * v0 + 4.0 * v1) * T
    return np.asarray(np.maximum(np.abs(first), np.abs(final)) / (T * T))
