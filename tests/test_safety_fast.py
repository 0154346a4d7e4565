"""The quick forms of the tick decide what the plain ones decide."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from plain_motion import approach, brake_path, rest_of
from test_safety_filter import CONFIG

from wm_bridge.bench.safety_loop import SafetyLoop
from wm_bridge.core.types import Reason
from wm_bridge.robots import spec as robots
from wm_bridge.safety.box import Motion, acceleration_box, excess, project
from wm_bridge.safety.brake import first_acceleration, stop_from
from wm_bridge.safety.chooser import StepChooser
from wm_bridge.safety.guard import DistanceGuard
from wm_bridge.safety.lanes import Lanes
from wm_bridge.safety.postcheck import MotionCheck
from wm_bridge.safety.shapes import RobotShapes
from wm_bridge.safety.viability import random_limits

SPEC = robots.load("nico")
SHAPES = RobotShapes.from_spec(SPEC)
JOINTS = 16


def motions(seed, count):
    """Limits of several orders of magnitude, and motions all over them: at rest, slow, at a limit."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        limits, dt = random_limits(rng, JOINTS), (0.001, 0.004, 0.01)[k % 3]
        share = rng.choice([0.0, 1e-9, 1e-3, 1.0], (2, JOINTS)) * rng.uniform(-1.0, 1.0, (2, JOINTS))
        q = rng.uniform(limits.lower, limits.upper)
        yield rng, limits, dt, Motion(q, share[0] * limits.velocity, share[1] * limits.acceleration)


# ---- joints ------------------------------------------------------------------------


def test_the_brake_of_one_joint_is_bit_for_bit_that_of_the_arrays():
    for _, limits, dt, motion in motions(0, 300):
        lanes, (q, v, a) = Lanes(limits, dt), (part.tolist() for part in motion)
        stop = stop_from(motion.v, motion.a, limits, dt)
        every = range(JOINTS)
        assert [lanes.rest(j, v[j], a[j]) for j in every] == rest_of(stop, limits, dt).tolist()
        assert [lanes.excess(j, q[j], v[j], a[j]) for j in every] == excess(motion, limits, dt).tolist()
        assert [lanes.first_acceleration(j, v[j], a[j]) for j in every] == first_acceleration(stop, limits, dt).tolist()
        assert np.array_equal(lanes.path(motion)[1:], brake_path(motion.q, motion.v, stop, limits, dt))
        assert np.array_equal(lanes.box(motion), acceleration_box(motion, limits, dt))


def test_projection_and_chase_are_bit_for_bit_those_of_the_arrays():
    changed = 0
    for rng, limits, dt, motion in motions(1, 300):
        lanes, target = Lanes(limits, dt), motion.q + rng.normal(0, 1, JOINTS) * 10.0 ** rng.uniform(-9, 1, JOINTS)
        target[0] = motion.q[0]
        plain = project(target, motion, limits, dt)
        changed += int((plain != target).sum())
        assert np.array_equal(lanes.project(target, motion), plain)
        wanted = Motion(target, motion.v * rng.uniform(0, 1, JOINTS), motion.a * rng.uniform(0, 1, JOINTS))
        assert np.array_equal(lanes.approach(target, wanted, motion), approach(target, wanted, motion, limits, dt))
    assert changed > 1000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_an_absurd_target_is_projected_as_by_the_arrays(value):
    _, limits, dt, motion = next(motions(2, 1))
    for j in range(JOINTS):
        target = motion.q.copy()
        target[j] = value
        with np.errstate(all="ignore"):
            expected = project(target, motion, limits, dt)
        np.testing.assert_array_equal(Lanes(limits, dt).project(target, motion), expected)


def test_the_look_before_the_brake_never_objects_alone():
    """What it refuses, the whole check refuses as well: it saves time and decides nothing."""
    refused = passed = 0
    for rng, limits, dt, motion in motions(3, 600):
        check, lanes = MotionCheck(limits, dt), Lanes(limits, dt)
        v = limits.velocity * rng.uniform(-1.0, 1.0, JOINTS)
        history = np.zeros((3, JOINTS)) + 0.5 * (limits.lower + limits.upper) + v * dt * np.arange(3)[:, None]
        low, high = lanes.box(Motion(history[2], v, np.zeros(JOINTS)))
        a = low + (high - low) * rng.choice([0.0, 0.5, 1.0, 1.0 + 10.0 ** rng.uniform(-8, 0)], JOINTS, p=[0.3, 0.35, 0.3, 0.05])
        step = lanes.path(Motion(history[2], v, np.zeros(JOINTS)).next(a, dt))
        wrong = check(history, step)
        if check.exceeds(history, step[0]):
            refused += 1
            assert wrong & (Reason.VELOCITY_LIMIT | Reason.ACCELERATION_LIMIT | Reason.JERK_LIMIT)
        passed += not wrong & ~Reason.POSITION_LIMIT
    assert refused > 100 and passed > 50, (refused, passed)
    history[1, 2] = np.nan
    assert check(history, step) == Reason.NONFINITE


# ---- distances ---------------------------------------------------------------------


def test_no_pair_is_left_out_that_comes_below_its_floor_within_the_way():
    """Random walks, to and fro, long between looks: against the distances themselves."""
    rng = np.random.default_rng(4)
    guard = DistanceGuard(SHAPES, CONFIG.scene, 0.01)
    guard.start(SPEC.home)
    every = np.arange(len(guard._pairs.names))
    q, left_out, renewed = SPEC.home, 0, 0
    for k in range(1500):
        target = rng.uniform(SPEC.lower, SPEC.upper) if k % 40 == 0 else target
        q = np.clip(q + np.clip(target - q, -0.03, 0.03) + rng.normal(0, 0.01, q.size), SPEC.lower, SPEC.upper)
        guard.moved(q)
        way = np.abs(rng.normal(0, 0.02, q.size))
        near = guard._in_reach(way, guard._still)
        renewed += guard._asked == 0
        there = np.stack([q, *(q + rng.choice([-1.0, 1.0], q.size) * way for _ in range(3))])
        distance = np.min([guard._pairs.sweep.at(row) for row in there], axis=0)
        assert set(np.flatnonzero(distance < guard._floor)) <= set(near)
        left_out += len(every) - len(near)
        if near.size:
            guard._note(q, near, guard._pairs.sweep.at(q)[near])
    assert left_out > 0.5 * 1500 * len(every) and renewed > 10


def test_a_pair_without_a_known_distance_is_near():
    guard = DistanceGuard(SHAPES, CONFIG.scene, 0.01)
    guard.start(SPEC.home)
    guard._reserve[5] = np.nan
    assert 5 in guard._in_reach(np.zeros(len(SPEC.home)), guard._still)


def test_no_tick_imports_anything():
    """An import in the middle of a motion is a late tick (numpy.ma: 10 ms)."""
    code = (
        "import sys, numpy as np, test_safety_fast as t\n"
        "loop = t.SafetyLoop(t.SPEC, t.CONFIG, np.random.default_rng(5))\n"
        "before = set(sys.modules)\n"
        "assert loop.run(600, hostile=True, check_every=0).limited > 50\n"
        "print(sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120)
    assert ran.stdout.strip() == "[]", ran.stdout + ran.stderr


# ---- the filter as a whole -----------------------------------------------------------


def plain_path(lanes, motion):
    stop = stop_from(motion.v, motion.a, lanes.limits, lanes._dt)
    return np.concatenate([motion.q[None], brake_path(motion.q, motion.v, stop, lanes.limits, lanes._dt)])


@pytest.mark.parametrize("seed, arms", [(5, ("right_arm",)), (5, ("right_arm", "left_arm"))])
def test_the_filter_decides_bit_for_bit_as_with_the_plain_forms(monkeypatch, seed, arms):
    fast = SafetyLoop(SPEC, CONFIG, np.random.default_rng(seed), arms).run(700, hostile=True, check_every=0)
    monkeypatch.setattr(Lanes, "path", plain_path)
    monkeypatch.setattr(Lanes, "project", lambda self, q, motion: project(q, motion, self.limits, self._dt))
    monkeypatch.setattr(Lanes, "approach", lambda self, q, *two: approach(q, *two, self.limits, self._dt))
    monkeypatch.setattr(Lanes, "box", lambda self, motion: acceleration_box(motion, self.limits, self._dt))
    monkeypatch.setattr(MotionCheck, "exceeds", lambda *_: False)
    plain = SafetyLoop(SPEC, CONFIG, np.random.default_rng(seed), arms).run(700, hostile=True, check_every=0)
    assert np.array_equal(fast.outputs, plain.outputs)
    assert fast.limited == plain.limited > 50


@pytest.mark.parametrize("seed, arms", [(5, ("right_arm",)), (5, ("right_arm", "left_arm"))])
def test_whatever_is_sent_keeps_all_pairs_off_on_its_whole_stop(monkeypatch, seed, arms):
    """Against all pairs at every output of the stop and between, whichever way the step was found."""
    seen = {"rows first": 0, "usual": 0, "brake": 0}
    choose, again = StepChooser.choose, StepChooser._again

    def watch_again(self, *args):
        found = again(self, *args)
        self.rows_first = found is not None
        return found

    def watch(self, wish, steady_ns, *limit):
        self.rows_first = False
        q, guard = self._outputs.motion.q, self._guard
        choice = choose(self, wish, steady_ns, *limit)
        brake = np.array_equal(choice.step.outputs[0], self._outputs.brake_step.outputs[0])
        kind = "brake" if brake else "rows first" if self.rows_first else "usual"
        seen[kind] += 1
        if kind == "rows first":
            assert np.abs(choice.step.motion.q - wish).max() > 1e-10, "rows that do not act go the usual way"
        if kind == "rows first" or sum(seen.values()) % 10 == 0:
            path = np.concatenate([q[None], choice.step.outputs])
            fine = np.concatenate([path[:-1] + share * np.diff(path, axis=0) for share in (0.0, 0.35, 0.7)] + [path[-1:]])
            assert all((guard._pairs.sweep.at(row) >= guard._floor - 2e-9).all() for row in fine)
        return choice

    monkeypatch.setattr(StepChooser, "_again", watch_again)
    monkeypatch.setattr(StepChooser, "choose", watch)
    loop = SafetyLoop(SPEC, CONFIG, np.random.default_rng(seed), arms)
    report = loop.run(900, hostile=True, check_every=0)
    assert not report.latched
    assert min(seen.values()) > 20, seen
