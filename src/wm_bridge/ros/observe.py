"""What the planner sees besides pictures: joints and references of the moment of a picture."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node

from wm_bridge.core.align import JointHistory
from wm_bridge.core.types import Command, FloatArray, Frame, JointState, Observation
from wm_bridge.ros import convert
from wm_bridge.ros.mailbox import Recent

_ECHO_NS = 200_000_000  # an older echo of hw/command is not planned from


class Observer:
    """Joins pictures with ``joint_states`` and the echo of ``hw/command``.

    Both topics come at control rate and are read once per plan, so they wait in mailboxes. Use it
    in one thread.
    """

    def __init__(self, node: Node) -> None:
        self._joints = Recent(node, "joint_states")
        self._commands = Recent(node, "hw/command")

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
        history = JointHistory()
        for message in self._joints.around(stamp_ns):
            try:
                history.push(convert.from_joint_state(message))
            except ValueError:
                pass  # the safety node counts and reports it
        return history.at(stamp_ns)

    def _reference_at(self, stamp_ns: int) -> FloatArray | None:
        """(J,) what was really sent at that time, else what was sent nearest to it."""
        history, nearest, distance_ns = JointHistory(), None, _ECHO_NS
        for message in self._commands.around(stamp_ns):
            try:
                command = convert.from_command(message)
            except ValueError:
                continue
            rest = np.zeros(len(command.names))
            history.push(JointState(command.names, command.position, command.velocity, rest, command.stamp_ns))
            if abs(stamp_ns - command.stamp_ns) < distance_ns:
                nearest, distance_ns = command.position, abs(stamp_ns - command.stamp_ns)
        echo = history.at(stamp_ns)
        return nearest if echo is None else echo.position
