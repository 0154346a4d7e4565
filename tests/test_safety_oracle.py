"""The closed forms against programmes that know nothing of them."""

import cvxpy as cp
import numpy as np
import pytest
from plain_motion import rest_of, speed_of

from wm_bridge.safety.box import Motion, excess, project
from wm_bridge.safety.brake import stop_from
from wm_bridge.safety.limits import MotionLimits, stopping_speed

DT = 0.01
ARM = MotionLimits([-1.0], [1.0], [1.0], [5.0], [100.0])


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


def shortest_stop(v0, a0, limits, dt, horizon=60):
    """Shortest way to rest without turning round, by a linear programme; rad."""
    v = cp.Variable(horizon + 2)
    a = (v[1:] - v[:-1]) / dt
    constraints = [
        v[0] == v0,
        v >= 0,
        v[-2:] == 0,
        cp.abs(a) <= limits.acceleration[0],
        cp.abs(a[0] - a0) <= limits.jerk[0] * dt,
        cp.abs(a[1:] - a[:-1]) <= limits.jerk[0] * dt,
    ]
    problem = cp.Problem(cp.Minimize(dt * cp.sum(v[1:])), constraints)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return float(problem.value)


@pytest.mark.parametrize("seed", range(10))
def test_no_stop_within_the_limits_is_noticeably_shorter_than_the_brake(seed):
    rng = np.random.default_rng(seed)
    v, a = rng.uniform(0.2, 1.0), rng.uniform(-2.0, 5.0)
    brake = rest_of(stop_from(np.array([v]), np.array([a]), ARM, DT), ARM, DT)[0]
    best = shortest_stop(v, a, ARM, DT)
    assert best - 1e-6 <= brake <= 1.005 * best + 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_no_output_nearer_to_the_wish_than_the_projection_is_viable(seed):
    rng = np.random.default_rng(100 + seed)
    limits = MotionLimits(*(np.full(3, x) for x in (-1.0, 1.0, 1.0, 5.0, 100.0)))
    motion = Motion(rng.uniform(0.4, 0.7, 3), np.zeros(3), np.zeros(3))
    for k in range(60):
        wish = np.full(3, 1.5 if k % 20 < 17 else -1.5)
        output = project(wish, motion, limits, DT)
        low, high = (np.minimum(output, wish), np.maximum(output, wish))
        for share in np.linspace(1e-3, 1.0, 50):
            nearer = output + share * np.clip(wish - output, -2e-4, 2e-4)
            v = (nearer - motion.q) / DT
            a = (v - motion.v) / DT
            fine = (np.abs(a - motion.a) <= limits.jerk * DT) & (np.abs(a) <= limits.acceleration) & (np.abs(v) <= 1.0)
            fine &= speed_of(stop_from(v, a, limits, DT), limits, DT) <= 1.0
            room = excess(Motion(nearer, v, a), limits, DT)
            better = fine & (np.abs(nearer - output) > 1e-6) & (nearer >= low) & (nearer <= high)
            assert not (better & (room <= -1e-5)).any()
        v = (output - motion.q) / DT
        motion = Motion(output, v, (v - motion.v) / DT)
