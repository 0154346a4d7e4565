"""A run of the real graph with its recorder: motion, an overdone plan, a thing, a stop, a reset, and two goals of the planner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import wait_until
from ros_probe import Probe, probing, use_fast_dds_profile
from shape_msgs.msg import SolidPrimitive
from std_msgs.msg import String
from wm_interfaces.action import ReachGoal
from wm_interfaces.msg import SafetyInterventions
from wm_interfaces.srv import AddObstacle

from wm_bridge.core.types import Reason, Trajectory
from wm_bridge.ros import convert, qos
from wm_bridge.supervisor import Graph
from wm_planner.testing import random_checkpoint

ARM = ("r_shoulder_z", "r_shoulder_y", "r_arm_x", "r_elbow_y", "r_wrist_z", "r_wrist_x")


def swing(probe: Probe, amplitude: float) -> None:
    """One plan: the elbow turns by ``amplitude`` within a second."""
    sent = probe.last["hw/command"]
    start = np.array([sent.position[list(sent.name).index(name)] for name in ARM])
    way = amplitude * np.eye(len(ARM))[3]
    positions = start + np.linspace(0.1, 1.0, 10)[:, None] * way
    velocities = np.tile(way, (10, 1))
    velocities[-1] = 0.0
    stamp = convert.from_time(probe.last["camera/image_raw"].header.stamp)
    probe.action.publish(convert.to_trajectory(Trajectory(ARM, tuple(10**8 * k for k in range(1, 11)), positions, velocities, stamp)))


def swing_until(probe: Probe, amplitude: float, done) -> None:
    def swung() -> bool:
        if not probe.last["safety/state"].enabled:
            probe.enable()  # a busy machine may latch it
        probe.fresh("camera/image_raw")
        swing(probe, amplitude)
        return bool(done())

    wait_until(swung, 60.0, "the arm moves")


def record_run(folder: Path) -> Path:
    """Returns the bag; ``random.safetensors`` beside the run's folder is the planner's world model."""
    run = folder / "run"
    checkpoint = random_checkpoint(folder / "random.safetensors")
    changed: list[SafetyInterventions] = []
    overrides = {"planner": {"checkpoint": str(checkpoint)}, "recorder": {"operator": "a test", "note": "3 goals"}}
    with Graph.start("sim", overrides, run, skip=("goal", "viz"), say=lambda text: None, ready_s=120.0) as graph:
        use_fast_dds_profile(graph.env)
        with probing(graph.domain) as probe:
            wait_until(lambda: probe.count["safety/verdict"] and probe.count["camera/image_raw"], 30.0, "first messages")
            probe.node.create_subscription(SafetyInterventions, "safety/interventions", changed.append, qos.profile("safety/interventions"))
            probe.enable()
            swing_until(probe, 0.4, lambda: probe.speed() > 0.1)
            swing_until(probe, -3.0, lambda: any(Reason.VELOCITY_LIMIT & r for message in changed for r in message.reasons))
            request = AddObstacle.Request(name="ball", shape=SolidPrimitive(type=SolidPrimitive.SPHERE, dimensions=[0.05]))
            request.pose.pose.position.x, request.pose.pose.position.z = 0.4, 1.2
            client = probe.node.create_client(AddObstacle, "safety/add_obstacle")
            wait_until(client.service_is_ready, 15.0, "add_obstacle")
            answer = client.call_async(request)
            wait_until(answer.done, 15.0, "the obstacle")
            assert answer.result().success
            assert probe.call("safety/stop").success
            wait_until(lambda: probe.speed() == 0.0, 15.0, "rest")
            probe.enable()
            swing_until(probe, 0.4, lambda: probe.speed() > 0.1)
            pursue(probe)
    for rows in changed:
        joints, count = len(rows.joint_names), len(rows.stamp_ns)
        assert len(rows.before) == len(rows.after) == joints * count
        assert len(rows.distance) == len(rows.margin) == len(rows.mode) == len(rows.reasons) == count
        for k in np.flatnonzero(np.array(rows.reasons) & int(Reason.VELOCITY_LIMIT)):
            assert rows.before[k * joints : (k + 1) * joints] != rows.after[k * joints : (k + 1) * joints]
    return run / "bag"


def pursue(probe: Probe) -> None:
    """A goal picture and a goal for joints, a second of plans for each; the operator calls it a success."""
    requests = [
        ReachGoal.Goal(kind=ReachGoal.Goal.GOAL_IMAGE, image=probe.last["camera/image_raw"], timeout_s=30.0),
        ReachGoal.Goal(kind=ReachGoal.Goal.GOAL_JOINTS, timeout_s=30.0),
    ]
    requests[1].joints.name, requests[1].joints.position = ["r_elbow_y"], [-0.5]
    wait_until(probe.reach.server_is_ready, 30.0, "the action server")
    for request in requests:
        if not probe.last["safety/state"].enabled:
            probe.enable()
        before = probe.count["wm/report"]
        sent = probe.do(lambda: probe.reach.send_goal_async(request), "the goal sent")  # noqa: B023
        wait_until(sent.done, 15.0, "the answer to the goal")
        wait_until(lambda: probe.count["wm/report"] >= before + 10, 60.0, "ten plans")  # noqa: B023
        cancelled = probe.do(sent.result().cancel_goal_async, "cancel")
        wait_until(cancelled.done, 15.0, "the goal cancelled")
    assert probe.call("record/success").success
    heard = probe.node.create_publisher(String, "record/mark", qos.profile("record/mark"))
    wait_until(lambda: heard.get_subscription_count() > 0, 15.0, "the recorder listens")
    heard.publish(String(data="take_over: the operator held the arm"))
    probe.fresh("/diagnostics")
    probe.fresh("/diagnostics")
