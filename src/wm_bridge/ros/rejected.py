"""Interventions of the safety node as an arrow: where the tool was to go, and where it is brought instead."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

from typing import Any

import numpy as np
from trajectory_msgs.msg import JointTrajectory
from wm_interfaces.msg import SafetyInterventions

from wm_bridge.core.joints import find_joints
from wm_bridge.core.types import FloatArray, Reason, SafetyMode
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.ros import convert
from wm_bridge.ros.markers import Rejected

_PLAN_NS = 1_000_000_000  # an older plan is not what was rejected
_SEEN_RAD = 1e-4  # of any joint; a smaller change is none


class Rejections:
    """Follows ``wm/action`` and ``safety/interventions``.

    Args:
        spec: robot. arm: whose tool is shown; "" = its first.

    Raises:
        ValueError: it has no such arm.
    """

    def __init__(self, spec: RobotSpec, arm: str) -> None:
        name = arm or next(iter(spec.tools), "")
        if name not in spec.tools:
            raise ValueError(f"robot {spec.name} has no arm {name!r} with a tool; it has {list(spec.tools)}")
        self._spec, self._tool = spec, spec.tools[name]
        self._kinematics: Any = None
        self._plan: tuple[int, tuple[str, ...], FloatArray] | None = None  # stamp, joints, last way point

    def plan(self, message: JointTrajectory) -> None:
        """Note where a plan leads; one that makes no sense is left out."""
        if message.points and len(message.points[-1].positions) == len(message.joint_names):
            self._plan = (convert.from_time(message.header.stamp), tuple(message.joint_names), np.array(message.points[-1].positions))

    def of(self, message: SafetyInterventions) -> Rejected | None:
        """The last tick of a message in which something was changed; None when there is none, or it cannot be read."""
        count, joints = len(message.stamp_ns), len(message.joint_names)
        if not count or not len(message.mode) == len(message.reasons) == count or not len(message.before) == len(message.after) == count * joints:
            return None
        before, after = (np.array(values).reshape(count, joints) for values in (message.before, message.after))
        changed = np.flatnonzero(np.abs(after - before).max(axis=1) > _SEEN_RAD)
        if not len(changed):
            return None
        row = int(changed[-1])
        try:
            there = self._hand(message.joint_names, after[row])
            wanted = self._wanted(message, row, before[row], after[row])
        except ValueError:
            return None
        mode = SafetyMode(int(message.mode[row])).name if int(message.mode[row]) in set(SafetyMode) else ""
        return Rejected(there, wanted, mode, ", ".join(convert.reason_names(Reason(int(message.reasons[row])))))

    def _wanted(self, message: SafetyInterventions, row: int, before: FloatArray, after: FloatArray) -> FloatArray:
        """(3,) m: the end of a plan that is followed just now, else what was asked for in that tick."""
        names = list(message.joint_names)
        if self._plan is None or not 0 <= int(message.stamp_ns[row]) - self._plan[0] < _PLAN_NS:
            return self._hand(names, before)
        aim = after.copy()
        aim[find_joints(self._plan[1], names)] = self._plan[2]
        return self._hand(names, aim)

    def _hand(self, names: list[str], q: FloatArray) -> FloatArray:
        if self._kinematics is None:  # pinocchio is loaded when it is needed: the graph starts without
            from wm_bridge.core.kinematics import Kinematics

            self._kinematics = Kinematics(self._spec)
        places = self._spec.home.copy()
        places[find_joints(names, self._spec.joint_names)] = q
        return np.array(self._kinematics.forward(places, self._tool)[:3, 3])
