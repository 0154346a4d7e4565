"""The smallest capsule around a cloud of points: what a mesh becomes for the safety filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.spatial import ConvexHull, QhullError

from wm_bridge.core.types import FloatArray

_CIRCLE_STEPS = 60  # of the walk to the middle of the smallest circle; what is left is covered by the radius
_SLACK = 1e-9


@dataclass(frozen=True)
class Capsule:
    """All points within ``radius`` of the segment between ``ends`` (2, 3); m."""

    ends: FloatArray
    radius: float

    @property
    def length(self) -> float:
        """Of the segment, m."""
        return float(np.linalg.norm(self.ends[1] - self.ends[0]))

    @property
    def volume(self) -> float:
        """m^3."""
        return float(np.pi * self.radius**2 * (self.length + 4.0 / 3.0 * self.radius))

    def distance(self, points: FloatArray) -> FloatArray:
        """(N,) from points (N, 3) to the segment, m."""
        start, way = self.ends[0], self.ends[1] - self.ends[0]
        share = np.clip((points - start) @ way / max(float(way @ way), 1e-30), 0.0, 1.0)
        return np.asarray(np.linalg.norm(points - start - share[:, None] * way, axis=1))


def enclose(points: FloatArray) -> Capsule:
    """A capsule that covers points (N, 3), the smallest that a descent over its direction finds.

    For one direction the best is found outright: its radius is that of the smallest circle around the points seen along
    it (nearly: Badoiu and Clarkson's walk), and each cap begins as late as all points allow.

    Raises:
        ValueError: no points, or some that are not finite.
    """
    points = np.asarray(points, dtype=float).reshape(-1, 3)
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"expected finite points (N, 3), got {points.shape}")
    hull = _corners(points)
    axes = np.linalg.svd(hull - hull.mean(0), full_matrices=True)[2]
    first = min(axes, key=lambda axis: _along(hull, axis).volume)
    side, up = _sides(first)

    def volume(tilt: FloatArray) -> float:
        return _along(hull, first + tilt[0] * side + tilt[1] * up).volume

    found = minimize(volume, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-4, "maxfev": 200, "initial_simplex": [[0, 0], [0.2, 0], [0, 0.2]]})
    best = _along(hull, first + found.x[0] * side + found.x[1] * up)
    radius = max(best.radius, float(best.distance(hull).max())) + _SLACK
    return Capsule(best.ends, radius)


def _along(points: FloatArray, axis: FloatArray) -> Capsule:
    axis = axis / np.linalg.norm(axis)
    side, up = _sides(axis)
    flat, height = points @ np.stack([side, up], axis=1), points @ axis
    centre = flat.mean(0)
    for step in range(1, _CIRCLE_STEPS + 1):
        offset = flat - centre
        centre = centre + offset[np.argmax((offset**2).sum(1))] / (step + 1)
    off = np.linalg.norm(flat - centre, axis=1)
    radius = float(off.max())
    cap = np.sqrt(np.maximum(radius**2 - off**2, 0.0))
    low, high = float((height + cap).min()), float((height - cap).max())
    if low > high:  # a ball would do: both ends in its middle, and what sticks out is covered by the radius
        low = high = (low + high) / 2.0
    middle = centre @ np.stack([side, up])
    made = Capsule(np.stack([middle + low * axis, middle + high * axis]), radius)
    return Capsule(made.ends, max(radius, float(made.distance(points).max())))


def _sides(axis: FloatArray) -> tuple[FloatArray, FloatArray]:
    axis = axis / np.linalg.norm(axis)
    side = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    side /= np.linalg.norm(side)
    return side, np.cross(axis, side)


def _corners(points: FloatArray) -> FloatArray:
    """Corners of the hull; all points where they are flat."""
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except (QhullError, ValueError):
        return np.unique(points, axis=0)
