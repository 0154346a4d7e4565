"""Some of the pairs, with everything gathered that measuring them needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.safety import gaps
from wm_bridge.safety.gaps import Gaps
from wm_bridge.safety.shapes import POINTS

if TYPE_CHECKING:
    from wm_bridge.safety.surroundings import Index, Surroundings


class Selection:
    """K pairs, measured together; the frames are those of ``tree``, just the joints they need.

    The pairs near the arm change seldom, so `Surroundings.select` keeps what is gathered here.

    Attributes:
        tree: gives the frames. lever: (K, J), margin: (K,) as in `Surroundings`.
        carried: (J, K) 1.0 where the joint moves the pair. bend: (K,) m, an eighth of the
            longest lever.

    Args:
        whole: all pairs. pairs: (K,) which, ascending.
    """

    def __init__(self, whole: Surroundings, pairs: Index) -> None:
        shapes = self._shapes = whole.shapes
        chain = shapes.chain
        count = len(shapes.names)
        self.lever = whole.lever[pairs]
        self.carried = (self.lever > 0.0).T.astype(np.float64)
        self.bend = 0.125 * self.lever.max(axis=1)
        first, second = np.searchsorted(pairs, [whole.runs[0], whole.runs[0] + whole.runs[1]])
        self._runs = slice(0, first), slice(first, second), slice(second, len(pairs))
        shape, other = whole.shape[pairs], whole.other[pairs]
        own = np.zeros(len(pairs), dtype=bool)
        own[:first] = other[:first] < count
        used = np.unique(np.concatenate([shape, other[own]]))
        self._joint = shapes.joint[used]
        self.tree = chain.tree(self._joint.tolist())
        self._frame = self.tree.place[self._joint]
        self._covers = np.concatenate([shapes.points[used], shapes.ends[used]], axis=1)
        self._shape = np.searchsorted(used, shape)
        # capsules: the other one is a shape, or a thing that stands (rows behind the shapes)
        foreign = other[:first][~own[:first]] - count
        self._other = np.searchsorted(used, np.where(own, other, 0))[:first]
        self._other[~own[:first]] = len(used) + np.arange(len(foreign))
        self._ends = whole.ends[foreign]
        thickness = np.concatenate([shapes.thickness[used], whole.thickness[foreign]])
        self._radii = thickness[self._shape[:first]] + thickness[self._other]
        self._radius = shapes.radius[shape[first:]]
        box = other[self._runs[1]]
        self._boxes = whole.R[box], whole.centre[box], whole.half[box]
        self._walls = whole.workspace
        # rows: which joints move the nearest points
        self._moved = chain.carried[shapes.joint[shape]][:, self.tree.joints]
        joint = np.where(own, shapes.joint[np.where(own, other, 0)], 0)
        self._moved_other = chain.carried[joint][:, self.tree.joints]
        self._any_own = bool(own.any())
        self._axes = chain.axes[self.tree.joints][..., None]
        self._columns = chain.column[self.tree.joints[1:]]

    def measure(self, frames: FloatArray) -> Gaps:
        """Gaps of the pairs at (T, M, 4, 4) frames."""
        cover = self._cover(frames)
        capsules, cuboids, walls = self._runs
        found = []
        if capsules.stop:
            found.append(gaps.capsules(*self._axes_of(cover), self._radii))
        if walls.stop > capsules.stop:
            hull = cover[:, self._shape[capsules.stop :], :POINTS]
            middle = cuboids.stop - cuboids.start
            if middle:
                found.append(gaps.boxes(hull[:, :middle], self._radius[:middle], *self._boxes))
            if walls.stop > cuboids.stop:
                found.append(gaps.room(hull[:, middle:], self._radius[middle:], *self._walls))
        if len(found) == 1:
            return found[0]
        distance, between = zip(*found, strict=True)
        return Gaps(np.concatenate(distance, axis=1), np.concatenate(between, axis=1))

    def gradients(self, frames: FloatArray) -> FloatArray:
        """(K, J) change of the distances per rad, at (M, 4, 4) frames."""
        cover = self._cover(frames[None])
        capsules, cuboids, walls = self._runs
        found = []
        if capsules.stop:
            a, b = self._axes_of(cover)
            found.append(gaps.capsule_contact(a[0], b[0]))
        if walls.stop > capsules.stop:
            hull = cover[0, self._shape[capsules.stop :], :POINTS]
            middle = cuboids.stop - cuboids.start
            if middle:
                found.append(gaps.box_contact(hull[:middle], *self._boxes))
            if walls.stop > cuboids.stop:
                found.append(gaps.room_contact(hull[middle:], *self._walls))
        normal, at, other_at = found[0]
        if len(found) > 1:
            normal, at, other_at = (np.concatenate(part) for part in zip(*found, strict=True))
        axes = (frames[:, :3, :3] @ self._axes)[..., 0]
        offset = normal @ _cross(axes, frames[:, :3, 3]).T
        rows = (_cross(at, normal) @ axes.T - offset) * self._moved
        if self._any_own:
            rows -= (_cross(other_at, normal) @ axes.T - offset) * self._moved_other
        out = np.zeros((len(rows), self.lever.shape[1]))
        out[:, self._columns] = rows[:, 1:]
        return out

    def _cover(self, frames: FloatArray) -> FloatArray:
        """(T, S, 10, 3) corner points and axis ends of the shapes in use, base frame, m."""
        T = frames[:, self._frame]
        return np.asarray(self._covers @ np.swapaxes(T[..., :3, :3], -1, -2) + T[..., None, :3, 3])

    def _axes_of(self, cover: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Axes (T, K, 2, 3) of both capsules."""
        ends = cover[:, :, POINTS:]
        if len(self._ends):
            things = np.broadcast_to(self._ends, (len(ends), *self._ends.shape))
            ends = np.concatenate([ends, things], axis=1)
        return ends[:, self._shape[self._runs[0]]], ends[:, self._other]


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cross product along the last axis; `numpy.cross` takes four times as long."""
    x, y, z = a[..., 0], a[..., 1], a[..., 2]
    u, v, w = b[..., 0], b[..., 1], b[..., 2]
    out = np.empty_like(a)
    out[..., 0] = y * w - z * v
    out[..., 1] = z * u - x * w
    out[..., 2] = x * v - y * u
    return out
