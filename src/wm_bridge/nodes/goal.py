"""goal_node: goals in words, and pictures from the camera, become ReachGoal goals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from wm_bridge.core.goal_kinds import PictureGoal, Request
from wm_bridge.core.goal_record import from_text
from wm_bridge.core.goal_text import parse_goal
from wm_bridge.core.images import decompress
from wm_bridge.core.types import ImageArray
from wm_bridge.errors import UserError
from wm_bridge.ros import convert, qos
from wm_bridge.ros.diagnostics import OK, Diagnostics
from wm_bridge.ros.goal_sender import NO_PLANNER, GoalSender
from wm_bridge.ros.node import leave, run, subscribe
from wm_bridge.ros.params import declare, setting


@dataclass(frozen=True)
class GoalParams:
    """See the descriptions."""

    image_path: str = setting("", "goal to send once the planner is there: FILE[,FILE2], joints:, pose: or bag:, see core/goal_text.py; empty = none")
    mask_path: str = setting("", "picture of the same size whose black does not count; empty = all counts")
    target: str = setting("hand", "hand, or the name of the object that must match")
    tolerance_m: float = setting(0.0, "distance that counts as there; 0 = the planner's default", 0.0, 1.0)
    timeout_s: float = setting(0.0, "longest attempt; 0 = the planner's default", 0.0, 3600.0)
    image_topic: str = setting("camera/image_raw", "pictures that are planned from: CAMERA/image_raw or CAMERA/image_rect")

    def __post_init__(self) -> None:
        qos.require_pictures(self.image_topic)


class GoalNode(Node):
    """``goal/image_path`` sends a goal in words, ``goal/request`` a recorded one; ``goal/capture`` keeps the camera's picture, ``goal/go`` sends it."""

    def __init__(self) -> None:
        super().__init__("goal")
        self.params = declare(self, GoalParams)
        self._live: Image | None = None
        self._kept: Request | None = None
        self._sender = GoalSender(self)
        subscribe(self, self.params.image_topic, self._on_image)
        subscribe(self, "goal/image_path", lambda message: self._send_text(message.data))
        subscribe(self, "goal/request", lambda message: self._send_record(message.data))
        self.create_service(Trigger, "goal/capture", self._on_capture)
        self.create_service(Trigger, "goal/go", self._on_go)
        self.create_service(Trigger, "goal/cancel", self._on_cancel)
        self.diagnostics = Diagnostics(self, lambda: (OK, "", {"goal": self._sender.text}))
        if self.params.image_path:
            self._kept = self._read(self.params.image_path)
            self._first = self.create_timer(0.5, self._send_first)

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
