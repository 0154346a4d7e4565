"""The nearest outputs to a wish that keep the distance rows, with the box as hard bounds.

minimise |x - wish|^2 over x (next velocities), low <= x <= high, G x >= h. No answer is
believed: inputs are checked for finite numbers before, the result against every row after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import quadprog

from wm_bridge.core.types import FloatArray

BACKENDS = ("quadprog", "cvxpy")
_TOLERANCE = 1e-7  # rad/s, m/s

Solver = Callable[[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray], FloatArray | None]


def solve(
    wish: FloatArray,
    low: FloatArray,
    high: FloatArray,
    G: FloatArray,
    h: FloatArray,
    backend: Solver | None = None,
) -> FloatArray | None:
    """Solve and look at the answer.

    Args:
        wish, low, high: (J,) rad/s. G: (K, J) m/rad. h: (K,) m/s.
        backend: `quadprog_solve` when None.

    Returns:
        (J,) rad/s, inside the box bit for bit; None when there is no such point, an input
        is not finite, or the solver failed in any way.
    """
    if not np.isfinite(np.concatenate([wish, low, high, h, G.ravel()])).all() or (low > high).any():
        return None
    x = np.minimum(np.maximum(wish, low), high)
    some = G.any(axis=0)  # the rows say nothing of the other joints: their answer stands
    if not some.any():
        return x if (h <= _TOLERANCE).all() else None
    try:
        found = (backend or quadprog_solve)(wish[some], low[some], high[some], G[:, some], h)
    except Exception:  # noqa: BLE001  a solver that breaks is a solver without an answer
        return None
    if found is None or np.shape(found) != (some.sum(),) or not np.isfinite(found).all():
        return None
    x[some] = found
    inside = np.minimum(np.maximum(x, low), high)
    if np.maximum.reduce(np.abs(x - inside)) > _TOLERANCE:
        return None
    if (G @ inside < h - _TOLERANCE * (1.0 + np.add.reduce(np.abs(G), axis=1))).any():
        return None
    return inside


def quadprog_solve(
    wish: FloatArray, low: FloatArray, high: FloatArray, G: FloatArray, h: FloatArray
) -> FloatArray | None:
    """Goldfarb-Idnani; raises ValueError when the rows contradict each other."""
    eye = np.eye(len(wish))
    C = np.concatenate([eye, -eye, G]).T
    b = np.concatenate([low, -high, h])
    return np.asarray(quadprog.solve_qp(eye, wish, C, b)[0])


class CvxpySolver:
    """cvxpy with CLARABEL: the reference; about 1 ms a call, for 100 Hz at most."""

    def __init__(self) -> None:
        import cvxpy  # noqa: PLC0415  not needed on the robot, takes a second to import

        self._cp: Any = cvxpy
        self._problems: dict[tuple[int, int], tuple[Any, ...]] = {}

    def __call__(
        self, wish: FloatArray, low: FloatArray, high: FloatArray, G: FloatArray, h: FloatArray
    ) -> FloatArray | None:
        """As `quadprog_solve`."""
        cp, shape = self._cp, G.shape
        if shape not in self._problems:
            K, J = shape
            x, at = cp.Variable(J), [cp.Parameter(J), cp.Parameter(J), cp.Parameter(J)]
            rows, bound = cp.Parameter((K, J)), cp.Parameter(K)
            constraints = [x >= at[1], x <= at[2], rows @ x >= bound]
            problem = cp.Problem(cp.Minimize(cp.sum_squares(x - at[0])), constraints)
            self._problems[shape] = (problem, x, *at, rows, bound)
        problem, x, p_wish, p_low, p_high, p_rows, p_bound = self._problems[shape]
        p_wish.value, p_low.value, p_high.value, p_rows.value, p_bound.value = wish, low, high, G, h
        tight = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
        problem.solve(solver=cp.CLARABEL, **tight)
        return np.asarray(x.value) if problem.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE) else None


def solver(name: str) -> Solver:
    """The backend by its name in ``config/safety.yaml``.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    if name not in BACKENDS:
        raise ValueError(f"safety: qp_backend {name!r} is none of {list(BACKENDS)}")
    if name == "quadprog":
        return quadprog_solve
    try:
        return CvxpySolver()
    except ImportError as error:
        raise ValueError("safety: qp_backend cvxpy needs cvxpy; pip install it or use quadprog") from error
