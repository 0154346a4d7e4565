"""One planning step: observation in, short trajectory out.

Used alike by the planner node and by the in-process benchmarks. Knows no ROS, no torch
and no clock but the steady one it is given for durations.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from wm_bridge.core.committed import Committed
from wm_bridge.core.goal import GoalConfig, GoalPhase, GoalStatus, PlanSummary
from wm_bridge.core.goal_kinds import Asked, GoalKind, JointsGoal, PictureGoal, PoseGoal, goal_problem, picture_problem, stages_of
from wm_bridge.core.joints import JointTable, find_joints
from wm_bridge.core.plan_step import GoalAnswer, LoopCounts, PlanLoopConfig, PlanStep
from wm_bridge.core.plan_view import PlannerView, PlanView
from wm_bridge.core.stages import Stages
from wm_bridge.core.types import FloatArray, ImageArray, JointState, Observation, Trajectory
from wm_bridge.core.waypoints import path_through, rest_at

MS = 1_000_000  # nanoseconds
_MOST_AHEAD = 5  # periods that are imagined before a plan begins
_NEWEST = 0.2  # weight of the newest delay in the measured one


class PlanLoop:
    """Goal in, then one `step` per camera frame.

    Once the goal is done, whatever the outcome, the steps hold the reference that was
    sent at that moment. Bad observations and planner errors come back as values.

    Args:
        planner: see `PlannerView`.
        spec: the robot's joints; the planner's must be among them.
        config: how plans become trajectories.
        goal_config: when a goal counts as reached.
        clock: steady nanoseconds, for durations only.
        speed: node seconds per second of the clock.
        observe: told the joints of every observation that is planned from, all of the robot's.

    Attributes:
        config: see above. names: (A,) planned joints. counts: since construction.

    Raises:
        ValueError: the planner controls a joint that the robot does not have.
    """

    def __init__(
        self,
        planner: PlannerView,
        spec: JointTable,
        config: PlanLoopConfig | None = None,
        goal_config: GoalConfig | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
        speed: float = 1.0,
        observe: Callable[[JointState], None] | None = None,
    ) -> None:
        self._planner = planner
        self._observe, self._speed = observe, speed
        self.config = config or PlanLoopConfig()
        self._stages = Stages(goal_config)
        self._goals: tuple[tuple[GoalKind, Any], ...] = ()  # asked for, and as the planner has it
        self._clock = clock
        self._joint_names = tuple(spec.joint_names)
        self.names = tuple(planner.joint_names)
        self._place = find_joints(self.names, self._joint_names)
        self._lower = np.asarray(spec.lower, dtype=np.float64)[self._place]
        self._upper = np.asarray(spec.upper, dtype=np.float64)[self._place]
        self._committed = Committed(spec, self.names)
        self._measured_s = 0.0
        self._hold: FloatArray | None = None
        self._last_stamp_ns = self._planned_ns = 0
        self.counts = LoopCounts()

    @property
    def status(self) -> GoalStatus:
        """Of the goal, as of the last step."""
        return self._stages.status

    @property
    def delay_s(self) -> float:
        """From a frame to the time when its plan is followed, as it is compensated."""
        return self._measured_s if self.config.delay_s is None else self.config.delay_s

    def set_goal(self, asked: Asked, now_ns: int, goal_config: GoalConfig | None = None) -> GoalAnswer:
        """Start pursuing a goal, or pictures in a row; one that the planner rejects leaves all as it was.

        Args:
            asked: see ``core.goal_kinds``. now_ns: node time.
            goal_config: replaces the settings when given.
        """
        stages = stages_of(asked)
        problem = goal_problem(stages)
        if problem:
            return GoalAnswer(False, problem)
        try:
            goals = tuple((goal, self._encoded(goal)) for goal in stages)
            self._pursue(goals[0][1])
        except Exception as error:  # noqa: BLE001  the planner is foreign code
            return GoalAnswer(False, f"the planner does not take this goal: {error}")
        self._goals = goals
        self._hold, self._planned_ns = None, 0
        self._committed.clear()
        self._stages.begin(now_ns, len(goals), goal_config)
        return GoalAnswer(True)

    def _encoded(self, goal: GoalKind) -> Any:
        """The planner's form of a goal."""
        if isinstance(goal, JointsGoal):
            return self._planner.joints_goal(goal.joints)
        if isinstance(goal, PoseGoal):
            return self._planner.pose_goal(goal.position, goal.rotation)
        if goal.mask is None:
            return self._planner.encode_goal(goal.picture, self.config.target)
        return self._planner.encode_goal(goal.picture, self.config.target, goal.mask)

    def _pursue(self, goal: Any) -> None:
        self._planner.set_goal(goal)
        self._planner.reset()

    def step(self, observation: Observation, now_ns: int) -> PlanStep:
        """Plan once.

        Args:
            observation: frame, joints at its time, (J,) reference echo. now_ns: node time.
        """
        begin = self._clock()
        refused = self._problem(observation, now_ns)
        trajectory, plan, summary, plan_ns, asked = None, None, None, 0, False
        if not refused:
            self._last_stamp_ns = observation.frame.stamp_ns
            stamp_ns = observation.frame.stamp_ns
            ahead = self._ahead(observation)
            reference = np.clip(observation.reference[self._place], self._lower, self._upper)
            position = observation.joints.position[
                find_joints(self.names, observation.joints.names)
            ]
            if self.status.phase is GoalPhase.DONE:
                trajectory = self._holding(reference, stamp_ns)
            else:
                asked, plan_begin = True, self._clock()
                if self._observe is not None:
                    self._observe(observation.joints)
                periods = self._periods_since(stamp_ns)
                self._planned_ns = stamp_ns
                plan, refused = self._plan(observation.frame.image, position, reference, ahead, periods)
                plan_ns = self._clock() - plan_begin
            if plan is not None:
                summary = self._summary(plan, observation)
                trajectory = self._trajectory(plan, reference, ahead, stamp_ns)
        stage = self._stages.stage
        status = self._stages.update(summary, now_ns)
        if self._stages.stage != stage:
            self._pursue(self._goals[self._stages.stage][1])
        if plan is not None and status.phase is GoalPhase.DONE:
            trajectory = self._holding(reference, stamp_ns)
        old = self.counts
        self.counts = LoopCounts(
            old.steps + 1,
            old.plans + (plan is not None),
            old.refused + (bool(refused) and not asked),
            old.failed + (asked and plan is None),
        )
        total_ns = self._clock() - begin
        if trajectory is not None:
            self._note_delay(now_ns - stamp_ns + round(total_ns * self._speed))
            if self.config.delay_s != 0.0:
                self._committed.send(trajectory, stamp_ns + round(self.delay_s * 1e9))
        return PlanStep(trajectory, plan, summary, status, refused, plan_ns * 1e-9, total_ns * 1e-9)

    def _problem(self, observation: Observation, now_ns: int) -> str:
        """Why the observation cannot be planned from; "" when it can."""
        frame, joints = observation.frame, observation.joints
        if self.status.phase is GoalPhase.IDLE:
            return "no goal set; send a ReachGoal first"
        problem = picture_problem(frame.image)
        if problem:
            return f"camera {problem}"
        missing = [name for name in self.names if name not in joints.names]
        if missing:
            return f"joint state lacks {missing}"
        if not (np.isfinite(joints.position).all() and np.isfinite(joints.velocity).all()):
            return "joint state is not finite"
        if observation.reference.shape != (len(self._joint_names),):
            return (
                f"reference has shape {observation.reference.shape}, "
                f"expected ({len(self._joint_names)},)"
            )
        if not np.isfinite(observation.reference).all():
            return "reference is not finite"
        if frame.stamp_ns <= self._last_stamp_ns and now_ns >= self._last_stamp_ns:
            return "camera frame is not newer than the last one"
        age_ms = (now_ns - frame.stamp_ns) / MS
        if age_ms > self.config.max_age_ms:
            return f"camera frame is {age_ms:.0f} ms old, limit {self.config.max_age_ms:.0f} ms"
        skew_ms = abs(joints.stamp_ns - frame.stamp_ns) / MS
        if skew_ms > self.config.max_skew_ms:
            return f"joints are {skew_ms:.0f} ms away from the frame; align them first"
        return ""

    def _ahead(self, observation: Observation) -> FloatArray:
        """(K, A) rad: what will have been sent after each period until the plan is followed."""
        if self.config.delay_s == 0.0:
            return np.empty((0, len(self.names)))
        period_s = self._planner.period_s
        count = min(math.floor(self.delay_s / period_s + 0.5), _MOST_AHEAD)
        stamp_ns = observation.frame.stamp_ns
        ahead = self._committed.references(observation.reference, stamp_ns, round(period_s * 1e9), count)
        return np.clip(ahead, self._lower, self._upper)

    def _periods_since(self, stamp_ns: int) -> int:
        """Control periods from the frame of this goal that was planned from last to this one, at least 1."""
        gap_s = (stamp_ns - self._planned_ns) * 1e-9 if self._planned_ns else 0.0
        return max(1, round(gap_s / self._planner.period_s))

    def _note_delay(self, delay_ns: int) -> None:
        newest = max(delay_ns, 0) * 1e-9
        self._measured_s += (_NEWEST if self._measured_s else 1.0) * (newest - self._measured_s)

    def _plan(
        self, image: ImageArray, position: FloatArray, reference: FloatArray, ahead: FloatArray, periods: int
    ) -> tuple[Any, str]:
        """The planner's plan, or None and why not."""
        later: dict[str, Any] = {"committed": ahead} if len(ahead) else {}
        if periods != 1:
            later["periods"] = periods
        try:
            plan = self._planner.plan(image, position, reference, self.config.deadline_s, **later)
            references = np.asarray(plan.references, dtype=np.float64)
        except Exception as error:  # noqa: BLE001  the planner is foreign code
            return None, f"planner failed: {error}"
        if references.ndim != 2 or references.shape[1] != len(self.names) or len(references) < 1:
            return None, f"plan has shape {references.shape}, expected (horizon, {len(self.names)})"
        if not np.isfinite(references).all():
            return None, "plan is not finite"
        return plan, ""

    def _summary(self, plan: PlanView, observation: Observation) -> PlanSummary:
        asked, goal = self._goals[self._stages.stage]
        hand = self.config.target == "hand"
        joints = observation.joints
        speed = np.abs(joints.velocity[find_joints(self.names, joints.names)]).max()
        distance_m = plan.distance_m if hand or not isinstance(asked, PictureGoal) else plan.object_distance_m
        masked = isinstance(asked, PictureGoal) and asked.mask is not None
        return PlanSummary(
            observation.frame.stamp_ns,
            0.0 if isinstance(asked, JointsGoal) else float(distance_m),
            float(speed),
            float(plan.goal_energy),
            1.0 if math.isnan(plan.trust) else float(plan.trust),  # unknown: the safety node slows the arm
            float(plan.goal_trust if masked else getattr(goal, "trust", 1.0)),
            float(plan.joint_distance_rad) if hand and isinstance(asked, PictureGoal) else 0.0,
            0.0 if isinstance(asked, PictureGoal) else float(plan.angle_rad),
        )

    def _trajectory(self, plan: PlanView, reference: FloatArray, ahead: FloatArray, stamp_ns: int) -> Trajectory:
        points = np.asarray(plan.references, dtype=np.float64)[: self.config.points]
        points = np.clip(points, self._lower, self._upper)
        period_s, begin = self._planner.period_s, ahead[-1] if len(ahead) else reference
        return path_through(self.names, begin, points, period_s, len(ahead) * period_s, stamp_ns)

    def _holding(self, reference: FloatArray, stamp_ns: int) -> Trajectory:
        """Stand still at the reference of the moment the goal was done."""
        if self._hold is None:
            self._hold = reference
        time_ns = round((self.delay_s + self._planner.period_s) * 1e9)
        return rest_at(self.names, self._hold, time_ns, stamp_ns)
