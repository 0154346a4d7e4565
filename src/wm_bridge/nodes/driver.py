"""driver_node: the only process that touches the robot; in simulation it owns the physics."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage

from wm_bridge.core.types import FloatArray
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.base import Robot, RobotError
from wm_bridge.robots.fake import FakeRobot
from wm_bridge.robots.follower import COMMAND_TIMEOUT_MS, Follower
from wm_bridge.robots.gate import Arrival, CommandGate, Refusal, Writer
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.ros import convert, realtime
from wm_bridge.ros.diagnostics import ERROR, OK, WARN, Diagnostics
from wm_bridge.ros.mailbox import Mailbox
from wm_bridge.ros.node import STEADY, leave, now_ns, publisher, run, subscribe
from wm_bridge.ros.params import declare, setting
from wm_bridge.ros.robot_tf import LinkFrames

_WRITERS_S = 0.05  # how often the publishers of hw/command are looked at; and at every new match
_HEALTH_S = 0.1  # how often the motors' health is told, where the robot knows it
_FUTURE_NS = 20_000_000  # a command may be stamped this far ahead of node time


SIMULATED = ("mujoco", "fake")
SERVOS = ("dynamixel", "nico")  # two names of one driver
DRIVERS = (*SIMULATED, *SERVOS, "ros2_control")


@dataclass(frozen=True)
class DriverParams:
    """See the descriptions."""

    robot: str = setting("nico", "name in config/robots or path of a YAML file")
    robot_driver: str = setting(
        "mujoco", "mujoco, fake, dynamixel (also nico): servos on one or more buses, ros2_control: an arm with a driver of its own; empty = as in the robot's YAML"
    )
    port: str = setting("", "dynamixel: serial device (/dev/serial/by-id/...), one per motors file, with commas; sim: simulated buses; empty = sim in a dry run")
    motors: str = setting("", "dynamixel: name in config/motors or path of your verified YAML file, one per cable, with commas; empty = as in the robot's YAML")
    dry_run: bool = setting(True, "real arms: read only; nothing that moves a motor is sent")
    tf_prefix: str = setting("", "before the names of all frames, for two arms in one graph: left/")
    controller: str = setting("", "ros2_control: name of the controller that takes the commands; empty = as in the robot's YAML")
    controller_interface: str = setting(
        "", "ros2_control: trajectory (joint_trajectory_controller) or position (forward_command_controller); empty = as in the robot's YAML"
    )
    controller_lead_ms: float = setting(30.0, "ros2_control: a trajectory's first point lies so far ahead, ms", 5.0, 500.0)
    controller_wait_s: float = setting(10.0, "ros2_control: how long the arm's own driver is waited for, s", 0.1, 600.0)
    state_topic: str = setting("", "ros2_control: where the arm's own driver publishes its joints; empty = as in the robot's YAML, or /joint_states")
    realtime: bool = setting(True, "ask for real-time scheduling and locked memory; what cannot be had is a WARN")
    realtime_factor: float = setting(1.0, "simulated seconds per second", 0.01, 100.0, unit="s per s")
    rate_hz: float = setting(100.0, "control and publishing rate, Hz (node time)", 10.0, 1000.0)
    tf_rate_hz: float = setting(20.0, "rate of /tf, Hz (node time)", 0.1, 100.0)
    command_timeout_ms: float = setting(
        COMMAND_TIMEOUT_MS, "without hw/command for this long the arm stops by itself, ms", 10.0, 1000.0
    )
    command_max_age_ms: float = setting(
        100.0, "hw/command with an older stamp is refused, ms (node time)", 10.0, 1000.0
    )
    safety_node: str = setting("safety", "name of the only node that may write hw/command")
    start_joints: list[float] = setting(
        [float("nan")], "simulation: joint positions to start at, in joint order; NaN = home", unit="rad"
    )
    seed: int = setting(0, "of the simulated sensor noise", 0, 2**31 - 1, unit="1")

    def __post_init__(self) -> None:
        if self.robot_driver not in ("", *DRIVERS):
            raise ValueError(f"robot_driver must be one of {', '.join(DRIVERS)}, got '{self.robot_driver}'")
        if self.controller_interface not in ("", "trajectory", "position"):
            raise ValueError(f"controller_interface must be trajectory or position, got '{self.controller_interface}'")

    def of(self, robot: RobotSpec) -> DriverParams:
        """The same with what is left empty taken from the robot's YAML.

        Raises:
            ValueError: nobody says which driver, or a bus without a port would be driven.
        """
        usual = {"controller": "joint_trajectory_controller", "controller_interface": "trajectory", "state_topic": "/joint_states", **robot.driver}
        found = dataclasses.replace(self, **{name: value for name, value in usual.items() if not getattr(self, name)})
        if not found.robot_driver:
            raise ValueError(f"config/robots/{robot.name}.yaml names no robot_driver; give one of {', '.join(DRIVERS)}")
        if found.robot_driver not in SERVOS:
            return found
        if not found.port and not found.dry_run:
            raise ValueError("dry_run is false and port is empty: give the serial device (ls /dev/serial/by-id), or sim")
        if not found.motors:
            raise ValueError(f"config/robots/{robot.name}.yaml names no motors; give the motors file of each cable")
        return dataclasses.replace(found, port=found.port or "sim")


class DriverNode(Node):
    """Reads the robot, publishes it, and writes the newest allowed command, once per period.

    ``CommandGate`` says whose commands count, ``Follower`` what is done with them.
    """

    def __init__(self) -> None:
        super().__init__("driver")
        self.params = declare(self, DriverParams)
        try:
            self.spec = robot_spec.load(self.params.robot)
            self.params = self.params.of(self.spec)
        except (FileNotFoundError, ValueError) as error:
            raise UserError(str(error), "correct the parameters of the driver (config/graph.yaml, config/robots)", exit_code=2) from error
        self.robot = self._make_robot()
        self.simulated = self.params.robot_driver in SIMULATED
        if not self.simulated and self.get_parameter("use_sim_time").value:
            raise UserError("use_sim_time is set for a real robot", "unset it", exit_code=2)
        self.robot.connect()
        start = np.asarray(self.params.start_joints)
        if np.isfinite(start).all():
            self._place(start)
        self._period_ns = round(1e9 / self.params.rate_hz)
        self._enabled = False
        self._ticks, self._beats, self._beat_following = 0, 0, False
        self._told_ns = 0
        self._speed = 0.0
        self._speed_mark = (time.monotonic(), 0)
        self._tf_every = max(round(self.params.rate_hz / self.params.tf_rate_hz), 1)

        urdf = self.spec.urdf_path().read_text(encoding="utf-8")
        self._frames = LinkFrames(urdf, self.params.tf_prefix)
        self._joints = publisher(self, "joint_states")
        self._tf = publisher(self, "/tf")
        self._static = publisher(self, "/tf_static")
        self._static.publish(TFMessage(transforms=self._frames.fixed(0)))
        self._description = publisher(self, "robot_description")
        self._description.publish(String(data=urdf))
        # Read at the moment of the question: a callback might run after that of a service called later.
        self._safety = Mailbox(self, "safety/state", 10)
        if self.simulated:
            self._clock_out = publisher(self, "/clock")
            self._state_out = publisher(self, "sim/state")
            subscribe(self, "sim/set_joints", self._on_set_joints)
            self.create_service(Trigger, "sim/reset", self._on_reset)
        scale = self.params.realtime_factor if self.simulated else 1.0
        self._gate = CommandGate(
            session=secrets.randbelow(1 << 53) + 1,
            node=self.params.safety_node,
            namespace=self.get_namespace(),
            max_age_ns=round(self.params.command_max_age_ms * 1e6 * max(scale, 1.0)),
            future_ns=_FUTURE_NS,
            equal_stamps=self.simulated,
        )
        timeout_ns = round(self.params.command_timeout_ms * 1e6 / min(scale, 1.0))
        self._follower = Follower(self.robot, self._gate, timeout_ns, self._period_ns * 1e-9)
        self._missed, self._unsaid = 0, ""
        self._heartbeat = publisher(self, "driver/heartbeat")
        self._health = publisher(self, "driver/health")
        self.create_timer(_HEALTH_S, self._report_health, clock=STEADY)
        events = SubscriptionEventCallbacks(
            deadline=self._on_deadline, matched=self._on_matched, use_default_callbacks=False
        )
        subscribe(self, "hw/command", self._on_command, events)
        self.create_service(Trigger, "driver/reset", self._on_driver_reset)
        self._hands = getattr(self.robot, "hands", {})
        if self._hands:
            self.create_service(SetBool, "driver/close_right_hand", lambda asked, answer: self._on_hand("right", asked, answer))
            self.create_service(SetBool, "driver/close_left_hand", lambda asked, answer: self._on_hand("left", asked, answer))
        self.diagnostics = Diagnostics(self, self._details)
        self._command_rate = self.diagnostics.rate("hw/command", timeout_s=1.0)
        self._writers = -1
        self.create_timer(_WRITERS_S, self._watch_writers, clock=STEADY)
        self.create_timer(0.2, self._say, clock=STEADY)
        self.create_timer(self._period_ns * 1e-9 / scale, self._tick, clock=STEADY)
        self._lacking = realtime.enter() if self.params.realtime else realtime.SWITCHED_OFF
        realtime.freeze_garbage()

    def stop(self) -> None:
        """Stop the arm and release the robot."""
        self.robot.disconnect()

    # Once per period ----------------------------------------------------------------------

    def _tick(self) -> None:
        was_following = self._follower.following
        self._follower.step(time.monotonic_ns())
        if was_following and not self._follower.following:
            self._beat()
            self._unsaid = f"stopped by the driver: {self._follower.problem}"
        if self.simulated:
            self.robot.advance(self._period_ns * 1e-9)  # type: ignore[attr-defined]
        state = self.robot.read()
        if self.simulated:
            self._clock_out.publish(convert.to_clock(self.robot.time_ns))  # type: ignore[attr-defined]
        if self.params.robot_driver == "mujoco":  # early: the camera draws it while the rest is sent
            self._state_out.publish(convert.to_numbers(self.robot.world.state().to_array()))  # type: ignore[attr-defined]
        if self.simulated or state.stamp_ns > self._told_ns:  # what was not measured anew is not told anew
            self._told_ns = state.stamp_ns
            self._joints.publish(convert.to_joint_state(state))
        if self._ticks % 2 == 0 or self._follower.following != self._beat_following:
            self._beat()
        if self._ticks % self._tf_every == 0:
            transforms = self._frames.moving(state.names, state.position, state.stamp_ns)
            self._tf.publish(TFMessage(transforms=transforms))
        self._ticks += 1

    def _beat(self) -> None:
        self._beats += 1
        self._beat_following = self._follower.following
        self._heartbeat.publish(
            convert.to_heartbeat(
                self._gate, self._beats, self._follower.following, self._follower.problem, self._now_ns()
            )
        )

    def _report_health(self) -> None:
        for name, hand in self._hands.items():
            if self._why_no_hand(name):
                hand.halt()
        health = self.robot.health()
        if health is not None:
            self._health.publish(convert.to_joint_health(health, self.spec.joint_names, self._now_ns()))

    def _now_ns(self) -> int:
        """Node time; in simulation this node makes it."""
        return int(self.robot.time_ns) if self.simulated else now_ns(self)  # type: ignore[attr-defined]

    def _say(self) -> None:
        """One line in the log, outside of the control path: the first one of a process takes 40 ms."""
        text, self._unsaid = self._unsaid, ""
        if text:
            self.get_logger().warning(text, throttle_duration_sec=1.0)

    # What comes in ------------------------------------------------------------------------

    def _on_command(self, message: JointStateMsg, info: Mapping[str, Any]) -> None:
        self._command_rate.mark()
        command, ticket, malformed = None, None, ""
        try:
            ticket = convert.from_ticket(message)
            command = convert.from_command(message)
        except ValueError as error:
            malformed = f"malformed hw/command: {error}"
        gid = info.get("publisher_gid")
        received_ns = info.get("received_timestamp") or 0
        arrival = Arrival(
            ticket,
            convert.from_time(message.header.stamp),
            queued_ns=time.time_ns() - received_ns if received_ns else 0,
            sequence=info.get("publication_sequence_number"),
            gid=_hex(gid) if gid is not None else None,
        )
        was_following = self._follower.following
        why = self._follower.offer(command, arrival, self._now_ns(), time.monotonic_ns(), malformed)
        if why:
            self._unsaid = f"refused: {why}"
            if was_following and not self._follower.following:
                self._beat()

    def _on_deadline(self, _: object) -> None:
        self._missed += 1

    def _on_matched(self, _: object) -> None:
        self._writers = -1
        self._watch_writers()

    def _watch_writers(self) -> None:
        """Counting is cheap; who they are is asked while it changes or is not known yet."""
        count = self.count_publishers("hw/command")
        if count == self._writers:
            return
        infos = self.get_publishers_info_by_topic(self.resolve_topic_name("hw/command"))
        found = [Writer(_hex(info.endpoint_gid), info.node_name, info.node_namespace) for info in infos]
        known = self._gate.writers(found) is not Refusal.NOT_IDENTIFIED or not found
        self._writers = len(found) if known else -1

    def _on_driver_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        wrong = self._gate.reset()
        response.success = wrong is Refusal.NONE
        response.message = "open" if response.success else f"refused: hw/command is {wrong.value}"
        return response

    def _is_enabled(self) -> bool:
        """What the safety node said last."""
        for message, _ in self._safety.take():
            self._enabled = bool(message.enabled)
        return self._enabled

    def _why_no_hand(self, name: str) -> str:
        """Fingers are not filtered, so they move only while the safety node is enabled and followed; "" when they may."""
        if name not in self._hands:
            return "there is no such hand"
        if self.params.dry_run:
            return "dry_run is set"
        if not self._follower.following:
            return self._follower.problem
        return "" if self._is_enabled() else "the safety node is not enabled"

    def _on_hand(self, name: str, asked: SetBool.Request, answer: SetBool.Response) -> SetBool.Response:
        why = self._why_no_hand(name)
        if why:
            answer.success, answer.message = False, f"refused: {why}"
            return answer
        self._hands[name].move(1.0 if asked.data else 0.0)
        answer.success, answer.message = True, "closing until it grips" if asked.data else "opening"
        return answer

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
        if self._is_enabled():
            return False, "the safety node is enabled; call safety/enable with false first"
        if self.params.robot_driver != "mujoco":
            return False, "only the simulated robot can be placed"
        if not np.isfinite(q).all():
            return False, "joint positions are not finite"
        self._place(q)
        self._follower.placed(self.robot.world.reference)  # type: ignore[attr-defined]
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
        if self.params.robot_driver in SERVOS:
            from wm_bridge.robots.dynamixel.cables import on_cables
            from wm_bridge.robots.dynamixel.robot import BusSettings

            return on_cables(self.spec, BusSettings(self.params.port, self.params.motors, self.params.dry_run, self.params.rate_hz))
        if self.params.robot_driver == "ros2_control":
            from wm_bridge.robots.ros2_control import ControllerSettings, Ros2ControlRobot
            from wm_bridge.ros.controller_link import ControllerLink

            params = self.params
            settings = ControllerSettings(params.controller_interface, round(params.controller_lead_ms * 1e6), params.dry_run)
            link = ControllerLink(self, params.state_topic, params.controller, settings.interface, params.controller_wait_s)
            return Ros2ControlRobot(self.spec, link, settings)
        from wm_bridge.robots.mujoco import MujocoRobot

        return MujocoRobot(self.spec, seed=self.params.seed)

    def _details(self) -> tuple[int, str, dict[str, str]]:
        now, ticks = time.monotonic(), self._ticks
        before, ticks_before = self._speed_mark
        self._speed_mark = (now, ticks)
        self._speed = (ticks - ticks_before) * self._period_ns * 1e-9 / max(now - before, 1e-6)
        follower = self._follower
        latched = self._gate.latched is not Refusal.NONE
        level = ERROR if latched else OK if follower.following and not self._lacking else WARN
        values = {
            "realtime factor": f"{self._speed:.2f}",
            "stops by the driver": str(follower.stops),
            "refused commands": str(follower.refused),
            "missed deadlines of hw/command": str(self._missed),
            "writers of hw/command": str(self.count_publishers("hw/command")),
            "measured at [s]": f"{self.robot.read().stamp_ns * 1e-9:.2f}",
        }
        notes = [*getattr(self.robot, "warnings", ())]
        if self.params.robot_driver in SERVOS:
            values |= self.robot.details()  # type: ignore[attr-defined]
        if not self.simulated and self.params.dry_run:
            notes.append("dry run: nothing is sent")
        if self.params.port == "sim":
            notes.append("simulated servos (port: sim): this is not the robot")
        level = WARN if level == OK and notes else level
        return level, "; ".join(filter(None, [follower.problem, *notes, *self._lacking])), values


def _hex(gid: Any) -> str:
    """Identity of a publisher as text; rclpy gives bytes or a list, short or padded."""
    return bytes(gid).hex().rstrip("0")


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
