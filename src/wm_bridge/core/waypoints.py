"""Plans as way points: references once per period become a path that the tracker interpolates."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import FloatArray, Trajectory


def path_through(
    names: tuple[str, ...],
    reference: FloatArray,
    points: FloatArray,
    period_s: float,
    delay_s: float,
    stamp_ns: int,
) -> Trajectory:
    """The path from a reference through the middle of each period, then at rest at its end.

    Between p_k and p_{k+1} the plan moves at u_k = (p_{k+1} - p_k) / T. Way points
    half way, at that velocity, make the cubic between them an exact parabola: its
    acceleration is (u_{k+1} - u_k) / T, so a plan within the acceleration limit stays
    within it (through the p_k themselves it would reach three times as much). The
    path leaves the p_k by at most |u_{k+1} - u_k| T / 8.

    Args:
        names: (A,) joints. reference: (A,) where they are sent now, rad.
        points: (K, A) references after each period, rad. period_s: T.
        delay_s: from the stamp to the beginning of the path. stamp_ns: of the picture behind it.
    """
    path = np.concatenate([reference[None], points])
    positions = np.concatenate([(path[1:] + path[:-1]) * 0.5, path[-1:]])
    velocities = np.concatenate([np.diff(path, axis=0) / period_s, np.zeros_like(path[:1])])
    times = tuple(round((delay_s + (k + 0.5) * period_s) * 1e9) for k in range(len(positions)))
    return Trajectory(names, times, positions, velocities, stamp_ns)


def rest_at(names: tuple[str, ...], reference: FloatArray, time_ns: int, stamp_ns: int) -> Trajectory:
    """Stand still at (A,) reference, rad, from ``time_ns`` after the stamp on."""
    return Trajectory(names, (time_ns,), reference[None], np.zeros((1, len(names))), stamp_ns)
