"""planner_node: goal picture in, short joint trajectories out; the only node with torch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image
from wm_interfaces.action import ReachGoal

from wm_bridge.core.axes import Axes
from wm_bridge.core.goal import GoalConfig, Outcome
from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.core.plan_step import PlanLoopConfig
from wm_bridge.core.subject import camera_subject, robot_subject
from wm_bridge.errors import UserError
from wm_bridge.planner_setup import EquippedPlanner, PlannerSetup
from wm_bridge.robots import spec as robot_spec
from wm_bridge.ros import qos, realtime
from wm_bridge.ros.diagnostics import ERROR, OK, WARN, Diagnostics
from wm_bridge.ros.goal_request import Goal
from wm_bridge.ros.node import leave, now_ns, publisher, run, set_niceness, subscribe
from wm_bridge.ros.observe import Observer
from wm_bridge.ros.params import declare, setting
from wm_bridge.ros.plan_output import PlanOutput
from wm_bridge.ros.pursuit import Pursuit, PursuitConfig

@dataclass(frozen=True)
class PlannerParams:
    """See the descriptions."""

    robot: str = setting("nico", "name in config/robots or path of a YAML file")
    tf_prefix: str = setting("", "before the names of all frames, for two arms in one graph: left/")
    image_topic: str = setting("camera/image_raw", "pictures to plan from: CAMERA/image_raw or CAMERA/image_rect")
    checkpoint: str = setting("", "path of the world model, compact or V-JEPA 2-AC; empty = the one shipped for the robot")
    encoder: str = setting("", "V-JEPA 2-AC: file or folder of the encoder; empty = in the checkpoint")
    axes: str = setting("", "file of ./wm calibrate-axes: how the model's action axes lie to the robot; empty = as the base")
    trust: str = setting("", "path of its trust calibration; empty = the one beside the checkpoint")
    command_topic: str = setting("hw/command", "the references that are really sent; of a played bag: recorded/hw/command")
    autostart: bool = setting(True, "configure and activate at start")
    seed: int = setting(0, "of the candidate sampling", 0, 2**31 - 1, unit="1")
    realtime_factor: float = setting(1.0, "as of the driver, simulation only", 0.01, 100.0, unit="s per s")
    threads: int = setting(1, "torch CPU threads", 1, 64, unit="threads")
    device: str = setting("cpu", "V-JEPA 2-AC: where it runs, as in cuda or cuda:1; the compact model stays on the CPU")
    search: str = setting("", "YAML file of the search; empty = config/compact_planner.yaml or vjepa_planner.yaml")
    points: int = setting(5, "way points sent; the last one is at rest", 2, 64, unit="points")
    deadline_ms: float = setting(0.0, "the planner returns its best after this; 0 = never", 0.0, 1000.0)
    delay_ms: float = setting(0.0, "from a frame to its plan being followed, to be compensated; -1 = measured, 0 = not", -1.0, 2000.0)
    max_frame_age_ms: float = setting(300.0, "older pictures are not planned from", 10.0, 5000.0)
    probe_axes: str = setting("", "file to write: goals are answered by small moves that calibrate the action axes; end_effector only")
    landscape: str = setting("", "two or three action axes, as in 'x y': the energy around each frame on wm/landscape; plans come later for it")
    tolerance_m: float = setting(0.015, "decoded distance that counts as there", 0.001, 1.0)
    tolerance_energy: float = setting(0.0, "energy that counts as there where no distance is decoded; 0 = as in axes", 0.0, 1e6, unit="1")
    tolerance_rad: float = setting(0.05, "what a joint, or the tool's orientation, may lack", 0.001, 1.0)
    hold_s: float = setting(0.5, "how long it must stay there", 0.0, 60.0)
    timeout_s: float = setting(20.0, "longest attempt", 0.1, 3600.0)
    blind_s: float = setting(3.0, "without a usable picture for this long a goal fails", 0.5, 60.0)

    def __post_init__(self) -> None:
        qos.require_pictures(self.image_topic)


class PlannerNode(LifecycleNode):
    """ReachGoal server around a ``Pursuit``, which plans in a thread of its own.

    So feedback, cancel and diagnostics never wait for the planner. Without a goal nothing
    is published, and the safety node holds.
    """

    def __init__(self) -> None:
        super().__init__("planner")
        set_niceness(-5)
        self.params = declare(self, PlannerParams)
        params = self.params
        try:
            self.spec = robot_spec.load(params.robot)
            self._axes = Axes.read(Path(params.axes)) if params.axes else None
            energy = params.tolerance_energy or (self._axes.tolerance_energy if self._axes else 0.0)
            self._goal_config = GoalConfig(
                params.tolerance_m, tolerance_rad=params.tolerance_rad, tolerance_energy=energy, hold_s=params.hold_s, timeout_s=params.timeout_s
            )
        except (FileNotFoundError, ValueError) as error:
            raise UserError(str(error), "correct the node's parameters", exit_code=2) from error
        self.planner: Any = None
        self._equipped: EquippedPlanner | None = None
        self._speed = params.realtime_factor if self.get_parameter("use_sim_time").value else 1.0
        self._pursuit: Pursuit | None = None
        self._image: Image | None = None
        self._problem = ""
        self._camera = ""
        self._trust_problem = "trust unknown: no picture yet"
        self._plan_ms = 0.0

        self._frame = params.tf_prefix + self.spec.base_frame
        self._output = PlanOutput(self, self._frame, params.deadline_ms)
        self._observer = Observer(self, params.command_topic)
        subscribe(self, self.params.image_topic, self._on_image)
        self._server = ActionServer(
            self,
            ReachGoal,
            "wm/reach_goal",
            execute_callback=self._execute,
            goal_callback=self._on_goal,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )
        self.diagnostics = Diagnostics(self, self._details)
        self._image_rate = self.diagnostics.rate(self.params.image_topic, timeout_s=2.0)
        self._plan_rate = self.diagnostics.rate("plans")
        if params.autostart:
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
        realtime.freeze_garbage()  # torch and the model: later collections need not look through them
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take goals from now on."""
        config = PursuitConfig(
            self._goal_config,
            float(self.planner.period_s),
            self.params.blind_s,
            self._frame,
            self._speed,
            self.spec.name,
            {
                **(self._equipped.description() if self._equipped is not None else {}),
                "image_topic": self.params.image_topic,
                "tf_prefix": self.params.tf_prefix,
                "seed_per_goal": True,
            },
        )
        self._pursuit = Pursuit(self, config, self._make_loop, self._observer, self._output, self._planned)
        if self._image is not None:
            self._pursuit.see(self._image)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the running goal and be silent."""
        self.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the world model."""
        self.planner, self._equipped, self._camera = None, None, ""
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As ``on_deactivate``."""
        self.stop()
        return super().on_shutdown(state)

    def stop(self) -> None:
        """End the planning thread; a running goal ends as FAILED."""
        pursuit, self._pursuit = self._pursuit, None
        if pursuit is not None:
            pursuit.stop()

    def _autostart(self) -> None:
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                raise UserError(
                    self._problem or "the planner cannot be activated",
                    "see above; ./wm doctor lists the checkpoints",
                    exit_code=2,
                )

    def _load(self) -> Any:
        from wm_planner.errors import PlannerError

        params = self.params
        setup = PlannerSetup(params.checkpoint, params.encoder, params.search, params.trust, params.seed, params.threads, params.device)
        self._equipped = EquippedPlanner(setup, self.spec, self._axes)
        planner = self._equipped.planner
        try:
            if params.probe_axes:
                planner = self._probe(planner)
            elif params.landscape:
                planner = self._surveyed(planner)
        except (PlannerError, ValueError) as error:
            raise UserError(str(error), "correct the node's parameters", exit_code=2) from error
        self.get_logger().info(f"world model {self._equipped.checkpoint.name} for {len(planner.joint_names)} joints")
        return planner

    def _surveyed(self, planner: Any) -> Any:
        """A planner that shows the energy around each frame."""
        from wm_bridge.core.surveyed import SurveyedPlanner
        from wm_bridge.ros.markers import landscape_markers
        from wm_planner.landscape import Landscape, Survey

        axes = self.params.landscape.split()
        survey = Survey(planner, axes, 9 if len(axes) == 2 else 5, 0.1 if planner.config.action_space == "end_effector" else 0.4)
        shown = publisher(self, "wm/landscape")

        def show(found: Landscape) -> None:
            shown.publish(landscape_markers(found.hands.reshape(-1, 3), found.energies.ravel(), now_ns(self), self._frame))

        return SurveyedPlanner(planner, survey.look, show)

    def _probe(self, planner: Any) -> Any:
        """What makes small moves instead of planning, and writes how the model's action axes lie."""
        from wm_bridge.core.axes_probe import AxesProbe, Look
        from wm_planner.axes import Glimpse, believed_move

        motion = self._equipped.motion if self._equipped is not None else None
        if motion is None or planner.config.action_space == "joints":
            raise ValueError("probe_axes moves the tool: set action_space: end_effector in the search file")
        size = min(0.04, 0.5 * float(planner.space.spec.scale[0]) * planner.config.horizon / 1.2)

        def believe(before: Look, after: Look) -> Any:
            looks = (Glimpse(look.image, look.position, look.reference) for look in (before, after))
            return believed_move(planner, *looks, size)

        def finished(probe: AxesProbe) -> None:
            if probe.axes is None:
                self.get_logger().error(f"action axes not calibrated: {probe.problem}")
                return
            probe.axes.write(Path(self.params.probe_axes))
            found = f"turned by {probe.axes.angle_deg:.1f} deg, standard error {probe.axes.error_deg:.1f}, {probe.axes.moves} moves"
            self.get_logger().info(f"action axes {found}: {self.params.probe_axes}")

        return AxesProbe(planner, motion, believe, size_m=size, finished=finished)

    def _judge_by_calibration(self) -> None:
        """Use the calibration of this robot, camera and model, whenever the camera is another; none fits: trust is unknown."""
        image, equipped = self._image, self._equipped
        if image is None or equipped is None:
            return
        camera = camera_subject(image.header.frame_id.removeprefix(self.params.tf_prefix), image.width, image.height)
        if camera == self._camera:
            return
        self._camera = camera
        robot = robot_subject(self.spec.name, bool(self.get_parameter("use_sim_time").value))
        self._trust_problem = equipped.judge_by_calibration(robot, camera)
        if self._trust_problem:
            self.get_logger().warning(self._trust_problem)

    def _make_loop(self, target: str, number: int) -> PlanLoop:
        self._judge_by_calibration()
        if self._equipped is not None:
            self._equipped.begin_goal(number)
        params = self.params
        config = PlanLoopConfig(
            points=params.points,
            max_age_ms=params.max_frame_age_ms,
            deadline_s=params.deadline_ms * 1e-3 or None,
            delay_s=None if params.delay_ms < 0.0 else params.delay_ms * 1e-3,
            target=target,
        )
        observe = self._equipped.observe if self._equipped is not None else None
        return PlanLoop(self.planner, self.spec, config, speed=self._speed, observe=observe)

    # What comes in ------------------------------------------------------------------------

    def _on_image(self, message: Image) -> None:
        self._image_rate.mark()
        self._image = message
        if self._pursuit is not None:
            self._pursuit.see(message)

    def _on_goal(self, _: ReachGoal.Goal) -> GoalResponse:
        """Anything is accepted while active: a bad goal ends as REJECTED with the reason."""
        if self._pursuit is None:
            self.get_logger().warning("goal refused: the planner is not active")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    async def _execute(self, handle: Any) -> ReachGoal.Result:
        goal, pursuit = Goal(handle), self._pursuit
        if pursuit is None:
            handle.abort()
            return ReachGoal.Result(outcome=int(Outcome.FAILED), message="the planner was deactivated")
        pursuit.ask(goal)
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
            distance_m=float(goal.distance_m),
            angle_rad=float(goal.angle_rad),
            duration_s=(time.monotonic() - goal.begin) * self._speed,
            plans=goal.plans,
        )

    def _planned(self, plan_ms: float) -> None:
        self._plan_rate.mark()
        self._plan_ms = plan_ms

    def _details(self) -> tuple[int, str, dict[str, str]]:
        pursuit = self._pursuit
        active = pursuit is not None and pursuit.active
        problem = pursuit.problem if pursuit is not None and active else ""
        values = {
            "goal": "active" if active else "none",
            "plan [ms]": f"{self._plan_ms:.1f}",
            "plans": str(self._output.plans),
            "trust": self._trust_problem or "calibrated",
        }
        unknown = "" if self._camera == "" else self._trust_problem
        return ERROR if problem else WARN if unknown else OK, problem or unknown, values


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(PlannerNode, argv)

if __name__ == "__main__":
    leave(main())
