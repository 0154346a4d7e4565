"""Distances of some pairs along a path: in arrays, or the same by the compiled `kernel.c`.

The array form is the one that is derived and explained. It takes a third of a millisecond for the
seven postures along a brake, most of it the overhead of some hundred small numpy calls; the compiled
one takes a twentieth. Which of the two is used changes distances by rounding only, not what is looked at.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.types import FloatArray
from wm_bridge.safety.selection import Index, Selection, Tables

try:
    import wm_safety_kernel as kernel
except ImportError:  # not built: the array form is slower, nothing else
    kernel = None

_plain = np.ascontiguousarray  # the kernel reads memory as it lies
SAMPLES = 7  # postures along a brake; the bound between them covers the rest
_FIRST = np.arange(2, dtype=np.int64)


class Swept(NamedTuple):
    """What a path does to K pairs.

    Attributes:
        distance: (2, K) m at the first two postures.
        lowest: (K,) m, a lower bound from there to the last posture that was looked at.
    """

    distance: FloatArray
    lowest: FloatArray


class Sweep(Protocol):
    """Measures pairs of one `Surroundings`."""

    def along(self, path: FloatArray, pairs: Index, whole: bool) -> Swept:
        """Distances along a path.

        Args:
            path: (N, J) rad, N >= 2; straight between the rows. pairs: (K,) ascending.
            whole: to its end; else only the first two postures, without the way between them.
        """

    def gradients(self, q: FloatArray, pairs: Index) -> FloatArray:
        """(K, J) change of the distances per rad at (J,) rad, m/rad."""


def sweep_of(tables: Tables) -> Sweep:
    """The quickest there is."""
    return NumpySweep(tables) if kernel is None else KernelSweep(tables)


class NumpySweep:
    """`Sweep` in arrays, over the frames of just the limbs that the pairs need."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._chosen = Selection(tables, np.zeros(0, dtype=np.intp))  # of the last look

    def along(self, path: FloatArray, pairs: Index, whole: bool) -> Swept:
        """See `Sweep`."""
        chosen = self._select(pairs)
        taken, begin, end, share = spread(len(path))
        postures = path[taken if whole else _FIRST]
        distance, between = chosen.measure(chosen.tree.frames(postures))
        if not whole:
            return Swept(distance, np.minimum(distance[0], distance[1]))
        # Taken off: how far the joints leave the chord, and the curve of the points.
        turn = np.abs(postures[1:] - postures[:-1]) @ chosen.carried.T
        between = between - chosen.bend * turn * turn
        if len(taken) < len(path):
            off = np.abs(path[:-1] - (path[begin] + share * (path[end] - path[begin])))
            between -= np.maximum.reduceat(off, taken[:-1], axis=0) @ chosen.lever.T
        return Swept(distance[:2], np.minimum.reduce(np.minimum(between, distance[1:])))

    def gradients(self, q: FloatArray, pairs: Index) -> FloatArray:
        """See `Sweep`."""
        chosen = self._select(pairs)
        return chosen.gradients(chosen.tree.frames(q[None])[0])

    def _select(self, pairs: Index) -> Selection:
        if not np.array_equal(pairs, self._chosen.pairs):
            self._chosen = Selection(self._tables, pairs)
        return self._chosen


class KernelSweep:
    """`Sweep` by the compiled module."""

    def __init__(self, tables: Tables) -> None:
        self._ints, self._reals = _pack(tables)

    def along(self, path: FloatArray, pairs: Index, whole: bool) -> Swept:
        """See `Sweep`."""
        out = np.empty((3, pairs.size))
        taken = spread(len(path))[0] if whole else _FIRST
        kernel.sweep(self._ints, self._reals, _plain(path, np.float64), taken, _plain(pairs, np.int64), out)
        distance = out[:2]
        return Swept(distance, out[2] if whole else np.minimum(distance[0], distance[1]))

    def gradients(self, q: FloatArray, pairs: Index) -> FloatArray:
        """See `Sweep`."""
        out = np.empty((pairs.size, q.size))
        kernel.slopes(self._ints, self._reals, _plain(q, np.float64), _plain(pairs, np.int64), out)
        return out


@functools.cache
def spread(count: int) -> tuple[Index, Index, Index, FloatArray]:
    """Rows of a path to look at: the first two, the last, and some between.

    Returns:
        (T,) taken rows; for each row but the last: the taken ones around it, and (count-1, 1)
        where it lies between them.
    """
    taken = np.arange(count, dtype=np.int64)
    if count > SAMPLES:
        chosen = np.linspace(1, count - 1, SAMPLES - 1).round().astype(np.intp)
        taken = np.array(sorted({0, *chosen.tolist()}))  # numpy.unique would import numpy.ma: 10 ms in a tick
    index = np.arange(count - 1)
    segment = np.searchsorted(taken, index, side="right") - 1
    begin, end = taken[segment], taken[segment + 1]
    return taken, begin, end, ((index - begin) / (end - begin))[:, None]


def _pack(tables: Tables) -> tuple[NDArray[np.int64], FloatArray]:
    """All that the kernel looks up, one after the other as `tables_of` in kernel.c reads it."""
    chain = tables.chain
    fixed, across, along = chain.parts
    head = [len(chain.parents), tables.lever.shape[1], len(tables.joint), len(tables.shape), tables.capsules, tables.cuboids]
    ints = (np.array(head), chain.parents, chain.column, tables.joint, tables.shape, tables.other)
    reals = (
        chain.T_base_root, fixed, across, along, chain.axes, tables.covers, tables.radii, tables.T_box_base,
        tables.half[:, :3], tables.radius, tables.R, tables.bend, tables.lever,
    )  # fmt: skip
    return (
        np.concatenate([np.ravel(part) for part in ints]).astype(np.int64),
        np.concatenate([np.ravel(part) for part in reals]).astype(np.float64),
    )
