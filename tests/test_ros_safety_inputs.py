"""The safety node's own topics and services, with the real node and a driver with the fake arm."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import wait_until
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter as RosParameter
from ros_probe import Probe, probing, use_fast_dds_profile
from sensor_msgs.msg import Range
from shape_msgs.msg import SolidPrimitive
from std_msgs.msg import Bool
from visualization_msgs.msg import Marker, MarkerArray
from wm_interfaces.msg import JointHealth, PlanReport, SafetyVerdict
from wm_interfaces.srv import AddObstacle, RemoveObstacle

from wm_bridge import resources
from wm_bridge.core.types import Reason
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.base import MotorHealth
from wm_bridge.ros import convert, qos


class Inputs:
    """Sends what the safety node listens to, at 20 Hz, as long as it is switched on."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.on = {"human", "trust", "deadman"}
        node = probe.node
        self._out = {
            name: node.create_publisher(qos.message_type(topic), topic, qos.profile(topic))
            for name, topic in (("human", "safety/human_distance"), ("trust", "wm/report"), ("deadman", "safety/deadman"))
        }
        self.distance, self.trust = float("inf"), 1.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while not self._stop.wait(0.05):
            stamp = self.probe.last["joint_states"].header.stamp if "joint_states" in self.probe.last else None
            if stamp is None:
                continue
            human, report = Range(range=self.distance), PlanReport(trust=self.trust)
            human.header.stamp = report.header.stamp = stamp
            for name, message in (("human", human), ("trust", report), ("deadman", Bool(data=True))):
                if name in self.on:
                    self._out[name].publish(message)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5.0)


@pytest.fixture(scope="module")
def env() -> Iterator[dict[str, str]]:
    import os

    from conftest import ROOT

    from wm_bridge.cli.domain import claim_domain_id
    from wm_bridge.cli.environment import run_environment

    with claim_domain_id() as domain:
        yield {**run_environment(ROOT, Path(sys.prefix), os.environ), "ROS_DOMAIN_ID": str(domain)}


@pytest.fixture(scope="module")
def probe(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    """Both processes, all optional inputs required."""
    settings = yaml.safe_load(resources.path("config/safety.yaml").read_text())
    settings["camera_required"] = False
    settings["human"]["enabled"] = settings["trust"]["enabled"] = settings["deadman"]["required"] = True
    settings["deadman"]["timeout_ms"] = 400.0
    settings["human"]["timeout_ms"] = 400.0
    file = tmp_path_factory.mktemp("safety") / "safety.yaml"
    file.write_text(yaml.safe_dump(settings))
    driver = [sys.executable, "-m", "wm_bridge.nodes.driver", "--ros-args", "-p", "robot_driver:=fake"]
    safety = [sys.executable, "-m", "wm_bridge.nodes.safety", "--ros-args", "-p", "use_sim_time:=true", "-p", f"config:={file}"]
    processes = [subprocess.Popen(command, env=env) for command in (driver, safety)]
    use_fast_dds_profile(env)
    try:
        with probing(int(env["ROS_DOMAIN_ID"])) as found:
            wait_until(lambda: found.count["safety/verdict"], 40.0, "the safety node")
            yield found
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture
def inputs(probe: Probe) -> Iterator[Inputs]:
    """All inputs good, safety enabled."""
    found = Inputs(probe)
    probe.enable()
    try:
        # not the verdict from before: while the node is not enabled it names no other reason
        bad = Reason.NOT_ENABLED | Reason.HUMAN_NEAR | Reason.LOW_TRUST | Reason.DEADMAN
        wait_until(lambda: not reasons(probe) & bad, 30.0, "all well")
        yield found
    finally:
        found.close()


def wait_for_reason(probe: Probe, reason: Reason) -> None:
    """Until a verdict names it; while a busy machine has it latched for another reason it names that one alone."""

    def named() -> bool:
        found = reasons(probe)
        if found & (Reason.NOT_ENABLED | Reason.STALE_STATE) and not found & reason:
            probe.call("safety/reset")
            probe.call("safety/enable", True)
        return bool(found & reason)

    wait_until(named, 30.0, f"{reason.name} in the verdict")


def reasons(probe: Probe) -> Reason:
    return Reason(probe.last["safety/verdict"].reasons)


def ask(probe: Probe, kind: type, name: str, request: object) -> object:
    client = probe.node.create_client(kind, name)
    wait_until(client.service_is_ready, 20.0, name)
    future = client.call_async(request)
    wait_until(future.done, 15.0, name)
    return future.result()


@pytest.mark.parametrize(
    ("name", "reason"), [("human", Reason.HUMAN_NEAR), ("deadman", Reason.DEADMAN)]  # trust only slows: test_safety_supervision.py
)
def test_an_input_that_falls_silent_is_taken_as_its_worst(probe: Probe, inputs: Inputs, name: str, reason: Reason) -> None:
    inputs.on.remove(name)
    wait_for_reason(probe, reason)


def test_a_person_nearby_and_little_trust_hold_the_arm(probe: Probe, inputs: Inputs) -> None:
    inputs.distance = 0.2
    wait_for_reason(probe, Reason.HUMAN_NEAR)
    inputs.distance, inputs.trust = float("inf"), 0.001
    wait_for_reason(probe, Reason.LOW_TRUST)


def test_an_obstacle_is_added_shown_and_removed_while_running(probe: Probe) -> None:
    shown: dict[tuple[str, int], Marker] = {}

    def show(message: MarkerArray) -> None:
        shown.update({(marker.ns, marker.id): marker for marker in message.markers})

    probe.node.create_subscription(MarkerArray, "safety/obstacles", show, qos.profile("safety/obstacles"))
    request = AddObstacle.Request(name="post", shape=SolidPrimitive(type=SolidPrimitive.CYLINDER, dimensions=[0.3, 0.05]))
    request.pose.header.frame_id = "base_link"
    request.pose.pose.position.x, request.pose.pose.position.y = 0.6, 0.6
    answer = ask(probe, AddObstacle, "safety/add_obstacle", request)
    assert answer.success, answer.message
    wait_until(lambda: len(shown) == 3, 15.0, "a capsule of three markers")
    cylinder = shown[("obstacle/post", 0)]
    assert (cylinder.scale.x, cylinder.scale.z, cylinder.pose.position.x) == (0.1, 0.3, 0.6)
    assert {marker.header.frame_id for marker in shown.values()} == {"base_link"}
    answer = ask(probe, RemoveObstacle, "safety/remove_obstacle", RemoveObstacle.Request(name="pole"))
    assert not answer.success and "post" in answer.message
    assert ask(probe, RemoveObstacle, "safety/remove_obstacle", RemoveObstacle.Request(name="post")).success
    wait_until(lambda: all(marker.action == Marker.DELETE for marker in shown.values()), 15.0, "taken away")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": ""}, "name"),
        ({"shape": SolidPrimitive(type=SolidPrimitive.CONE, dimensions=[1.0, 1.0])}, "CYLINDER"),
        ({"shape": SolidPrimitive(type=SolidPrimitive.SPHERE, dimensions=[1.0, 1.0])}, "dimensions"),
        ({"shape": SolidPrimitive(type=SolidPrimitive.SPHERE, dimensions=[float("nan")])}, "size"),
        ({"speed_bound_m_s": -1.0}, "speed"),
        ({"frame": "camera"}, "base_link"),
    ],
)
def test_a_senseless_obstacle_is_refused_with_the_reason(probe: Probe, change: dict, text: str) -> None:
    request = AddObstacle.Request(name="ball", shape=SolidPrimitive(type=SolidPrimitive.SPHERE, dimensions=[0.1]))
    request.pose.header.frame_id = change.pop("frame", "")
    for name, value in change.items():
        setattr(request, name, value)
    answer = ask(probe, AddObstacle, "safety/add_obstacle", request)
    assert not answer.success and text in answer.message


def test_settings_of_the_running_node_change_at_rest_and_only_to_stricter_ones(probe: Probe, tmp_path: Path) -> None:
    probe.enable()
    (asked,) = ask(probe, GetParameters, "safety/get_parameters", GetParameters.Request(names=["config"])).values
    now = yaml.safe_load(Path(asked.string_value).read_text())

    def change(name: str, value: object) -> tuple[bool, str]:
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**now, name: value}))
        parameter = RosParameter("config", value=str(file)).to_parameter_msg()
        (result,) = ask(probe, SetParameters, "safety/set_parameters", SetParameters.Request(parameters=[parameter])).results
        return result.successful, result.reason

    assert change("velocity_scale", 0.5)[0]
    wait_until(lambda: not probe.last["safety/state"].enabled, 15.0, "latched until a reset")
    probe.enable()
    assert change("velocity_scale", 0.6) == (False, "refused: ['velocity_scale'] would allow more than now; restart the node for that")
    assert "unknown key 'velocity'" in change("velocity", 0.1)[1]
    fixed = RosParameter("rate_hz", value=50.0).to_parameter_msg()
    (result,) = ask(probe, SetParameters, "safety/set_parameters", SetParameters.Request(parameters=[fixed])).results
    assert not result.successful and "read-only" in result.reason


def test_a_hot_motor_latches(probe: Probe, inputs: Inputs) -> None:
    names = robot_spec.load("nico").joint_names
    out = probe.node.create_publisher(JointHealth, "driver/health", qos.profile("driver/health"))
    hot = convert.to_joint_health(MotorHealth(temperature=(20.0,) * 13 + (90.0,)), names, 1)

    def latched() -> bool:
        out.publish(hot)
        return bool(reasons(probe) & Reason.HEALTH)

    wait_until(latched, 15.0, "HEALTH")
    probe.node.destroy_publisher(out)


def test_health_survives_the_message_in_the_order_of_the_robot() -> None:
    health = MotorHealth(effort=(1.0, 2.0), temperature=(30.0, 40.0), voltage=(12.0, 11.9), error=(0, 4))
    message = convert.to_joint_health(health, ("a", "b"), 5)
    back = convert.from_joint_health(message, ("b", "a"))
    assert back.effort == (2.0, 1.0) and back.errors == ("b error 4",)
    for wrong in (("a",), ("a", "c")):
        with pytest.raises(ValueError, match="names"):
            convert.from_joint_health(message, wrong)
    message.voltage = [1.0]
    with pytest.raises(ValueError, match="voltage"):
        convert.from_joint_health(message, ("a", "b"))


def test_the_message_names_every_reason_with_its_bit() -> None:
    assert {name: getattr(SafetyVerdict, name) for name in Reason.__members__ if name != "NONE"} == {
        reason.name: reason.value for reason in Reason if reason.value
    }
