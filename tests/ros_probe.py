"""A node inside the test process that listens to a running graph and talks to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import rclpy
from conftest import wait_until
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import SetBool, Trigger
from wm_interfaces.action import ReachGoal

from wm_bridge.ros import qos

LISTENED = (
    "camera/image_raw camera/camera_info joint_states hw/command safety/verdict safety/state wm/action "
    "wm/report wm/paths wm/plan wm/goal wm/goal_hand safety/markers robot_description /tf /tf_static /clock /diagnostics"
).split()


class SpunNode:
    """A node of a test, in a ROS domain; a thread of its own runs its callbacks until ``close``."""

    def __init__(self, domain: int, name: str) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node(name, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._closing = False
        self._thread = threading.Thread(target=self._spin, daemon=True)

    def start(self) -> None:
        """Begin to run callbacks: when all that they need is there."""
        self._executor.add_node(self.node)
        self._thread.start()

    def _spin(self) -> None:
        while not self._closing:
            self._executor.spin_once(timeout_sec=0.1)

    def do(self, function: Callable[[], Any], what: str) -> Any:
        """Call a function in the node's thread and return its value.

        An ``ActionClient`` of rclpy (Jazzy) notes a request after it has sent it: an answer that
        another thread takes in between is lost.
        """
        task = self._executor.create_task(function)
        wait_until(task.done, 15.0, what)
        return task.result()

    def call(self, name: str, request: Any = None) -> Any:
        """Call a Trigger service, or a SetBool service with what to set."""
        kind = Trigger if request is None else SetBool
        client = self.node.create_client(kind, name)
        wait_until(client.service_is_ready, 20.0, f"service {name}")
        future = client.call_async(kind.Request() if request is None else SetBool.Request(data=request))
        wait_until(future.done, 15.0, f"answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        """End the thread and leave the graph."""
        self._closing = True
        self._thread.join(5.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


class Probe(SpunNode):
    """Keeps the last message and the count of every topic.

    Attributes:
        last: newest message per topic. count: messages per topic.
        heard: all messages of the topics where every one counts.
    """

    def __init__(self, domain: int) -> None:
        super().__init__(domain, "probe")
        self.last: dict[str, Any] = {}
        self.count: dict[str, int] = dict.fromkeys(LISTENED, 0)
        self.heard: dict[str, list[Any]] = {"/diagnostics": [], "/tf_static": [], "safety/verdict": []}
        for name in LISTENED:
            self.node.create_subscription(
                qos.message_type(name), name, self._keep(name), qos.monitor_profile(name, 100 if name in self.heard else 10)
            )
        self.action = self.node.create_publisher(
            qos.message_type("wm/action"), "wm/action", qos.profile("wm/action")
        )
        self.set_joints = self.node.create_publisher(
            qos.message_type("sim/set_joints"), "sim/set_joints", qos.profile("sim/set_joints")
        )
        self.reach = ActionClient(self.node, ReachGoal, "wm/reach_goal")
        self.start()

    def _keep(self, name: str) -> Any:
        def keep(message: Any) -> None:
            self.last[name] = message
            self.count[name] += 1
            if name in self.heard:
                self.heard[name].append(message)

        return keep

    def fresh(self, name: str, timeout: float = 15.0) -> Any:
        """Wait for one more message of a topic and return it."""
        before = self.count[name]
        wait_until(lambda: self.count[name] > before, timeout, f"a message on {name}")
        return self.last[name]

    def send_goal(self, image: Any, **settings: float) -> Any:
        """Send a goal picture; returns the accepted handle."""
        wait_until(self.reach.server_is_ready, 30.0, "the action server")
        goal = ReachGoal.Goal(kind=0, image=image, **settings)
        future = self.do(lambda: self.reach.send_goal_async(goal), "the goal sent")
        wait_until(future.done, 15.0, "the answer to the goal")
        return future.result()

    def result(self, handle: Any, timeout: float = 30.0) -> Any:
        """Wait for the result of a goal."""
        future = self.do(handle.get_result_async, "the result asked for")
        wait_until(future.done, timeout, "the result of the goal")
        return future.result().result

    def speed(self) -> float:
        """Largest speed in the newest hw/command, rad/s."""
        message = self.last.get("hw/command")
        return float(np.abs(message.velocity).max()) if message is not None else 0.0

    def enable(self) -> None:
        """Reset and enable the safety node, as often as a busy machine needs it."""

        def done() -> bool:
            self.call("safety/reset")
            return bool(self.call("safety/enable", True).success)

        wait_until(done, 30.0, "safety node enabled")


@contextmanager
def probing(domain: int) -> Iterator[Probe]:
    """A probe in a ROS domain, with the Fast DDS profile of the graph."""
    probe = Probe(domain)
    try:
        yield probe
    finally:
        probe.close()


def use_fast_dds_profile(env: dict[str, str]) -> None:
    """Give this process the transport settings of the graph before rclpy starts."""
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "ROS_AUTOMATIC_DISCOVERY_RANGE"):
        os.environ.setdefault(name, env[name])
