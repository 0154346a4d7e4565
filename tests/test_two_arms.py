"""Two arms in one ROS domain under two namespaces: what is meant for one never reaches the other. And `./wm robot`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, wait_until
from ros_probe import SpunNode, use_fast_dds_profile

from wm_bridge.cli.domain import claim_domain_id
from wm_bridge.cli.environment import run_environment
from wm_bridge.core.types import Trajectory
from wm_bridge.report import runs
from wm_bridge.robots import spec as robot_spec
from wm_bridge.ros import convert, qos
from wm_bridge.supervisor import Graph

SPEC = robot_spec.load("nico")
SIDES = ("left", "right")
ELBOW = SPEC.index("r_elbow_y")
_SKIP = ("recorder", "camera", "planner", "goal", "viz")
HEARD = ("joint_states", "hw/command", "driver/heartbeat", "safety/state")


class Listener(SpunNode):
    """Keeps the newest message of each arm's topics, and every frame on /tf."""

    def __init__(self, domain: int) -> None:
        super().__init__(domain, "listener")
        self.last: dict[str, object] = {}
        self.speed = dict.fromkeys(SIDES, 0.0)  # fastest hw/command so far
        self.frames: set[str] = set()
        for side in SIDES:
            for name in HEARD:
                self.node.create_subscription(qos.message_type(name), f"{side}/{name}", self._keep(side, name), qos.monitor_profile(name, 10))
        for name in ("/tf", "/tf_static"):
            self.node.create_subscription(qos.message_type(name), name, self._on_tf, qos.monitor_profile(name))
        self.plans = {side: self.node.create_publisher(qos.message_type("wm/action"), f"{side}/wm/action", qos.profile("wm/action")) for side in SIDES}
        self.start()

    def _keep(self, side: str, name: str):
        def keep(message) -> None:
            self.last[f"{side}/{name}"] = message
            if name == "hw/command":
                self.speed[side] = max(self.speed[side], float(np.abs(message.velocity).max()))

        return keep

    def _on_tf(self, message) -> None:
        for transform in message.transforms:
            self.frames |= {transform.header.frame_id, transform.child_frame_id}

    def q(self, side: str) -> np.ndarray:
        return np.array(self.last[f"{side}/joint_states"].position)

    def enable(self, side: str) -> None:
        def done() -> bool:
            self.call(f"{side}/safety/reset")
            return bool(self.call(f"{side}/safety/enable", True).success)

        wait_until(done, 30.0, f"{side} enabled")

    def plan(self, side: str, elbow: float) -> None:
        """Ask an arm's safety node for an elbow angle in half a second."""
        trajectory = Trajectory(("r_elbow_y",), (500_000_000,), np.array([[elbow]]), np.zeros((1, 1)), time.time_ns())
        self.plans[side].publish(convert.to_trajectory(trajectory))


@pytest.fixture(scope="module")
def arms(tmp_path_factory) -> Iterator[tuple[dict[str, Graph], Listener]]:
    """Safety node, driver and simulated servos of two NICOs in one domain."""
    place = tmp_path_factory.mktemp("arms")
    blind = ROOT / "config" / "safety_no_camera.yaml"
    overrides = {"driver": {"port": "sim", "dry_run": False, "rate_hz": 50.0}, "safety": {"config": str(blind), "rate_hz": 50.0}}
    use_fast_dds_profile({**run_environment(ROOT, Path(sys.prefix), os.environ), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"})
    with claim_domain_id() as domain:
        before, os.environ["ROS_DOMAIN_ID"] = os.environ.get("ROS_DOMAIN_ID"), str(domain)
        graphs: dict[str, Graph] = {}
        listener = Listener(domain)
        try:
            for side in SIDES:
                graphs[side] = Graph.start("robot", overrides, place / side, _SKIP, 90.0, namespace=side)
            wait_until(lambda: all(f"{side}/{name}" in listener.last for side in SIDES for name in HEARD), 20.0, "both arms speak")
            yield graphs, listener
        finally:
            for graph in graphs.values():
                graph.stop()
            listener.close()
            os.environ.pop("ROS_DOMAIN_ID")
            if before is not None:
                os.environ["ROS_DOMAIN_ID"] = before


@pytest.mark.slow
def test_frames_topics_and_writers_of_the_arms_are_apart(arms) -> None:
    graphs, listener = arms
    wait_until(lambda: {"left/base_link", "right/base_link"} <= listener.frames, 15.0, "both trees")
    assert all(frame.split("/")[0] in SIDES for frame in listener.frames), sorted(listener.frames)
    for side in SIDES:
        assert listener.node.count_publishers(f"/{side}/hw/command") == 1
    assert listener.node.count_publishers("/hw/command") == 0 == listener.node.count_publishers("/joint_states")
    assert listener.last["left/driver/heartbeat"].session != listener.last["right/driver/heartbeat"].session


@pytest.mark.slow
@pytest.mark.parametrize(("mover", "other"), [SIDES, SIDES[::-1]])
def test_a_plan_for_one_arm_moves_that_arm_alone(arms, mover: str, other: str) -> None:
    graphs, listener = arms
    for side in SIDES:
        listener.enable(side)
    wait_until(lambda: all(listener.last[f"{side}/driver/heartbeat"].following for side in SIDES), 15.0, "both drivers follow")
    wait_until(lambda: not any(np.any(listener.last[f"{side}/hw/command"].velocity) for side in SIDES), 15.0, "both at rest")
    begin = {side: listener.q(side) for side in SIDES}
    listener.speed = dict.fromkeys(SIDES, 0.0)
    goal = float(np.clip(begin[mover][ELBOW] + 0.2, SPEC.lower[ELBOW] + 0.05, SPEC.upper[ELBOW] - 0.05))

    def arrived() -> bool:
        listener.plan(mover, goal)
        return abs(listener.q(mover)[ELBOW] - goal) < 0.03

    wait_until(arrived, 20.0, "the arm that was asked moves")
    assert listener.speed[mover] > 0.1 and listener.speed[other] == 0.0, "a command reached the other arm"
    assert np.abs(listener.q(other) - begin[other]).max() < 5e-3


@pytest.mark.slow
def test_a_stop_or_a_dead_safety_node_of_one_arm_leaves_the_other_enabled(arms) -> None:
    graphs, listener = arms
    for side in SIDES:
        listener.enable(side)
    listener.call("left/safety/stop")
    wait_until(lambda: listener.last["left/safety/state"].latched, 15.0, "the left arm is stopped")
    assert listener.last["right/safety/state"].enabled and not listener.last["right/safety/state"].latched
    graphs["left"].kill("safety")
    wait_until(lambda: not listener.last["left/driver/heartbeat"].following, 15.0, "the left driver holds by itself")
    wait_until(lambda: graphs["left"].deaths, 15.0, "the supervisor has seen it")
    assert not graphs["left"].deaths[0].respawned
    assert listener.last["right/driver/heartbeat"].following and graphs["right"].alive("safety")


@pytest.mark.slow
def test_wm_robot_comes_up_in_order_as_a_dry_run_and_leaves_nothing(tmp_path: Path, ros_env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "wm_bridge.cli.main", "robot", "--robot", "nicol", "--cameras", "none", "--out", str(tmp_path / "run"), "--namespace", "lab"]
    process = subprocess.Popen([*command, "driver.realtime=false"], env=ros_env, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    said = ""
    while "running" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    assert "no world model ships for nicol" in said and "dry run, nothing is sent" in said and "under /lab/" in said
    logs = tmp_path / "run" / "logs"
    born = {name: (logs / f"{name}.yaml").stat().st_mtime_ns for name in ("safety", "driver", "viz")}
    assert born["safety"] < born["driver"] < born["viz"] and not (logs / "planner.yaml").exists()
    assert "dry_run: true" in (logs / "driver.yaml").read_text() and "tf_prefix: lab/" in (logs / "viz.yaml").read_text()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    run = runs.read(tmp_path / "run")
    assert (run.kind, run.name, run.outcome, run.figures["deaths"]) == ("robot", "nicol dry run", "ended by the operator", 0.0)
    assert run.configuration["parameters.driver.realtime"] == "False" and run.page is not None
