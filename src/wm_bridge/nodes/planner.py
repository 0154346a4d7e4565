"""planner_node: goal picture in, short joint trajectories out; the only node with torch."""

from __future__ import annotations

import dataclasses
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from sensor_msgs.msg import Image
from wm_interfaces.action import ReachGoal

from wm_bridge import resources
from wm_bridge.core.align import JointHistory
from wm_bridge.core.goal import GoalConfig, Outcome
from wm_bridge.core.plan_loop import PlanLoop, PlanLoopConfig, PlanStep
from wm_bridge.core.types import FloatArray, Frame, JointState, Observation, Trajectory
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.ros import convert
from wm_bridge.ros.diagnostics import ERROR, OK, Diagnostics
from wm_bridge.ros.mailbox import Recent
from wm_bridge.ros.node import leave, now_ns, publisher, run, subscribe
from wm_bridge.ros.params import declare, setting

_ECHO_NS = 200_000_000  # an older echo of hw/command is not planned from


@dataclass(frozen=True)
class PlannerParams:
    """See the descriptions."""

    robot: str = setting("nico", "name in config/robots or path of a YAML file")
    checkpoint: str = setting("", "path of the world model; empty = the one shipped for the robot")
    autostart: bool = setting(True, "configure and activate at start")
    seed: int = setting(0, "of the candidate sampling", 0, 2**31 - 1)
    realtime_factor: float = setting(1.0, "as of the driver, simulation only", 0.01, 100.0)
    threads: int = setting(1, "torch CPU threads", 1, 64)
    search: str = setting("", "YAML file of the search; empty = config/compact_planner.yaml")
    points: int = setting(5, "way points sent; the last one is at rest", 2, 64)
    deadline_ms: float = setting(0.0, "the planner returns its best after this; 0 = never", 0.0, 1000.0)
    max_frame_age_ms: float = setting(300.0, "older pictures are not planned from", 10.0, 5000.0)
    tolerance_m: float = setting(0.015, "decoded distance that counts as there", 0.001, 1.0)
    hold_s: float = setting(0.5, "how long it must stay there", 0.0, 60.0)
    timeout_s: float = setting(20.0, "longest attempt", 0.1, 3600.0)
    blind_s: float = setting(3.0, "without a usable picture for this long a goal fails", 0.5, 60.0)


class Goal:
    """One accepted goal: its handle, its loop, and the future of its result."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.done: Future = Future()
        self.loop: PlanLoop | None = None
        self.begin = self.seen = time.monotonic()
        self.plans = 0
        self.status_distance = float("nan")


class PlannerNode(LifecycleNode):
    """ReachGoal server around ``PlanLoop``.

    Planning has a thread of its own, so that feedback, cancel and diagnostics never wait
    for it. That thread owns the planner and the running goal; the executor's thread hands
    it new goals and the newest picture under ``_wake``. A newer goal preempts the older.
    Without a goal nothing is published, and the safety node holds.
    """

    def __init__(self) -> None:
        super().__init__("planner")
        self.params = declare(self, PlannerParams)
        try:
            self.spec = robot_spec.load(self.params.robot)
            self._goal_config = GoalConfig(
                self.params.tolerance_m, hold_s=self.params.hold_s, timeout_s=self.params.timeout_s
            )
        except (FileNotFoundError, ValueError) as error:
            raise UserError(str(error), "correct the node's parameters", exit_code=2) from error
        self.planner: Any = None
        self._speed = self.params.realtime_factor if self.get_parameter("use_sim_time").value else 1.0
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._quit = True
        self._pending: Goal | None = None
        self._active: Goal | None = None
        self._image: Image | None = None
        self._image_at = 0.0
        self._joints = Recent(self, "joint_states")
        self._commands = Recent(self, "hw/command")
        self._planned_ns = 0
        self._last_stamp_ns = 0
        self._sequence = 0
        self._problem = ""
        self._plan_ms = 0.0

        self._action_out = publisher(self, "wm/action")
        self._report_out = publisher(self, "wm/report")
        self._paths_out = publisher(self, "wm/paths")
        self._goal_out = publisher(self, "wm/goal")
        self._goal_hand_out = publisher(self, "wm/goal_hand")
        subscribe(self, "camera/image_raw", self._on_image)
        self._server = ActionServer(
            self,
            ReachGoal,
            "wm/reach_goal",
            execute_callback=self._execute,
            goal_callback=self._on_goal,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )
        self.diagnostics = Diagnostics(self, self._details)
        self._image_rate = self.diagnostics.rate("camera/image_raw", timeout_s=2.0)
        self._plan_rate = self.diagnostics.rate("plans")
        if self.params.autostart:
            self._autostart()

    # Life cycle ---------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the world model."""
        try:
            self.planner = self._load()
        except UserError as error:
            self._problem = str(error)
            self.get_logger().error(self._problem)
            return TransitionCallbackReturn.FAILURE
        self._problem = ""
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take goals from now on."""
        self._quit = False
        self._thread = threading.Thread(target=self._work, name="planning", daemon=True)
        self._thread.start()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the running goal and be silent."""
        self.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the world model."""
        self.planner = None
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As ``on_deactivate``."""
        self.stop()
        return super().on_shutdown(state)

    def stop(self) -> None:
        """End the planning thread; a running goal ends as FAILED."""
        with self._wake:
            self._quit = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    def _autostart(self) -> None:
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                raise UserError(
                    self._problem or "the planner cannot be activated",
                    "see above; ./wm doctor lists the checkpoints",
                    exit_code=2,
                )

    def _load(self) -> Any:
        from wm_planner.config import PlannerConfig, load_config
        from wm_planner.errors import PlannerError
        from wm_planner.mpc import Planner
        from wm_planner.weights import shipped_checkpoint

        params = self.params
        try:
            path = Path(params.checkpoint) if params.checkpoint else shipped_checkpoint(self.spec.name)
            search = Path(params.search) if params.search else resources.path("config/compact_planner.yaml")
            config = load_config(PlannerConfig, search, {"threads": params.threads})
            planner = Planner.load(path, config, seed=params.seed)
            PlanLoop(planner, self.spec, self._loop_config("hand"))  # refuses foreign joints
        except (PlannerError, ValueError, OSError) as error:
            raise UserError(
                f"cannot plan with {params.checkpoint or 'the shipped checkpoint'}: {error}",
                "name a checkpoint made for this robot: parameter checkpoint",
                exit_code=2,
            ) from error
        self._period_s = float(planner.period_s)
        self.get_logger().info(f"world model {path.name} for {len(planner.joint_names)} joints")
        return planner

    def _loop_config(self, target: str) -> PlanLoopConfig:
        params = self.params
        return PlanLoopConfig(
            points=params.points,
            max_age_ms=params.max_frame_age_ms,
            deadline_s=params.deadline_ms * 1e-3 or None,
            target=target,
        )

    # Executor's thread --------------------------------------------------------------------

    def _on_image(self, message: Image) -> None:
        self._image_rate.mark()
        with self._wake:
            self._image, self._image_at = message, time.perf_counter()
            self._wake.notify()

    def _on_goal(self, _: ReachGoal.Goal) -> GoalResponse:
        """Anything is accepted while active: a bad goal ends as REJECTED with the reason."""
        if self._quit:
            self.get_logger().warning("goal refused: the planner is not active")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    async def _execute(self, handle: Any) -> ReachGoal.Result:
        goal = Goal(handle)
        with self._wake:
            older, self._pending = self._pending, goal
            self._wake.notify()
        if older is not None:
            older.done.set_result((Outcome.PREEMPTED, "a newer goal came before it began"))
        outcome, text = await goal.done
        if outcome is Outcome.REACHED:
            handle.succeed()
        elif outcome is Outcome.CANCELED and handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        self.get_logger().info(f"goal ended: {outcome.name}: {text}")
        return ReachGoal.Result(
            outcome=int(outcome),
            message=text,
            distance_m=float(goal.status_distance),
            duration_s=(time.monotonic() - goal.begin) * self._speed,
            plans=goal.plans,
        )

    # Planning thread ----------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(self._has_work, timeout=0.1)
                if self._quit:
                    break
                pending, self._pending = self._pending, None
            try:
                if pending is not None:
                    self._finish(Outcome.PREEMPTED, "a newer goal has come")
                    self._begin(pending)
                if self._active is not None:
                    self._pursue(self._active)
            except Exception as error:  # noqa: BLE001  the goal fails, the node stays
                self.get_logger().error(f"planning failed: {error!r}")
                self._finish(Outcome.FAILED, f"internal error: {error!r}")
        self._finish(Outcome.FAILED, "the planner was deactivated")

    def _has_work(self) -> bool:
        return self._quit or self._pending is not None or (self._active is not None and self._due())

    def _due(self) -> bool:
        """A picture that is one period (and not less) younger than the last one planned from."""
        if self._image is None:
            return False
        stamp = convert.from_time(self._image.header.stamp)
        return not 0 <= stamp - self._planned_ns < 0.95e9 * self._period_s

    def _begin(self, goal: Goal) -> None:
        request = goal.handle.request
        self._active = goal
        problem = self._problem_of(request)
        if problem:
            self._finish(Outcome.REJECTED, problem)
            return
        target = "hand" if request.target in ("", "hand") else "object"
        goal.loop = PlanLoop(self.planner, self.spec, self._loop_config(target))
        config = dataclasses.replace(
            self._goal_config,
            tolerance_m=request.tolerance_m or self._goal_config.tolerance_m,
            hold_s=request.hold_s or self._goal_config.hold_s,
            timeout_s=request.timeout_s or self._goal_config.timeout_s,
        )
        answer = goal.loop.set_goal(convert.as_picture(request.image), now_ns(self), config)
        if not answer.ok:
            self._finish(Outcome.REJECTED, answer.message)
            return
        request.image.header.stamp = convert.to_time(now_ns(self))
        self._goal_out.publish(request.image)

    def _problem_of(self, request: ReachGoal.Goal) -> str:
        """Why a goal cannot be pursued; "" when it can."""
        if request.kind != ReachGoal.Goal.GOAL_IMAGE:
            return f"goal kind {request.kind} is not supported; send a picture (GOAL_IMAGE = 0)"
        for name in ("tolerance_m", "hold_s", "timeout_s"):
            value = getattr(request, name)
            if not (np.isfinite(value) and value >= 0.0):
                return f"{name} must be finite and not negative, got {value}"
        try:
            picture = convert.as_picture(request.image)
        except ValueError as error:
            return f"goal picture: {error}"
        live = self._image
        if live is not None and picture.shape[0] * live.width != picture.shape[1] * live.height:
            return (
                f"goal picture is {picture.shape[1]}x{picture.shape[0]}, the camera gives "
                f"{live.width}x{live.height}; take it with the planner's camera"
            )
        return ""

    def _pursue(self, goal: Goal) -> None:
        if goal.handle.is_cancel_requested:
            self._halt()
            self._finish(Outcome.CANCELED, "canceled by the client; the arm holds")
            return
        if (time.monotonic() - goal.seen) * self._speed > self.params.blind_s:
            self._finish(
                Outcome.FAILED,
                f"no usable picture and joints for {self.params.blind_s:.0f} s ({self._problem}); "
                "are camera, driver and safety node running?",
            )
            return
        with self._wake:
            due = self._due()
            message, arrived = self._image, self._image_at
        if not due or message is None:
            return
        observation = self._observe(convert.from_image(message))
        if observation is None:
            time.sleep(0.005)  # the joints of that moment are on their way
            return
        assert goal.loop is not None
        step = goal.loop.step(observation, now_ns(self))
        self._planned_ns = observation.frame.stamp_ns
        self._publish(goal, step, arrived)
        if step.outcome is not None:
            blind = f" (last picture not used: {step.refused})" if step.refused else ""
            self._finish(step.outcome, step.status.message + blind)

    def _observe(self, frame: Frame) -> Observation | None:
        joints = self._joints_at(frame.stamp_ns)
        if joints is None:
            self._problem = "no joint_states of the picture's time"
            return None
        reference = self._reference_at(frame.stamp_ns)
        if reference is None:
            self._problem = "no hw/command of the picture's time"
            return None
        return Observation(frame, joints, reference)

    def _joints_at(self, stamp_ns: int) -> JointState | None:
        history = JointHistory()
        for message in self._joints.around(stamp_ns):
            try:
                history.push(convert.from_joint_state(message))
            except ValueError:
                pass  # the safety node counts and reports it
        return history.at(stamp_ns)

    def _reference_at(self, stamp_ns: int) -> FloatArray | None:
        """(J,) what was really sent at that time, else what was sent last before it."""
        history, last = JointHistory(), None
        for message in self._commands.around(stamp_ns):
            try:
                command = convert.from_command(message)
            except ValueError:
                continue
            rest = np.zeros(len(command.names))
            history.push(JointState(command.names, command.position, command.velocity, rest, command.stamp_ns))
            if abs(stamp_ns - command.stamp_ns) < _ECHO_NS:
                last = command.position
        echo = history.at(stamp_ns)
        return last if echo is None else echo.position

    def _publish(self, goal: Goal, step: PlanStep, arrived: float) -> None:
        self._problem = step.refused
        if step.trajectory is not None:
            self._send(step.trajectory)
        if step.plan is None:
            return
        goal.seen = time.monotonic()
        plan, stamp_ns = step.plan, self._planned_ns
        goal.plans += 1
        goal.status_distance = step.status.distance_m
        self._sequence += 1
        self._plan_rate.mark()
        self._plan_ms = step.plan_s * 1e3
        total_ms = (time.perf_counter() - arrived) * 1e3
        self._report_out.publish(
            convert.to_report(
                plan, stamp_ns, self._sequence, step.status.progress, total_ms, self.params.deadline_ms
            )
        )
        frame = self.spec.base_frame
        hands = np.concatenate([np.asarray(plan.predicted_hand)[None], np.asarray(plan.elite_hands)])
        energies = np.concatenate([[plan.energy], np.asarray(plan.elite_energies)])
        self._paths_out.publish(convert.to_paths(hands, energies, stamp_ns, frame))
        if goal.plans == 1:
            self._goal_hand_out.publish(convert.to_point(plan.goal_hand, stamp_ns, frame))
        goal.handle.publish_feedback(
            ReachGoal.Feedback(
                energy=float(plan.goal_energy),
                distance_m=float(step.status.distance_m),
                progress=float(step.status.progress),
                plan_ms=step.plan_s * 1e3,
                elapsed_s=float(step.status.elapsed_s),
                plans=goal.plans,
            )
        )

    def _halt(self) -> None:
        """Replace the running plan by one that rests at the newest reference."""
        message, image = self._commands.newest(), self._image
        if message is None or image is None:
            return
        command = convert.from_command(message)
        stamp_ns = convert.from_time(image.header.stamp)
        if stamp_ns <= self._last_stamp_ns:
            return  # the old plan ends at rest by itself
        age_ns = max(now_ns(self) - stamp_ns, 0)
        names = tuple(self.planner.joint_names)
        q = command.position[[command.names.index(name) for name in names]]
        time_ns = age_ns + round(self._period_s * 1e9)
        self._send(Trajectory(names, (time_ns,), q[None], np.zeros((1, len(names))), stamp_ns))

    def _send(self, trajectory: Trajectory) -> None:
        self._last_stamp_ns = trajectory.stamp_ns
        self._action_out.publish(convert.to_trajectory(trajectory))

    def _finish(self, outcome: Outcome, text: str) -> None:
        goal, self._active = self._active, None
        if goal is not None:
            goal.done.set_result((outcome, text))
            if self.executor is not None:
                self.executor.wake()

    def _details(self) -> tuple[int, str, dict[str, str]]:
        blind = self._active is not None and bool(self._problem)
        values = {
            "goal": "active" if self._active is not None else "none",
            "plan [ms]": f"{self._plan_ms:.1f}",
            "plans": str(self._sequence),
        }
        return ERROR if blind else OK, self._problem if blind else "", values


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(PlannerNode, argv)

if __name__ == "__main__":
    leave(main())
