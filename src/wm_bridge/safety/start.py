"""Where the arm may begin."""

from __future__ import annotations

from collections.abc import Sequence

from wm_bridge.core.types import FloatArray
from wm_bridge.safety.limits import MotionLimits


def describe_outside(
    names: Sequence[str], position: FloatArray, limits: MotionLimits, allowed: float
) -> str:
    """Which joints are further outside of their limits than ``allowed`` rad; empty for none."""
    return "; ".join(
        f"{name} is at {q:.3f} rad, limits {low:.3f} to {high:.3f}: move it inside by hand"
        for name, q, low, high in zip(names, position, limits.lower, limits.upper, strict=True)
        if max(low - q, q - high) > allowed
    )
