"""An arm that ros2_control drives: UR, Franka, Kinova, xArm, OpenManipulator-X, SO-101 and others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wm_bridge.core.joints import find_joints
from wm_bridge.core.types import Command, FloatArray, JointState, Trajectory
from wm_bridge.robots.base import Robot, RobotError
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.robots.trajectories import follow, stop, why_refused

INTERFACES = ("trajectory", "position")


class ControllerLink(Protocol):
    """The way to a controller and back; over ROS it is ``ros/controller_link.py``."""

    def newest(self) -> JointState | None:
        """Newest joint state, any order, other joints allowed; None before the first."""

    def missing(self) -> str:
        """What is not there (joint states are silent, nobody takes commands); "" when all is."""

    def send_trajectory(self, trajectory: Trajectory) -> None:
        """Publish on ``<controller>/joint_trajectory``."""

    def send_positions(self, names: tuple[str, ...], position: FloatArray) -> None:
        """Publish on ``<controller>/commands``."""


@dataclass(frozen=True)
class ControllerSettings:
    """How commands travel.

    Attributes:
        interface: "trajectory" for a joint_trajectory_controller, "position" for a forward_command_controller, which
            neither interpolates nor limits and holds its last value: needs the full control rate.
        lead_ns: a trajectory's first point lies so far ahead; more than the time between two commands.
        dry_run: nothing is sent.
    """

    interface: str = "trajectory"
    lead_ns: int = 30_000_000
    dry_run: bool = True

    def __post_init__(self) -> None:
        if self.interface not in INTERFACES:
            raise ValueError(f"interface must be one of {', '.join(INTERFACES)}, got '{self.interface}'")
        if self.lead_ns <= 0:
            raise ValueError(f"lead must be > 0, got {self.lead_ns} ns")


class Ros2ControlRobot(Robot):
    """Joints matched by name; states keep the stamp they came with.

    Stopping sends where the arm was measured. When that is not known any more, nothing is sent: the last trajectory
    ends in a brake, and a ``forward_command_controller`` holds its last value.
    """

    def __init__(self, spec: RobotSpec, link: ControllerLink, settings: ControllerSettings | None = None) -> None:
        super().__init__(spec)
        self._link, self._settings = link, settings or ControllerSettings()

    def _open(self) -> None:
        missing = self._link.missing()
        if missing:
            raise RobotError(missing, "start the robot's own driver first (ros2 control list_controllers shows what runs)")
        self._measured()

    def trouble(self) -> str:
        """What the link misses."""
        return self._link.missing()

    def _close(self) -> None:
        """The controller goes on holding by itself."""

    def _read(self) -> JointState:
        return self._measured()

    def _write(self, command: Command) -> Command:
        if self._settings.interface == "trajectory":
            self._send(follow(command, self.spec, self._settings.lead_ns))
        elif not self._settings.dry_run:
            self._link.send_positions(command.names, command.position)
        return command

    def _stop(self) -> FloatArray:
        held = self.spec.clip(self._measured().position)
        if self._link.missing():
            return held
        if self._settings.interface == "trajectory":
            self._send(stop(self.spec.joint_names, held))
        elif not self._settings.dry_run:
            self._link.send_positions(self.spec.joint_names, held)
        return held

    def _send(self, trajectory: Trajectory) -> None:
        wrong = why_refused(trajectory, self.spec.joint_names)
        if wrong:
            raise RobotError(f"the controller would refuse this trajectory: {wrong}", "send commands through the safety node")
        if not self._settings.dry_run:
            self._link.send_trajectory(trajectory)

    def _measured(self) -> JointState:
        state = self._link.newest()
        if state is None:
            raise RobotError("no joint state has come", "start the robot's joint_state_broadcaster; check the parameter state_topic")
        lacking = [name for name in self.spec.joint_names if name not in state.names]
        if lacking:
            raise RobotError(f"the joint states lack {lacking}; they have {list(state.names)}", "correct the joints in config/robots")
        place = find_joints(self.spec.joint_names, state.names)
        return JointState(
            self.spec.joint_names, state.position[place], np.nan_to_num(state.velocity[place]), np.nan_to_num(state.effort[place]), state.stamp_ns
        )
