"""The driver's process with the NICO driver on a simulated bus: what the graph sees of an unplugged robot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import wait_until
from ros_probe import use_fast_dds_profile
from test_driver_ros import RealTimeSafety, held
from wm_interfaces.msg import SafetyState

from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel.bus_process import make
from wm_bridge.robots.dynamixel.bus_sim import BusSim
from wm_bridge.robots.gate import Ticket
from wm_bridge.ros import qos


@pytest.fixture
def bus() -> Iterator[BusSim]:
    with make(motor_map.load("nico_rh4d")) as bus:
        yield bus


@pytest.fixture
def safety(ros_env: dict[str, str], bus: BusSim, tmp_path) -> Iterator[RealTimeSafety]:
    """A driver that may move the servos of ``bus``, and who commands it."""
    use_fast_dds_profile(ros_env)
    mine = tmp_path / "mine.yaml"
    mine.write_text(motor_map.find("nico_rh4d").read_text().replace("verified: false", "verified: true"))
    given = ["robot_driver:=nico", f"port:={bus.path}", f"motors:={mine}", "dry_run:=false", "rate_hz:=50.0"]
    arguments = [word for setting in given for word in ("-p", setting)]
    driver = subprocess.Popen([sys.executable, "-m", "wm_bridge.nodes.driver", "--ros-args", *arguments], env=ros_env)
    found = RealTimeSafety(int(ros_env["ROS_DOMAIN_ID"]))
    try:
        wait_until(lambda: driver.poll() is None and found.beats and found.q is not None, 40.0, "the driver's heartbeat and joints")
        yield found
    finally:
        driver.terminate()
        driver.wait(20.0)
        found.close()


def test_a_hand_moves_only_while_the_safety_node_is_followed_and_enabled(safety: RealTimeSafety, bus: BusSim) -> None:
    safety.speed = 0.0
    told = safety.node.create_publisher(qos.message_type("safety/state"), "safety/state", qos.profile("safety/state"))
    safety.silent = True
    wait_until(lambda: held(safety), 15.0, "held")
    assert not safety.call("driver/close_right_hand", True).success
    safety.follow()
    safety.speed = 0.0
    answer = safety.call("driver/close_right_hand", True)
    assert not answer.success and "not enabled" in answer.message

    def closing() -> bool:
        told.publish(SafetyState(enabled=True))
        return bool(safety.call("driver/close_right_hand", True).success)

    fingers = [finger.ident for finger in motor_map.load("nico_rh4d").hands[0].fingers]
    goal = [bus.servos[ident].get("goal") for ident in fingers]
    wait_until(closing, 15.0, "the hand closes")
    wait_until(lambda: [bus.servos[ident].get("goal") for ident in fingers] != goal, 15.0, "fingers are told to close")
    told.publish(SafetyState(enabled=False))
    wait_until(lambda: not safety.call("driver/close_right_hand", True).success, 15.0, "no more")


def test_the_graph_moves_the_servos_and_an_unplugged_bus_latches_until_a_reset(safety: RealTimeSafety, bus: BusSim) -> None:
    health = []
    safety.node.create_subscription(qos.message_type("driver/health"), "driver/health", health.append, qos.monitor_profile("driver/health"))
    goal = bus.servos[1].get("goal")
    safety.follow()
    wait_until(lambda: bus.servos[1].get("goal") != goal, 15.0, "the servo is told to move")
    wait_until(lambda: health and len(health[-1].temperature) == 14 and set(health[-1].error) == {0}, 15.0, "health")
    bus.unplug()
    wait_until(lambda: safety.beat.latched and held(safety), 15.0, "held and latched")
    assert "robot" in safety.beat.detail
    stamp = safety.measured_ns
    bus.replug()
    assert os.path.exists(bus.path)
    wait_until(lambda: safety.measured_ns > stamp, 20.0, "joint states again")
    wait_until(lambda: "it is back" in safety.beat.detail, 20.0, "every joint holds")
    before = safety.position.copy()
    assert safety.beat.latched and np.abs(safety.velocity).max() < 0.2
    safety.follow()
    assert np.abs(safety.position - before).max() < 0.2
    assert all(bus.servos[motor.ident].fastest * motor.ratio < 1.3 for motor in motor_map.load("nico_rh4d").joints)
