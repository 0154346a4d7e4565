"""Sends goals to the planner and follows the last one; for nodes that serve people."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

from typing import Any

from rclpy.action import ActionClient
from rclpy.node import Node
from wm_interfaces.action import ReachGoal

from wm_bridge.core.goal import Outcome
from wm_bridge.core.goal_kinds import Request
from wm_bridge.ros.goal_request import to_request

NO_PLANNER = "no planner; is planner_node running and active?"


class GoalSender:
    """A client of ``wm/reach_goal``. Use it in the node's own thread only: an answer that another one takes is lost.

    Attributes:
        text: what became of the last goal, in words. feedback: of the running goal; None before the first plan.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._client = ActionClient(node, ReachGoal, "wm/reach_goal")
        self._handle: Any = None
        self.text = "no goal yet"
        self.feedback: Any = None

    @property
    def ready(self) -> bool:
        """True while there is a planner."""
        return bool(self._client.server_is_ready())

    @property
    def running(self) -> bool:
        """True while an accepted goal has no result."""
        return self._handle is not None

    def send(self, asked: Request, target: str = "", **numbers: float) -> bool:
        """Send a goal, see ``to_request``; False when there is no planner. A newer goal takes the place of an older one."""
        if not self.ready:
            self.text = NO_PLANNER
            self._node.get_logger().error(self.text)
            return False
        self.text, self.feedback = "sent", None
        request = to_request(asked, target, **numbers)
        self._client.send_goal_async(request, feedback_callback=self._on_feedback).add_done_callback(self._on_answer)
        return True

    def cancel(self) -> bool:
        """Ask the planner to end the running goal; False when none of ours runs."""
        if self._handle is None:
            return False
        self._handle.cancel_goal_async()
        return True

    def _on_feedback(self, message: Any) -> None:
        self.feedback = message.feedback

    def _on_answer(self, future: Any) -> None:
        handle = future.result()
        if not handle.accepted:
            self.text = "refused; the planner is not active"
            self._node.get_logger().error(f"goal {self.text}")
            return
        self._handle, self.text = handle, "running"
        handle.get_result_async().add_done_callback(lambda done: self._on_result(handle, done))

    def _on_result(self, handle: Any, future: Any) -> None:
        result = future.result().result
        text = f"{Outcome(result.outcome).name}: {result.message}"
        self._node.get_logger().info(f"goal {text}")
        if self._handle is handle:  # else a newer one runs, whose text stays
            self._handle, self.text, self.feedback = None, text, None
