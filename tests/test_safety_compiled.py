"""The compiled distances are those of the arrays, and nothing absurd turns into a large distance."""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from conftest import ROOT
from plain_distances import PlainSweep
from plain_motion import lay_path
from test_safety_distance import THINGS
from test_safety_fast import motions

from wm_bridge.bench.safety_loop import SafetyLoop
from wm_bridge.robots import spec as robots
from wm_bridge.safety import brake, compiled, lanes, sweep
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.guard import DistanceGuard
from wm_bridge.safety.lanes import Lanes
from wm_bridge.safety.shapes import RobotShapes
from wm_bridge.safety.surroundings import Surroundings

ROBOTS = {name: robots.load(name) for name in ("nico", "arm6")}
FILE = Path(compiled.__file__)


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


@pytest.fixture(scope="module")
def interpreted():
    """The same module as Python runs it by itself: for coverage, and to see that compiling changes no bit."""
    with pytest.MonkeyPatch.context() as change:
        change.setattr(numba.config, "DISABLE_JIT", True)
        source = importlib.util.spec_from_file_location("interpreted", FILE)
        module = importlib.util.module_from_spec(source)
        change.setitem(sys.modules, "interpreted", module)
        source.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("whole", [True, False])
def test_distances_and_bounds_along_a_path_are_those_of_the_arrays(name, whole):
    spec, pairs = surroundings(name)
    plain, quick = PlainSweep(pairs), pairs.sweep
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


@pytest.mark.parametrize("name", ROBOTS)
def test_gradients_are_those_of_the_arrays(name):
    spec, pairs = surroundings(name)
    plain, rng = PlainSweep(pairs), np.random.default_rng(2)
    for _, path in paths(spec, 60, seed=1):
        some = np.flatnonzero(rng.random(len(pairs.names)) < 0.5)
        np.testing.assert_allclose(pairs.sweep.gradients(path[0], some), plain.gradients(path[0], some), rtol=0, atol=1e-9)


def test_the_path_of_a_brake_is_bit_for_bit_that_of_the_arrays(monkeypatch):
    for _, limits, dt, motion in motions(7, 300):
        quick = Lanes(limits, dt).path(motion)
        monkeypatch.setattr(lanes, "path_of", lay_path)
        assert np.array_equal(Lanes(limits, dt).path(motion), quick)
        monkeypatch.undo()


def test_compiling_changes_no_bit(interpreted):
    """Neither fused nor reordered operations: a recording is replayed on another processor."""
    for name in ROBOTS:
        spec, pairs = surroundings(name)
        arrays, every = pairs.sweep.arrays, np.arange(len(pairs.names))
        for _, path in paths(spec, 8):
            taken = sweep.spread(len(path))[0]
            assert np.array_equal(interpreted.along(arrays, path, taken, every), compiled.along(arrays, path, taken, every))
            assert np.array_equal(interpreted.slopes(arrays, path[0], every), compiled.slopes(arrays, path[0], every))
            few, margin = path[:3].copy(), np.full((1, len(every)), 0.01)
            room = compiled.least_room(arrays, few, every, margin)
            assert np.array_equal(interpreted.least_room(arrays, few, every, margin), room)
            np.testing.assert_allclose(room[:, 0], [pairs.sweep.at(q).min() - 0.01 for q in few], atol=1e-12)
    with pytest.raises(ValueError):
        interpreted.least_room(arrays, few, every, margin[:, 1:])
    for _, limits, dt, motion in motions(8, 6):
        quick = Lanes(limits, dt).path(motion)
        with pytest.MonkeyPatch.context() as change:
            change.setattr(brake, "compiled", interpreted)
            assert np.array_equal(Lanes(limits, dt).path(motion), quick)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_path_that_is_not_finite_is_never_far_from_anything(value):
    spec, pairs = surroundings("nico")
    every = np.arange(len(pairs.names))
    for row in range(9):
        path = np.tile(spec.home, (9, 1))
        path[row] += value
        found = pairs.sweep.along(path, every, True)
        assert not (found.lowest > 10.0).any()
        if not np.isfinite(value) and row in sweep.spread(9)[0]:
            moving = pairs.lever.any(axis=1)
            assert np.isnan(found.lowest[moving]).all()


@pytest.mark.parametrize("module", ["compiled", "interpreted"])
def test_arrays_that_do_not_fit_are_refused(module, interpreted):
    spec, pairs = surroundings("arm6")
    module = interpreted if module == "interpreted" else compiled
    arrays, path, few = pairs.sweep.arrays, np.tile(spec.home, (4, 1)), np.arange(3)
    rows = np.arange(4)
    wrong = [(path, rows, np.array([-1])), (path, rows, np.array([len(pairs.names)])), (path[:, :5].copy(), rows, few), (path, rows[:1], few)]
    wrong += [(path, taken, few) for taken in (np.array([-1, 1]), np.array([0, 4]), np.array([0, 2, 2]), np.array([0, 2, 1]), np.array([1, 1, 2]))]
    for arguments in wrong:
        with pytest.raises(ValueError, match="do not fit"):
            module.along(arrays, *arguments)
    for q, some in ((path[0], np.array([-1])), (path[0], np.array([len(pairs.names)])), (path[0, :5], few)):
        with pytest.raises(ValueError, match="do not fit"):
            module.slopes(arrays, q, some)
    two, parts = np.zeros(2), np.zeros((4, 2))
    for arguments in ((two[:1], two, parts, two, 0.01, 3), (two, two[:1], parts, two, 0.01, 3), (two, two, np.zeros((4, 3)), two, 0.01, 3),
                      (two, two, parts[:3], two, 0.01, 3), (two, two, parts, two[:1], 0.01, 3), (two, two, parts, two, 0.01, -1)):  # fmt: skip
        with pytest.raises(ValueError, match="do not fit"):
            module.brake_path(*arguments)
    assert module.brake_path(two, two, parts, two, 0.01, 0).shape == (1, 2)


def test_a_brake_that_is_not_finite_stays_so():
    """The post-check then finds it."""
    nothing, most = np.zeros(2), np.full(2, 5.0)
    for parts in np.eye(4)[:, :, None] * np.array([0.0, np.nan]):
        parts = parts + [[1.0], [0.0], [9.0], [9.0]]
        np.testing.assert_array_equal(brake.path_of(nothing, nothing, parts, most, 0.01, 3), lay_path(nothing, nothing, parts, most, 0.01, 3))


def test_an_endless_brake_is_cut_off():
    one = np.ones(1)
    assert len(brake.path_of(one, one, np.ones((4, 1)), one, 0.01, 10_000)) == 4097


@pytest.mark.parametrize("name", ROBOTS)
def test_with_the_arrays_the_filter_decides_the_same(monkeypatch, name):
    """Up to rounding: distances differ in the sixteenth digit."""
    spec = ROBOTS[name]
    config = SafetyConfig.load(spec.safety_path())
    quick = SafetyLoop(spec, config, np.random.default_rng(5)).run(400, hostile=True, check_every=0)
    plain = functools.cached_property(PlainSweep)
    plain.__set_name__(Surroundings, "plain")
    monkeypatch.setattr(Surroundings, "sweep", plain)
    monkeypatch.setattr(lanes, "path_of", lay_path)
    found = SafetyLoop(spec, config, np.random.default_rng(5)).run(400, hostile=True, check_every=0)
    np.testing.assert_allclose(quick.outputs, found.outputs, rtol=0, atol=1e-9)
    assert quick.limited == found.limited > 20


# ---- when it is compiled -------------------------------------------------------------------

LOADED = """
import sys
from wm_bridge.safety import compiled
for function in (compiled.along, compiled.slopes, compiled.brake_path):
    hits, misses = (sum(found.values()) for found in (function.stats.cache_hits, function.stats.cache_misses))
    print(hits, misses, function._can_compile, function.stats.cache_path)
"""


def load(source, **environment):
    """Cache hits, misses, whether more could be compiled, and the folder of the cache, of each function in a new process."""
    env = {**os.environ, "PYTHONPATH": str(source), **environment}
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, env=env, timeout=120, check=True)
    return [tuple(line.split()) for line in done.stdout.splitlines()]


def test_a_node_that_starts_takes_what_the_set_up_compiled():
    found = load(ROOT / "src")
    assert [row[:3] for row in found] == [("1", "0", "False")] * 3


def test_a_call_with_other_types_is_refused_and_never_compiled():
    _, pairs = surroundings("arm6")
    with pytest.raises(TypeError, match="No matching definition"):
        compiled.slopes(pairs.sweep.arrays, np.zeros(6, dtype=np.float32), np.arange(3))


def test_arrays_that_may_not_be_written_are_taken():
    spec, pairs = surroundings("arm6")
    q, few = np.array(spec.home), np.arange(3)
    expected = pairs.sweep.gradients(q, few)
    q.flags.writeable = few.flags.writeable = False
    assert np.array_equal(pairs.sweep.gradients(q, few), expected)


@pytest.mark.slow
def test_an_installation_that_cannot_be_written_has_its_cache_with_the_user(tmp_path):
    place = tmp_path / "src/wm_bridge/safety"
    shutil.copytree(ROOT / "src/wm_bridge/core", place.parent / "core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("wm_bridge/__init__.py", "wm_bridge/safety/__init__.py", "wm_bridge/safety/compiled.py"):
        file = tmp_path / "src" / name
        file.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "src" / name, file)
    (place / "__pycache__").write_text("no folder can be made here, not even by root")
    user = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "NUMBA_CACHE_DIR": ""}
    first, second = load(tmp_path / "src", **user), load(tmp_path / "src", **user)
    assert [row[:3] for row in first] == [("0", "1", "False")] * 3
    assert [row[:3] for row in second] == [("1", "0", "False")] * 3
    assert all(Path(row[3]).is_relative_to(tmp_path / "cache") for row in first + second)


def test_where_nothing_can_be_written_at_all_it_is_compiled_at_each_start():
    space = {"np": np}
    exec("def ones(count):\n    return np.ones((count, 2))", space)  # of no file: numba finds no place for a cache
    made = compiled._compiled(numba.types.intp)(space["ones"])
    assert made(3).shape == (3, 2) and not made._can_compile
