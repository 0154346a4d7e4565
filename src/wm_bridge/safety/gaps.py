"""Distances of convex shapes and lower bounds of them along a motion, vectorised.

A gap is signed: distance when apart, below zero when not. T postures, P pairs. Each gap is
a largest separation n . (x - y) over some normals n. With n held fixed, that separation is a
minimum over corner points of nearly linear functions of a short motion, so on the way from
one posture to the next it stays above the smaller of its two ends, less the curvature that
the caller subtracts. `between` gives that bound.

The hull of eight corners c +- e1 +- e2 +- e3 reaches n . c +- sum_k |n . e_k| along a normal
n: no corner has to be looked at. Coordinates are an axis of their own in front of postures
and pairs (`capsules`) or the last but one (`heights`), which is what numpy is quick with.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wm_bridge.core.types import FloatArray

_TINY = 1e-12
_AXIS, _SIGN = np.array([0, 1, 2, 0, 1, 2]), np.array([[1.0], [1.0], [1.0], [-1.0], [-1.0], [-1.0]])
_COUNT = np.arange(100_000)  # pairs, more than there will ever be


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
    normal = R[_COUNT[: len(face)], :, _AXIS[face]] * _SIGN[face]
    edges = hulls[..., 1:]
    at = hulls[..., 0] - (edges @ np.sign(normal[:, None] @ edges).swapaxes(1, 2))[..., 0]
    return Contact(normal, at, at)
