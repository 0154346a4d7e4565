"""Some of the pairs, with everything gathered that measuring them needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.safety import gaps
from wm_bridge.safety.gaps import Gaps

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
        self._covers = shapes.covers()[used]
        self._shape = np.searchsorted(used, shape)
        # capsules: the other one is a shape, or a thing that stands (rows behind the shapes)
        foreign = other[:first][~own[:first]] - count
        self._other = np.searchsorted(used, np.where(own, other, 0))[:first]
        self._other[~own[:first]] = len(used) + np.arange(len(foreign))
        self._ends = np.swapaxes(whole.ends[foreign], 1, 2)
        thickness = np.concatenate([shapes.thickness[used], whole.thickness[foreign]])
        self._radii = thickness[self._shape[:first]] + thickness[self._other]
        # hulls: against boxes, or inside of the workspace
        self._radius = shapes.radius[shape[first:]]
        box, walls = other[self._runs[1]], len(pairs) - second
        lower, upper = whole.workspace
        R = np.concatenate([whole.R[box], np.tile(np.eye(3), (walls, 1, 1))])
        centre = np.concatenate([whole.centre[box], np.tile((lower + upper) * 0.5, (walls, 1))])
        half = np.concatenate([whole.half[box], np.tile((upper - lower) * 0.5, (walls, 1))])
        self._R, self._half = R, np.tile(half, (1, 2))
        turned = np.swapaxes(R, 1, 2)
        self._T_box_base = np.concatenate([turned, -turned @ centre[..., None]], axis=2)
        self._hulls, self._cuboids = self._shape[first:], second - first
        # rows: which joints move the nearest points
        self._moved = chain.carried[shapes.joint[shape]][:, self.tree.joints]
        joint = np.where(own, shapes.joint[np.where(own, other, 0)], 0)
        self._moved_other = chain.carried[joint][:, self.tree.joints]
        self._any_own = bool(own.any())
        self._axes = chain.axes[self.tree.joints][..., None]
        self._columns = chain.column[self.tree.joints[1:]]

    def measure(self, frames: FloatArray) -> Gaps:
        """Gaps of the pairs at (T, M, 4, 4) frames."""
        cover = frames[:, self._frame] @ self._covers
        found = []
        if self._radii.size:
            found.append(gaps.capsules(self._capsules(cover)[0], self._radii))
        if self._hulls.size:
            _, height = self._heights(cover)
            k, half, radius = self._cuboids, self._half, self._radius
            if k:
                found.append(gaps.boxes(height[:, :k], half[:k], radius[:k]))
            if k < len(half):
                found.append(gaps.room(height[:, k:], half[k:], radius[k:]))
        if len(found) == 1:
            return found[0]
        distance, between = zip(*found, strict=True)
        return Gaps(np.concatenate(distance, axis=1), np.concatenate(between, axis=1))

    def gradients(self, frames: FloatArray) -> FloatArray:
        """(K, J) change of the distances per rad, at (M, 4, 4) frames."""
        cover = frames[None, self._frame] @ self._covers
        found = []
        if self._radii.size:
            axes, begin = self._capsules(cover)
            found.append(gaps.capsule_contact(axes, begin[:, 0]))
        if self._hulls.size:
            hulls, height = self._heights(cover)
            k = self._cuboids
            face = np.concatenate(
                [(height[0, :k] - self._half[:k]).argmax(axis=-1), (height[0, k:] + self._half[k:]).argmin(axis=-1)]
            )
            found.append(gaps.face_contact(face, self._R, hulls[0, :, :3]))
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

    def _capsules(self, cover: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Axes as `gaps.capsules` takes them, and where the first ones begin, (3, T, K) m."""
        ends = cover[:, :, :3, 4:]
        if len(self._ends):
            things = np.broadcast_to(self._ends, (len(ends), *self._ends.shape))
            ends = np.concatenate([ends, things], axis=1)
        ends = ends.transpose(3, 2, 0, 1)
        (begin, end), (other, other_end) = ends[..., self._shape[: len(self._other)]], ends[..., self._other]
        axes = np.empty((3, *begin.shape))
        np.subtract(end, begin, out=axes[0])
        np.subtract(other_end, other, out=axes[1])
        np.subtract(begin, other, out=axes[2])
        return axes, begin

    def _heights(self, cover: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Hulls (T, K, 4, 4) in the base frame, and `gaps.heights` of them, (T, K, 6) m."""
        hulls = cover[:, self._hulls, :, :4]
        return hulls, gaps.heights(self._T_box_base @ hulls)


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cross product along the last axis; `numpy.cross` takes four times as long."""
    x, y, z = a[..., 0], a[..., 1], a[..., 2]
    u, v, w = b[..., 0], b[..., 1], b[..., 2]
    out = np.empty_like(a)
    out[..., 0] = y * w - z * v
    out[..., 1] = z * u - x * w
    out[..., 2] = x * v - y * u
    return out
