"""What stands around the robot from the start, and how far to stay away: ``scene`` in safety.yaml."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.settings import check_plain

Corner = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """Margins and fixed things; see the comments in ``config/safety.yaml``."""

    enabled: bool
    self_margin_m: float
    table_margin_m: float
    obstacle_margin_m: float
    approach_rate_s: float
    table: bool
    table_lower: Corner
    table_upper: Corner
    workspace_lower: Corner
    workspace_upper: Corner
    self_ignore: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        check_plain(self, "scene")
        for what in ("table", "workspace"):
            lower, upper = _corner(self, f"{what}_lower"), _corner(self, f"{what}_upper")
            if not all(a < b for a, b in zip(lower, upper, strict=True)):
                raise ValueError(
                    f"safety: scene.{what}_lower {lower} must lie below {what}_upper {upper}; swapped?"
                )
        pairs = tuple(tuple(pair) for pair in self.self_ignore)
        if not all(len(pair) == 2 and all(isinstance(name, str) for name in pair) for pair in pairs):
            raise ValueError(f"safety: scene.self_ignore must be pairs of link names, got {self.self_ignore}")
        object.__setattr__(self, "self_ignore", pairs)

    def table_box(self) -> Obstacle:
        """The table as a box."""
        lower, upper = np.array(self.table_lower), np.array(self.table_upper)
        return Obstacle("table", "box", tuple(upper - lower), (lower + upper) / 2)


def _corner(scene: SceneSettings, name: str) -> Corner:
    value = getattr(scene, name)
    try:
        x, y, z = (float(number) for number in value)
    except (TypeError, ValueError):
        raise ValueError(f"safety: scene.{name} must be three numbers, got {value!r}") from None
    if not all(math.isfinite(number) for number in (x, y, z)):
        raise ValueError(f"safety: scene.{name} must be finite, got {value}")
    object.__setattr__(scene, name, (x, y, z))
    return x, y, z
