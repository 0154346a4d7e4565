"""NICOL: its description against the published tables, and its servos on four cables behind one driver."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import ExitStack

import mujoco
import numpy as np
import pinocchio
import pytest
from conftest import wait_until

from wm_bridge.bench import bus_motion
from wm_bridge.bench.safety_loop import SafetyLoop
from wm_bridge.core.kinematics import Kinematics
from wm_bridge.core.types import Command
from wm_bridge.errors import UserError
from wm_bridge.nodes.driver import DriverParams
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.base import RobotError
from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel.bus_process import make
from wm_bridge.robots.dynamixel.bus_sim import BusSim
from wm_bridge.robots.dynamixel.cables import Cables, on_cables
from wm_bridge.robots.dynamixel.hand import HandState
from wm_bridge.robots.dynamixel.robot import SILENT, BusSettings
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.guard import DistanceGuard
from wm_bridge.safety.health import Level
from wm_bridge.safety.shapes import RobotShapes

SPEC = robot_spec.load("nicol")
CONFIG = SafetyConfig.load(SPEC.safety_path())
FILES = SPEC.driver["motors"].split(",")
PI = math.pi

# resources/NICOL.urdf of nicol_coppeliasim: joint -> (parent frame's offset, its rpy, axis, lower, upper); the left arm's
# joints 2 to 8 are the right one's.
ARM = {
    "joint1": ((0, 0, 0.126), (0, 0, -PI / 2), (0, 0, 1), 0.0, 2.5),
    "joint2": ((0, 0.069, 0.033), (0, 0, 0), (0, 1, 0), -1.5, 1.8),
    "joint3": ((0.03, -0.0115, 0.264), (0, 0, 0), (0, 1, 0), -2.25, 1.5),
    "joint4": ((0.195, -0.0575, 0.03), (0, 0, 0), (1, 0, 0), -2.9, 2.9),
    "joint5": ((0.063, 0.045, 0), (0, 0, 0), (0, 1, 0), -PI / 2, PI / 2),
    "joint6": ((0.123, -0.045, 0), (PI / 2, 0, PI / 2), (0, 0, 1), -PI, PI),
    "joint7": ((0, 0, 0.184), (PI / 2, 0, 0), (0, 0, 1), -PI / 4, PI / 4),
    "joint8": ((0, 0, 0), (0, PI / 2, 0), (0, 0, 1), -PI / 4, PI / 4),
}
TABLE = {
    **{f"{side}_{name}": row for side in "rl" for name, row in ARM.items()},
    "l_joint1": (*ARM["joint1"][:3], -2.5, 0.0),
    "head_z": ((0.187, -0.001, 0.1415), (0, 0, 0), (0, 0, 1), -PI / 2, PI / 2),
    "head_y": ((0.007, 0, 0.0605), (0, 0, 0), (0, 1, 0), -0.583, 1.282),
}
MIRRORED = np.array([-1, 1, 1, -1, 1, -1, -1, 1])
# open_manipulator_p and ros2_robothands
IDS = {f"joint{k}": k for k in range(1, 7)}
HAND_IDS = {"r_joint7": 32, "r_joint8": 33, "l_joint7": 42, "l_joint8": 43}
SERVOS = {"joint1": 2020, "joint2": 2020, "joint3": 2010, "joint4": 2010, "joint5": 2000, "joint6": 2000}


def numbers(element: ElementTree.Element | None, name: str) -> list[float]:
    assert element is not None
    return [float(word) for word in element.get(name, "0 0 0").split()]


# ---- description -----------------------------------------------------------------------


def test_joints_are_those_of_the_published_table():
    joints = {joint.get("name"): joint for joint in ElementTree.parse(SPEC.urdf_path()).iter("joint") if joint.get("type") == "revolute"}
    assert set(joints) == set(TABLE) == set(SPEC.joint_names)
    for name, (xyz, rpy, axis, lower, upper) in TABLE.items():
        joint, limit = joints[name], joints[name].find("limit")
        assert numbers(joint.find("origin"), "xyz") == pytest.approx(xyz, abs=1e-6), name
        assert numbers(joint.find("origin"), "rpy") == pytest.approx(rpy, abs=1e-6), name
        assert numbers(joint.find("axis"), "xyz") == list(axis), name
        index = SPEC.index(name)
        for given, mine in ((lower, SPEC.lower[index]), (upper, SPEC.upper[index])):
            assert mine == pytest.approx(given, abs=1e-4), name
        assert [float(limit.get(key)) for key in ("lower", "upper", "velocity", "effort")] == pytest.approx(
            [SPEC.lower[index], SPEC.upper[index], SPEC.velocity[index], SPEC.effort[index]]
        )


def test_order_is_right_arm_left_arm_head_and_no_limit_is_beyond_the_servos():
    assert SPEC.joint_names == SPEC.groups["right_arm"] + SPEC.groups["left_arm"] + SPEC.groups["head"]
    for file in FILES:
        for motor in motor_map.load(file).joints:
            index = SPEC.index(motor.joint)
            assert SPEC.velocity[index] <= motor.model.no_load * motor.ratio
            assert SPEC.effort[index] <= motor.model.stall_nm / motor.ratio
            ends = [motor.to_servo(limit) for limit in (SPEC.lower[index], SPEC.upper[index])]
            for angle in ends:  # both ends can be asked for
                assert abs(motor.model.to_angle(motor.model.to_count(angle)) - angle) < 2e-3


def test_hands_at_zero_hang_where_the_published_model_has_them_and_the_arms_mirror_each_other():
    kinematics, zero = Kinematics(SPEC), np.zeros(18)
    above_floor = np.array([0.0, 0.0, 0.8])
    for frame, side in (("r_tool0", -1), ("l_tool0", 1)):
        np.testing.assert_allclose(kinematics.forward(zero, frame)[:3, 3] + above_floor, [-0.0400, 0.5124 * side, 0.4961], atol=1e-4)
    rng = np.random.default_rng(0)
    for _ in range(50):
        q = np.zeros(18)
        q[SPEC.indices("right_arm")] = rng.uniform(*(limit[SPEC.indices("right_arm")] for limit in (SPEC.lower, SPEC.upper)))
        q[SPEC.indices("left_arm")] = MIRRORED * q[SPEC.indices("right_arm")]
        right, left = (kinematics.forward(q, frame)[:3, 3] for frame in ("r_tool0", "l_tool0"))
        np.testing.assert_allclose(left, right * [1, -1, 1], atol=1e-9)


def test_the_camera_over_the_table_looks_down_at_it_from_the_front():
    T = Kinematics(SPEC).forward(np.zeros(18), "table_camera")
    assert T[2, 3] + 0.8 == pytest.approx(1.94, abs=0.01)
    np.testing.assert_allclose(T[:3, 0], [-0.249, 0.0, -0.969], atol=1e-3)
    optical = Kinematics(SPEC).forward(np.zeros(18), "table_camera_color_optical")
    np.testing.assert_allclose(optical[:3, 2], T[:3, 0], atol=1e-9)


def test_mujoco_and_pinocchio_agree_on_every_frame_and_on_the_arms_mass():
    text = SPEC.urdf_path().read_text().replace("<robot name=\"nicol\">", '<robot name="nicol"><mujoco><compiler fusestatic="false"/></mujoco>')
    model = mujoco.MjModel.from_xml_string(text)
    data, kinematics, rng = mujoco.MjData(model), Kinematics(SPEC), np.random.default_rng(0)
    for _ in range(50):
        q = rng.uniform(SPEC.lower, SPEC.upper)
        for name, value in zip(SPEC.joint_names, q, strict=True):
            data.joint(name).qpos[0] = value
        mujoco.mj_kinematics(model, data)
        for frame in ("r_tool0", "l_tool0", "r_forearm", "head", "left_eye_optical", "table_camera_color_optical"):
            T = kinematics.forward(q, frame)
            np.testing.assert_allclose(T[:3, 3], data.body(frame).xpos, atol=1e-6)
            np.testing.assert_allclose(T[:3, :3].ravel(), data.body(frame).xmat, atol=1e-6)
    for side in "rl":
        parts = [f"{side}_link{k}" for k in range(1, 7)] + [f"{side}_{part}" for part in ("forearm", "palm_axis", "palm")]
        assert sum(float(model.body(part).mass[0]) for part in parts) == pytest.approx(6.58, abs=0.01)


# ---- safety ----------------------------------------------------------------------------


def test_home_is_free_with_room_in_the_workspace_and_above_the_table():
    guard = DistanceGuard(RobotShapes.from_spec(SPEC), CONFIG.scene, CONFIG.dt)
    assert guard.tightest(SPEC.home).room > 0.05
    for arm, tool in SPEC.tools.items():
        assert SPEC.workspaces[arm].contains(Kinematics(SPEC).forward(SPEC.home, tool)[:3, 3])
    crossed = SPEC.home.copy()
    crossed[SPEC.indices("right_arm")[1]] = crossed[SPEC.indices("left_arm")[1]] = 0.4
    assert guard.tightest(crossed).room < 0.0, "the forearms meet in front of the torso"


# Finger chains in the right palm, from the same URDF: name -> (offset, rpy, axis) of each joint; a phalanx is 26 mm long, the thumb's 22.
FINGERS = {
    "index": [((-0.0043, 0.0813, 0.0368), (-0.08267713, 0.17715231, -2.93857995), 1.0)],
    "middle": [((-0.0012, 0.0829, 0.0118), (0.00408466, 0.08719979, -2.92246721), 1.0)],
    "ring": [((-0.0011, 0.0819, -0.0130), (0.0838954, -0.08902792, -2.92922802), 1.0)],
    "little": [((-0.0032, 0.0731, -0.0376), (0.17169385, -0.1774821, -2.95156384), 1.0)],
    "thumb": [
        ((-0.0083, 0.0158, 0.0380), (-2.32630737, -0.08846098, -0.27946053), -1.0),
        ((0.0, -0.0112, 0.0055), (1.57079633, -1.01753528, -1.57079633), 1.0),
    ],
}
_HALF_THICK_M = 0.007


@pytest.mark.parametrize("finger", FINGERS)
@pytest.mark.parametrize("side", ["r", "l"])
def test_fingers_of_any_closure_are_inside_the_shapes_that_the_filter_sees(side, finger):
    shapes = RobotShapes.from_spec(SPEC)
    boxes = [shapes.points[k] for k, name in enumerate(shapes.names) if name == f"{side}_palm"]
    mirror = np.array([1.0, 1.0, 1.0 if side == "r" else -1.0])
    *base, last = FINGERS[finger]
    phalanx = pinocchio.SE3(np.eye(3), np.array([0.0, -0.0216 if base else -0.0259, 0.0]))
    for turned in np.linspace(0.0, PI / 2, 5 if base else 1):
        for closure in np.linspace(0.0, PI / 2, 9):
            T = pinocchio.SE3.Identity()
            for xyz, rpy, axis in base:
                T = T * joint(xyz, rpy, axis * turned)
            T = T * joint(last[0], last[1], last[2] * closure)
            for _ in range(3):
                T = T * phalanx
                tip = T.translation * mirror
                assert any(inside(corners, tip) for corners in boxes), (turned, closure, tip)
                T = T * joint((0, 0, 0), (0, 0, 0), closure)


def joint(xyz: tuple[float, ...], rpy: tuple[float, ...], angle: float) -> pinocchio.SE3:
    """A joint's transform, turned about its z axis."""
    turn = pinocchio.SE3(pinocchio.rpy.rpyToMatrix(0.0, 0.0, float(angle)), np.zeros(3))
    return pinocchio.SE3(pinocchio.rpy.rpyToMatrix(*rpy), np.array(xyz, dtype=float)) * turn


def inside(corners: np.ndarray, point: np.ndarray) -> bool:
    """Is a point, with a finger's thickness around it, in a box given by its corners, in their frame?"""
    return bool((point >= corners.min(0) + _HALF_THICK_M).all() and (point <= corners.max(0) - _HALF_THICK_M).all())


def test_plans_to_anywhere_break_no_margin():
    report = SafetyLoop(SPEC, CONFIG, np.random.default_rng(1)).run(400, hostile=True)
    assert not report.breaches and not report.broken_certificates and not report.latched, report.least_room_m


# ---- motors ----------------------------------------------------------------------------


def test_ids_and_models_are_the_published_ones_and_no_joint_is_verified():
    joints = {motor.joint: motor for file in FILES for motor in motor_map.load(file).joints}
    assert set(joints) == set(SPEC.joint_names)
    for side in "rl":
        for name, ident in IDS.items():
            assert (joints[f"{side}_{name}"].ident, joints[f"{side}_{name}"].model.number) == (ident, SERVOS[name])
    assert {name: joints[name].ident for name in HAND_IDS} == HAND_IDS
    assert {motor.model.protocol for motor in joints.values()} == {2} and not any(motor.verified for motor in joints.values())
    hands = motor_map.load("nicol_hands").hands
    assert [hand.board[0] for hand in hands] == [30, 40]
    assert [[finger.ident for finger in hand.fingers] for hand in hands] == [[34, 35, 36, 37, 38], [44, 45, 46, 47, 48]]


@pytest.fixture
def buses() -> Iterator[dict[str, BusSim]]:
    with ExitStack() as stack:
        yield {file: stack.enter_context(make(motor_map.load(file))) for file in FILES}


@pytest.fixture
def robot(buses, tmp_path) -> Iterator[Cables]:
    """All four cables, every joint verified, cycled by the test."""
    mine = []
    for file in FILES:
        mine.append(tmp_path / f"{file}.yaml")
        mine[-1].write_text(motor_map.find(file).read_text().replace("verified: false", "verified: true"))
    port, motors = ",".join(bus.path for bus in buses.values()), ",".join(map(str, mine))
    made = on_cables(SPEC, BusSettings(port, motors, dry_run=False, patience_ms=300.0, lost_ms=600.0), threaded=False)
    with made:
        yield made


def command(position: np.ndarray) -> Command:
    return Command(SPEC.joint_names, position, np.zeros_like(position), 1)


def truth(buses: dict[str, BusSim]) -> np.ndarray:
    """True joint angles, rad."""
    q = np.zeros(18)
    for file, bus in buses.items():
        bus.settle()
        for motor in motor_map.load(file).joints:
            q[SPEC.index(motor.joint)] = motor.to_joint(bus.servos[motor.ident].angle)
    return q


def test_four_cables_are_one_robot_that_holds_and_follows(robot, buses):
    assert robot.trouble() == "" and robot.read().position == pytest.approx(SPEC.home, abs=2e-3)
    assert np.abs(truth(buses) - SPEC.home).max() < 2e-3, "connecting moved something"
    target = SPEC.home + 0.05
    robot.write(command(target))
    wait_until(lambda: robot.cycle() is None and np.abs(robot.read().position - target).max() < 5e-3, 20.0, "arrived")
    assert np.abs(truth(buses) - target).max() < 5e-3
    health = robot.health()
    assert health is not None and min(health.voltage) == pytest.approx(24.0) and len(health.temperature) == 18
    assert set(robot.hands) == {"right", "left"}
    held = robot.stop()
    assert np.abs(held - target).max() < 5e-3


def test_one_cable_pulled_holds_all_and_comes_back_where_it_is(robot, buses):
    robot.write(command(SPEC.clip(SPEC.home + 0.3)))
    robot.cycle()
    buses["nicol_left_arm"].unplug()
    robot.cycle()
    assert "nicol_left_arm" in robot.trouble() and "nicol_right_arm" not in robot.trouble()
    robot.stop()
    robot.cycle()
    goals = [servo.get("goal") for servo in buses["nicol_right_arm"].servos.values()]
    sent = robot.write(command(SPEC.home + 0.2))
    assert not sent.velocity.any() and np.array_equal(sent.position, robot.read().position), "what it holds is what was measured"
    robot.cycle()
    assert [servo.get("goal") for servo in buses["nicol_right_arm"].servos.values()] == goals, "nothing is sent to the others either"
    buses["nicol_left_arm"].replug()
    wait_until(lambda: robot.cycle() is None and robot.trouble() == "", 30.0, "back")
    back = truth(buses)
    for _ in range(5):
        robot.cycle()
    assert np.abs(truth(buses) - back).max() < 0.02, "a jump"


def test_a_silent_wrist_is_named_and_the_state_is_as_old_as_it(robot, buses):
    for part in robot.parts:
        part._bus.patience_ms = 20.0
    buses["nicol_hands"].servos[33].dead = True
    wait_until(lambda: robot.cycle() is None and "r_joint8 (id 33)" in robot.trouble(), 30.0, "noticed")
    old = robot.read().stamp_ns
    robot.cycle()
    assert robot.read().stamp_ns == old
    assert robot.health().error[SPEC.index("r_joint8")] & SILENT and sum(code != 0 for code in robot.health().error) == 1


def test_a_hand_of_protocol_2_closes_and_opens(robot, buses):
    servos = buses["nicol_hands"].servos
    robot.hands["right"].move(1.0)
    wait_until(lambda: robot.cycle() is None and servos[36].angle > 2.8 and robot.hands["right"].state is HandState.IDLE, 40.0, "closed")
    assert servos[46].angle < -2.8, "the other hand stays open"
    robot.hands["right"].halt()


def test_a_dry_run_of_all_cables_writes_nothing(buses):
    port = ",".join(bus.path for bus in buses.values())
    with on_cables(SPEC, BusSettings(port, ",".join(FILES), patience_ms=300.0), threaded=False) as robot:
        robot.write(command(SPEC.home + 0.1))
        robot.cycle()
        robot.stop()
    assert all(bus.counts.writes == 0 for bus in buses.values())


def test_joints_that_nobody_verified_are_not_driven_and_nothing_stays_open(buses):
    port = ",".join(bus.path for bus in buses.values())
    robot = on_cables(SPEC, BusSettings(port, ",".join(FILES), dry_run=False), threaded=False)
    with pytest.raises(RobotError, match="nicol_right_arm: .*verified"):
        robot.connect()
    assert not any(part.connected for part in robot.parts) and all(bus.counts.writes == 0 for bus in buses.values())


def test_cables_and_files_that_do_not_fit_are_named():
    with pytest.raises(UserError, match="4 motors files .* 2 ports"):
        on_cables(SPEC, BusSettings("/dev/a,/dev/b", ",".join(FILES)))
    with pytest.raises(UserError, match="head_y.*have no servo"):
        on_cables(SPEC, BusSettings("sim", ",".join(FILES[:3])))
    with pytest.raises(UserError, match="have two"):
        on_cables(SPEC, BusSettings("sim", ",".join([*FILES, "nicol_head"])))


def test_hands_are_not_asked_more_often_than_they_answer(buses):
    port = ",".join(bus.path for bus in buses.values())
    robot = on_cables(SPEC, BusSettings(port, ",".join(FILES), rate_hz=100.0))
    assert [part._rate_hz for part in robot.parts] == [100.0, 100.0, 50.0, 100.0]


# ---- driver node -----------------------------------------------------------------------


def test_what_is_left_empty_comes_from_the_robots_yaml_and_a_dry_run_needs_no_device():
    found = DriverParams(robot="nicol", robot_driver="").of(SPEC)
    assert (found.robot_driver, found.motors, found.port, found.dry_run) == ("dynamixel", ",".join(FILES), "sim", True)
    with pytest.raises(ValueError, match="port is empty"):
        DriverParams(robot="nicol", robot_driver="", dry_run=False).of(SPEC)
    arm = DriverParams(robot_driver="", controller="arm_controller").of(robot_spec.load("arm6"))
    assert (arm.robot_driver, arm.controller, arm.controller_interface) == ("ros2_control", "arm_controller", "trajectory")


def test_its_supply_of_24_volts_is_fine_and_half_of_it_is_not():
    from wm_bridge.safety.health import Health
    from wm_bridge.safety.filter import SafetyFilter

    guard = SafetyFilter(SPEC, CONFIG)
    assert guard.observe_health(Health(voltage_v=(24.0,) * 18), 1) == Level.OK
    assert guard.observe_health(Health(voltage_v=(12.0,) * 18), 2) == Level.STOP


def test_both_arms_move_through_safety_node_and_driver_on_four_simulated_buses() -> None:
    figures, rows = bus_motion.run("nicol", 3.0)
    assert figures["motion_commands_hz"] > 25.0 and figures["motion_states_hz"] > 25.0, rows
    with pytest.raises(UserError, match="no servo bus"):
        bus_motion.run("arm6", 1.0)
