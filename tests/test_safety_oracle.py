"""The closed-form viability box against a linear programme that knows nothing of it."""

import cvxpy as cp
import numpy as np
import pytest

from wm_bridge.safety.limits import MotionLimits, project, stopping_speed, viability_box

DT = 0.01


def fastest_stoppable(distance, acceleration, dt, horizon=80):
    """Largest next speed after which braking at `acceleration` covers at most `distance`."""
    v = cp.Variable(horizon)
    constraints = [v >= 0, v[-1] == 0, dt * cp.sum(v) <= distance, cp.abs(v[1:] - v[:-1]) <= acceleration * dt]
    problem = cp.Problem(cp.Maximize(v[0]), constraints)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return float(v.value[0])


@pytest.mark.parametrize("seed", range(12))
def test_stopping_speed_is_the_optimum_of_the_braking_programme(seed):
    rng = np.random.default_rng(seed)
    acceleration = rng.uniform(2.0, 10.0)
    distance = rng.uniform(0.0, 0.05)
    closed_form = stopping_speed(np.array([distance]), np.array([acceleration]), DT)[0]
    assert closed_form == pytest.approx(fastest_stoppable(distance, acceleration, DT), abs=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_project_is_the_nearest_point_that_a_quadratic_programme_finds(seed):
    rng = np.random.default_rng(100 + seed)
    limits = MotionLimits(np.full(3, -1.0), np.full(3, 1.0), np.full(3, 1.0), np.full(3, 5.0))
    q, v = rng.uniform(-0.9, 0.9, 3), np.zeros(3)
    for _ in range(int(rng.integers(1, 30))):  # a state that the box itself leads to
        after = project(q + rng.uniform(-0.02, 0.02, 3), q, v, limits, DT)
        q, v = after, (after - q) / DT
    wish = q + rng.uniform(-0.03, 0.03, 3)
    low, high = viability_box(q, v, limits, DT)
    x = cp.Variable(3)
    # in units of one period's motion, so that the solver's tolerance means something
    nearest = cp.Minimize(cp.sum_squares(x - (wish - q) / DT))
    cp.Problem(nearest, [x >= low, x <= high]).solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(project(wish, q, v, limits, DT), q + x.value * DT, atol=1e-6)
