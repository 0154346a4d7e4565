"""The driver process in front of an arm that ros2_control drives: a controller with its documented rules, over real topics."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import wait_until
from ros_probe import SpunNode, use_fast_dds_profile
from sensor_msgs.msg import JointState
from test_driver_ros import RealTimeSafety
from test_trajectories import TrajectoryController
from trajectory_msgs.msg import JointTrajectory

from wm_bridge.robots import spec as robots
from wm_bridge.ros import convert

SPEC = robots.load("nico")
STATES, CONTROLLER = "/robot/joint_states", "/robot/arm_controller"


class Arm(SpunNode):
    """Controller and broadcaster of an arm in a namespace of its own, at 100 Hz of system time."""

    def __init__(self, domain: int) -> None:
        super().__init__(domain, "arm")
        self.controller = TrajectoryController(SPEC.joint_names, SPEC.home)
        self.controller.now = self._now()
        self.taken, self.mute = 0, False
        self.states = self.node.create_publisher(JointState, STATES, 10)
        self.node.create_subscription(JointTrajectory, f"{CONTROLLER}/joint_trajectory", self._on_trajectory, 1)
        self.node.create_timer(0.01, self._tick)
        self.start()

    def _now(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def _on_trajectory(self, message: JointTrajectory) -> None:
        assert message.header.stamp.sec == message.header.stamp.nanosec == 0, "it begins at once"
        self.controller.now = self._now()
        self.controller.receive(convert.from_trajectory(message))
        self.taken += 1

    def _tick(self) -> None:
        self.controller.now = self._now()
        q, v = self.controller.reference()
        message = JointState(name=[*reversed(SPEC.joint_names), "gripper"], position=[*q[::-1], 0.02], velocity=[*v[::-1], 0.0])
        message.header.stamp = convert.to_time(self.controller.now)
        if not self.mute:
            self.states.publish(message)

    @property
    def q(self):
        return self.controller.reference(self._now())[0]

    @property
    def speed(self) -> float:
        return float(np.abs(self.controller.reference(self._now())[1]).max())


@contextmanager
def driver(env: dict[str, str], *words: str) -> Iterator[subprocess.Popen[str]]:
    parameters = ("robot:=nico", "robot_driver:=ros2_control", f"state_topic:={STATES}", f"controller:={CONTROLLER}", "realtime:=false", *words)
    command = [sys.executable, "-m", "wm_bridge.nodes.driver", "--ros-args", *(word for text in parameters for word in ("-p", text))]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(15.0)


@pytest.fixture
def arm(ros_env):
    use_fast_dds_profile(ros_env)
    made = Arm(int(ros_env["ROS_DOMAIN_ID"]))
    yield made
    made.close()


@pytest.fixture
def safety(ros_env):
    made = RealTimeSafety(int(ros_env["ROS_DOMAIN_ID"]))
    yield made
    made.close()


def test_an_arm_follows_stops_when_the_safety_node_falls_silent_and_nothing_is_refused(ros_env, arm, safety):
    with driver(ros_env, "dry_run:=false"):
        wait_until(lambda: safety.beats and safety.q is not None, 30.0, "the driver lives")
        start = arm.q.copy()
        safety.follow()
        wait_until(lambda: (arm.q - start).min() > 0.05, 20.0, "the arm moves")
        # Faster only while it catches up with commands that a busy machine held back.
        wait_until(lambda: arm.speed == pytest.approx(0.1, abs=0.05), 10.0, "the arm moves as fast as it is told to")
        safety.silent = True
        wait_until(lambda: not safety.beat.following and arm.speed == 0.0, 10.0, "the arm stands")
        stood = arm.q.copy()
        taken = arm.taken
        wait_until(lambda: len(safety.beats) and safety.beat.counter > 20, 10.0, "beats go on")
        np.testing.assert_allclose(arm.q, stood)
        assert arm.taken == taken, "a stop is sent once"
        assert not arm.controller.refused


def test_when_the_arm_s_own_driver_falls_silent_it_is_followed_no_more_until_a_reset(ros_env, arm, safety):
    with driver(ros_env, "dry_run:=false"):
        wait_until(lambda: safety.beats and safety.q is not None, 30.0, "the driver lives")
        safety.follow()
        wait_until(lambda: arm.speed > 0.05, 20.0, "the arm moves")
        arm.mute = True
        wait_until(lambda: not safety.beat.following, 10.0, "following ends")
        assert "no joint states" in safety.beat.detail
        wait_until(lambda: arm.speed == 0.0, 5.0, "the last trajectory ended in its brake")
        stood, last = arm.q.copy(), safety.position
        safety.speed, arm.mute = 0.0, False
        wait_until(lambda: safety.position is not last, 10.0, "states are back")
        beats = len(safety.beats)
        wait_until(lambda: len(safety.beats) > beats + 10, 10.0, "beats go on")
        assert not safety.beat.following and np.abs(arm.q - stood).max() < 1e-3
        safety.follow()
        wait_until(lambda: arm.speed > 0.05, 20.0, "after a reset it moves again")
        assert not arm.controller.refused


def test_a_dry_run_is_the_default(ros_env, arm, safety):
    with driver(ros_env):
        wait_until(lambda: safety.beats and safety.q is not None, 30.0, "the driver lives")
        safety.follow()
        assert arm.taken == 0 and arm.speed == 0.0


@pytest.mark.parametrize(
    "words, text, remedy",
    [
        (("state_topic:=/nobody", "controller_wait_s:=1.0"), "no joint states on /nobody", "start the robot's own driver"),
        (("controller:=/other", "controller_wait_s:=2.0"), "nobody takes commands on /other/joint_trajectory", "list_controllers"),
        (("state_topic:=joint_states",), "this graph publishes its own", "namespace"),
        (("controller_interface:=effort",), "trajectory or position", ""),
    ],
)
def test_what_is_missing_is_said(ros_env, arm, words, text, remedy):
    with driver(ros_env, *words) as process:
        assert process.wait(60.0) == 2
        said = process.stderr.read()
        assert text in said and remedy in said and "Traceback" not in said
