"""Distances of some pairs along a path: which postures are looked at, and the tables that `compiled.py` reads."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.safety import compiled
from wm_bridge.safety.compiled import Index, Tables

if TYPE_CHECKING:
    from wm_bridge.safety.surroundings import Surroundings

SAMPLES = 7  # postures along a brake; the bound between them covers the rest
_FIRST = np.arange(2, dtype=np.intp)
_plain = np.ascontiguousarray


class Swept(NamedTuple):
    """What a path does to K pairs.

    Attributes:
        distance: (2, K) m at the first two postures.
        lowest: (K,) m, a lower bound from there to the last posture that was looked at.
    """

    distance: FloatArray
    lowest: FloatArray


class Sweep:
    """Measures pairs of one `Surroundings`."""

    def __init__(self, whole: Surroundings) -> None:
        self.arrays = tuple(tables_of(whole))
        self._every = np.arange(len(whole.names))
        # Tables that do not fit are refused here, and the first tick finds numba with its types looked up.
        q = np.zeros(whole.lever.shape[1])
        self.at(q)
        self.gradients(q, self._every)

    def along(self, path: FloatArray, pairs: Index, whole: bool) -> Swept:
        """Distances along a path.

        Args:
            path: (N, J) rad, N >= 2; straight between the rows. pairs: (K,) ascending.
            whole: to its end; else only the first two postures, without the way between them.
        """
        taken = spread(len(path))[0] if whole else _FIRST
        out = compiled.along(self.arrays, np.array(path, order="C"), taken, np.array(pairs))  # of just the types that were compiled
        distance = out[:2]
        return Swept(distance, out[2] if whole else np.minimum(distance[0], distance[1]))

    def at(self, q: FloatArray) -> FloatArray:
        """(P,) m of all pairs at (J,) rad."""
        return np.asarray(compiled.along(self.arrays, np.stack([q, q]), _FIRST, self._every)[0])

    def room(self, postures: FloatArray, pairs: Index, margin: FloatArray) -> FloatArray:
        """(N,) m from each posture (N, J) rad to the first of the margins (K,) m of pairs (K,); negative: broken."""
        return compiled.least_room(self.arrays, np.array(postures, order="C"), np.array(pairs), margin[None].copy())[:, 0]

    def gradients(self, q: FloatArray, pairs: Index) -> FloatArray:
        """(K, J) change of the distances per rad at (J,) rad, m/rad."""
        return compiled.slopes(self.arrays, np.array(q), np.array(pairs))


@functools.cache
def spread(count: int) -> tuple[Index, Index, Index, FloatArray]:
    """Rows of a path to look at: the first two, the last, and some between.

    Returns:
        (T,) taken rows; for each row but the last: the taken ones around it, and (count-1, 1)
        where it lies between them.
    """
    taken = np.arange(count, dtype=np.intp)
    if count > SAMPLES:
        chosen = np.linspace(1, count - 1, SAMPLES - 1).round().astype(np.intp)
        taken = np.array(sorted({0, *chosen.tolist()}))  # numpy.unique would import numpy.ma: 10 ms in a tick
    index = np.arange(count - 1)
    segment = np.searchsorted(taken, index, side="right") - 1
    begin, end = taken[segment], taken[segment + 1]
    return taken, begin, end, ((index - begin) / (end - begin))[:, None]


def tables_of(whole: Surroundings) -> Tables:
    """What the compiled functions look up for each pair.

    Things that stand are rows behind the robot's shapes, fixed to the root.
    """
    shapes, chain = whole.shapes, whole.shapes.chain
    capsules, boxes, walls = whole.runs
    things = np.zeros((len(whole.ends), 4, 6))
    root_base = np.linalg.inv(chain.T_base_root)
    things[:, :3, 4:], things[:, 3, 4:] = np.swapaxes(whole.ends, 1, 2), 1.0
    thickness = np.concatenate([shapes.thickness, whole.thickness])
    other, box = whole.other[:capsules], whole.other[capsules:][:boxes]
    lower, upper = whole.workspace
    R = np.concatenate([whole.R[box], np.tile(np.eye(3), (walls, 1, 1))])
    centre = np.concatenate([whole.centre[box], np.tile((lower + upper) * 0.5, (walls, 1))])
    turned = np.swapaxes(R, 1, 2)
    return Tables(
        parents=_plain(chain.parents, np.intp),
        column=_plain(chain.column, np.intp),
        parts=_plain(np.stack(chain.parts)),
        axes=_plain(chain.axes),
        carrier=_plain(np.concatenate([shapes.joint, np.zeros(len(things), dtype=np.intp)]), np.intp),
        covers=np.concatenate([shapes.covers(), root_base @ things]),
        shape=_plain(whole.shape, np.intp),
        other=_plain(other, np.intp),
        thickness=np.concatenate([thickness[whole.shape[:capsules]] + thickness[other], shapes.radius[whole.shape[capsules:]]]),
        T_box_base=_plain(np.concatenate([turned, -turned @ centre[..., None]], axis=2)),
        half=np.concatenate([whole.half[box], np.tile((upper - lower) * 0.5, (walls, 1))]),
        lever=_plain(whole.lever),
        boxes=boxes,
    )
