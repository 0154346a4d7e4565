"""Measuring some of the pairs, in one pass over postures and pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.types import FloatArray
from wm_bridge.safety import gaps
from wm_bridge.safety.chain import Tree
from wm_bridge.safety.gaps import Gaps

if TYPE_CHECKING:
    from wm_bridge.safety.surroundings import Surroundings

Index = NDArray[np.intp]


class Tables:
    """What `Selection` looks up for each pair, made once per `Surroundings`.

    Things that stand are rows behind the robot's shapes, fixed to the root.
    """

    def __init__(self, whole: Surroundings) -> None:
        shapes, chain = whole.shapes, whole.shapes.chain
        self.chain, self.lever = chain, whole.lever
        self.carried = (self.lever > 0.0).astype(np.float64)
        self.bend = 0.125 * self.lever.max(axis=1)
        self.capsules, self.cuboids = whole.runs[0], whole.runs[1]
        things = np.zeros((len(whole.ends), 4, 6))
        root_base = np.linalg.inv(chain.T_base_root)
        things[:, :3, 4:], things[:, 3, 4:] = np.swapaxes(whole.ends, 1, 2), 1.0
        self.covers = np.concatenate([shapes.covers(), root_base @ things])
        self.joint = np.concatenate([shapes.joint, np.zeros(len(things), dtype=shapes.joint.dtype)])
        self.shape, self.other = whole.shape, whole.other[: self.capsules]
        thickness = np.concatenate([shapes.thickness, whole.thickness])
        self.radii = thickness[self.shape[: self.capsules]] + thickness[self.other]
        # hulls: against boxes, or inside of the workspace
        self.radius = shapes.radius[self.shape[self.capsules :]]
        box, walls = whole.other[self.capsules :][: self.cuboids], whole.runs[2]
        lower, upper = whole.workspace
        self.R = np.concatenate([whole.R[box], np.tile(np.eye(3), (walls, 1, 1))])
        centre = np.concatenate([whole.centre[box], np.tile((lower + upper) * 0.5, (walls, 1))])
        half = np.concatenate([whole.half[box], np.tile((upper - lower) * 0.5, (walls, 1))])
        self.half = np.tile(half, (1, 2))
        turned = np.swapaxes(self.R, 1, 2)
        self.T_box_base = np.concatenate([turned, -turned @ centre[..., None]], axis=2)
        # which joints move the nearest points, and whose frames a pair needs
        self.moved = chain.carried[self.joint[self.shape]]
        self.moved_other = np.zeros_like(self.moved)
        self.moved_other[: self.capsules] = chain.carried[self.joint[self.other]]
        self._limbs = np.maximum(self.moved, self.moved_other) @ _limbs(chain.parents)
        self._trees: dict[bytes, Tree] = {}

    def tree(self, pairs: Index) -> Tree:
        """The limbs that carry the given pairs."""
        limbs = self._limbs[pairs].any(axis=0)
        found = self._trees.get(limbs.tobytes())
        if found is None:
            member = _limbs(self.chain.parents)[:, limbs].any(axis=1)
            found = self._trees[limbs.tobytes()] = self.chain.tree(np.flatnonzero(member).tolist())
        return found


class Selection:
    """K pairs, measured together; the frames are those of ``tree``, just the limbs they need.

    Attributes:
        tables: of all pairs. pairs: (K,) ascending. tree: gives the frames. lever: (K, J), see `Surroundings`.
        carried: (K, J) 1.0 where the joint moves the pair. bend: (K,) m, an eighth of the
            longest lever.
    """

    def __init__(self, tables: Tables, pairs: Index) -> None:
        self.tables, self.pairs = tables, pairs
        self.tree = tables.tree(pairs)
        self.lever, self.carried, self.bend = tables.lever[pairs], tables.carried[pairs], tables.bend[pairs]
        first = self._first = int(pairs.searchsorted(tables.capsules))
        shape = tables.shape[pairs]
        if first:
            shape = np.concatenate([shape, tables.other[pairs[:first]]])
        self._frame, self._covers = self.tree.place[tables.joint[shape]], tables.covers[shape]
        self._hulls = pairs[first:] - tables.capsules
        self._cuboids = int(self._hulls.searchsorted(tables.cuboids))

    def measure(self, frames: FloatArray) -> Gaps:
        """Gaps of the pairs at (T, M, 4, 4) frames."""
        tables, first = self.tables, self._first
        cover = frames[:, self._frame] @ self._covers
        found = []
        if first:
            found.append(gaps.capsules(self._capsules(cover)[0], tables.radii[self.pairs[:first]]))
        if self._hulls.size:
            _, height = self._heights(cover)
            k, half, radius = self._cuboids, tables.half[self._hulls], tables.radius[self._hulls]
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
        tables, first = self.tables, self._first
        cover = frames[None, self._frame] @ self._covers
        found = []
        if first:
            axes, begin = self._capsules(cover)
            found.append(gaps.capsule_contact(axes, begin[:, 0]))
        if self._hulls.size:
            hulls, height = self._heights(cover)
            k, half = self._cuboids, tables.half[self._hulls]
            outside, inside = height[0, :k] - half[:k], height[0, k:] + half[k:]
            face = np.concatenate([outside.argmax(axis=-1), inside.argmin(axis=-1)])
            found.append(gaps.face_contact(face, tables.R[self._hulls], hulls[0, :, :3]))
        normal, at, other_at = found[0]
        if len(found) > 1:
            normal, at, other_at = (np.concatenate(part) for part in zip(*found, strict=True))
        # A point p carried by a joint with axis a through o moves along n by a . ((p - o) x n) per rad.
        tables, joints = self.tables, self.tree.joints
        axes = (frames[:, :3, :3] @ tables.chain.axes[joints, :, None])[..., 0]
        screws = np.concatenate([axes, _cross(frames[:, :3, 3], axes)], axis=1).T
        moved, pairs = tables.moved, self.pairs
        rows = (np.concatenate([_cross(at, normal), normal], axis=1) @ screws) * moved[pairs][:, joints]
        if first:
            # only capsules can be two of the robot's own shapes
            n, own = normal[:first], tables.moved_other[pairs[:first]][:, joints]
            rows[:first] -= (np.concatenate([_cross(other_at[:first], n), n], axis=1) @ screws) * own
        out = np.zeros((len(rows), self.lever.shape[1]))
        out[:, tables.chain.column[joints[1:]]] = rows[:, 1:]
        return out

    def _capsules(self, cover: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Axes as `gaps.capsules` takes them, and where the first ones begin, (3, T, K) m."""
        ends = cover[:, :, :3, 4:].transpose(3, 2, 0, 1)
        begin, end = ends[..., : self._first]
        other, other_end = ends[..., len(self.pairs) :]
        axes = np.empty((3, *begin.shape))
        np.subtract(end, begin, out=axes[0])
        np.subtract(other_end, other, out=axes[1])
        np.subtract(begin, other, out=axes[2])
        return axes, begin

    def _heights(self, cover: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Hulls (T, K, 4, 4) in the base frame, and `gaps.heights` of them, (T, K, 6) m."""
        hulls = cover[:, self._first : len(self.pairs), :, :4]
        return hulls, gaps.heights(self.tables.T_box_base[self._hulls] @ hulls)


def _limbs(parents: Index) -> NDArray[np.bool_]:
    """(N, L) which joint belongs to which limb, the L branches that leave the root."""
    first = np.arange(len(parents))
    for joint in range(1, len(parents)):
        if parents[joint]:
            first[joint] = first[parents[joint]]
    roots = [joint for joint in range(1, len(parents)) if not parents[joint]]
    return np.asarray(first[:, None] == np.array(roots))


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cross product along the last axis; `numpy.cross` takes four times as long."""
    x, y, z = a[..., 0], a[..., 1], a[..., 2]
    u, v, w = b[..., 0], b[..., 1], b[..., 2]
    out = np.empty_like(a)
    out[..., 0] = y * w - z * v
    out[..., 1] = z * u - x * w
    out[..., 2] = x * v - y * u
    return out
