"""The goal as a marker that people drag in RViz; only its menu asks for motion.

Speaks the protocol of RViz's InteractiveMarkers display as it is in ROS 2, since the package interactive_markers is not
among the wheels: the whole state by the service ``get_interactive_markers``, changes on ``update`` with numbers that follow
one another, and what people do on ``feedback``.
"""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import Pose, Quaternion, Vector3
from rclpy.node import Node
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import (
    InteractiveMarker,
    InteractiveMarkerControl,
    InteractiveMarkerFeedback,
    InteractiveMarkerPose,
    InteractiveMarkerUpdate,
    Marker,
    MenuEntry,
)
from visualization_msgs.srv import GetInteractiveMarkers

from wm_bridge.core.pointed import Corners, check_frame, inside
from wm_bridge.core.types import FloatArray
from wm_bridge.ros.node import publisher, subscribe

NAME = "goal"
GO, GO_TURNED, CANCEL = 1, 2, 3
MENU = {GO: "Bring the tool here", GO_TURNED: "Bring it here, turned like this", CANCEL: "Cancel the goal"}
_OTHER_S = 1.0  # after the last word of one person another one may drag
_HALF = 0.5**0.5
# Orientation of a control: its x axis is the one that it moves along and turns about.
_AXES = {"x": (_HALF, 0.0, 0.0, _HALF), "y": (0.0, 0.0, _HALF, _HALF), "z": (0.0, _HALF, 0.0, _HALF)}


class GoalMarker:
    """One marker at a place of the tool.

    Args:
        node: in whose thread everything happens. frame: of places. workspace: the marker stays inside; None = everywhere.
        go: called with (3,) m and a quaternion (4,) x, y, z, w, or None when the orientation is free. cancel: ends the goal.
        say: told why something was refused.
    """

    def __init__(
        self,
        node: Node,
        frame: str,
        workspace: Corners | None,
        go: Callable[[FloatArray, FloatArray | None], None],
        cancel: Callable[[], object],
        say: Callable[[str], None],
    ) -> None:
        self._frame, self._workspace = frame, workspace
        self._go, self._cancel, self._say = go, cancel, say
        self._last: tuple[str, float] = ("", -np.inf)  # who dragged, and when
        self._sequence = 0
        middle = np.zeros(3) if workspace is None else (workspace[0] + workspace[1]) / 2
        self._marker = _marker(frame, middle)
        self._update = publisher(node, "goal/marker/update")
        subscribe(node, "goal/marker/feedback", self.hear)
        node.create_service(GetInteractiveMarkers, "goal/marker/get_interactive_markers", self._on_get)

    @property
    def position(self) -> FloatArray:
        """(3,) m."""
        place = self._marker.pose.position
        return np.array([place.x, place.y, place.z])

    def move(self, position: FloatArray) -> None:
        """Put the marker at (3,) m, inside of the workspace."""
        place = position if self._workspace is None else inside(position, self._workspace)
        pose = self._marker.pose.position
        pose.x, pose.y, pose.z = (float(value) for value in place)
        self._send(poses=[InteractiveMarkerPose(header=self._marker.header, pose=self._marker.pose, name=NAME)])

    def describe(self, text: str) -> None:
        """Show a line above the marker."""
        if text != self._marker.description:
            self._marker.description = text
            self._send(markers=[self._marker])

    def hear(self, message: InteractiveMarkerFeedback) -> None:
        """What somebody did with the marker."""
        if message.marker_name != NAME:
            return
        kind = message.event_type
        if kind == InteractiveMarkerFeedback.MENU_SELECT and message.menu_entry_id == CANCEL:
            self._cancel()
            return
        try:
            check_frame(message.header.frame_id, self._frame)
            place, turn = _numbers(message.pose)
        except ValueError as error:
            self._say(f"goal marker: {error}")
            return
        now = time.monotonic()
        if message.client_id != self._last[0] and now - self._last[1] < _OTHER_S:
            return  # two people at once: the first one keeps it
        self._last = (message.client_id, now)
        if kind == InteractiveMarkerFeedback.POSE_UPDATE:
            self._marker.pose = message.pose
            self._send(poses=[InteractiveMarkerPose(header=self._marker.header, pose=message.pose, name=NAME)])
        elif kind == InteractiveMarkerFeedback.MOUSE_UP:
            self.move(place)
        elif kind == InteractiveMarkerFeedback.MENU_SELECT and message.menu_entry_id in (GO, GO_TURNED):
            self._go(place, turn if message.menu_entry_id == GO_TURNED else None)

    def _on_get(self, _: GetInteractiveMarkers.Request, response: GetInteractiveMarkers.Response) -> GetInteractiveMarkers.Response:
        response.sequence_number, response.markers = self._sequence, [self._marker]
        return response

    def _send(self, markers: list[InteractiveMarker] | None = None, poses: list[InteractiveMarkerPose] | None = None) -> None:
        self._sequence += 1
        update = InteractiveMarkerUpdate(server_id=NAME, seq_num=self._sequence, type=InteractiveMarkerUpdate.UPDATE)
        update.markers, update.poses = markers or [], poses or []
        self._update.publish(update)


def _numbers(pose: Pose) -> tuple[FloatArray, FloatArray]:
    """Position (3,) and quaternion (4,) x, y, z, w.

    Raises:
        ValueError: a number is not finite.
    """
    place, turn = pose.position, pose.orientation
    found = np.array([place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w])
    if not np.isfinite(found).all():
        raise ValueError(f"the pose {found} has numbers that are not finite")
    return found[:3], found[3:]


def _marker(frame: str, position: FloatArray) -> InteractiveMarker:
    """Without a stamp: RViz then keeps it in its own frame, and answers in it."""
    marker = InteractiveMarker(name=NAME, scale=0.15)
    marker.header.frame_id = frame
    place = marker.pose.position
    place.x, place.y, place.z = (float(value) for value in position)
    marker.menu_entries = [MenuEntry(id=number, title=title, command_type=MenuEntry.FEEDBACK) for number, title in MENU.items()]
    body = InteractiveMarkerControl(name="menu", interaction_mode=InteractiveMarkerControl.MENU, always_visible=True)
    body.markers = [_ball(), *(_arrow(axis) for axis in _AXES)]
    marker.controls = [body, *(control for axis in _AXES for control in _handles(axis))]
    return marker


def _handles(axis: str) -> list[InteractiveMarkerControl]:
    x, y, z, w = _AXES[axis]
    turn = Quaternion(x=x, y=y, z=z, w=w)
    kind = InteractiveMarkerControl
    return [
        kind(name=f"move_{axis}", orientation=turn, orientation_mode=kind.FIXED, interaction_mode=kind.MOVE_AXIS),
        kind(name=f"turn_{axis}", orientation=turn, orientation_mode=kind.INHERIT, interaction_mode=kind.ROTATE_AXIS),
    ]


def _ball() -> Marker:
    return Marker(type=Marker.SPHERE, scale=Vector3(x=0.04, y=0.04, z=0.04), color=ColorRGBA(r=1.0, g=0.75, b=0.1, a=0.8))


def _arrow(axis: str) -> Marker:
    """An axis of the tool: red, green, blue for x, y, z."""
    turns = {"x": Quaternion(w=1.0), "y": Quaternion(z=_HALF, w=_HALF), "z": Quaternion(y=-_HALF, w=_HALF)}
    colour = ColorRGBA(r=float(axis == "x"), g=float(axis == "y"), b=float(axis == "z"), a=0.9)
    arrow = Marker(type=Marker.ARROW, scale=Vector3(x=0.07, y=0.008, z=0.008), color=colour)
    arrow.pose.orientation = turns[axis]
    return arrow
