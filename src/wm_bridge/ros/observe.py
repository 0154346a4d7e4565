"""What the planner sees besides pictures: joints and references of the moment of a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rclpy.node import Node

from wm_bridge.core.observe import joints_at, reference_at
from wm_bridge.core.types import Command, FloatArray, Frame, JointState, Observation
from wm_bridge.ros import convert
from wm_bridge.ros.mailbox import Recent

Value = TypeVar("Value")


class Observer:
    """Joins pictures with ``joint_states`` and the echo of ``hw/command``.

    Both topics come at control rate and are read once per plan, so they wait in mailboxes. Use it
    in one thread.

    Args:
        node: owns the subscriptions. command_topic: where ``hw/command`` is heard.
    """

    def __init__(self, node: Node, command_topic: str = "hw/command") -> None:
        self._joints = Recent(node, "joint_states")
        self._commands = Recent(node, "hw/command", topic=command_topic)

    def observe(self, frame: Frame) -> Observation | str:
        """The observation of a picture, or what is missing for it (it may be on its way)."""
        joints = self._joints_at(frame.stamp_ns)
        if joints is None:
            return "no joint_states of the picture's time"
        reference = self._reference_at(frame.stamp_ns)
        if reference is None:
            return "no hw/command of the picture's time"
        return Observation(frame, joints, reference)

    def prepare(self) -> None:
        """Fetch what has come while there is time: each message costs 40 us, a picture finds few left."""
        self._joints.collect()
        self._commands.collect()

    def newest_command(self) -> Command | None:
        """What was sent to the hardware last; None when nothing (readable) was."""
        message = self._commands.newest()
        try:
            return None if message is None else convert.from_command(message)
        except ValueError:
            return None

    def _joints_at(self, stamp_ns: int) -> JointState | None:
        return joints_at(_readable(convert.from_joint_state, self._joints.around(stamp_ns)), stamp_ns)

    def _reference_at(self, stamp_ns: int) -> FloatArray | None:
        return reference_at(_readable(convert.from_command, self._commands.around(stamp_ns)), stamp_ns)


def _readable(read: Callable[[Any], Value], messages: Iterable[Any]) -> Iterator[Value]:
    """The values of messages; damaged ones are left out: the safety node counts and reports them."""
    for message in messages:
        try:
            yield read(message)
        except ValueError:
            pass
