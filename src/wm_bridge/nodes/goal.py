"""goal_node: goals in words, and pictures from the camera, become ReachGoal goals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PointStamped, PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from wm_bridge.core.goal_kinds import PictureGoal, Request
from wm_bridge.core.goal_record import from_text
from wm_bridge.core.goal_text import parse_goal
from wm_bridge.core.images import decompress
from wm_bridge.core.pointed import above, check_frame, is_flat, place_goal
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.ros import convert, qos
from wm_bridge.ros.diagnostics import OK, Diagnostics
from wm_bridge.ros.goal_marker import GoalMarker
from wm_bridge.ros.goal_sender import NO_PLANNER, GoalSender
from wm_bridge.ros.node import STEADY, leave, publisher, run, subscribe
from wm_bridge.ros.params import declare, setting


_SAY_S = 0.2  # between two looks for news


@dataclass(frozen=True)
class GoalParams:
    """See the descriptions."""

    image_path: str = setting("", "goal to send once the planner is there: FILE[,FILE2], joints:, pose: or bag:, see core/goal_text.py; empty = none")
    mask_path: str = setting("", "picture of the same size whose black does not count; empty = all counts")
    target: str = setting("hand", "hand, or the name of the object that must match")
    tolerance_m: float = setting(0.0, "distance that counts as there; 0 = the planner's default", 0.0, 1.0)
    timeout_s: float = setting(0.0, "longest attempt; 0 = the planner's default", 0.0, 3600.0)
    image_topic: str = setting("camera/image_raw", "pictures that are planned from: CAMERA/image_raw or CAMERA/image_rect")
    robot: str = setting("nico", "name in config/robots or path of a YAML file")
    arm: str = setting("", "whose tool is sent to places that are pointed at; empty: the robot's first")
    tf_prefix: str = setting("", "before the names of all frames, for two arms in one graph: left/")
    goal_pose_turn: bool = setting(False, "the orientation of goal_pose counts, too")

    def __post_init__(self) -> None:
        qos.require_pictures(self.image_topic)


class GoalNode(Node):
    """``goal/image_path`` sends a goal in words, ``goal/request`` a recorded one; ``goal/capture`` keeps the camera's picture, ``goal/go`` sends it.

    ``goal_pose``, ``clicked_point`` and the marker in RViz send the tool to places, in the base frame and within the
    workspace only; what became of the last goal stands on ``goal/status``. All goals go to the planner, none to the arm.
    """

    def __init__(self) -> None:
        super().__init__("goal")
        self.params = declare(self, GoalParams)
        self._live: Image | None = None
        self._kept: Request | None = None
        self._sender = GoalSender(self)
        self._frame, self._workspace = self._place()
        self._marker = GoalMarker(self, self._frame, self._workspace, self._send_place, self._sender.cancel, self._refuse)
        self._status, self._said = publisher(self, "goal/status"), ""
        subscribe(self, "goal_pose", self._on_pose)
        subscribe(self, "clicked_point", self._on_point)
        subscribe(self, self.params.image_topic, self._on_image)
        subscribe(self, "goal/image_path", lambda message: self._send_text(message.data))
        subscribe(self, "goal/request", lambda message: self._send_record(message.data))
        self.create_service(Trigger, "goal/capture", self._on_capture)
        self.create_service(Trigger, "goal/go", self._on_go)
        self.create_service(Trigger, "goal/cancel", self._on_cancel)
        self.diagnostics = Diagnostics(self, lambda: (OK, "", {"goal": self._sender.text}))
        self.create_timer(_SAY_S, self._say, clock=STEADY)
        if self.params.image_path:
            self._kept = self._read(self.params.image_path)
            self._first = self.create_timer(0.5, self._send_first)

    def _place(self) -> tuple[str, tuple[FloatArray, FloatArray] | None]:
        """The frame of places, and where the tool may be sent."""
        try:
            spec = robot_spec.load(self.params.robot)
        except (FileNotFoundError, ValueError) as error:
            raise UserError(str(error), "correct the parameter robot", 2) from error
        arm = self.params.arm or next(iter(spec.tools), "")
        if self.params.arm and arm not in spec.tools:
            raise UserError(f"robot {spec.name} has no arm {arm!r}", f"parameter arm: one of {', '.join(spec.tools)}", 2)
        box = spec.workspaces.get(arm)
        return self.params.tf_prefix + spec.base_frame, None if box is None else (box.lower, box.upper)

    def _on_pose(self, message: PoseStamped) -> None:
        """RViz's 2D tool gives a place on the ground of its frame: the marker's height is meant then."""
        place, turn = message.pose.position, message.pose.orientation
        position, xyzw = np.array([place.x, place.y, place.z]), np.array([turn.x, turn.y, turn.z, turn.w])
        flat = is_flat(position, xyzw)
        if flat:
            position[2] = self._marker.position[2]
        self._send_place(position, xyzw if self.params.goal_pose_turn and not flat else None, message.header.frame_id)

    def _on_point(self, message: PointStamped) -> None:
        point = np.array([message.point.x, message.point.y, message.point.z])
        self._send_place(above(point, self._workspace), None, message.header.frame_id)

    def _send_place(self, position: FloatArray, xyzw: FloatArray | None, frame: str | None = None) -> None:
        """Send the tool to (3,) m; ``frame`` None: it is known to be in ours."""
        try:
            check_frame(self._frame if frame is None else frame, self._frame)
            asked = place_goal(position, xyzw, self._workspace)
        except ValueError as error:
            self._refuse(str(error))
            return
        self._marker.move(position)
        self._send(asked)

    def _refuse(self, text: str) -> None:
        self._sender.text = f"refused: {text}"
        self.get_logger().error(text)
        self._say()

    def _say(self) -> None:
        """``goal/status`` and the line above the marker, when there is news."""
        if self._sender.text != self._said:
            self._said = self._sender.text
            self._status.publish(String(data=self._said))
            self._marker.describe(self._said)

    def _on_image(self, message: Image) -> None:
        self._live = message

    def _send_first(self) -> None:
        if self._sender.ready and self._kept is not None:
            self._first.cancel()
            self._send(self._kept)

    def _read(self, text: str) -> Request:
        mask = self.params.mask_path
        return parse_goal(text, read_picture, read_picture(Path(mask)).max(axis=2) if mask else None)

    def _send_text(self, text: str) -> None:
        try:
            self._kept = self._read(text)
        except UserError as error:
            self._sender.text = str(error)
            self.get_logger().error(str(error))
            return
        self._send(self._kept)

    def _send_record(self, text: str) -> None:
        """A goal of a recording, as the planner told it on ``wm/request``."""
        try:
            record = from_text(text)
        except ValueError as error:
            self._sender.text = str(error)
            self.get_logger().error(f"goal/request: {error}")
            return
        goal, asked = record.goal, record.stages[0] if len(record.stages) == 1 else record.stages
        numbers = {name: getattr(goal, name) for name in ("tolerance_m", "tolerance_rad", "hold_s", "timeout_s", "switch_energy", "switch_hold_s")}
        self._sender.send(asked, record.loop.target, **numbers)  # type: ignore[arg-type]  # several goals are pictures

    def _on_capture(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._live is not None
        if self._live is not None:
            self._kept = PictureGoal(convert.from_image(self._live).image)
        response.message = "kept; goal/go sends it" if response.success else "no picture from the camera yet"
        return response

    def _on_go(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._kept is None:
            response.message = "no goal picture; call goal/capture or publish goal/image_path first"
        elif not self._sender.ready:
            response.message = NO_PLANNER
        else:
            self._send(self._kept)
            response.success, response.message = True, "sent"
        return response

    def _on_cancel(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._sender.cancel()
        response.message = "cancel requested" if response.success else "no goal is running"
        return response

    def _send(self, asked: Request) -> None:
        params = self.params
        self._sender.send(asked, params.target, tolerance_m=params.tolerance_m, timeout_s=params.timeout_s)


def read_picture(file: Path) -> ImageArray:
    """Read a picture file as (H, W, 3) RGB.

    Raises:
        UserError: missing, or not a picture.
    """
    what = "does not exist"
    if file.is_file():
        try:
            return decompress(file.read_bytes())
        except ValueError:
            what = "is not a picture"
    raise UserError(f"goal picture {file} {what}", "give a PNG or JPEG taken with the planner's camera", 2)


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(GoalNode, argv)

if __name__ == "__main__":
    leave(main())
