"""The ROS node of commands (`./wm demo`, `./wm goal`): places the arm, enables safety, sends goals, listens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger
from wm_interfaces.action import ReachGoal

from wm_bridge.core.goal import Outcome
from wm_bridge.core.goal_kinds import Request
from wm_bridge.core.types import FloatArray
from wm_bridge.errors import UserError
from wm_bridge.ros import convert, qos
from wm_bridge.ros.executor import LeanExecutor
from wm_bridge.ros.goal_request import to_request
from wm_bridge.sim.state import SimState

_PLACED_RAD = 0.05
_MOVING_RAD_S = 0.02
_STOPPED_RAD_S = 0.05


@dataclass(frozen=True)
class GoalResult:
    """How a goal ended; distance and angle as the planner knows them, m and rad."""

    outcome: Outcome
    message: str
    distance_m: float
    angle_rad: float
    duration_s: float
    plans: int


class DemoClient:
    """Everything runs in the calling thread, inside ``wait``.

    Args:
        domain: ROS_DOMAIN_ID of the graph.
        check: called all the time while waiting; raises when the graph is broken or Ctrl-C came.
        name: of the node. namespace: of the graph; "" = none.
    """

    def __init__(self, domain: int, check: Callable[[], None], name: str = "demo", namespace: str = "") -> None:
        self._check = check
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node(name, context=self.context, namespace=namespace)
        self._executor = LeanExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._reach = ActionClient(self.node, ReachGoal, "wm/reach_goal")
        self._place = self.node.create_publisher(
            qos.message_type("sim/set_joints"), "sim/set_joints", qos.profile("sim/set_joints")
        )
        self._handle: Any = None
        self.safety: Any = None
        self.feedback: Any = None
        self.first_motion: float | None = None
        self._motion: Any = None
        self._listen("safety/state", self._on_safety)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def wait(self, done: Callable[[], Any], timeout_s: float, what: str, checked: bool = True) -> Any:
        """Take in messages until ``done`` is true, and return its value.

        Raises:
            UserError: it did not come true in time.
        """
        deadline = time.monotonic() + timeout_s
        while not (value := done()):
            if checked:
                self._check()
            if time.monotonic() > deadline:
                raise UserError(f"{what}: nothing within {timeout_s:.0f} s", "the machine may be too busy; ./wm doctor, or see the logs of the run")
            self._executor.spin_once(timeout_sec=0.1)
        return value

    def take(self, topic: str, good: Callable[[Any], bool] = lambda message: True, timeout_s: float = 20.0, checked: bool = True) -> Any:
        """The next message of a topic that is ``good``."""
        found: list[Any] = []
        subscription = self._listen(topic, lambda message: found.append(message) if good(message) else None)
        try:
            return self.wait(lambda: found, timeout_s, f"no message on {topic}", checked)[0]
        finally:
            self.node.destroy_subscription(subscription)

    # Simulator ----------------------------------------------------------------------------

    def state(self) -> SimState:
        """The simulator's state: for scoring and for drawing goals, never for control."""
        return SimState.from_array(convert.from_numbers(self.take("sim/state")))

    def place(self, names: tuple[str, ...], q: FloatArray) -> None:
        """Put the simulated arm at ``q`` (J,) rad; the safety node must not be enabled."""
        message = JointState(name=list(names), position=q.tolist())
        latest: list[Any] = []
        subscription = self._listen("joint_states", latest.append)
        self.wait(lambda: self._place.get_subscription_count() > 0, 20.0, "the driver does not listen to sim/set_joints")
        again = 0.0

        def placed() -> bool:
            nonlocal again
            if time.monotonic() >= again:
                self._place.publish(message)
                again = time.monotonic() + 0.5
            measured = latest[-1] if latest else None
            latest.clear()
            return measured is not None and np.abs(np.asarray(measured.position) - q).max() < _PLACED_RAD

        try:
            self.wait(placed, 20.0, "the arm cannot be placed at its start")
        finally:
            self.node.destroy_subscription(subscription)

    # Safety -------------------------------------------------------------------------------

    @property
    def safety_text(self) -> str:
        """Mode of the safety node, and why when it is not NORMAL."""
        if self.safety is None:
            return "-"
        reasons = ",".join(self.safety.reason_names)
        return f"{self.safety.mode_name} {reasons}".strip()

    def enable(self) -> None:
        """Reset and enable the safety node, again when a busy machine makes it latch meanwhile."""
        answers = [""]

        def enabled() -> bool:
            for name, request in (("safety/reset", Trigger.Request()), ("safety/enable", SetBool.Request(data=True))):
                answer = self.call(name, request)
                answers[0] = answer.message
                if not answer.success:
                    self._executor.spin_once(timeout_sec=0.2)
                    return False
            return True

        try:
            self.wait(enabled, 30.0, "the safety node cannot be enabled")
        except UserError as error:
            raise UserError(f"{error.message} ({answers[0]})", error.remedy) from error

    def disable(self) -> None:
        """Let no more commands through."""
        self.call("safety/enable", SetBool.Request(data=False), checked=False)

    def call(self, name: str, request: Any, checked: bool = True) -> Any:
        """Call one of the safety node's services."""
        kind = SetBool if isinstance(request, SetBool.Request) else Trigger
        client = self.node.create_client(kind, name)
        try:
            self.wait(client.service_is_ready, 15.0, f"no service {name}", checked)
            future = client.call_async(request)
            self.wait(future.done, 15.0, f"no answer of {name}", checked)
            return future.result()
        finally:
            self.node.destroy_client(client)

    # Goals --------------------------------------------------------------------------------

    def watch_first_motion(self) -> None:
        """Note in ``first_motion`` (steady clock, s) when hw/command moves for the first time."""

        def heard(message: Any) -> None:
            if self.first_motion is None and len(message.velocity) and np.abs(message.velocity).max() > _MOVING_RAD_S:
                self.first_motion = time.monotonic()

        self._motion = self._listen("hw/command", heard)

    def send(self, asked: Request, timeout_s: float, tolerance_m: float = 0.0, target: str = "") -> Any:
        """Send a goal; returns the future of its result. ``tolerance_m`` 0 = the planner's own; target "" = the hand."""
        self.feedback = None
        self.wait(self._reach.server_is_ready, 30.0, "no action wm/reach_goal")
        goal = to_request(asked, target, timeout_s=timeout_s, tolerance_m=tolerance_m)
        future = self._reach.send_goal_async(goal, feedback_callback=self._on_feedback)
        self.wait(future.done, 20.0, "no answer to the goal")
        self._handle = future.result()
        if not self._handle.accepted:
            raise UserError("the planner refused the goal; it is not active", "see the planner's log in the run folder")
        return self._handle.get_result_async()

    def follow(self, future: Any, timeout_s: float, tick: Callable[[], None]) -> GoalResult:
        """Wait for the result, calling ``tick`` about ten times a second."""

        def done() -> bool:
            tick()
            if self.first_motion is not None and self._motion is not None:
                self.node.destroy_subscription(self._motion)
                self._motion = None
            return bool(future.done())

        self.wait(done, timeout_s, "the planner gives no result for the goal")
        self._handle = None
        result = future.result().result
        return GoalResult(
            Outcome(result.outcome), result.message, float(result.distance_m), float(result.angle_rad), float(result.duration_s), int(result.plans)
        )

    def cancel(self) -> bool:
        """Cancel the running goal and wait until the arm stands; True when it does."""
        try:
            if self._handle is not None:
                future = self._handle.cancel_goal_async()
                self.wait(future.done, 5.0, "no answer to cancel", checked=False)
            self.take("hw/command", lambda m: np.abs(m.velocity).max(initial=0.0) == 0.0, 5.0, checked=False)
            self.take("joint_states", lambda m: np.abs(m.velocity).max(initial=0.0) < _STOPPED_RAD_S, 5.0, checked=False)
        except UserError:
            return False  # the safety node brakes when it is stopped
        return True

    # Inside -------------------------------------------------------------------------------

    def _listen(self, topic: str, callback: Callable[[Any], None]) -> Any:
        return self.node.create_subscription(qos.message_type(topic), topic, callback, qos.monitor_profile(topic, 10))

    def _on_safety(self, message: Any) -> None:
        self.safety = message

    def _on_feedback(self, message: Any) -> None:
        self.feedback = message.feedback
