"""Goal pictures through the whole graph with NICO's servos on the simulated bus, and MuJoCo only as the camera's eye.

The driver node talks Dynamixel bytes to a bus in a process of its own; the joints that it measures are mirrored into a
MuJoCo world without physics, which the camera node draws. Everything runs on wall time. Each goal starts where the one before ended.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
from rclpy.action import ActionClient
from wm_interfaces.action import ReachGoal

from wm_bridge.bench.live import Live, checkpoint_file, live_graph
from wm_bridge.bench.reach_ros import draw
from wm_bridge.bench.report import percent
from wm_bridge.core.goal import Outcome
from wm_bridge.core.types import FloatArray
from wm_bridge.robots import spec as robots
from wm_bridge.ros import convert, qos
from wm_bridge.sim.closed_loop import LoopSettings
from wm_bridge.sim.play import ARM
from wm_bridge.sim.world import SimWorld

_TOLERANCE_M = 0.015
_SETTLED_S = 0.5
_WALL_TIME = ("recorder", "safety", "planner", "goal", "viz")


class Mirror:
    """Publishes ``sim/state`` for the camera from the joints that the driver measured.

    Attributes:
        hands: (stamp ns, (3,) m) of the true forward kinematics at each state. positions: the same for (J,) rad.
    """

    def __init__(self, live: Live, world: SimWorld, every_ns: int = 40_000_000) -> None:
        self._world, self._every_ns, self._told_ns = world, every_ns, 0
        world.reset()
        self._base = world.state()
        self.hands: list[tuple[int, FloatArray]] = []
        self._out = live.client.node.create_publisher(qos.message_type("sim/state"), "sim/state", qos.profile("sim/state"))
        live.listen("joint_states", self._on_joints)

    def _on_joints(self, message: Any) -> None:
        stamp_ns = convert.from_time(message.header.stamp)
        if stamp_ns - self._told_ns < self._every_ns:
            return
        self._told_ns = stamp_ns
        state = convert.from_joint_state(message)  # in the order of the spec, which the driver keeps
        qpos = self._base.qpos.copy()
        qpos[self._world.joint_addresses] = state.position
        told = dataclasses.replace(self._base, time_ns=stamp_ns, qpos=qpos, control=state.position, reference=state.position)
        self._out.publish(convert.to_numbers(told.to_array()))
        self._world.load_state(told)
        self.hands.append((stamp_ns, self._world.hand_position(ARM)))


def on_the_bus() -> dict[str, dict[str, Any]]:
    """Parameters of a graph on wall time whose driver talks to simulated servos."""
    overrides: dict[str, dict[str, Any]] = {name: {"use_sim_time": False} for name in _WALL_TIME}
    overrides["driver"] = {"robot_driver": "dynamixel", "port": "sim", "dry_run": False}
    overrides["planner"] |= {"checkpoint": str(checkpoint_file(None))}
    return overrides


def run(goals: int, seed: int) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Figures and rows of so many goals."""
    settings, spec = LoopSettings(), robots.load("nico")
    drawer, eye = SimWorld(spec), SimWorld(spec)
    tasks = [draw(drawer, seed, number) for number in range(goals)]
    ends, outcomes = [], []
    with live_graph(on_the_bus()) as live:
        mirror = Mirror(live, eye)
        action = ActionClient(live.client.node, ReachGoal, "wm/reach_goal")
        for task in tasks:
            drawer.reset(task.goal, {})
            present = drawer.render("front", settings.width, settings.height), drawer.hand_position(ARM)
            live.client.enable()
            handle = live.send(action, present[0], settings.duration_s, _TOLERANCE_M)
            ended, begin = handle.get_result_async(), time.monotonic()
            live.client.wait(lambda begin=begin: time.monotonic() - begin > settings.duration_s, 60.0, "time stands still")
            live.client.wait(ended.done, 30.0, "the planner gives no result for the goal")
            newest = mirror.hands[-1][0]
            last = [hand for stamp, hand in mirror.hands if newest - stamp <= _SETTLED_S * 1e9]
            ends.append(float(max(np.linalg.norm(hand - present[1]) for hand in last)))
            outcomes.append(Outcome(ended.result().result.outcome).name)
            live.client.disable()
        action.destroy()
    drawer.close()
    eye.close()
    held = [sum(end < limit for end in ends) for limit in (0.03, 0.05)]
    figures = {"graph_3cm": held[0] / goals, "graph_5cm": held[1] / goals, "graph_end_cm": float(np.median(ends)) * 100}
    text = f"{percent(held[0], goals)} within 3 cm, {percent(held[1], goals)} within 5 cm, median {100 * np.median(ends):.1f} cm; said {', '.join(outcomes)}"
    return figures, [("goal pictures through the graph", text)]
