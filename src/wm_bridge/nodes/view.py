"""view_node: a page for browsers that shows the graph and hands on what people ask for there.

It publishes nothing but ``/diagnostics``: orders are services of the safety node and the action of the planner.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from wm_interfaces.msg import PlanReport

from wm_bridge.core.types import FloatArray, ImageArray, frozen_array
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.ros import convert, qos
from wm_bridge.ros.diagnostics import OK, Diagnostics
from wm_bridge.ros.mailbox import Recent
from wm_bridge.ros.node import STEADY, leave, run, subscribe
from wm_bridge.ros.operator import Operator
from wm_bridge.ros.params import declare, setting
from wm_bridge.ros.robot_tf import LinkFrames
from wm_bridge.ros.watched import Interventions, Latest, health, numbers, plan_seconds, safety
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.view.page import Page
from wm_bridge.view.server import serve
from wm_bridge.view.shown import Plan, Shown
from wm_bridge.view.stage import Stage

TOKEN = "WM_VIEW_TOKEN"  # in the environment, so that it stands in no parameter file and no list of processes


@dataclass(frozen=True)
class ViewParams:
    """See the descriptions."""

    robot: str = setting("nico", "name in config/robots or path of a YAML file")
    host: str = setting("127.0.0.1", "address to listen at; one that other machines reach needs a token (WM_VIEW_TOKEN)")
    port: int = setting(8080, "TCP port; 0 = any free one", 0, 65535, unit="port number")
    rate_hz: float = setting(15.0, "pictures sent per second at most, while somebody looks", 1.0, 60.0)
    scene_hz: float = setting(5.0, "robot and plan drawn per second at most; with a GPU in every browser 15 looks smoother", 0.1, 60.0)
    image_topic: str = setting("camera/image_raw", "pictures that are planned from: CAMERA/image_raw or CAMERA/image_rect")

    def __post_init__(self) -> None:
        qos.require_pictures(self.image_topic)


class ViewNode(Node):
    """Keeps the newest message of each kind, and draws them while somebody has the page open."""

    def __init__(self) -> None:
        super().__init__("view")
        self.params = declare(self, ViewParams)
        self._latest: dict[str, Latest] = {}
        self._health: dict[str, Latest] = {}
        self._interventions = Interventions()
        self._pictures: dict[str, tuple[object, ImageArray | None]] = {}
        self._plan: tuple[object, FloatArray, FloatArray] | None = None
        self._joints = Recent(self, "joint_states")
        self._verdicts = Recent(self, "safety/verdict")
        subscribe(self, self.params.image_topic, lambda message: self._keep("camera", message))
        subscribe(self, "wm/goal", lambda message: self._keep("goal", message))
        subscribe(self, "wm/goal_hand", lambda message: self._keep("hand", message))
        subscribe(self, "wm/paths", lambda message: self._keep("paths", message))
        subscribe(self, "safety/state", lambda message: self._keep("state", message))
        subscribe(self, "wm/report", self._on_report)
        subscribe(self, "safety/interventions", self._interventions.hear)
        subscribe(self, "/diagnostics", self._on_diagnostics)
        self._operator = Operator(self)
        self._page, self._url = self._open()
        self.diagnostics = Diagnostics(self, lambda: (OK, "", {"page": self._url, "goal": self._operator.goal_text}))
        self._rate = self.diagnostics.rate("drawn")
        self.create_timer(1.0 / self.params.rate_hz, self._draw, clock=STEADY)
        self.get_logger().info(f"page: {self._url}")

    def _open(self) -> tuple[Page, str]:
        """Start the server and lay the page out."""
        params = self.params
        try:
            spec = robot_spec.load(params.robot)
            scene = SafetyConfig.load(spec.safety_path()).scene
            urdf = spec.urdf_path().read_text(encoding="utf-8")
            frames = LinkFrames(urdf)
        except (OSError, ValueError) as error:
            raise UserError(str(error), "correct the parameter robot", exit_code=2) from error
        table = (np.array(scene.table_lower), np.array(scene.table_upper)) if scene.enabled and scene.table else None
        boxes = {arm: (box.lower, box.upper) for arm, box in spec.workspaces.items()}
        server = serve(params.host, params.port, os.environ.get(TOKEN, ""))
        stage = Stage(server, urdf, _places(frames), lambda joints: _turns(frames, joints), table, boxes)
        lowest = min((float(lower[2]) for lower, _ in boxes.values()), default=-np.inf)
        host = "localhost" if params.host in ("127.0.0.1", "0.0.0.0", "::", "::1") else params.host
        return Page(server, stage, self._operator, lowest, params.scene_hz), f"http://{host}:{server.get_port()}"

    def _keep(self, name: str, message: object) -> None:
        self._latest[name] = Latest(message)

    def _on_report(self, message: PlanReport) -> None:
        self._keep("report", message)
        self._page.planned(plan_seconds(message), message.energy, message.distance_m)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._health[status.name] = Latest(status)

    def _draw(self) -> None:
        if not self._page.watched:
            return
        try:
            self._page.show(self._moment())
            self._rate.mark()
        except Exception as error:  # noqa: BLE001  whatever cannot be drawn: STOP is in this process, which goes on
            self.get_logger().error(f"cannot draw: {error!r}", throttle_duration_sec=5.0)

    def _moment(self) -> Shown:
        """What is known now."""
        joints = self._joints.newest()
        camera, hand, report, state = (self._latest.get(name) for name in ("camera", "hand", "report", "state"))
        return Shown(
            joints=dict(zip(joints.name, joints.position, strict=False)) if joints is not None else {},
            camera=self._picture("camera"),
            camera_age_s=np.inf if camera is None else camera.age_s,
            goal=self._picture("goal"),
            goal_hand=None if hand is None else frozen_array([hand.message.point.x, hand.message.point.y, hand.message.point.z]),
            plan=self._newest_plan(),
            numbers=None if report is None else numbers(report.message, report.age_s),
            safety=None if state is None else safety(state.message, self._verdicts.newest(), state.age_s),
            interventions=self._interventions.rows(),
            nodes=tuple(health(item.message, item.age_s) for item in self._health.values()),
            said=self._operator.said,
            goal_text=self._operator.goal_text,
        )

    def _picture(self, name: str) -> ImageArray | None:
        """Decoded once; a picture that cannot be read leaves the one before."""
        latest = self._latest.get(name)
        seen, picture = self._pictures.get(name, (None, None))
        if latest is not None and latest.message is not seen:
            try:
                picture = convert.as_picture(latest.message)
            except ValueError as error:
                self.get_logger().warning(f"{name}: {error}", throttle_duration_sec=5.0)
            self._pictures[name] = (latest.message, picture)
        return picture

    def _newest_plan(self) -> Plan | None:
        latest = self._latest.get("paths")
        if latest is None:
            return None
        if self._plan is None or self._plan[0] is not latest.message:
            try:
                self._plan = (latest.message, *convert.from_paths(latest.message))
            except ValueError as error:
                self.get_logger().warning(f"wm/paths: {error}", throttle_duration_sec=5.0)
                return None
        return Plan(self._plan[1], self._plan[2], latest.age_s)


def _places(frames: LinkFrames) -> dict[str, tuple[FloatArray, FloatArray]]:
    """(3,) m and wxyz (4,) of each link in its parent, with all joints at 0."""
    found = {}
    for item in [*frames.fixed(0), *frames.moving((), np.zeros(0), 0)]:
        place, turn = item.transform.translation, item.transform.rotation
        found[item.child_frame_id] = (np.array([place.x, place.y, place.z]), np.array([turn.w, turn.x, turn.y, turn.z]))
    return found


def _turns(frames: LinkFrames, joints: Mapping[str, float]) -> dict[str, FloatArray]:
    """wxyz (4,) of each moving link in its parent."""
    found = frames.moving(tuple(joints), np.array(list(joints.values())), 0)
    turns = {item.child_frame_id: item.transform.rotation for item in found}
    return {link: np.array([turn.w, turn.x, turn.y, turn.z]) for link, turn in turns.items()}


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(ViewNode, argv)

if __name__ == "__main__":
    leave(main())
