"""Programs written for nicomotion on our graph: the safety node is in between, and nothing starts by itself."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from ros_probe import SpunNode, use_fast_dds_profile

from wm_bridge.cli.domain import claim_domain_id
from wm_bridge.cli.environment import run_environment
from wm_bridge.core.trapezoid import Trapezoid, way_points
from wm_bridge.core.tracking import TrajectoryTracker
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel.bus_process import make
from wm_bridge.ros import convert, qos
from wm_bridge.ros.nicomotion import Motion
from wm_bridge.supervisor import Graph

SPEC = robot_spec.load("nico")
NUMBER = st.floats(-3.0, 3.0)
LIMIT = st.floats(0.05, 5.0)

# ---- the way to a target ---------------------------------------------------------------


@settings(deadline=None)
@given(NUMBER, NUMBER, NUMBER, LIMIT, LIMIT)
def test_a_trapezoid_ends_at_rest_at_its_target_within_its_limits(start, velocity, target, speed, acceleration):
    part = Trapezoid.to(start, velocity, target, speed, acceleration)
    assert part.at(0.0) == (start, velocity)
    assert part.at(part.ends[-1])[0] == pytest.approx(target, abs=1e-6) and part.at(part.ends[-1])[1] == 0.0
    times = np.linspace(0.0, part.ends[-1], 200)
    states = np.array([part.at(time) for time in times])
    assert np.abs(states[:, 1]).max() <= max(speed, abs(velocity)) + 1e-9
    assert np.abs(np.diff(states[:, 1])).max() <= acceleration * (times[1] - times[0]) + abs(part.at(part.ends[-1] - 1e-12)[1]) + 1e-6
    assert np.abs(np.diff(states[:, 0])).max() <= (max(speed, abs(velocity)) + 1e-9) * (times[1] - times[0]) + 1e-9


def test_from_rest_it_takes_the_time_of_the_textbook():
    part = Trapezoid.to(0.0, 0.0, 2.0, 0.5, 1.0)
    assert part.ends == pytest.approx((0.5, 4.0, 4.5))  # v/a, then d/v, then d/v + v/a
    short = Trapezoid.to(0.0, 0.0, -0.04, 0.5, 1.0)
    assert short.ends[-1] == pytest.approx(2 * 0.2) and short.at(0.2)[1] == pytest.approx(-0.2)  # triangle: 2 sqrt(d/a)


@pytest.mark.parametrize("bad", [(np.nan, 0, 0, 1, 1), (0, 0, 0, 0, 1), (0, 0, 0, 1, -1), (0, np.inf, 0, 1, 1)])
def test_numbers_that_make_no_motion_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        Trapezoid.to(*bad)


def test_an_interpolator_follows_two_joints_exactly_between_the_way_points():
    names = ("r_elbow_y", "head_z")
    parts = [Trapezoid.to(-1.0, 0.0, -0.4, 0.3, 2.0), Trapezoid.to(0.1, 0.0, 0.3, 0.5, 2.0)]
    trajectory = way_points(names, parts, 1_000_000_000)
    tracker = TrajectoryTracker(SPEC)
    begin = np.zeros(14)
    index = [SPEC.index(name) for name in names]
    begin[index] = [-1.0, 0.1]
    tracker.start(begin, now_ns=1_000_000_000)
    tracker.accept(trajectory, 1_000_000_000)
    assert trajectory.times_ns == tuple(sorted(set(trajectory.times_ns))) and not trajectory.velocities[-1].any()
    for time_s in np.linspace(0.3, 2.5, 100):
        sample = tracker.sample(1_000_000_000 + round(time_s * 1e9))
        np.testing.assert_allclose(sample.position[index], [part.at(time_s)[0] for part in parts], atol=1e-6)


# ---- on the graph ----------------------------------------------------------------------


class Person(SpunNode):
    """Resets and enables, looks at what the motors get, and may plan as well."""

    def __init__(self, domain: int) -> None:
        super().__init__(domain, "person")
        self.fastest = np.zeros(14)  # in hw/command
        self.node.create_subscription(qos.message_type("hw/command"), "hw/command", self._on_command, qos.monitor_profile("hw/command"))
        self.plans = self.node.create_publisher(qos.message_type("wm/action"), "wm/action", qos.profile("wm/action"))
        self.start()

    def _on_command(self, message) -> None:
        self.fastest = np.maximum(self.fastest, np.abs(message.velocity))

    def enable(self) -> None:
        wait_until(lambda: self.call("safety/reset").success and self.call("safety/enable", True).success, 30.0, "enabled")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[tuple[Graph, Motion, Person]]:
    """A NICO of simulated servos that may move, its safety node, a program and a person."""
    place: Path = tmp_path_factory.mktemp("lab")
    mine = place / "mine.yaml"
    mine.write_text(motor_map.find("nico_rh4d").read_text().replace("verified: false", "verified: true"))
    use_fast_dds_profile({**run_environment(ROOT, Path(sys.prefix), os.environ), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"})
    skip = ("recorder", "camera", "planner", "goal", "viz")
    with claim_domain_id() as domain, make(motor_map.load("nico_rh4d")) as bus:
        before, os.environ["ROS_DOMAIN_ID"] = os.environ.get("ROS_DOMAIN_ID"), str(domain)
        driver = {"port": bus.path, "motors": str(mine), "dry_run": False, "rate_hz": 50.0}
        safety = {"config": str(ROOT / "config" / "safety_no_camera.yaml"), "rate_hz": 50.0}
        try:
            with Graph.start("robot", {"driver": driver, "safety": safety}, place / "run", skip, 90.0) as graph:
                person = Person(domain)
                with Motion(domain=domain) as motion:
                    graph.bus = bus  # type: ignore[attr-defined]
                    yield graph, motion, person
                person.close()
        finally:
            os.environ.pop("ROS_DOMAIN_ID")
            if before is not None:
                os.environ["ROS_DOMAIN_ID"] = before


@pytest.mark.slow
def test_nothing_moves_before_a_person_enables(lab) -> None:
    _, motion, _ = lab
    with pytest.raises(UserError, match="not enabled"):
        motion.setAngle("r_elbow_y", -60.0, 0.03)
    with pytest.raises(UserError, match="RHand: refused"):
        motion.closeHand("RHand")


@pytest.mark.slow
def test_set_angle_change_angle_and_wait_do_as_in_nicomotion(lab) -> None:
    _, motion, person = lab
    person.enable()
    before = motion.getAngle("head_z")
    begin = time.monotonic()
    motion.setAngle("r_elbow_y", -60.0, 0.03)  # 30 deg/s
    motion.setAngle("head_z", before + 10.0, 0.02)
    assert time.monotonic() - begin < 1.0, "it does not wait"
    motion.wait(20.0)
    assert motion.getAngle("r_elbow_y") == pytest.approx(-60.0, abs=1.5)
    assert motion.getAngle("head_z") == pytest.approx(before + 10.0, abs=1.5)
    motion.changeAngle("head_z", -5.0, 0.02)
    motion.wait(20.0)
    assert motion.getAngle("head_z") == pytest.approx(before + 5.0, abs=2.0)
    fastest = dict(zip(SPEC.joint_names, np.degrees(person.fastest), strict=True))
    assert 25.0 < fastest["r_elbow_y"] < 31.0 and 10.0 < fastest["head_z"] < 21.0
    assert fastest["l_elbow_y"] == 0.0, "another joint moved"
    assert motion.getTemperature("r_elbow_y") == 32.0 and abs(motion.getSpeed("head_z")) < 1.0


@pytest.mark.slow
def test_hands_open_and_close(lab) -> None:
    graph, motion, person = lab
    person.enable()
    fingers = [finger.ident for finger in motor_map.load("nico_rh4d").hands[0].fingers]
    wait_until(lambda: _closes(motion), 15.0, "the driver follows and is enabled")
    wait_until(lambda: all(graph.bus.servos[ident].get("goal") < 1000 for ident in fingers), 15.0, "told to close")
    motion.openHand("RHand")
    wait_until(lambda: all(graph.bus.servos[ident].get("goal") > 3000 for ident in fingers), 15.0, "told to open")
    with pytest.raises(UserError, match="percentage"):
        motion.closeHand("LHand", 1.0, 0.5)


def _closes(motion: Motion) -> bool:
    try:
        motion.closeHand("RHand")
    except UserError:
        return False
    return True


@pytest.mark.slow
def test_a_stop_ends_a_motion_for_good(lab) -> None:
    _, motion, person = lab
    person.enable()
    motion.setAngle("r_elbow_y", -20.0, 0.02)
    wait_until(lambda: motion.getAngle("r_elbow_y") > -55.0, 15.0, "on its way")
    assert person.call("safety/stop").success
    with pytest.raises(UserError, match="the motion ended: the safety node is not enabled"):
        motion.wait(10.0)
    person.enable()
    here = motion.getAngle("r_elbow_y")
    wait_until(lambda: motion._enabled, 10.0, "enabled again")
    end = time.monotonic() + 1.0
    wait_until(lambda: time.monotonic() > end, 5.0)
    assert motion.getAngle("r_elbow_y") == pytest.approx(here, abs=0.5), "it went on by itself"


@pytest.mark.slow
def test_it_gives_way_to_somebody_elses_plans(lab) -> None:
    _, motion, person = lab
    person.enable()
    motion.setAngle("head_y", 20.0, 0.005)
    here = np.radians(motion.getAngle("head_y"))
    rest = Trapezoid.to(here, 0.0, here + 0.01, 0.1, 1.0)
    person.plans.publish(convert.to_trajectory(way_points(("head_y",), [rest], time.time_ns())))
    wait_until(lambda: not motion._targets, 10.0, "it stops planning")
    with pytest.raises(UserError, match="somebody else"):
        motion.setAngle("head_y", 20.0, 0.02)


@pytest.mark.slow
def test_mistakes_are_named(lab) -> None:
    _, motion, _ = lab
    for call, text in (
        (lambda: motion.setAngle("r_elbow", 0.0, 0.1), "nearest is r_elbow_y"),
        (lambda: motion.setAngle("r_elbow_y", 30.0, 0.1), "outside of -100.0 .. 0.0"),
        (lambda: motion.setAngle("r_elbow_y", float("nan"), 0.1), "outside"),
        (lambda: motion.setAngle("r_elbow_y", -60.0, 0.0), "fractionMaxSpeed"),
        (lambda: motion.setMaximumSpeed(2.0), "maximumSpeed"),
        (lambda: motion.openHand("Hand"), "LHand"),
        (lambda: motion.disableTorqueAll(), "holds the arm"),
        (lambda: motion.thumbsUp("RHand"), "openHand"),
    ):
        with pytest.raises(UserError) as found:
            call()
        assert text in str(found.value)
    assert motion.getJointNames() == list(SPEC.joint_names)
    assert motion.getAngleLowerLimit("r_elbow_y") == pytest.approx(-100.0, abs=0.1) and motion.getAngleUpperLimit("r_elbow_y") == 0.0
    with pytest.raises(AttributeError):
        motion.dance()


def test_without_a_graph_it_says_what_to_start(ros_env) -> None:
    with pytest.raises(UserError, match="no graph is heard") as found:
        Motion(timeout_s=0.5, domain=int(ros_env["ROS_DOMAIN_ID"]))
    assert "./wm robot" in found.value.remedy
