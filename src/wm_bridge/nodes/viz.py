"""viz_node: what the planner imagines and what the safety node allows, as RViz markers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from geometry_msgs.msg import PointStamped
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from wm_interfaces.msg import PlanReport, SafetyInterventions, SafetyState

from wm_bridge.core.types import FloatArray, frozen_array
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.ros import convert
from wm_bridge.ros.diagnostics import Diagnostics
from wm_bridge.ros.markers import Rejected, Zones, plan_markers, safety_markers
from wm_bridge.ros.node import STEADY, leave, publisher, run, set_niceness, subscribe
from wm_bridge.ros.params import declare, setting
from wm_bridge.ros.rejected import Rejections
from wm_bridge.safety.config import SafetyConfig


@dataclass(frozen=True)
class VizParams:
    """See the descriptions."""

    robot: str = setting("nico", "name in config/robots or path of a YAML file")
    config: str = setting("", "safety settings, for the table and the limits; empty: as in the robot's YAML")
    arm: str = setting("", "whose tool's rejected motion is shown; empty: the robot's first")
    tf_prefix: str = setting("", "before the names of all frames, for two arms in one graph: left/")
    forget_s: float = setting(1.0, "a plan, or a rejected motion, older than this is taken away", 0.1, 60.0)


class VizNode(Node):
    """Draws each plan as it comes and takes it away when no more come."""

    def __init__(self) -> None:
        super().__init__("viz")
        set_niceness(5)
        self.params = declare(self, VizParams)
        try:
            spec = robot_spec.load(self.params.robot)
            settings = SafetyConfig.load(Path(self.params.config) if self.params.config else spec.safety_path())
            self._rejections = Rejections(spec, self.params.arm)
        except (OSError, ValueError) as error:
            raise UserError(str(error), "correct the parameter robot, config or arm", exit_code=2) from error
        self._frame = self.params.tf_prefix + spec.base_frame
        self._zones = _zones(spec, settings)
        self._state: tuple[str, str, int] | None = None  # mode, why, stamp
        self._rejected: tuple[Rejected, float] | None = None  # and when it came
        self._goal: FloatArray | None = None
        self._text = ""
        self._drawn_at: float | None = None
        self._stamp_ns = 0
        self._plan = publisher(self, "wm/plan")
        self._safety = publisher(self, "safety/markers")
        subscribe(self, "wm/paths", self._on_paths)
        subscribe(self, "wm/goal_hand", self._on_goal)
        subscribe(self, "wm/report", self._on_report)
        subscribe(self, "safety/state", self._on_safety)
        subscribe(self, "wm/action", self._rejections.plan)
        subscribe(self, "safety/interventions", self._on_interventions)
        self.diagnostics = Diagnostics(self)
        self._rate = self.diagnostics.rate("plans drawn")
        self.create_timer(0.25, self._forget, clock=STEADY)

    def _on_goal(self, message: PointStamped) -> None:
        self._goal = frozen_array([message.point.x, message.point.y, message.point.z])

    def _on_report(self, message: PlanReport) -> None:
        self._text = f"energy {message.energy:.3f}  {message.distance_m * 100:.1f} cm  {message.total_ms:.0f} ms"

    def _on_paths(self, message: PointCloud2) -> None:
        try:
            hands, energies = convert.from_paths(message)
        except ValueError as error:
            self.get_logger().warning(f"wm/paths: {error}", throttle_duration_sec=5.0)
            return
        stamp = convert.from_time(message.header.stamp)
        self._plan.publish(plan_markers(hands, energies, self._goal, self._text, stamp, message.header.frame_id))
        self._drawn_at, self._stamp_ns = time.monotonic(), stamp
        self._rate.mark()

    def _on_safety(self, message: SafetyState) -> None:
        self._state = (message.mode_name, ", ".join(message.reason_names), convert.from_time(message.header.stamp))
        self._draw_safety()

    def _on_interventions(self, message: SafetyInterventions) -> None:
        rejected = self._rejections.of(message)
        if rejected is not None:
            self._rejected = (rejected, time.monotonic())
            self._draw_safety()

    def _draw_safety(self) -> None:
        if self._state is not None:
            mode, detail, stamp_ns = self._state
            rejected = None if self._rejected is None else self._rejected[0]
            self._safety.publish(safety_markers(self._zones, mode, detail, rejected, stamp_ns, self._frame))

    def _forget(self) -> None:
        if self._drawn_at is not None and time.monotonic() - self._drawn_at > self.params.forget_s:
            self._drawn_at = None
            self._plan.publish(plan_markers(None, None, None, "", self._stamp_ns, self._frame))
        if self._rejected is not None and time.monotonic() - self._rejected[1] > self.params.forget_s:
            self._rejected = None
            self._draw_safety()


def _zones(spec: robot_spec.RobotSpec, settings: SafetyConfig) -> Zones:
    scene = settings.scene
    workspaces = tuple((box.lower, box.upper) for _, box in sorted(spec.workspaces.items()))
    if not scene.enabled:
        return Zones(workspaces)
    table = ((frozen_array(scene.table_lower), frozen_array(scene.table_upper)),) if scene.table else ()
    return Zones(workspaces, table, (frozen_array(scene.workspace_lower), frozen_array(scene.workspace_upper)))


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(VizNode, argv)

if __name__ == "__main__":
    leave(main())
