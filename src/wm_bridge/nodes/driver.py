"""driver_node: the only process that touches the robot; in simulation it owns the physics."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from wm_interfaces.msg import SafetyState

from wm_bridge.core.types import Command, FloatArray
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.base import Robot, RobotError
from wm_bridge.robots.fake import FakeRobot
from wm_bridge.ros import convert
from wm_bridge.ros.diagnostics import ERROR, OK, WARN, Diagnostics
from wm_bridge.ros.node import STEADY, leave, publisher, raise_priority, run, subscribe
from wm_bridge.ros.params import declare, setting
from wm_bridge.ros.robot_tf import LinkFrames

_JUMP_RAD = 0.2  # a reference further from the last one than this is not followed
_PICK_UP_RAD = 0.03  # after the arm was placed: commands count again from this close on


@dataclass(frozen=True)
class DriverParams:
    """See the descriptions."""

    robot: str = setting("nico", "name in config/robots or path of a YAML file")
    robot_driver: str = setting("mujoco", "mujoco or fake")
    realtime_factor: float = setting(1.0, "simulated seconds per second", 0.01, 100.0)
    rate_hz: float = setting(100.0, "control and publishing rate, Hz (node time)", 10.0, 1000.0)
    tf_rate_hz: float = setting(20.0, "rate of /tf, Hz (node time)", 0.1, 100.0)
    command_timeout_ms: float = setting(
        100.0, "without hw/command for this long the arm stops by itself, ms", 10.0, 1000.0
    )
    start_joints: list[float] = setting(
        [float("nan")], "simulation: joint positions to start at, rad, in joint order; NaN = home"
    )
    seed: int = setting(0, "of the simulated sensor noise", 0, 2**31 - 1)

    def __post_init__(self) -> None:
        if self.robot_driver not in ("mujoco", "fake"):
            raise ValueError(f"robot_driver must be mujoco or fake, got '{self.robot_driver}'")


class DriverNode(Node):
    """Reads the robot, publishes it, and writes the newest allowed command, once per period.

    Stops the robot (last reference, no velocity) when commands fail to come for
    ``command_timeout_ms``, when they are not for this robot or not finite, when they jump,
    and while more than one node writes ``hw/command``.
    """

    def __init__(self) -> None:
        super().__init__("driver")
        raise_priority(self)
        self.params = declare(self, DriverParams)
        try:
            self.spec = robot_spec.load(self.params.robot)
        except (FileNotFoundError, ValueError) as error:
            raise UserError(str(error), "correct the parameter robot", exit_code=2) from error
        self.robot = self._make_robot()
        self.simulated = self.params.robot_driver in ("mujoco", "fake")
        if not self.simulated and self.get_parameter("use_sim_time").value:
            raise UserError("use_sim_time is set for a real robot", "unset it", exit_code=2)
        self.robot.connect()
        start = np.asarray(self.params.start_joints)
        if np.isfinite(start).all():
            self._place(start)
        self._period_ns = round(1e9 / self.params.rate_hz)
        self._reference: FloatArray = np.array(self.robot.read().position)
        self._newest: Command | None = None
        self._heard_ns = 0
        self._picked_up = True
        self._enabled = False
        self._stopped, self._problem = True, "no command yet"
        self._ticks, self._stops, self._refused = 0, 0, 0
        self._speed = 0.0
        self._speed_mark = (time.monotonic(), 0)
        self._tf_every = max(round(self.params.rate_hz / self.params.tf_rate_hz), 1)

        urdf = self.spec.urdf_path().read_text(encoding="utf-8")
        self._frames = LinkFrames(urdf)
        self._joints = publisher(self, "joint_states")
        self._tf = publisher(self, "/tf")
        self._static = publisher(self, "/tf_static")
        self._static.publish(TFMessage(transforms=self._frames.fixed(0)))
        self._description = publisher(self, "robot_description")
        self._description.publish(String(data=urdf))
        if self.simulated:
            self._clock_out = publisher(self, "/clock")
            self._state_out = publisher(self, "sim/state")
            subscribe(self, "sim/set_joints", self._on_set_joints)
            self.create_service(Trigger, "sim/reset", self._on_reset)
            subscribe(self, "safety/state", self._on_safety_state)
        subscribe(self, "hw/command", self._on_command)
        self.diagnostics = Diagnostics(self, self._details)
        self._command_rate = self.diagnostics.rate("hw/command", timeout_s=1.0)
        self._writers = 0
        self.create_timer(0.1, self._count_writers, clock=STEADY)
        scale = self.params.realtime_factor if self.simulated else 1.0
        self.create_timer(self._period_ns * 1e-9 / scale, self._tick, clock=STEADY)
        self._timeout_ns = round(self.params.command_timeout_ms * 1e6 / scale)

    def stop(self) -> None:
        """Stop the arm and release the robot."""
        self.robot.disconnect()

    # Once per period ----------------------------------------------------------------------

    def _tick(self) -> None:
        self._write()
        if self.simulated:
            self.robot.advance(self._period_ns * 1e-9)  # type: ignore[attr-defined]
        state = self.robot.read()
        if self.simulated:
            self._clock_out.publish(convert.to_clock(self.robot.time_ns))  # type: ignore[attr-defined]
        self._joints.publish(convert.to_joint_state(state))
        if self.params.robot_driver == "mujoco":
            self._state_out.publish(convert.to_numbers(self.robot.world.state().to_array()))  # type: ignore[attr-defined]
        if self._ticks % self._tf_every == 0:
            transforms = self._frames.moving(state.names, state.position, state.stamp_ns)
            self._tf.publish(TFMessage(transforms=transforms))
        self._ticks += 1

    def _write(self) -> None:
        """Send the newest command if it may be followed, else hold the last reference."""
        age_ns = time.monotonic_ns() - self._heard_ns
        command = self._newest
        if self._writers > 1:
            self._hold(f"{self._writers} nodes write hw/command; only the safety node may")
        elif command is None:
            self._hold(self._problem or "no command yet")
        elif age_ns > self._timeout_ns:
            self._hold(f"no hw/command for {age_ns * 1e-6:.0f} ms; is the safety node running?")
        else:
            self._reference = np.array(self.robot.write(command).position)
            self._stopped, self._problem = False, ""

    def _hold(self, why: str) -> None:
        if not self._stopped:
            self._stops += 1
            self.get_logger().warning(f"stopped by the driver: {why}", throttle_duration_sec=1.0)
            self.robot.stop()
            self._reference = np.array(self.robot.world.reference if self.params.robot_driver == "mujoco" else self._reference)  # type: ignore[attr-defined]
        self._stopped, self._problem, self._newest = True, why, None

    # What comes in ------------------------------------------------------------------------

    def _on_command(self, message: JointStateMsg) -> None:
        self._command_rate.mark()
        why, command = "", None
        try:
            command = convert.from_command(message)
        except ValueError as error:
            why = f"malformed hw/command: {error}"
        if command is not None:
            why = self._why_not(command)
        if why:
            self._refused += 1
            self._hold(why)
            self.get_logger().warning(f"refused: {why}", throttle_duration_sec=1.0)
            return
        self._newest, self._heard_ns = command, time.monotonic_ns()

    def _why_not(self, command: Command) -> str:
        if command.names != self.spec.joint_names:
            return f"hw/command names {list(command.names)}, expected {list(self.spec.joint_names)}"
        if not (np.isfinite(command.position).all() and np.isfinite(command.velocity).all()):
            return "hw/command is not finite"
        distance = float(np.abs(command.position - self._reference).max())
        if not self._picked_up:
            if distance > _PICK_UP_RAD:
                return f"the arm was placed; commands are {distance:.2f} rad away, reset the safety node"
            self._picked_up = True
        if distance > _JUMP_RAD:
            return f"hw/command jumps by {distance:.2f} rad; reset the safety node"
        return ""

    def _on_safety_state(self, message: SafetyState) -> None:
        self._enabled = bool(message.enabled)

    def _count_writers(self) -> None:
        self._writers = self.count_publishers("hw/command")

    # Simulation only ----------------------------------------------------------------------

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self._try_place(self.spec.home)
        return response

    def _on_set_joints(self, message: JointStateMsg) -> None:
        q = self.spec.home.copy()
        unknown = [name for name in message.name if name not in self.spec.joint_names]
        if unknown or len(message.name) != len(message.position):
            self.get_logger().warning(f"sim/set_joints refused: unknown {unknown} or lengths differ")
            return
        for name, value in zip(message.name, message.position, strict=True):
            q[self.spec.index(name)] = value
        done, text = self._try_place(q)
        if not done:
            self.get_logger().warning(f"sim/set_joints refused: {text}")

    def _try_place(self, q: FloatArray) -> tuple[bool, str]:
        if self._enabled:
            return False, "the safety node is enabled; call safety/enable with false first"
        if self.params.robot_driver != "mujoco":
            return False, "only the simulated robot can be placed"
        if not np.isfinite(q).all():
            return False, "joint positions are not finite"
        self._place(q)
        self._reference = np.array(self.robot.world.reference)  # type: ignore[attr-defined]
        self._newest, self._picked_up = None, False
        return True, "placed; now safety/reset, then safety/enable"

    def _place(self, q: FloatArray) -> None:
        """Put the arm and the objects at their start; simulated time goes on."""
        if self.params.robot_driver != "mujoco":
            raise UserError("start_joints needs robot_driver mujoco", "unset start_joints", 2)
        world = self.robot.world  # type: ignore[attr-defined]
        time_ns = world.time_ns
        try:
            world.reset(q)
        except ValueError as error:
            raise UserError(f"start_joints: {error}", "one angle per joint, in joint order", 2) from error
        world.load_state(dataclasses.replace(world.state(), time_ns=time_ns))
        self.robot.restart()  # type: ignore[attr-defined]

    def _make_robot(self) -> Robot:
        if self.params.robot_driver == "fake":
            return FakeRobot(self.spec)
        from wm_bridge.robots.mujoco import MujocoRobot

        return MujocoRobot(self.spec, seed=self.params.seed)

    def _details(self) -> tuple[int, str, dict[str, str]]:
        now, ticks = time.monotonic(), self._ticks
        before, ticks_before = self._speed_mark
        self._speed_mark = (now, ticks)
        self._speed = (ticks - ticks_before) * self._period_ns * 1e-9 / max(now - before, 1e-6)
        level = ERROR if self._writers > 1 else WARN if self._stopped else OK
        values = {
            "realtime factor": f"{self._speed:.2f}",
            "stops by the driver": str(self._stops),
            "refused commands": str(self._refused),
            "writers of hw/command": str(self._writers),
            "measured at [s]": f"{self.robot.read().stamp_ns * 1e-9:.2f}",
        }
        return level, self._problem, values


def _make() -> DriverNode:
    try:
        return DriverNode()
    except RobotError as error:
        raise UserError(error.message, error.remedy, 2) from error


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(_make, argv)

if __name__ == "__main__":
    leave(main())
