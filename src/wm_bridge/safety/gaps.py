"""Distances of convex shapes and lower bounds of them along a motion, vectorised.

A gap is signed: distance when apart, below zero when not. T postures, P pairs. Each gap is
a largest separation n . (x - y) over some normals n. With n held fixed, that separation is a
minimum over corner points of nearly linear functions of a short motion, so on the way from
one posture to the next it stays above the smaller of its two ends, less the curvature that
the caller subtracts. `between` gives that bound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wm_bridge.core.types import FloatArray

_TINY = 1e-12


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


def capsules(a: FloatArray, b: FloatArray, radii: FloatArray) -> Gaps:
    """Capsules against capsules.

    Args:
        a, b: (T, P, 2, 3) ends of the axes, m. radii: (P,) sum of the two radii, m.
    """
    at, other = _closest(a, b)
    n = at - other
    length = np.sqrt((n * n).sum(axis=-1))
    n /= np.maximum(length, _TINY)[..., None]
    distance = length - radii
    if len(distance) == 1:
        return Gaps(distance, distance[:0])
    ahead = np.minimum(distance[:-1], _along(n[:-1], a[1:], b[1:]) - radii)
    back = np.minimum(distance[1:], _along(n[1:], a[:-1], b[:-1]) - radii)
    return Gaps(distance, np.maximum(ahead, back))


def capsule_contact(a: FloatArray, b: FloatArray) -> Contact:
    """Nearest points of the axes; a, b: (P, 2, 3) m."""
    at, other = _closest(a[None], b[None])
    n = at[0] - other[0]
    n /= np.maximum(np.sqrt((n * n).sum(axis=-1)), _TINY)[..., None]
    return Contact(n, at[0], other[0])


def _closest(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nearest points of segments (Ericson, Real-Time Collision Detection, 5.1.9)."""
    a0, b0 = a[..., 0, :], b[..., 0, :]
    da, db, r = a[..., 1, :] - a0, b[..., 1, :] - b0, a0 - b0
    aa, bb, ab = (da * da).sum(axis=-1), (db * db).sum(axis=-1), (da * db).sum(axis=-1)
    ar, br = (da * r).sum(axis=-1), (db * r).sum(axis=-1)
    s = _unit((ab * br - ar * bb) / np.maximum(aa * bb - ab * ab, _TINY))
    t = _unit((ab * s + br) / np.maximum(bb, _TINY))
    s = _unit((ab * t - ar) / np.maximum(aa, _TINY))
    return a0 + s[..., None] * da, b0 + t[..., None] * db


def _unit(x: FloatArray) -> FloatArray:
    return np.minimum(np.maximum(x, 0.0), 1.0)


def _along(n: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """Separation of the axes along given normals."""
    n = n[..., None, :]
    return np.asarray((a * n).sum(axis=-1).min(axis=-1) - (b * n).sum(axis=-1).max(axis=-1))


# ---- boxes -------------------------------------------------------------------------


def boxes(points: FloatArray, radius: FloatArray, R: FloatArray, centre: FloatArray, half: FloatArray) -> Gaps:
    """Hulls of points against boxes, by the six face normals (a lower bound at the edges).

    Args:
        points: (T, P, K, 3) m. radius: (P,) of the hull, m.
        R: (P, 3, 3) R_base_box. centre, half: (P, 3) of the box, m.
    """
    faces = _faces(points, R, centre, half)
    between = np.minimum(faces[:-1], faces[1:]).max(axis=-1) - radius
    return Gaps(faces.max(axis=-1) - radius, between)


def box_contact(points: FloatArray, R: FloatArray, centre: FloatArray, half: FloatArray) -> Contact:
    """The face and the point that `boxes` measures between; points (P, K, 3) m."""
    face = _faces(points[None], R, centre, half)[0].argmax(axis=-1)
    sign = np.where(face < 3, 1.0, -1.0)
    normal = sign[:, None] * R[np.arange(len(face)), :, face % 3]
    at = _lowest(points, normal)
    return Contact(normal, at, at)


def _faces(points: FloatArray, R: FloatArray, centre: FloatArray, half: FloatArray) -> FloatArray:
    """(T, P, 6) height of the lowest point over each face."""
    local = (points - centre[:, None]) @ R
    return np.concatenate([local.min(axis=-2) - half, -local.max(axis=-2) - half], axis=-1)


# ---- workspace ---------------------------------------------------------------------


def room(points: FloatArray, radius: FloatArray, lower: FloatArray, upper: FloatArray) -> Gaps:
    """How far hulls of points are inside of one upright box.

    Args:
        points: (T, P, K, 3) m. radius: (P,) m. lower, upper: (3,) corners, m.
    """
    distance = _walls(points, lower, upper).min(axis=-1) - radius
    return Gaps(distance, np.minimum(distance[:-1], distance[1:]))


def room_contact(points: FloatArray, lower: FloatArray, upper: FloatArray) -> Contact:
    """The wall and the point that `room` measures between; points (P, K, 3) m."""
    wall = _walls(points, lower, upper).argmin(axis=-1)
    normal = np.eye(3)[wall % 3] * np.where(wall < 3, 1.0, -1.0)[:, None]
    at = _lowest(points, normal)
    return Contact(normal, at, at)


def _walls(points: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    return np.concatenate([points.min(axis=-2) - lower, upper - points.max(axis=-2)], axis=-1)


def _lowest(points: FloatArray, normal: FloatArray) -> FloatArray:
    """(P, 3) the point of each hull that lies furthest against the normal."""
    first = (points * normal[:, None]).sum(axis=-1).argmin(axis=-1)
    return np.asarray(points[np.arange(len(first)), first])
