"""Everything the planner says: trajectories, reports, and what RViz shows of them."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.node import Node
from std_msgs.msg import String

from wm_bridge.core.plan_step import PlanStep
from wm_bridge.core.types import Frame, ImageArray, Trajectory
from wm_bridge.ros import convert
from wm_bridge.ros.node import now_ns, publisher


class PlanOutput:
    """The planner's publishers.

    Attributes:
        plans: reported so far. last_stamp_ns: of the picture behind the last trajectory.
    """

    def __init__(self, node: Node, frame_id: str, budget_ms: float) -> None:
        self._node, self._frame_id, self._budget_ms = node, frame_id, budget_ms
        self.plans = self.last_stamp_ns = 0
        self._action = publisher(node, "wm/action")
        self._report = publisher(node, "wm/report")
        self._paths = publisher(node, "wm/paths")
        self._goal = publisher(node, "wm/goal")
        self._goal_hand = publisher(node, "wm/goal_hand")
        self._request = publisher(node, "wm/request")

    def request(self, text: str) -> None:
        """Tell recordings what is pursued from now on, see ``core.goal_record``."""
        self._request.publish(String(data=text))

    def goal(self, picture: ImageArray) -> None:
        """Show the goal (H, W, 3) RGB that is pursued from now on."""
        self._goal.publish(convert.to_image(Frame(picture, now_ns(self._node), "goal")))

    def trajectory(self, trajectory: Trajectory) -> None:
        """Propose a motion to the safety node."""
        self.last_stamp_ns = trajectory.stamp_ns
        self._action.publish(convert.to_trajectory(trajectory))

    def report(self, step: PlanStep, stamp_ns: int, total_ms: float) -> None:
        """Report a step that gave a plan.

        Args:
            stamp_ns: of the picture. total_ms: since the picture arrived.
        """
        self.plans += 1
        plan, progress = step.plan, step.status.progress
        self._report.publish(
            convert.to_report(plan, stamp_ns, self.plans, progress, total_ms, self._budget_ms)
        )
        hands = np.concatenate([np.asarray(plan.predicted_hand)[None], np.asarray(plan.elite_hands)])
        energies = np.concatenate([[plan.energy], np.asarray(plan.elite_energies)])
        self._paths.publish(convert.to_paths(hands, energies, stamp_ns, self._frame_id))

    def goal_hand(self, plan: Any, stamp_ns: int) -> None:
        """Show where the model reads the hand in the goal picture."""
        self._goal_hand.publish(convert.to_point(plan.goal_hand, stamp_ns, self._frame_id))
