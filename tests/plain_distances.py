"""The distances of `safety/compiled.py` in arrays, all postures and pairs at once: the form that it is held against.

Coordinates are an axis of their own in front of postures and pairs (`capsules`) or the last but one (`heights`), which
is what numpy is quick with. T postures, P pairs. Why the bounds hold is said in `compiled.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.types import FloatArray
from wm_bridge.safety.surroundings import Surroundings
from wm_bridge.safety.sweep import Swept, spread, tables_of

Index = NDArray[np.intp]

_TINY = 1e-12
_AXIS, _SIGN = np.array([0, 1, 2, 0, 1, 2]), np.array([[1.0], [1.0], [1.0], [-1.0], [-1.0], [-1.0]])


class Gaps(NamedTuple):
    """distance: (T, P) m. between: (T-1, P) m, lower bound between one posture and the next."""

    distance: FloatArray
    between: FloatArray


class Contact(NamedTuple):
    """Where P gaps are measured, at one posture.

    Attributes:
        normal: (P, 3) from the other thing to the shape. at, other_at: (P, 3) the points on
            the two cores, base frame, m.
    """

    normal: FloatArray
    at: FloatArray
    other_at: FloatArray


# ---- capsules ----------------------------------------------------------------------


def capsules(axes: FloatArray, radii: FloatArray) -> Gaps:
    """Capsules against capsules.

    Args:
        axes: (3, 3, T, P): the two axes and the way from the begin of the second to that of
            the first, each (xyz, T, P) m. radii: (P,) sum of the two radii, m.
    """
    s, t = _closest(axes)
    n = axes[2] + s * axes[0] - t * axes[1]
    length = np.sqrt(np.add.reduce(n * n))
    distance = length - radii
    if distance.shape[0] == 1:
        return Gaps(distance, distance[:0])
    n /= np.maximum(length, _TINY)
    # Separation along a normal of the posture before (ahead) or after (back).
    there = np.concatenate([axes[:, :, 1:], axes[:, :, :-1]], axis=2)
    over = there * np.concatenate([n[:, :-1], n[:, 1:]], axis=1)
    over = np.add.reduce(over, axis=1)
    apart = over[2] + np.minimum(over[0], 0.0) - np.maximum(over[1], 0.0) - radii
    half = len(apart) // 2
    bound = np.maximum(np.minimum(distance[:-1], apart[:half]), np.minimum(distance[1:], apart[half:]))
    return Gaps(distance, bound)


def capsule_contact(axes: FloatArray, begin: FloatArray) -> Contact:
    """Nearest points of the axes at one posture, T = 1; begin: (3, P) of the first axis, m."""
    s, t = (part[0] for part in _closest(axes))
    n = axes[2, :, 0] + s * axes[0, :, 0] - t * axes[1, :, 0]
    at = begin + s * axes[0, :, 0]
    other_at = at - n
    n = n / np.maximum(np.sqrt((n * n).sum(axis=0)), _TINY)
    return Contact(n.T, at.T, other_at.T)


def _closest(axes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(T, P) shares of the axes at their nearest points (Ericson, Real-Time Collision Detection, 5.1.9)."""
    products = np.add.reduce(axes[:, None] * axes[None], axis=2)
    aa, bb, ab = products[0, 0], products[1, 1], products[0, 1]
    ar, br = products[0, 2], products[1, 2]
    s = _unit((ab * br - ar * bb) / np.maximum(aa * bb - ab * ab, _TINY))
    t = _unit((ab * s + br) / np.maximum(bb, _TINY))
    s = _unit((ab * t - ar) / np.maximum(aa, _TINY))
    return s, t


def _unit(x: FloatArray) -> FloatArray:
    return np.minimum(np.maximum(x, 0.0), 1.0)


# ---- hulls against boxes, and inside of the workspace ------------------------------


def heights(hulls: FloatArray) -> FloatArray:
    """How high hulls lie over the planes through a box's centre, (T, P, 6) m, by the six normals.

    Args:
        hulls: (T, P, 3, 4) centre and three half edges in the frame of the box, m.
    """
    edges = np.abs(hulls[..., 1:])
    reach = edges[..., 0] + edges[..., 1] + edges[..., 2]
    out = np.empty((*reach.shape[:2], 6))
    np.subtract(hulls[..., 0], reach, out=out[..., :3])
    np.subtract(-hulls[..., 0], reach, out=out[..., 3:])
    return out


def boxes(height: FloatArray, half: FloatArray, radius: FloatArray) -> Gaps:
    """Hulls against boxes, by the six face normals (a lower bound at the edges).

    Args:
        height: (T, P, 6) m, see `heights`. half: (P, 6) m, half edges, twice.
        radius: (P,) of the hull, m.
    """
    faces = height - half
    between = np.maximum.reduce(np.minimum(faces[:-1], faces[1:]), axis=-1) - radius
    return Gaps(np.maximum.reduce(faces, axis=-1) - radius, between)


def room(height: FloatArray, half: FloatArray, radius: FloatArray) -> Gaps:
    """How far hulls are inside of one upright box; arguments as of `boxes`."""
    distance = np.minimum.reduce(height + half, axis=-1) - radius
    return Gaps(distance, np.minimum(distance[:-1], distance[1:]))


def face_contact(face: FloatArray, R: FloatArray, hulls: FloatArray) -> Contact:
    """The face, and the point of the hull, that `boxes` or `room` measures between.

    Args:
        face: (P,) index of the normal. R: (P, 3, 3) R_base_box.
        hulls: (P, 3, 4) centre and half edges in the base frame, m.
    """
    normal = R[np.arange(len(face)), :, _AXIS[face]] * _SIGN[face]
    edges = hulls[..., 1:]
    at = hulls[..., 0] - (edges @ np.sign(normal[:, None] @ edges).swapaxes(1, 2))[..., 0]
    return Contact(normal, at, at)


# ---- pairs of a robot --------------------------------------------------------------


class PlainSweep:
    """`sweep.Sweep` in arrays."""

    def __init__(self, whole: Surroundings) -> None:
        chain, tables = whole.shapes.chain, tables_of(whole)
        self.tables, self._chain = tables, chain
        self._first, self._boxes = len(tables.other), tables.boxes
        self._half = np.tile(tables.half, (1, 2))
        self._R = np.swapaxes(tables.T_box_base[:, :, :3], 1, 2)
        carried = np.zeros((len(chain.parents),) * 2)  # [link frame, joint]: 1 when the joint moves it
        for link in range(len(carried)):
            carried[link, chain.carriers(link)] = 1.0
        self._moved, self._moved_other = (carried[tables.carrier[shape]] for shape in (tables.shape, tables.other))

    def along(self, path: FloatArray, pairs: Index, whole: bool) -> Swept:
        """See `sweep.Sweep`."""
        taken, begin, end, share = spread(len(path))
        postures = path[taken if whole else slice(2)]
        distance, between = (part[:, pairs] for part in self.measure(postures))
        if not whole:
            return Swept(distance, np.minimum(distance[0], distance[1]))
        # Taken off: how far the joints leave the chord, and the curve of the points.
        lever = self.tables.lever[pairs]
        turn = np.abs(postures[1:] - postures[:-1]) @ (lever > 0.0).T
        off = np.abs(path[:-1] - (path[begin] + share * (path[end] - path[begin])))
        between = between - 0.125 * lever.max(axis=1) * turn * turn - np.maximum.reduceat(off, taken[:-1], axis=0) @ lever.T
        return Swept(distance[:2], np.minimum.reduce(np.minimum(between, distance[1:])))

    def at(self, q: FloatArray) -> FloatArray:
        """See `sweep.Sweep`."""
        return self.measure(q[None]).distance[0]

    def measure(self, q: FloatArray) -> Gaps:
        """Gaps of all pairs at (T, J) rad."""
        tables, k = self.tables, self._boxes
        covers = self._covers(q)
        height, radius = self._heights(covers)[1], tables.thickness[self._first :]
        found = (
            capsules(self._capsules(covers)[0], tables.thickness[: self._first]),
            boxes(height[:, :k], self._half[:k], radius[:k]),
            room(height[:, k:], self._half[k:], radius[k:]),
        )
        return Gaps(*(np.concatenate(part, axis=1) for part in zip(*found, strict=True)))

    def gradients(self, q: FloatArray, pairs: Index) -> FloatArray:
        """See `sweep.Sweep`."""
        chain, first, k = self._chain, self._first, self._boxes
        frames, covers = chain.frames(q), self._covers(q[None])
        axes, begin = self._capsules(covers)
        hulls, height = self._heights(covers)
        outside, inside = height[0, :k] - self._half[:k], height[0, k:] + self._half[k:]
        face = np.concatenate([outside.argmax(axis=-1), inside.argmin(axis=-1)])
        contacts = capsule_contact(axes, begin[:, 0]), face_contact(face, self._R, hulls[0, :, :3])
        normal, at, other_at = (np.concatenate(part) for part in zip(*contacts, strict=True))
        # A point p carried by a joint with axis a through o moves along n by a . ((p - o) x n) per rad.
        turning = (frames[:, :3, :3] @ chain.axes[..., None])[..., 0]
        screws = np.concatenate([turning, np.cross(frames[:, :3, 3], turning)], axis=1).T
        rows = (np.concatenate([np.cross(at, normal), normal], axis=1) @ screws) * self._moved
        n = normal[:first]  # only capsules can be two of the robot's own shapes
        rows[:first] -= (np.concatenate([np.cross(other_at[:first], n), n], axis=1) @ screws) * self._moved_other
        out = np.zeros_like(self.tables.lever)
        out[:, chain.column[1:]] = rows[:, 1:]
        return out[pairs]

    def _covers(self, q: FloatArray) -> FloatArray:
        """(T, S, 4, 6) `Tables.covers` in the base frame at (T, J) rad."""
        return self._chain.frames(q)[:, self.tables.carrier] @ self.tables.covers

    def _capsules(self, covers: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Axes as `capsules` takes them, and where the first ones begin, (3, T, C) m."""
        ends = covers[:, :, :3, 4:].transpose(3, 2, 0, 1)
        begin, end = ends[..., self.tables.shape[: self._first]]
        other, other_end = ends[..., self.tables.other]
        return np.stack([end - begin, other_end - other, begin - other]), begin

    def _heights(self, covers: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Hulls (T, H, 4, 4) in the base frame, and `heights` of them, (T, H, 6) m."""
        hulls = covers[:, self.tables.shape[self._first :], :, :4]
        return hulls, heights(self.tables.T_box_base @ hulls)
