"""Energies as colours, for RViz and the browser view alike."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import FloatArray

MODE_COLOURS = {
    "NORMAL": (0.2, 0.8, 0.3),
    "LIMITED": (0.9, 0.8, 0.2),
    "HOLD": (0.4, 0.6, 0.95),
    "BRAKE": (1.0, 0.5, 0.1),
    "LATCHED": (0.95, 0.15, 0.15),
}


def shades(energies: FloatArray) -> FloatArray:
    """(N, 4) red, green, blue, alpha: green for the lowest energy, red for the highest; grey when it is not finite.

    Args:
        energies: (N,).
    """
    good = np.isfinite(energies)
    low, high = (energies[good].min(), energies[good].max()) if good.any() else (0.0, 0.0)
    share = np.where(good, (energies - low) / max(high - low, 1e-9), 0.0)
    found = np.stack([share, 1.0 - share, np.full_like(share, 0.15), np.full_like(share, 0.5)], axis=-1)
    return np.where(good[:, None], found, (0.5, 0.5, 0.5, 0.3))
