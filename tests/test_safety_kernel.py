"""The compiled distances are those of the arrays, and nothing absurd turns into a large distance."""

import numpy as np
import pytest
from test_safety_distance import THINGS
from test_safety_fast import motions

from wm_bridge.bench.safety_loop import SafetyLoop
from wm_bridge.robots import spec as robots
from wm_bridge.safety import brake, sweep
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.guard import DistanceGuard
from wm_bridge.safety.lanes import Lanes
from wm_bridge.safety.shapes import RobotShapes
from wm_bridge.safety.surroundings import Surroundings

ROBOTS = {name: robots.load(name) for name in ("nico", "arm6")}
needs_kernel = pytest.mark.skipif(sweep.kernel is None, reason="wm_safety_kernel is not built")


def surroundings(name):
    spec = ROBOTS[name]
    guard = DistanceGuard(RobotShapes.from_spec(spec), SafetyConfig.load(spec.safety_path()).scene, 0.01)
    for thing in THINGS:
        guard.add(thing, 0)
    return spec, guard._pairs


def paths(spec, count, seed=0):
    """Brakes of all lengths, from a hair's breadth to much more than there is."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        start = rng.uniform(spec.lower, spec.upper)
        way = rng.normal(0, 10.0 ** rng.uniform(-6, -0.5), start.size)
        share = 1.0 - np.linspace(1.0, 0.0, (2, 3, 7, 8, 30, 90)[k % 6])[:, None] ** 2
        bent = 0.1 * way[::-1] * np.sin(3.0 * share)
        yield rng, start + share * way + bent


def test_the_tests_see_the_compiled_form():
    """The set-up builds it; without this line the others here would be skipped unseen."""
    assert sweep.kernel is not None, "start ./wm once: it builds wm_safety_kernel"


@needs_kernel
@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("whole", [True, False])
def test_distances_and_bounds_along_a_path_are_those_of_the_arrays(name, whole):
    spec, pairs = surroundings(name)
    plain, quick = sweep.NumpySweep(pairs.tables), sweep.KernelSweep(pairs.tables)
    apart = inside = 0
    for rng, path in paths(spec, 120):
        some = np.flatnonzero(rng.random(len(pairs.names)) < rng.choice([0.1, 1.0]))
        if not some.size:
            continue
        expected, found = plain.along(path, some, whole), quick.along(path, some, whole)
        np.testing.assert_allclose(found.distance, expected.distance, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.lowest, expected.lowest, rtol=0, atol=1e-12)
        apart, inside = apart + (found.lowest > 0).sum(), inside + (found.lowest < 0).sum()
    assert apart > 1000 and inside > 20


@needs_kernel
@pytest.mark.parametrize("name", ROBOTS)
def test_gradients_are_those_of_the_arrays(name):
    spec, pairs = surroundings(name)
    plain, quick = sweep.NumpySweep(pairs.tables), sweep.KernelSweep(pairs.tables)
    every = np.arange(len(pairs.names))
    for _, path in paths(spec, 60, seed=1):
        np.testing.assert_allclose(quick.gradients(path[0], every), plain.gradients(path[0], every), rtol=0, atol=1e-9)


@needs_kernel
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_path_that_is_not_finite_is_never_far_from_anything(value):
    spec, pairs = surroundings("nico")
    every = np.arange(len(pairs.names))
    with np.errstate(all="ignore"):
        for row in range(9):
            path = np.tile(spec.home, (9, 1))
            path[row] += value
            found = sweep.KernelSweep(pairs.tables).along(path, every, True)
            assert not (found.lowest > 10.0).any()
            if not np.isfinite(value) and row in sweep.spread(9)[0]:
                moving = pairs.lever.any(axis=1)
                assert np.isnan(found.lowest[moving]).all()


@needs_kernel
def test_arrays_that_do_not_fit_are_refused():
    spec, pairs = surroundings("arm6")
    quick = sweep.KernelSweep(pairs.tables)
    path = np.tile(spec.home, (4, 1))
    for wrong in (np.array([-1]), np.array([len(pairs.names)])):
        with pytest.raises(ValueError, match="do not fit"):
            quick.along(path, wrong, True)
        with pytest.raises(ValueError, match="do not fit"):
            quick.gradients(spec.home, wrong)
    with pytest.raises(ValueError, match="do not fit"):
        quick.along(path[:, :5], np.arange(3), True)
    with pytest.raises(ValueError, match="do not fit"):
        quick.along(path[:1], np.arange(3), True)
    with pytest.raises(ValueError, match="do not fit"):
        sweep.kernel.sweep(quick._ints[:-1], quick._reals, path, np.arange(4), np.arange(3), np.empty((3, 3)))


@needs_kernel
def test_the_path_of_a_brake_is_bit_for_bit_that_of_the_arrays():
    for _, limits, dt, motion in motions(7, 300):
        quick = Lanes(limits, dt).path(motion)
        with pytest.MonkeyPatch.context() as without:
            without.setattr(brake, "kernel", None)
            assert np.array_equal(Lanes(limits, dt).path(motion), quick)


@needs_kernel
def test_a_brake_that_is_not_finite_stays_so():
    """The post-check then finds it."""
    nothing, most = np.zeros(2), np.full(2, 5.0)
    for parts in np.eye(4)[:, :, None] * np.array([0.0, np.nan]):
        out = np.zeros((4, 2))
        brake.kernel.brake(nothing, nothing, np.ascontiguousarray(parts + [[1.0], [0.0], [9.0], [9.0]]), most, 0.01, out)
        expected = np.zeros((4, 2))
        brake._lay_path(nothing, nothing, parts + [[1.0], [0.0], [9.0], [9.0]], most, 0.01, expected)
        np.testing.assert_array_equal(out, expected)
    with pytest.raises(ValueError, match="do not fit"):
        brake.kernel.brake(nothing, nothing, np.zeros((4, 3)), most, 0.01, out)


@pytest.mark.parametrize("name", ROBOTS)
def test_without_the_compiled_form_the_filter_decides_the_same(monkeypatch, name):
    """Up to rounding: distances differ in the sixteenth digit."""
    spec = ROBOTS[name]
    config = SafetyConfig.load(spec.safety_path())
    quick = SafetyLoop(spec, config, np.random.default_rng(5)).run(400, hostile=True, check_every=0)
    monkeypatch.setattr(brake, "kernel", None)
    monkeypatch.setattr(Surroundings, "sweep", property(lambda self: sweep.NumpySweep(self.tables)))
    plain = SafetyLoop(spec, config, np.random.default_rng(5)).run(400, hostile=True, check_every=0)
    np.testing.assert_allclose(quick.outputs, plain.outputs, rtol=0, atol=1e-9)
    assert quick.limited == plain.limited > 20
