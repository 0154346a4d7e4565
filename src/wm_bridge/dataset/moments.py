"""Running statistics of a feature, as LeRobot keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wm_bridge.core.types import FloatArray


@dataclass
class Moments:
    """Of rows (N, K) seen so far: their number, and (K,) least, largest, sum and sum of squares."""

    count: int = 0
    least: FloatArray = field(default_factory=lambda: np.array(np.inf))
    most: FloatArray = field(default_factory=lambda: np.array(-np.inf))
    total: FloatArray = field(default_factory=lambda: np.array(0.0))
    squares: FloatArray = field(default_factory=lambda: np.array(0.0))

    def add(self, rows: FloatArray) -> None:
        """Take rows (N, K), N > 0."""
        rows = np.asarray(rows, float)
        self.merge(Moments(len(rows), rows.min(0), rows.max(0), rows.sum(0), np.square(rows).sum(0)))

    def merge(self, other: Moments) -> None:
        """Take all that another one has seen."""
        self.count += other.count
        self.least, self.most = np.minimum(self.least, other.least), np.maximum(self.most, other.most)
        self.total, self.squares = self.total + other.total, self.squares + other.squares

    def told(self, picture: bool = False) -> dict[str, Any]:
        """As stats.json has it; channels of a picture have shape (3, 1, 1)."""
        mean = self.total / self.count
        std = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0.0))
        values = {"min": self.least, "max": self.most, "mean": mean, "std": std}
        return {name: (value.reshape(-1, 1, 1) if picture else value).tolist() for name, value in values.items()} | {"count": [self.count]}
