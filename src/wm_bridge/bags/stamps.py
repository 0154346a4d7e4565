"""What is odd about the times of a topic: gaps, jumps, repeated stamps, a rate that changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wm_bridge.core.types import FloatArray

S = 1_000_000_000
_GAP = 5.0  # a pause of more than this many usual periods ...
_LEAST_GAP_S = 0.25  # ... and this long is a gap
_RATE = 1.6  # change of the rate that is told
_WINDOW = 10  # messages that a rate is taken from
_LOG_JUMP_S = 1.0  # change of recording time against stamps


def findings(name: str, stamps: Sequence[int], logged: Sequence[int], begin_ns: int) -> list[str]:
    """Sentences about a topic whose messages should come evenly.

    Args:
        name: of the topic. stamps: of the messages, ns. logged: when each was recorded, ns.
        begin_ns: of the bag; times are told in seconds after it, by recording time.
    """
    if len(stamps) < 2:
        return [f"{name}: {len(stamps)} message{'s' * (len(stamps) != 1)}, nothing to judge"]
    stamp, log = np.array(stamps, dtype=np.int64), np.array(logged, dtype=np.int64)
    steps = np.diff(stamp)
    at = (log - begin_ns) / S
    told = []
    if (same := np.flatnonzero(steps == 0)).size:
        told.append(f"{name}: {same.size} message{'s' * (same.size > 1)} with the stamp of the one before, first at {at[same[0] + 1]:.2f} s; they are left out")
    back = np.flatnonzero(steps < 0)
    for k in back[:3]:
        told.append(f"{name}: the clock jumps back by {-steps[k] / S:.2f} s at {at[k + 1]:.2f} s; time begins anew there")
    forward = np.flatnonzero(np.abs(np.diff(log - stamp)) > _LOG_JUMP_S * S)
    forward = forward[~np.isin(forward, back)]
    for k in forward[:3]:
        jump = (log - stamp)[k + 1] - (log - stamp)[k]
        told.append(f"{name}: stamps jump by {-jump / S:+.2f} s against the time of recording at {at[k + 1]:.2f} s")
    usual = np.median(steps[steps > 0]) if (steps > 0).any() else 0.0
    gaps = np.flatnonzero((steps > max(_GAP * usual, _LEAST_GAP_S * S)) & ~np.isin(np.arange(len(steps)), forward))
    if gaps.size:
        worst = gaps[np.argmax(steps[gaps])]
        told.append(f"{name}: {gaps.size} gap{'s' * (gaps.size > 1)}, the longest {steps[worst] / S:.2f} s at {at[worst]:.2f} s")
    told += _rate_change(name, steps, at)
    return told


def _rate_change(name: str, steps: FloatArray, at: FloatArray) -> list[str]:
    """Where the rate of the second part differs most from that of the first, if it does by much."""
    if len(steps) < 2 * _WINDOW:
        return []
    medians = np.median(np.lib.stride_tricks.sliding_window_view(np.log(np.clip(steps.astype(float), 1.0, None)), _WINDOW), axis=1)
    best = int(np.argmax(np.abs(medians[_WINDOW:] - medians[:-_WINDOW])))
    before, after = medians[best], medians[best + _WINDOW]
    if abs(after - before) < np.log(_RATE):
        return []
    rates = [S / np.exp(value) for value in (before, after)]
    return [f"{name}: the rate changes from {rates[0]:.1f} to {rates[1]:.1f} Hz at {at[best + _WINDOW]:.2f} s"]
