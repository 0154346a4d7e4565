"""The running graph with real processes: what it publishes, and what happens when parts fail.

One graph serves all tests of this file; those that break something put it right again.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import wait_until
from ros_probe import Probe, probing, use_fast_dds_profile
from sensor_msgs.msg import JointState

from wm_bridge.core.types import SafetyMode, Trajectory
from wm_bridge.ros import convert, qos
from wm_bridge.supervisor import Graph
from wm_planner.testing import random_checkpoint

ARM = ("r_shoulder_z", "r_shoulder_y", "r_arm_x", "r_elbow_y", "r_wrist_z", "r_wrist_x")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """All nodes of the simulation, the planner with random weights."""
    folder = tmp_path_factory.mktemp("graph")
    checkpoint = random_checkpoint(folder / "random.safetensors")
    overrides = {"planner": {"checkpoint": str(checkpoint)}}
    with Graph.start("sim", overrides, folder / "run", say=lambda text: None, ready_s=120.0) as running:
        yield running


@pytest.fixture(scope="module")
def probe(graph: Graph) -> Iterator[Probe]:
    """A listener in the graph's domain."""
    use_fast_dds_profile(graph.env)
    with probing(graph.domain) as found:
        wait_until(lambda: found.count["safety/verdict"] and found.count["camera/image_raw"], 30.0, "first messages")
        yield found


def sweep(probe: Probe, amplitude: float = 0.3, nan: bool = False) -> None:
    """Publish one plan, as the planner would: the elbow moves by ``amplitude`` in a second."""
    command = probe.last["hw/command"]
    start = np.array([command.position[list(command.name).index(name)] for name in ARM])
    goal = start + amplitude * np.array([0, 0, 0, 1, 0, 0])
    steps = np.linspace(0.1, 1.0, 10)[:, None]
    positions = start + steps * (goal - start)
    if nan:
        positions[4, 2] = np.nan
    velocities = np.zeros_like(positions)
    velocities[:-1] = goal - start
    stamp = convert.from_time(probe.last["camera/image_raw"].header.stamp)
    times = tuple(round(float(s) * 1e9) for s in steps[:, 0])
    probe.action.publish(convert.to_trajectory(Trajectory(ARM, times, positions, velocities, stamp)))


def keep_moving(probe: Probe) -> None:
    """Send plans until the arm moves."""
    direction = [1.0]

    def moving() -> bool:
        elbow = dict(zip(probe.last["hw/command"].name, probe.last["hw/command"].position, strict=True))
        direction[0] = -0.6 if elbow["r_elbow_y"] > -0.9 else 0.6
        if not probe.last["safety/state"].enabled:
            probe.enable()
        probe.fresh("camera/image_raw")
        sweep(probe, direction[0])
        return probe.speed() > 0.05

    wait_until(moving, 30.0, "the arm moves")


def mode(probe: Probe) -> int:
    return int(probe.last["safety/verdict"].mode)


def publishers(probe: Probe, topic: str) -> list:
    """Who writes a topic, besides the probe; empty as long as discovery has not told."""
    found = [info for info in probe.node.get_publishers_info_by_topic(topic) if info.node_name != "probe"]
    return [] if any(info.node_name == "_NODE_NAME_UNKNOWN_" for info in found) else found


def test_nothing_moves_before_the_safety_node_is_enabled(probe: Probe) -> None:
    assert mode(probe) == SafetyMode.LATCHED and not probe.fresh("safety/state").enabled
    sweep(probe)
    before = probe.count["safety/verdict"]
    wait_until(lambda: probe.count["safety/verdict"] > before + 30, 15.0, "verdicts")
    assert probe.speed() == 0.0


def test_pictures_joints_and_intrinsics_carry_the_same_clock(probe: Probe) -> None:
    image = probe.fresh("camera/image_raw")
    info = probe.fresh("camera/camera_info")
    joints = probe.fresh("joint_states")
    assert image.header.frame_id == info.header.frame_id == "front_optical"
    assert (image.width, image.height, image.encoding) == (320, 240, "rgb8")
    assert convert.from_image(image).image.std() > 10.0
    now = convert.from_time(probe.last["/clock"].clock)
    assert abs(convert.from_time(joints.header.stamp) - now) < 2 * 10**8
    assert len(joints.velocity) == len(joints.effort) == len(joints.name) == 14


def test_every_link_has_a_transform(probe: Probe, root: Path) -> None:
    import xml.etree.ElementTree as ElementTree

    description = wait_until(lambda: probe.last.get("robot_description"), 15.0, "robot_description").data
    links = {link.get("name") for link in ElementTree.fromstring(description).findall("link")}

    def children() -> set[str]:
        static = [t for message in probe.heard["/tf_static"] for t in message.transforms]
        return {t.child_frame_id for t in [*static, *probe.fresh("/tf").transforms]}

    wait_until(lambda: links - {"base_link"} <= children() and "front_optical" in children(), 20.0, "all frames")


def test_every_topic_has_the_type_writer_and_qos_of_the_table(probe: Probe) -> None:
    for row in qos.TOPICS:
        if row.on_request or row.name == "goal/image_path":
            continue
        full = row.name if row.name.startswith("/") else f"/{row.name}"
        if not row.writer and full != row.name:  # written by sensors and tools outside of the graph: who reads it?
            readers = wait_until(lambda: probe.node.get_subscriptions_info_by_topic(full), 15.0, full)  # noqa: B023
            assert {info.topic_type for info in readers} == {row.type}, full
            continue
        for info in wait_until(lambda: publishers(probe, full), 15.0, full):  # noqa: B023
            wanted = qos.profile(row.name)
            assert info.topic_type == row.type
            assert not row.writer or info.node_name == row.writer
            assert info.qos_profile.reliability == wanted.reliability, full
            assert info.qos_profile.durability == wanted.durability, full


def test_the_rviz_view_matches_what_is_published(probe: Probe, root: Path) -> None:
    kinds = {
        "RobotModel": "std_msgs/msg/String",
        "Image": "sensor_msgs/msg/Image",
        "MarkerArray": "visualization_msgs/msg/MarkerArray",
        "PointCloud2": "sensor_msgs/msg/PointCloud2",
        "PointStamped": "geometry_msgs/msg/PointStamped",
    }
    view = yaml.safe_load((root / "config" / "rviz" / "wm.rviz").read_text(encoding="utf-8"))
    manager = view["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "base_link"
    found = []
    for group in manager["Displays"]:
        for display in group.get("Displays", []):
            topic = display.get("Topic", display.get("Description Topic"))
            if topic is None:
                continue
            if not display["Enabled"] and qos.topic(topic["Value"]).writer == "camera2":  # not in every graph
                assert not qos.topic(topic["Value"]).reliable and topic["Reliability Policy"] == "Best Effort"
                continue
            if not display["Enabled"] and qos.topic(topic["Value"]).on_request:
                continue
            (info,) = wait_until(lambda: publishers(probe, f"/{topic['Value']}"), 15.0, topic)  # noqa: B023
            offered = info.qos_profile
            assert info.topic_type == kinds[display["Class"].split("/")[1]], topic
            # A reader may ask for less than is offered, never for more.
            if topic["Reliability Policy"] == "Reliable":
                assert offered.reliability.name == "RELIABLE", topic
            if topic["Durability Policy"] == "Transient Local":
                assert offered.durability.name == "TRANSIENT_LOCAL", topic
            found.append(topic["Value"])
    assert {"robot_description", "camera/image_raw", "wm/goal", "wm/plan", "safety/markers"} <= set(found)


def test_every_node_reports_its_health(graph: Graph, probe: Probe) -> None:
    def names() -> set[str]:
        return {status.hardware_id for message in probe.heard["/diagnostics"] for status in message.status}

    wait_until(lambda: set(graph.nodes) <= names(), 20.0, "diagnostics of all nodes")


def test_a_goal_gives_plans_feedback_markers_and_an_outcome(probe: Probe) -> None:
    probe.enable()
    image = convert.to_image(convert.from_image(probe.fresh("camera/image_raw")))
    image.data = bytes(255 - np.frombuffer(image.data, np.uint8))
    handle = probe.send_goal(image, tolerance_m=1e-9, timeout_s=60.0)
    assert handle.accepted
    report = probe.fresh("wm/report", 30.0)
    assert report.samples > 0 and len(report.energy_per_iteration) == report.iterations
    assert report.budget_ms == 80.0  # deadline_ms in config/planner.yaml
    assert report.budget_used == pytest.approx((report.preprocess_ms + report.encode_ms + report.plan_ms) / 80.0)
    assert report.deadline_met == (report.budget_used <= 1.0)
    plan = probe.fresh("wm/plan")
    assert {marker.header.frame_id for marker in plan.markers} == {"base_link"}
    keys = [(marker.ns, marker.id) for marker in plan.markers]
    assert len(set(keys)) == len(keys)
    assert all(marker.action != 3 for marker in plan.markers)
    handle.cancel_goal_async()
    result = probe.result(handle)
    assert result.outcome in (2, 3, 4) and result.message and result.plans > 0  # random weights reach nothing
    late = probe.result(probe.send_goal(image, tolerance_m=1e-9, timeout_s=0.5))
    assert late.outcome in (1, 4) and late.message
    wait_until(lambda: all(m.action == 2 for m in probe.last["wm/plan"].markers), 15.0, "the plan is taken away")


def test_a_newer_goal_preempts_and_cancel_ends_it(probe: Probe) -> None:
    image = probe.fresh("camera/image_raw")
    picture = convert.to_image(convert.from_image(image))
    picture.data = bytes(255 - np.frombuffer(image.data, np.uint8))
    first = probe.send_goal(picture, tolerance_m=1e-9, timeout_s=60.0)
    second = probe.send_goal(picture, tolerance_m=1e-9, timeout_s=60.0)
    assert probe.result(first).outcome in (4, 6)
    future = second.cancel_goal_async()
    wait_until(future.done, 15.0, "answer to cancel")
    assert probe.result(second).outcome in (3, 4)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoding": "bayer_rggb8"}, "bayer_rggb8"),
        ({"height": 200}, "bytes"),
        ({"width": 240, "height": 320, "step": 720}, "camera"),
    ],
)
def test_a_bad_goal_picture_is_rejected_with_the_reason(probe: Probe, change: dict, text: str) -> None:
    image = probe.fresh("camera/image_raw")
    for name, value in change.items():
        setattr(image, name, value)
    result = probe.result(probe.send_goal(image))
    assert result.outcome == 5 and text in result.message


def test_nan_in_a_plan_makes_the_arm_brake(probe: Probe) -> None:
    def braked() -> bool:
        """Tried again where a busy machine stopped the arm for another reason first."""
        keep_moving(probe)
        probe.heard["safety/verdict"].clear()
        sweep(probe, nan=True)
        wait_until(lambda: any(v.mode >= SafetyMode.HOLD for v in list(probe.heard["safety/verdict"])), 15.0, "a stop")
        return any(v.mode == SafetyMode.BRAKE and "NONFINITE" in v.reason_names for v in list(probe.heard["safety/verdict"]))

    wait_until(braked, 60.0, "brake on NaN")
    wait_until(lambda: probe.speed() == 0.0, 15.0, "standstill")
    assert np.isfinite(probe.last["hw/command"].position).all()


def test_a_frozen_camera_makes_the_arm_hold(graph: Graph, probe: Probe) -> None:
    def told(reason: str) -> bool:
        return reason in probe.last["safety/verdict"].reason_names

    def held() -> bool:
        """Tried again where a busy machine latched for another reason first."""
        keep_moving(probe)
        graph.kill("camera", signal.SIGSTOP)
        try:
            wait_until(lambda: told("STALE_CAMERA") or mode(probe) == SafetyMode.LATCHED, 15.0, "HOLD because of the camera")
            found = told("STALE_CAMERA") and mode(probe) == SafetyMode.HOLD
            wait_until(lambda: probe.speed() == 0.0, 15.0, "standstill")
        finally:
            graph.kill("camera", signal.SIGCONT)
        wait_until(lambda: not told("STALE_CAMERA"), 15.0, "pictures again")
        return found

    wait_until(held, 60.0, "HOLD because of the camera")


def test_a_second_writer_of_the_command_is_refused(probe: Probe) -> None:
    other = probe.node.create_publisher(JointState, "hw/command", qos.profile("hw/command"))
    try:
        wait_until(lambda: "SECOND_WRITER" in probe.last["safety/state"].reason_names, 15.0, "second writer")
        wait_until(lambda: mode(probe) == SafetyMode.LATCHED and probe.speed() == 0.0, 15.0, "latched")
    finally:
        probe.node.destroy_publisher(other)


def test_the_arm_can_be_placed_only_while_not_enabled(probe: Probe) -> None:
    for _ in range(5):  # at once: the driver may hear of the enable later than of the reset
        probe.enable()
        assert not probe.call("sim/reset").success or not probe.fresh("safety/state").enabled
        probe.call("safety/enable", False)
    wait_until(lambda: not probe.last["safety/state"].enabled, 15.0, "disabled")
    target = JointState(name=["r_elbow_y"], position=[-0.6], velocity=[0.0], effort=[0.0])

    def elbow() -> float:
        joints = probe.fresh("joint_states")
        return float(joints.position[list(joints.name).index("r_elbow_y")])

    def placed() -> bool:
        probe.set_joints.publish(target)
        return abs(elbow() + 0.6) < 0.05

    wait_until(placed, 15.0, "placed")
    probe.enable()
    keep_moving(probe)  # and follows again


def test_a_killed_planner_makes_the_arm_stop_and_comes_back(graph: Graph, probe: Probe) -> None:
    picture = probe.fresh("camera/image_raw")
    picture.data = bytes(255 - np.frombuffer(picture.data, np.uint8))
    keep_moving(probe)
    probe.send_goal(picture, tolerance_m=1e-9, timeout_s=60.0)
    graph.kill("planner", signal.SIGKILL)
    wait_until(lambda: probe.speed() == 0.0 and mode(probe) >= SafetyMode.HOLD, 15.0, "the arm stops")
    wait_until(lambda: any(d.name == "planner" and d.respawned for d in graph.deaths), 15.0, "respawn")


def test_without_the_safety_node_the_driver_stops_by_itself(graph: Graph, probe: Probe) -> None:
    """Last of the file: it ends the graph's safety node."""
    keep_moving(probe)
    graph.kill("safety", signal.SIGKILL)

    def driver_says() -> bool:
        for message in reversed(probe.heard["/diagnostics"]):
            for status in message.status:
                if status.hardware_id == "driver":
                    return "no hw/command for" in status.message
        return False

    wait_until(driver_says, 15.0, "the driver stops")

    def rests() -> bool:
        joints = probe.fresh("joint_states")
        return float(np.abs(joints.velocity).max()) < 0.05

    wait_until(rests, 15.0, "standstill")
    with pytest.raises(Exception, match="safety was killed by SIGKILL"):
        wait_until(lambda: graph.check() is not None, 15.0, "the death is noticed")
