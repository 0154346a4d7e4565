"""OpenManipulator-X: a real arm on ros2_control that is a YAML file and a URDF and nothing else."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from wm_bridge.bench.safety_loop import SafetyLoop
from wm_bridge.core.kinematics import Kinematics
from wm_bridge.core.types import Command, JointState
from wm_bridge.nodes.driver import DriverParams
from wm_bridge.robots import spec as robots
from wm_bridge.robots.ros2_control import ControllerSettings, Ros2ControlRobot
from wm_bridge.robots.trajectories import why_refused
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.guard import DistanceGuard
from wm_bridge.safety.shapes import RobotShapes

SPEC = robots.load("open_manipulator_x")
CONFIG = SafetyConfig.load(SPEC.safety_path())
# ROBOTIS-GIT/open_manipulator: joint -> (offset, axis, lower, upper)
TABLE = {
    "joint1": ((0.012, 0.0, 0.017), (0, 0, 1), -math.pi, math.pi),
    "joint2": ((0.0, 0.0, 0.0595), (0, 1, 0), -1.5, 1.5),
    "joint3": ((0.024, 0.0, 0.128), (0, 1, 0), -1.5, 1.4),
    "joint4": ((0.124, 0.0, 0.0), (0, 1, 0), -1.7, 1.97),
}
MASS_KG = {"link2": 0.0984, "link3": 0.1385, "link4": 0.1327, "link5": 0.1433}


def test_joints_and_masses_are_those_of_the_published_table():
    root = ElementTree.parse(SPEC.urdf_path()).getroot()
    joints = {joint.get("name"): joint for joint in root.iter("joint") if joint.get("type") == "revolute"}
    assert tuple(joints) == SPEC.joint_names == tuple(TABLE)
    for index, (name, (xyz, axis, lower, upper)) in enumerate(TABLE.items()):
        origin, limit = joints[name].find("origin"), joints[name].find("limit")
        assert [float(word) for word in origin.get("xyz").split()] == list(xyz)
        assert [float(word) for word in joints[name].find("axis").get("xyz").split()] == list(axis)
        assert (SPEC.lower[index], SPEC.upper[index]) == pytest.approx((lower, upper), abs=1e-4)
        assert (float(limit.get("lower")), float(limit.get("upper"))) == (SPEC.lower[index], SPEC.upper[index])
        assert float(limit.get("velocity")) == SPEC.velocity[index] and float(limit.get("effort")) == SPEC.effort[index]
    for link, mass in MASS_KG.items():
        assert float(root.find(f"link[@name='{link}']/inertial/mass").get("value")) == mass


def test_the_tool_is_where_the_closed_form_has_it():
    """Upper arm (0.024, 0.128), forearm 0.124, gripper 0.126, all in the plane that joint1 turns."""
    rng = np.random.default_rng(0)
    for q in rng.uniform(SPEC.lower, SPEC.upper, (50, 4)):
        yaw, shoulder, elbow, wrist = q
        pitch = np.cumsum([shoulder, elbow, wrist])
        r = 0.024 * math.cos(pitch[0]) + 0.128 * math.sin(pitch[0]) + 0.124 * math.cos(pitch[1]) + 0.126 * math.cos(pitch[2])
        z = 0.0765 - 0.024 * math.sin(pitch[0]) + 0.128 * math.cos(pitch[0]) - 0.124 * math.sin(pitch[1]) - 0.126 * math.sin(pitch[2])
        expected = [0.012 + r * math.cos(yaw), r * math.sin(yaw), z]
        np.testing.assert_allclose(Kinematics(SPEC).forward(q, "end_effector_link")[:3, 3], expected, atol=1e-9)


def test_home_has_room_and_plans_to_anywhere_break_no_margin():
    guard = DistanceGuard(RobotShapes.from_spec(SPEC), CONFIG.scene, CONFIG.dt)
    assert guard.tightest(SPEC.home).room > 0.01
    assert SPEC.workspaces["arm"].contains(Kinematics(SPEC).forward(SPEC.home, SPEC.tools["arm"])[:3, 3])
    report = SafetyLoop(SPEC, CONFIG, np.random.default_rng(1)).run(1000, hostile=True)
    assert not report.breaches and not report.broken_certificates and not report.latched, report.least_room_m
    assert report.limited > 50  # the margins were met


class Controller:
    """Keeps what is sent; joint states in another order, the gripper's among them."""

    def __init__(self) -> None:
        self.sent: list = []
        self.names = ("gripper_left_joint", *reversed(SPEC.joint_names))

    def newest(self) -> JointState:
        position = np.array([0.01, *SPEC.home[::-1]])
        return JointState(self.names, position, np.zeros(5), np.zeros(5), 7)

    def missing(self) -> str:
        return ""

    def send_trajectory(self, trajectory) -> None:
        self.sent.append(trajectory)


def test_its_controller_gets_only_its_four_joints_and_refuses_nothing():
    link = Controller()
    settings = ControllerSettings(dry_run=False)
    with Ros2ControlRobot(SPEC, link, settings) as robot:
        assert robot.read().position == pytest.approx(SPEC.home)
        robot.write(Command(SPEC.joint_names, SPEC.home + 0.02, np.full(4, 0.2), 1))
        robot.stop()
    assert len(link.sent) >= 2 and all(why_refused(trajectory, SPEC.joint_names) == "" for trajectory in link.sent)


def test_the_driver_finds_its_controller_in_the_robots_yaml():
    found = DriverParams(robot="open_manipulator_x", robot_driver="").of(SPEC)
    assert (found.robot_driver, found.controller, found.state_topic, found.dry_run) == ("ros2_control", "/arm_controller", "/joint_states", True)
