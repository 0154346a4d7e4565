"""Least squares by Levenberg and Marquardt, with derivatives by differences: for a dozen unknowns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wm_bridge.core.types import FloatArray

_STEP = 1e-6


def least_squares(residuals: Callable[[FloatArray], FloatArray], start: FloatArray, iterations: int = 60) -> FloatArray:
    """The (P,) unknowns near ``start`` (unit: about 1) at which the (N,) residuals have the least sum of squares."""
    x, r = np.array(start, dtype=float), residuals(start)
    damping = 1e-3
    for _ in range(iterations):
        J = np.stack([(residuals(x + _STEP * unit) - r) / _STEP for unit in np.eye(len(x))], axis=1)
        gradient, hessian = J.T @ r, J.T @ J
        for _ in range(12):
            step = -np.linalg.solve(hessian + damping * np.diag(np.diag(hessian) + 1e-12), gradient)
            tried = residuals(x + step)
            if np.isfinite(tried).all() and tried @ tried < r @ r:
                break
            damping *= 4.0
        else:
            return x
        gain = 1.0 - (tried @ tried) / max(r @ r, 1e-300)
        x, r, damping = x + step, tried, max(damping / 5.0, 1e-12)
        if gain < 1e-7 or np.abs(step).max() < 1e-10:
            return x
    return x
