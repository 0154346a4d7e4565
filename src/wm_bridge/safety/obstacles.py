"""Things around the arm, added and removed while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from wm_bridge.core.types import FloatArray, frozen_array

SHAPES = {"box": 3, "sphere": 1, "capsule": 2}  # how many numbers ``size`` has


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that no link may come near.

    Attributes:
        name: by which it is replaced and removed.
        shape: ``box`` (size: full edges), ``sphere`` (radius) or ``capsule`` (radius and
            length of its axis, along its z).
        size: m.
        position: (3,) of its centre, base frame, m.
        orientation: (4,) unit quaternion x, y, z, w, base frame.
        speed_bound_m_s: no point of it ever moves faster. 0 for a thing that stands.
    """

    name: str
    shape: str
    size: tuple[float, ...]
    position: FloatArray
    orientation: FloatArray = field(default_factory=lambda: frozen_array([0.0, 0.0, 0.0, 1.0]))
    speed_bound_m_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise ValueError("an obstacle needs a name")
        if self.shape not in SHAPES:
            raise ValueError(f"obstacle {self.name}: shape {self.shape!r} is none of {list(SHAPES)}")
        size = tuple(float(x) for x in self.size)
        if len(size) != SHAPES[self.shape] or not all(math.isfinite(x) and x > 0 for x in size):
            raise ValueError(
                f"obstacle {self.name}: a {self.shape} has {SHAPES[self.shape]} positive sizes, got {size}"
            )
        object.__setattr__(self, "size", size)
        for name, length in (("position", 3), ("orientation", 4)):
            array = frozen_array(getattr(self, name))
            if array.shape != (length,) or not np.isfinite(array).all():
                raise ValueError(f"obstacle {self.name}: {name} must be {length} finite numbers, got {array}")
            object.__setattr__(self, name, array)
        if abs(float(np.linalg.norm(self.orientation)) - 1.0) > 1e-3:
            raise ValueError(f"obstacle {self.name}: orientation must be a unit quaternion (x, y, z, w)")
        speed = self.speed_bound_m_s
        if not (math.isfinite(speed) and speed >= 0.0):
            raise ValueError(f"obstacle {self.name}: speed_bound_m_s must be >= 0, got {speed}")

    def rotation(self) -> FloatArray:
        """(3, 3) R_base_obstacle."""
        x, y, z, w = self.orientation / np.linalg.norm(self.orientation)
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )

    def capsule(self) -> tuple[FloatArray, float]:
        """Ends (2, 3) m, base frame, and radius of a sphere or capsule."""
        radius, length = (*self.size, 0.0)[:2]
        half = self.rotation()[:, 2] * (length * 0.5)
        return np.stack([self.position - half, self.position + half]), radius
