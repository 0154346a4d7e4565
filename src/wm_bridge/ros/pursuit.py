"""The planning thread: takes goals and pictures, and pursues one goal at a time."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image
from wm_interfaces.action import ReachGoal

from wm_bridge.core.goal import GoalConfig, Outcome
from wm_bridge.core.goal_card import goal_card
from wm_bridge.core.goal_kinds import stages_of
from wm_bridge.core.goal_record import GoalRecord, to_text
from wm_bridge.core.observe import due
from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.core.plan_step import PlanStep
from wm_bridge.core.waypoints import rest_at
from wm_bridge.ros import convert
from wm_bridge.ros.goal_request import Goal, from_request, goal_config
from wm_bridge.ros.node import now_ns
from wm_bridge.ros.observe import Observer
from wm_bridge.ros.plan_output import PlanOutput

_PATIENCE_S = 0.005  # until joints that are on their way may be there
_IDLE_S = 0.02  # between two looks into the mailboxes while a goal waits for its next picture


@dataclass(frozen=True)
class PursuitConfig:
    """How goals are pursued.

    Attributes:
        goal: when one counts as reached, unless the request says otherwise.
        period_s: of the planner; pictures closer than this are not planned from.
        blind_s: without a usable picture for this long a goal fails.
        base_frame: frame of goals that are poses.
        speed: node seconds per second of the steady clock.
        robot, planner: for recordings, see ``core.goal_record``.
    """

    goal: GoalConfig
    period_s: float
    blind_s: float
    base_frame: str = ""
    speed: float = 1.0
    robot: str = ""
    planner: Mapping[str, Any] = field(default_factory=dict)


class Pursuit:
    """A thread that owns the planner and the running goal; started at once, ended by ``stop``.

    It plans as soon as a picture comes that is one period younger than the last one planned
    from. The executor's thread hands it goals and pictures and never waits for it. A newer
    goal preempts the older.

    Args:
        node: for the clock and the logger.
        make_loop: gives a ``PlanLoop`` for the target "hand" or "object", and the number of the goal from 1.
        observer, output: what comes in besides pictures, and what goes out.
        planned: called after each plan, with the time inside of the planner in ms.

    Attributes:
        problem: why the last picture was not planned from; "" when it was.
    """

    def __init__(
        self,
        node: Node,
        config: PursuitConfig,
        make_loop: Callable[[str, int], PlanLoop],
        observer: Observer,
        output: PlanOutput,
        planned: Callable[[float], None],
    ) -> None:
        self._node, self._config, self._make_loop = node, config, make_loop
        self._observer, self._output, self._planned = observer, output, planned
        self.problem = ""
        self._wake = threading.Condition()
        self._quit = False
        self._pending: Goal | None = None
        self._active: Goal | None = None
        self._image: Image | None = None
        self._image_at = 0.0
        self._planned_ns = self._goals = 0
        self._thread = threading.Thread(target=self._work, name="planning", daemon=True)
        self._thread.start()

    # Other threads ------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """True while a goal is pursued."""
        return self._active is not None

    def see(self, picture: Image) -> None:
        """The newest picture."""
        with self._wake:
            self._image, self._image_at = picture, time.perf_counter()
            self._wake.notify()

    def ask(self, goal: Goal) -> None:
        """Pursue this goal instead of any other."""
        with self._wake:
            older, self._pending = self._pending, goal
            self._wake.notify()
        if older is not None:
            older.done.set_result((Outcome.PREEMPTED, "a newer goal came before it began"))

    def stop(self) -> None:
        """End the thread; what is pursued ends as FAILED."""
        with self._wake:
            self._quit = True
            self._wake.notify()
        self._thread.join(timeout=5.0)

    # Planning thread ----------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(self._has_work, timeout=0.1 if self._active is None else _IDLE_S)
                pending, self._pending = self._pending, None
                if self._quit:
                    break
            try:
                if pending is not None:
                    self._finish(Outcome.PREEMPTED, "a newer goal has come")
                    self._begin(pending)
                if self._active is not None:
                    self._pursue(self._active)
            except Exception as error:  # noqa: BLE001  the goal fails, the node stays
                self._node.get_logger().error(f"planning failed: {error!r}")
                self._finish(Outcome.FAILED, f"internal error: {error!r}")
        for goal in (self._active, pending):
            self._active = goal
            self._finish(Outcome.FAILED, "the planner was deactivated")

    def _has_work(self) -> bool:
        return self._quit or self._pending is not None or (self._active is not None and self._due())

    def _due(self) -> bool:
        """A picture that is one period (and not less) younger than the last one planned from."""
        if self._image is None:
            return False
        return due(convert.from_time(self._image.header.stamp), self._planned_ns, self._config.period_s)

    def _begin(self, goal: Goal) -> None:
        request = goal.handle.request
        self._active = goal
        try:
            asked = from_request(request, self._image, self._config.base_frame)
        except ValueError as error:
            self._finish(Outcome.REJECTED, str(error))
            return
        goal.loop = self._make_loop("hand" if request.target in ("", "hand") else "object", self._goals + 1)
        config = goal_config(request, self._config.goal)
        answer = goal.loop.set_goal(asked, now_ns(self._node), config)
        if not answer.ok:
            self._finish(Outcome.REJECTED, answer.message)
            return
        goal.stages = stages_of(asked)
        self._goals += 1
        known = self._config
        self._output.request(to_text(GoalRecord(goal.stages, config, goal.loop.config, self._goals, known.robot, known.planner)))
        self._show(goal, 1)

    def _show(self, goal: Goal, stage: int) -> None:
        """Tell the others what is pursued from now on."""
        goal.shown = stage
        size = (self._image.width, self._image.height) if self._image is not None else (320, 240)
        self._output.goal(goal_card(goal.stages[stage - 1], *size))

    def _pursue(self, goal: Goal) -> None:
        if goal.handle.is_cancel_requested:
            self._halt(goal)
            self._finish(Outcome.CANCELED, "canceled by the client; the arm holds")
            return
        if (time.monotonic() - goal.seen) * self._config.speed > self._config.blind_s:
            self._finish(
                Outcome.FAILED,
                f"no usable picture and joints for {self._config.blind_s:.0f} s ({self.problem}); "
                "are camera, driver and safety node running?",
            )
            return
        with self._wake:
            is_due, message, arrived = self._due(), self._image, self._image_at
        if not is_due or message is None:
            self._observer.prepare()
            return
        observation = self._observer.observe(convert.from_image(message))
        if isinstance(observation, str):
            self.problem = observation
            time.sleep(_PATIENCE_S)
            return
        assert goal.loop is not None
        step = goal.loop.step(observation, now_ns(self._node))
        self._planned_ns, self.problem = observation.frame.stamp_ns, step.refused
        if step.trajectory is not None:
            self._output.trajectory(step.trajectory)
        if step.plan is not None:
            self._tell(goal, step, arrived)
        if step.outcome is not None:
            blind = f" (last picture not used: {step.refused})" if step.refused else ""
            self._finish(step.outcome, step.status.message + blind)

    def _tell(self, goal: Goal, step: PlanStep, arrived: float) -> None:
        goal.seen = time.monotonic()
        goal.plans += 1
        goal.distance_m, goal.angle_rad = step.status.distance_m, step.status.angle_rad
        self._planned(step.plan_s * 1e3)
        self._output.report(step, self._planned_ns, (time.perf_counter() - arrived) * 1e3)
        if goal.plans == 1 or step.status.stage != goal.shown:
            self._output.goal_hand(step.plan, self._planned_ns)
        if step.status.stage != goal.shown:
            self._show(goal, step.status.stage)
        goal.handle.publish_feedback(
            ReachGoal.Feedback(
                energy=float(step.plan.goal_energy),
                distance_m=float(step.status.distance_m),
                angle_rad=float(step.status.angle_rad),
                stage=step.status.stage,
                stages=step.status.stages,
                progress=float(step.status.progress),
                plan_ms=step.plan_s * 1e3,
                elapsed_s=float(step.status.elapsed_s),
                plans=goal.plans,
            )
        )

    def _halt(self, goal: Goal) -> None:
        """Replace the running plan by one that rests at the newest reference."""
        command, image = self._observer.newest_command(), self._image
        if command is None or image is None or goal.loop is None:
            return
        stamp_ns = convert.from_time(image.header.stamp)
        if stamp_ns <= self._output.last_stamp_ns:
            return  # the old plan ends at rest by itself
        age_ns = max(now_ns(self._node) - stamp_ns, 0)
        names = goal.loop.names
        q = command.position[np.array([command.names.index(name) for name in names])]
        time_ns = age_ns + round(self._config.period_s * 1e9)
        self._output.trajectory(rest_at(names, q, time_ns, stamp_ns))

    def _finish(self, outcome: Outcome, text: str) -> None:
        goal, self._active = self._active, None
        if goal is not None:
            goal.done.set_result((outcome, text))
            if self._node.executor is not None:
                self._node.executor.wake()
