"""What a person may do to a running graph: stop, reset, enable, goals. Only through the safety node and the planner."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from action_msgs.srv import CancelGoal
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from wm_bridge.core.goal_kinds import PictureGoal, PoseGoal, Request
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.ros.goal_sender import GoalSender
from wm_bridge.ros.node import STEADY

_AGAIN_S, _TRIES = 0.15, 20  # a STOP that nobody answers is asked for again, for three seconds
_LOOK_S = 0.05


class Operator:
    """Carries out ``view.orders.Orders``: any thread may call it, nothing waits.

    A STOP leaves in the thread that calls; everything else is done in the node's own thread.

    Args:
        node: whose services and action it uses.

    Attributes:
        said: what became of the last order.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._goals = GoalSender(node)
        self._stop = node.create_client(Trigger, "safety/stop")
        self._reset = node.create_client(Trigger, "safety/reset")
        self._enable = node.create_client(SetBool, "safety/enable")
        self._cancel = node.create_client(CancelGoal, "wm/reach_goal/_action/cancel_goal")
        self._lock = threading.Lock()
        self._asked: list[Any] = []  # answers awaited of the last STOP
        self._asked_at = 0.0
        self.said = ""
        node.create_timer(_LOOK_S, self._look, clock=STEADY)

    @property
    def goal_text(self) -> str:
        """What became of the last goal given here."""
        feedback = self._goals.feedback
        if feedback is None:
            return self._goals.text
        return f"running for {feedback.elapsed_s:.0f} s, {feedback.progress * 100:.0f} %"

    def stop(self) -> None:
        """STOP: the request has left when this returns; asked again until it is answered. Ends every goal as well."""
        with self._lock:
            self._asked, self._asked_at = [self._stop.call_async(Trigger.Request())], time.monotonic()
        self.said = "STOP sent"
        self.cancel()

    def reset(self) -> None:
        """Ask the safety node to leave its latch."""
        self._later(lambda: self._ask("RESET", self._reset, Trigger.Request()))

    def enable(self, on: bool) -> None:
        """Ask the safety node to follow plans, or not to."""
        self._later(lambda: self._ask("ENABLE" if on else "DISABLE", self._enable, SetBool.Request(data=on)))

    def cancel(self) -> None:
        """End the planner's goal, whoever gave it: to action servers an id of zeros means all goals."""

        def cancel() -> None:
            if self._cancel.service_is_ready():
                self._cancel.call_async(CancelGoal.Request())

        self._later(cancel)

    def picture_goal(self, picture: ImageArray) -> None:
        """Send a goal picture (H, W, 3) uint8 RGB, of the camera's size."""
        self._send(PictureGoal(picture))

    def pose_goal(self, position: FloatArray, rotation: FloatArray | None) -> None:
        """Send a goal for the tool: (3,) m and (3, 3), base frame; None = any orientation."""
        self._send(PoseGoal(position, rotation))

    def say(self, text: str) -> None:
        """Show a line."""
        self.said = text

    def _later(self, function: Callable[[], None]) -> None:
        if self._node.executor is not None:
            self._node.executor.create_task(function)

    def _send(self, asked: Request) -> None:
        self._later(lambda: self.say("goal sent" if self._goals.send(asked) else self._goals.text))

    def _ask(self, name: str, client: Any, request: Any) -> None:
        if not client.service_is_ready():
            self.say(f"{name}: no safety node")
            return
        self.say(f"{name} sent")
        client.call_async(request).add_done_callback(lambda done: self.say(f"{name}: {done.result().message}"))

    def _look(self) -> None:
        """Is the last STOP answered?"""
        with self._lock:
            if not self._asked:
                return
            answer = next((future.result() for future in self._asked if future.done()), None)
            if answer is not None:
                self._asked, self.said = [], f"STOP: {answer.message}"
            elif len(self._asked) >= _TRIES:
                self._asked, self.said = [], "STOP is NOT answered: use the emergency switch"
            elif time.monotonic() >= self._asked_at + _AGAIN_S:
                self._asked_at = time.monotonic()
                self._asked.append(self._stop.call_async(Trigger.Request()))
