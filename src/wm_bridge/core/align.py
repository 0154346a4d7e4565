"""Joints at the moment a picture was taken."""

from __future__ import annotations

from collections import deque

import numpy as np

from wm_bridge.core.types import FloatArray, JointState


class JointHistory:
    """The joint states of the last moments, to be read at any time in between.

    Args:
        max_age_ns: how far back states are kept, node time.
        max_gap_ns: two neighbours further apart than this are not interpolated.
    """

    def __init__(self, max_age_ns: int = 1_000_000_000, max_gap_ns: int = 100_000_000) -> None:
        if max_age_ns <= 0 or max_gap_ns <= 0:
            raise ValueError(f"ages must be positive, got {max_age_ns} and {max_gap_ns} ns")
        self._max_age_ns = max_age_ns
        self._max_gap_ns = max_gap_ns
        self._states: deque[JointState] = deque()

    def push(self, state: JointState) -> bool:
        """Keep a state.

        A clock that went back by more than the kept span (simulator reset) empties the
        history first.

        Returns:
            False when it was dropped: not finite, not newer than the last one, or with
            other joint names.
        """
        if not state.is_finite():
            return False
        if self._states:
            newest = self._states[-1]
            if state.stamp_ns < newest.stamp_ns - self._max_age_ns:
                self.clear()
            elif state.stamp_ns <= newest.stamp_ns or state.names != newest.names:
                return False
        self._states.append(state)
        while state.stamp_ns - self._states[0].stamp_ns > self._max_age_ns:
            self._states.popleft()
        return True

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()

    def at(self, stamp_ns: int) -> JointState | None:
        """The joints at a time, linear between the two neighbours.

        Returns:
            None when the time lies outside of what is held (never extrapolated) or its
            neighbours are too far apart.
        """
        after = None
        for state in reversed(self._states):
            if state.stamp_ns == stamp_ns:
                return state
            if state.stamp_ns < stamp_ns:
                if after is None or after.stamp_ns - state.stamp_ns > self._max_gap_ns:
                    return None
                return _between(state, after, stamp_ns)
            after = state
        return None


def _between(before: JointState, after: JointState, stamp_ns: int) -> JointState:
    share = (stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)

    def mix(a: FloatArray, b: FloatArray) -> FloatArray:
        return np.asarray(a + share * (b - a))

    return JointState(
        before.names,
        mix(before.position, after.position),
        mix(before.velocity, after.velocity),
        mix(before.effort, after.effort),
        stamp_ns,
    )
