"""What is sent to a ros2_control arm, against a controller that refuses what the documented one refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from wm_bridge.core.types import Command, JointState, Trajectory
from wm_bridge.robots import spec as robots
from wm_bridge.robots.base import RobotError
from wm_bridge.robots.ros2_control import ControllerSettings, Ros2ControlRobot
from wm_bridge.robots.trajectories import follow, stop, why_refused

SPEC = robots.load("arm6")
LEAD = 30_000_000


class TrajectoryController:
    """Accepts and refuses as joint_trajectory_controller documents, and moves by cubic splines.

    Refused: no points, joints unknown or missing, times that do not increase strictly, a last velocity
    that is not zero. What is refused changes nothing. A new trajectory starts at the present reference.
    """

    def __init__(self, names, q):
        self.names, self.now = names, 0
        self.refused = []
        self._begin(np.array(q), np.zeros(len(q)), 0, [])

    def _begin(self, q, v, start, points):
        self.knots = [(start, q, v), *points]

    def receive(self, chunk: Trajectory) -> None:
        names, times = list(chunk.names), list(chunk.times_ns)
        good = len(times) > 0 and sorted(names) == sorted(self.names) and times[0] > 0
        good = good and all(b > a for a, b in zip(times, times[1:], strict=False))
        good = good and not chunk.velocities[-1].any()
        if not good:
            self.refused.append(chunk)
            return
        order = [names.index(name) for name in self.names]
        q, v = self.reference()
        points = [(self.now + t, p[order], w[order]) for t, p, w in zip(times, chunk.positions, chunk.velocities, strict=True)]
        self._begin(q, v, self.now, points)

    def reference(self, at=None):
        t = self.now if at is None else at
        later = [k for k, knot in enumerate(self.knots) if knot[0] > t]
        if not later:
            return self.knots[-1][1], np.zeros(len(self.names))
        (t0, q0, v0), (t1, q1, v1) = self.knots[later[0] - 1], self.knots[later[0]]
        T, s = (t1 - t0) * 1e-9, (t - t0) / (t1 - t0)
        h = [2 * s**3 - 3 * s**2 + 1, (s**3 - 2 * s**2 + s) * T, -2 * s**3 + 3 * s**2, (s**3 - s**2) * T]
        d = [(6 * s**2 - 6 * s) / T, 3 * s**2 - 4 * s + 1, (6 * s - 6 * s**2) / T, 3 * s**2 - 2 * s]
        return tuple(c[0] * q0 + c[1] * v0 + c[2] * q1 + c[3] * v1 for c in (h, d))


class Link:
    """The controller, its broadcaster with another joint order and a gripper between, and a log."""

    def __init__(self, q=SPEC.home):
        self.controller = TrajectoryController(tuple(reversed(SPEC.joint_names)), np.array(q)[::-1])
        self.silent, self.lacking, self.positions = False, "", []

    def newest(self):
        if self.silent:
            return None
        q, v = self.controller.reference()
        names = (self.controller.names[0], "gripper", *self.controller.names[1:])
        return JointState(names, np.insert(q, 1, 0.02), np.insert(v, 1, 0.0), np.full(len(names), np.nan), self.controller.now)

    def missing(self):
        return self.lacking

    def send_trajectory(self, chunk):
        self.controller.receive(chunk)

    def send_positions(self, names, position):
        self.positions.append((names, position.copy()))


def made(link, **settings):
    robot = Ros2ControlRobot(SPEC, link, ControllerSettings(**{"dry_run": False, **settings}))
    robot.connect()
    return robot


def command(q, v):
    return Command(SPEC.joint_names, np.array(q, dtype=float), np.array(v, dtype=float), 1, 0)


@pytest.mark.parametrize("seed", range(200))
def test_nothing_that_is_sent_is_ever_refused(seed):
    rng, link = np.random.default_rng(seed), Link()
    robot = made(link)
    for _ in range(20):
        v = SPEC.velocity * rng.uniform(-1.5, 1.5, 6) * (rng.random(6) < 0.7)
        robot.write(command(rng.uniform(SPEC.lower - 0.2, SPEC.upper + 0.2), v))
        link.controller.now += int(rng.integers(1, 40_000_000))
        if rng.random() < 0.2:
            robot.stop()
    assert not link.controller.refused


def test_a_motion_is_followed_with_the_lead_as_its_only_delay():
    link, period = Link(), 10_000_000
    robot = made(link)

    def at(t):
        return SPEC.home + 0.3 * np.sin(2.0 * t) * np.ones(6), 0.6 * np.cos(2.0 * t) * np.ones(6)

    worst = 0.0
    for k in range(300):
        t = k * period * 1e-9
        robot.write(command(*at(t)))
        link.controller.now += period
        if k > 20:
            measured = robot.read().position
            worst = max(worst, np.abs(measured - at(t + (period - LEAD) * 1e-9)[0]).max())
    assert worst < 2e-4 and not link.controller.refused


@pytest.mark.parametrize("seed", range(50))
def test_silence_is_a_brake_at_the_acceleration_limit_that_stays_within_the_limits(seed):
    rng = np.random.default_rng(seed)
    v = SPEC.velocity * rng.uniform(-1, 1, 6)
    room = v**2 / (2 * SPEC.acceleration)
    q = np.where(v > 0, SPEC.upper - room * rng.uniform(1, 3, 6), SPEC.lower + room * rng.uniform(1, 3, 6))
    chunk = follow(command(q, v), SPEC, LEAD)
    assert why_refused(chunk, SPEC.joint_names) == "" and np.allclose(chunk.positions[0], q) and np.allclose(chunk.velocities[0], v)
    controller = TrajectoryController(SPEC.joint_names, q)
    controller._begin(q - v * LEAD * 1e-9, v, 0, list(zip(chunk.times_ns, chunk.positions, chunk.velocities, strict=True)))
    times = range(LEAD, chunk.times_ns[-1], 500_000)
    path, speed = (np.array(column) for column in zip(*(controller.reference(t) for t in times), strict=True))
    assert (path <= SPEC.upper + 1e-9).all() and (path >= SPEC.lower - 1e-9).all()
    assert (np.abs(np.diff(speed, axis=0)) <= SPEC.acceleration * 0.5e-3 * (1 + 1e-6)).all()
    np.testing.assert_allclose(controller.reference(chunk.times_ns[-1])[0], q + np.sign(v) * room, atol=1e-8)


def test_a_stop_stands_where_the_arm_was_measured_and_is_taken():
    link = Link()
    robot = made(link)
    robot.write(command(SPEC.home + 0.02, np.full(6, 0.5)))
    link.controller.now += 20_000_000
    held = robot.stop()
    np.testing.assert_array_equal(held, link.controller.knots[-1][1][::-1])
    link.controller.now += 10**9
    assert not link.controller.refused
    np.testing.assert_allclose(robot.read().position, held)


def test_joints_come_by_name_and_keep_their_stamp_and_order():
    link = Link(np.linspace(-0.5, 0.5, 6))
    link.controller.now = 77
    state = made(link).read()
    assert state.names == SPEC.joint_names and state.stamp_ns == 77
    np.testing.assert_allclose(state.position, np.linspace(-0.5, 0.5, 6))
    assert np.isfinite(state.effort).all(), "a broadcaster without effort says NaN"


def test_a_forward_controller_gets_positions():
    link = Link()
    robot = made(link, interface="position")
    robot.write(command(SPEC.home + 0.01, np.zeros(6)))
    held = robot.stop()
    assert len(link.positions) == 2 and link.positions[0][0] == SPEC.joint_names
    np.testing.assert_allclose(link.positions[0][1], SPEC.home + 0.01)
    np.testing.assert_array_equal(link.positions[1][1], held)


def test_a_dry_run_is_the_default_and_sends_nothing():
    assert ControllerSettings().dry_run
    for interface in ("trajectory", "position"):
        link = Link()
        robot = made(link, dry_run=True, interface=interface)
        robot.write(command(SPEC.home, np.ones(6)))
        robot.stop()
        assert len(link.controller.knots) == 1 and not link.positions


def test_what_is_missing_is_said():
    link = Link()
    link.lacking = "nobody takes commands on arm_controller/joint_trajectory"
    with pytest.raises(RobotError, match="nobody takes commands") as error:
        made(link)
    assert "list_controllers" in error.value.remedy
    link = Link()
    link.silent = True
    with pytest.raises(RobotError, match="no joint state"):
        made(link)
    link = Link()
    link.controller.names = ("x", *link.controller.names[1:])
    with pytest.raises(RobotError, match=f"lack .*{SPEC.joint_names[-1]}"):
        made(link)
    with pytest.raises(ValueError, match="interface"):
        ControllerSettings(interface="velocity")
    with pytest.raises(ValueError, match="lead"):
        ControllerSettings(lead_ns=0)


GOOD = stop(SPEC.joint_names, SPEC.home)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"times_ns": (), "positions": np.zeros((0, 6)), "velocities": np.zeros((0, 6))}, "no points"),
        ({"names": SPEC.joint_names[:5], "positions": np.zeros((1, 5)), "velocities": np.zeros((1, 5))}, "its joints are"),
        ({"names": (*SPEC.joint_names[:5], SPEC.joint_names[0])}, "its joints are"),
        ({"positions": np.full((1, 6), np.nan)}, "not finite"),
        ({"velocities": np.full((1, 6), 0.1)}, "at rest"),
        ({"times_ns": (0,)}, "increase"),
        ({"times_ns": (5, 5), "positions": np.zeros((2, 6)), "velocities": np.zeros((2, 6))}, "increase"),
    ],
)
def test_what_the_controller_would_refuse_is_known_before_it_is_sent(change, word):
    chunk = dataclasses.replace(GOOD, **change)
    assert word in why_refused(chunk, SPEC.joint_names)
    if word != "not finite":
        controller = TrajectoryController(SPEC.joint_names, SPEC.home)
        controller.receive(chunk)
        assert controller.refused
