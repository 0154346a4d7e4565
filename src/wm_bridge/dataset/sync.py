"""Pictures, joints and commands at one clock: samples at the control rate, and the episodes they form.

A sample belongs to a time of a regular grid. It is the picture nearest to that time, and where the joints were
and what had been commanded *when that picture was taken*: joints are interpolated linearly, the newest
command counts. So the three agree to the accuracy of their stamps, and only the spacing of samples
varies, by at most half a picture period. A grid time without a picture within ``offset_ms``, without joints on both sides
within ``joint_gap_ms``, or without a command younger than ``command_age_ms`` is a hole, and a hole ends an episode:
nothing is invented, no picture is used twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.types import FloatArray
from wm_bridge.dataset.mapping import Policy
from wm_bridge.dataset.streams import S, Part, Stamps

MS = 1_000_000


@dataclass(frozen=True)
class Episode:
    """T samples in a row.

    Attributes:
        stamps: (T,) ns, when the pictures of the first camera were taken.
        pictures: per camera, (T,) numbers of the messages.
        offset_ns: (C, T) of each picture from its grid time.
        position, reference: (T, A) rad, measured and commanded.
    """

    stamps: Stamps
    pictures: dict[str, Stamps]
    offset_ns: Stamps
    position: FloatArray
    reference: FloatArray

    def __len__(self) -> int:
        return len(self.stamps)


def episodes_of(part: Part, rate_hz: float, policy: Policy, holes: Counter[str]) -> list[Episode]:
    """Episodes of a part; ``holes`` counts why grid times have no sample."""
    cameras = list(part.cameras.values())
    streams = [stamps for stamps, _ in cameras] + [part.joints[0]] + ([part.commands[0]] if part.commands is not None else [])
    if min(map(len, streams)) < 2:
        holes["a stream has fewer than two messages"] += 1
        return []
    begin, end = max(s[0] for s in streams[: len(cameras) + 1]), min(s[-1] for s in streams[: len(cameras) + 1])
    first = cameras[0][0]
    begin = first[min(np.searchsorted(first, begin), len(first) - 1)]
    grid = begin + np.round(np.arange(max(0, int((end - begin) / S * rate_hz) + 1)) * (S / rate_hz)).astype(np.int64)
    nearest = [_nearest(stamps, grid) for stamps, _ in cameras]
    offset = np.array([stamps[index] - grid for (stamps, _), index in zip(cameras, nearest, strict=True)])
    taken = first[nearest[0]]
    position, apart = _interpolated(*part.joints, taken)
    if part.commands is None:
        reference, age = position, np.zeros(len(grid), np.int64)
    else:
        reference, age = _held(*part.commands, taken)
    checks = {
        "no picture within offset_ms": (np.abs(offset) > policy.offset_ms * MS).any(axis=0),
        "no joints within joint_gap_ms": apart > policy.joint_gap_ms * MS,
        "no command within command_age_ms": age > policy.command_age_ms * MS,
    }
    good = np.ones(len(grid), bool)
    for why, bad in checks.items():
        holes[why] += int((bad & good).sum())
        good &= ~bad
    for index in nearest:
        left = np.flatnonzero(good)
        again = left[np.diff(index[left], prepend=-1) == 0]
        holes["a picture would be used twice"] += len(again)
        good[again] = False
    number = np.searchsorted(part.begins, taken, side="right")
    found = []
    for span in _runs(good, number):
        if span.stop - span.start < max(2, policy.shortest_s * rate_hz):
            holes["in a piece shorter than shortest_s"] += span.stop - span.start
            continue
        numbers = {name: part.cameras[name][1][index[span]] for name, index in zip(part.cameras, nearest, strict=True)}
        found.append(Episode(taken[span], numbers, offset[:, span], position[span], reference[span]))
    return found


def _nearest(stamps: Stamps, at: Stamps) -> NDArray[np.intp]:
    """(T,) index of the stamp nearest to each time."""
    after = np.clip(np.searchsorted(stamps, at), 1, len(stamps) - 1)
    before = after - 1
    return np.where(at - stamps[before] <= stamps[after] - at, before, after)


def _interpolated(stamps: Stamps, values: FloatArray, at: Stamps) -> tuple[FloatArray, Stamps]:
    """(T, A) linear in between, and (T,) ns between the two neighbours; an exact hit has no gap."""
    after = np.clip(np.searchsorted(stamps, at), 1, len(stamps) - 1)
    before = after - 1
    apart = stamps[after] - stamps[before]
    share = np.clip((at - stamps[before]) / apart, 0.0, 1.0)
    outside = np.maximum(stamps[0] - at, at - stamps[-1])
    hit = (at == stamps[before]) | (at == stamps[after])
    mixed: FloatArray = values[before] + share[:, None] * (values[after] - values[before])
    return mixed, np.where(hit, 0, np.maximum(apart, outside))


def _held(stamps: Stamps, values: FloatArray, at: Stamps) -> tuple[FloatArray, Stamps]:
    """(T, A) the newest at each time, and (T,) its age, ns; before the first one: its value, infinitely old."""
    index = np.searchsorted(stamps, at, side="right") - 1
    age = np.where(index < 0, np.iinfo(np.int64).max, at - stamps[np.maximum(index, 0)])
    held: FloatArray = values[np.maximum(index, 0)]
    return held, age


def _runs(good: NDArray[np.bool_], number: NDArray[np.intp]) -> list[slice]:
    """Slices of consecutive good samples of one number."""
    edges = np.flatnonzero(np.diff(number) != 0) + 1
    found = []
    for begin, end in zip(np.append(0, edges), np.append(edges, len(good)), strict=True):
        inside = np.flatnonzero(np.diff(np.concatenate([[0], good[begin:end], [0]])))
        found += [slice(int(begin + a), int(begin + b)) for a, b in inside.reshape(-1, 2)]
    return found
