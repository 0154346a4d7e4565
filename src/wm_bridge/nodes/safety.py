"""safety_node: everything the planner proposes passes here; the only writer of hw/command."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMsg
from sensor_msgs.msg import Range
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory
from wm_interfaces.msg import Heartbeat, JointHealth, PlanReport
from wm_interfaces.srv import AddObstacle, RemoveObstacle

from wm_bridge.core.images import digest
from wm_bridge.core.types import Command, JointState, Reason, SafetyMode, Trajectory
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.gate import Ticket
from wm_bridge.robots.watch import Beat, DriverWatch
from wm_bridge.ros import convert, obstacles, qos, realtime
from wm_bridge.ros.diagnostics import ERROR, OK, WARN, Diagnostics
from wm_bridge.ros.node import STEADY, leave, now_ns, publisher, run, subscribe
from wm_bridge.ros.params import declare, setting
from wm_bridge.ros.safety_log import to_interventions, to_journal
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.answers import Answer
from wm_bridge.safety.health import Health
from wm_bridge.safety.journal import JournaledFilter

_CALM_S = 0.5  # between two tries of auto_enable
_JOURNAL_S = 0.25  # between two looks into the filter's notes
_PLACED_RAD = 0.05  # measured further from the output than this at reset: begin anew there


@dataclass(frozen=True)
class SafetyParams:
    """See the descriptions."""

    robot: str = setting("nico", "name in config/robots or path of a YAML file")
    tf_prefix: str = setting("", "before the names of all frames, for two arms in one graph: left/")
    image_topic: str = setting("camera/image_raw", "pictures that are planned from: CAMERA/image_raw or CAMERA/image_rect")
    config: str = setting(
        "", "path of a safety YAML; empty = the one that the robot's YAML names. While running: one that is nowhere looser", fixed=False
    )
    rate_hz: float = setting(0.0, "ticks and outputs per second of node time; 0 = as in the safety YAML", 0.0, 1000.0)
    realtime: bool = setting(True, "ask for real-time scheduling and locked memory; what cannot be had is a WARN")
    realtime_factor: float = setting(1.0, "as of the driver, simulation only", 0.01, 100.0, unit="s per s")
    auto_enable: bool = setting(
        False, "simulation only: reset and enable by itself, again and again until the first plan"
    )

    def __post_init__(self) -> None:
        qos.require_pictures(self.image_topic)


class SafetyNode(Node):
    """Wires ``SafetyFilter``: one tick per period on the steady clock, watchdogs included."""

    def __init__(self) -> None:
        super().__init__("safety")
        self.params = declare(self, SafetyParams)
        simulated = bool(self.get_parameter("use_sim_time").value)
        if self.params.auto_enable and not simulated:
            raise UserError(
                "auto_enable is set outside of the simulation", "enable by hand: safety/enable", 2
            )
        try:
            self.spec = robot_spec.load(self.params.robot)
            self.config = self._settings(self.params.config)
            self._filter = JournaledFilter(self.spec, self.config)
        except (OSError, ValueError) as error:
            raise UserError(str(error), "correct config/safety.yaml or config/robots", 2) from error
        self._frame = self.params.tf_prefix + self.spec.base_frame
        self._speed = self.params.realtime_factor if simulated else 1.0
        self._sequence = 0
        self._session, self._counter, self._epoch = secrets.randbelow(1 << 53) + 1, 0, 0
        self._driver = DriverWatch()
        self._source_ns = 0
        self._last: Command | None = None
        self._measured: JointState | None = None
        self._auto = self.params.auto_enable
        self._calm = 0  # ticks in a row without a latch cause, for auto_enable
        self._shown: tuple[object, ...] = ()
        self._shown_at = 0.0
        self._late, self._tick_at = 0, 0
        self._writers = 1

        self._command = publisher(self, "hw/command")
        self._verdict = publisher(self, "safety/verdict")
        self._state = publisher(self, "safety/state")
        self._journal = publisher(self, "safety/journal")
        self._interventions = publisher(self, "safety/interventions")
        subscribe(self, "joint_states", self._on_joints)
        subscribe(self, "driver/heartbeat", self._on_heartbeat)
        subscribe(self, self.params.image_topic, self._on_image)
        subscribe(self, "driver/health", self._on_health)
        subscribe(self, "wm/report", self._on_report)
        subscribe(self, "safety/human_distance", self._on_human)
        subscribe(self, "safety/deadman", self._on_deadman)
        subscribe(self, "wm/action", self._on_action)
        self.create_service(Trigger, "safety/stop", self._on_stop)
        self.create_service(Trigger, "safety/reset", self._on_reset)
        self.create_service(SetBool, "safety/enable", self._on_enable)
        self.create_service(SetBool, "safety/reduced", self._on_reduced)
        self.create_service(AddObstacle, "safety/add_obstacle", self._on_add_obstacle)
        self.create_service(RemoveObstacle, "safety/remove_obstacle", self._on_remove_obstacle)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._obstacles = publisher(self, "safety/obstacles")
        self.diagnostics = Diagnostics(self, self._details)
        self._joint_rate = self.diagnostics.rate("joint_states", timeout_s=1.0, required=True)
        self._image_rate = self.diagnostics.rate(self.params.image_topic, timeout_s=1.0)
        self._action_rate = self.diagnostics.rate("wm/action")
        self._tick_rate = self.diagnostics.rate("ticks", 0.8 * self._speed / self.config.dt)
        self._tick_ns = round(self.config.period_ms * 1e6 / self._speed)
        self.create_timer(self._tick_ns * 1e-9, self._tick, clock=STEADY)
        self.create_timer(0.05, self._show, clock=STEADY)
        self.create_timer(0.1, self._count_writers, clock=STEADY)
        self.create_timer(_JOURNAL_S, self._tell_notes, clock=STEADY)
        self._lacking = realtime.enter() if self.params.realtime else realtime.SWITCHED_OFF
        realtime.freeze_garbage()

    def stop(self) -> None:
        """Say a last time: stand still. Called while publishing is still possible."""
        self._filter.stop("safety node is stopping")
        for _ in range(100):  # the whole brake, one output per period as always
            self._tick()
            if self._last is None or not self._last.velocity.any():
                break
            time.sleep(self._tick_ns * 1e-9)
        self._show()
        self._tell_notes()
        for last_word in (self._command, self._verdict, self._state, self._journal):
            last_word.wait_for_all_acked(Duration(seconds=0.5))

    # Time ---------------------------------------------------------------------------------

    def _now(self) -> tuple[int, int]:
        """Node time, and the steady clock in node-time speed (watchdogs count node seconds)."""
        return now_ns(self), round(time.monotonic_ns() * self._speed)

    # Once per period ----------------------------------------------------------------------

    def _tick(self) -> None:
        now, steady = self._now()
        command, verdict = self._filter.tick(now, steady)
        if command is not None:
            self._last = command
            self._source_ns = command.source_stamp_ns
            self._counter += 1
            ticket = Ticket(self._session, self._driver.session, self._counter, self._epoch)
            self._command.publish(convert.to_command(command, ticket))
        self._sequence += 1
        self._verdict.publish(
            convert.to_verdict(verdict, self.spec.joint_names, self._sequence, self._source_ns)
        )
        self._tick_rate.mark()
        begin = time.monotonic_ns()
        self._late += begin - self._tick_at > 2 * self._tick_ns and self._tick_at > 0
        self._tick_at = begin
        if self._auto and command is not None:
            self._auto_enable(now, steady)

    def _show(self) -> None:
        """``safety/state`` and a line in the log on change; outside of the tick, which does neither."""
        status = self._filter.status()
        key = (status.mode, status.reasons, status.enabled, status.latched)
        if key == self._shown and time.monotonic() - self._shown_at < 1.0:
            return
        if key != self._shown and status.mode >= SafetyMode.BRAKE:
            names = ", ".join(convert.reason_names(status.reasons))
            self.get_logger().warning(f"{status.mode.name}: {names}: {status.detail}")
        self._shown, self._shown_at = key, time.monotonic()
        self._state.publish(
            convert.to_safety_state(
                status.mode,
                status.reasons,
                status.enabled,
                status.latched,
                self._sequence,
                status.interventions,
                status.refused,
                status.detail,
                now_ns(self),
            )
        )

    def _tell_notes(self) -> None:
        """``safety/journal`` and ``safety/interventions``: between two ticks, never within one."""
        pages = self._filter.take_pages()
        if pages.count:
            self._journal.publish(to_journal(pages, self._session, now_ns(self)))
        found = self._filter.take_interventions()
        if found:
            self._interventions.publish(to_interventions(found, self.spec.joint_names))

    def _auto_enable(self, now: int, steady: int) -> None:
        """While the other processes start, joint states may lapse: try again, but not hastily."""
        status = self._filter.status()
        if status.enabled or status.reasons & Reason.STOP_REQUEST:
            self._calm = 0
            return
        self._calm += 1
        if self._calm * self.config.dt < _CALM_S:
            return
        self._calm = 0
        if self._reset(now, steady).ok and self._filter.enable(True).ok:
            self.get_logger().info("enabled by auto_enable (simulation)")

    # What comes in ------------------------------------------------------------------------

    def _on_joints(self, message: JointStateMsg) -> None:
        self._joint_rate.mark()
        now, steady = self._now()
        try:
            state = convert.from_joint_state(message)
        except ValueError as error:
            self.get_logger().warning(f"joint_states: {error}", throttle_duration_sec=1.0)
            return  # counts as silence; the watchdog brakes
        if not self._filter.observe_state(state, now, steady) & ~Reason.STATE_JUMP:
            self._measured = state

    def _on_heartbeat(self, message: Heartbeat) -> None:
        """The driver's side: is it the same one, and does it do what it is told?"""
        beat = Beat(message.session, message.counter, message.following, message.latched, message.detail)
        moving = self._last is not None and bool(self._last.velocity.any())
        now, steady = self._now()
        self._filter.observe_driver(message.counter, now)
        reason, detail = self._driver.observe(beat, moving, steady)
        if reason:
            self._filter.stop(detail, reason)

    def _on_health(self, message: JointHealth) -> None:
        try:
            health = convert.from_joint_health(message, self.spec.joint_names)
        except ValueError as error:
            health = Health(errors=(str(error),))  # motors that cannot be understood are not well
        self._filter.observe_health(health, now_ns(self))

    def _on_report(self, message: PlanReport) -> None:
        self._filter.observe_trust(message.trust, convert.from_time(message.header.stamp), now_ns(self))

    def _on_human(self, message: Range) -> None:
        self._filter.observe_human(message.range, convert.from_time(message.header.stamp), now_ns(self))

    def _on_deadman(self, message: Bool) -> None:
        self._filter.deadman(bool(message.data), now_ns(self))

    def _on_image(self, message: Image) -> None:
        self._image_rate.mark()
        now, steady = self._now()
        pixels = np.frombuffer(message.data, dtype=np.uint8)
        stamp = convert.from_time(message.header.stamp)
        self._filter.observe_camera(stamp, digest(pixels[: len(pixels) // 3 * 3].reshape(-1, 3), 1), now, steady)

    def _on_action(self, message: JointTrajectory) -> None:
        self._action_rate.mark()
        now, steady = self._now()
        try:
            plan = convert.from_trajectory(message)
        except ValueError as error:
            # Handed on as an empty plan, so that the filter itself judges and counts it.
            plan = Trajectory((), (), np.zeros((0, 0)), np.zeros((0, 0)), 0)
            self.get_logger().warning(f"wm/action: {error}", throttle_duration_sec=1.0)
        reason = self._filter.submit(plan, now, steady)
        if not reason:
            self._auto = False
        else:
            self.get_logger().warning(
                f"plan refused: {', '.join(convert.reason_names(reason))}", throttle_duration_sec=2.0
            )

    def _count_writers(self) -> None:
        """Counting is cheap; names are asked for while there is more than one."""
        self._writers = self.count_publishers("hw/command")
        if self._writers <= 1:
            self._filter.writers(self._writers)
            return
        infos = self.get_publishers_info_by_topic(self.resolve_topic_name("hw/command"))
        self._filter.writers([f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos])

    # Services -----------------------------------------------------------------------------

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._auto = False
        answer = self._filter.stop()
        response.success, response.message = answer.ok, answer.message
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._auto = False
        answer = self._filter.enable(request.data)
        self._show()  # before the answer, so that whoever acts on it finds the others told
        response.success, response.message = answer.ok, answer.message
        return response

    def _on_reduced(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        answer = self._filter.set_reduced(request.data)
        response.success, response.message = answer.ok, answer.message
        return response

    def _on_add_obstacle(self, request: AddObstacle.Request, response: AddObstacle.Response) -> AddObstacle.Response:
        try:
            obstacle = obstacles.from_request(
                request.name, request.shape, request.pose, request.speed_bound_m_s, self._frame
            )
            answer = self._filter.add_obstacle(obstacle)
        except ValueError as error:
            answer = Answer(False, str(error))
        self._show_obstacles()
        response.success, response.message = answer.ok, answer.message
        return response

    def _on_remove_obstacle(
        self, request: RemoveObstacle.Request, response: RemoveObstacle.Response
    ) -> RemoveObstacle.Response:
        answer = self._filter.remove_obstacle(request.name)
        self._show_obstacles(gone=[request.name] if answer.ok else [])
        response.success, response.message = answer.ok, answer.message
        return response

    def _show_obstacles(self, gone: Sequence[str] = ()) -> None:
        present = self._filter.obstacles
        self._obstacles.publish(obstacles.obstacle_markers(present, gone, now_ns(self), self._frame))

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        """``ros2 param set /safety config FILE``: stricter settings, taken at rest; then reset and enable again."""
        result = SetParametersResult(successful=True)
        for text in (str(parameter.value) for parameter in parameters if parameter.name == "config"):
            try:
                config = self._settings(text)
                answer = self._filter.tighten(config)
            except (OSError, ValueError) as error:
                answer = Answer(False, f"refused: {error}")
            if answer.ok:
                self.config = config
            self.get_logger().warning(f"settings {text}: {answer.message}")
            result.successful, result.reason = answer.ok, answer.message
        return result

    def _settings(self, path: str) -> SafetyConfig:
        """Those of a file (the robot's own when empty), at the rate of this node."""
        config = SafetyConfig.load(Path(path) if path else self.spec.safety_path())
        return config.at_rate(self.params.rate_hz) if self.params.rate_hz else config

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        now, steady = self._now()
        measured, last = self._measured, self._last
        if (
            measured is not None
            and last is not None
            and np.abs(measured.position - last.position).max() > _PLACED_RAD
            and np.abs(measured.velocity).max() < self.config.start_speed_rad_s
            and not last.velocity.any()
        ):
            # The arm was moved by someone else: as after a restart, begin where it is.
            known = self._filter.obstacles
            self._filter.renew()
            for obstacle in known:
                self._filter.add_obstacle(obstacle)
            self._filter.observe_state(measured, now, steady)
            self._filter.tick(now, steady)
        answer = self._reset(now, steady)
        response.success, response.message = answer.ok, answer.message
        return response

    def _reset(self, now: int, steady: int) -> Answer:
        """Reset the filter and tell the driver by a new epoch; refused while others write."""
        if self._writers > 1:
            return Answer(False, f"reset refused: {self._writers} nodes write hw/command; stop the other one")
        answer = self._filter.reset(now, steady)
        if answer.ok:
            self._epoch += 1
            self._driver.reset(steady)
        return answer

    def _details(self) -> tuple[int, str, dict[str, str]]:
        status = self._filter.status()
        motors, worst = self._filter.health
        uneasy = status.mode >= SafetyMode.HOLD or self._lacking or motors
        level = ERROR if status.latched else WARN if uneasy else OK
        values = {
            "mode": status.mode.name,
            "motors": f"{motors.name} {worst}".strip(),
            "enabled": str(status.enabled),
            "interventions": str(status.interventions),
            "refused": str(status.refused),
            "late ticks": str(self._late),
            "writers of hw/command": str(self._writers),
        }
        return level, "; ".join([f"{status.mode.name} {status.detail}".strip(), *self._lacking]), values


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(SafetyNode, argv)

if __name__ == "__main__":
    leave(main())
