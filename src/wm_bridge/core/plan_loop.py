"""One planning step: observation in, short trajectory out.

Used alike by the planner node and by the in-process benchmarks. Knows no ROS, no torch
and no clock but the steady one it is given for durations.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from wm_bridge.core.goal import GoalConfig, GoalMonitor, GoalPhase, GoalStatus, Outcome, PlanSummary
from wm_bridge.core.joints import JointTable, find_joints
from wm_bridge.core.types import FloatArray, ImageArray, Observation, Trajectory

MS = 1_000_000  # nanoseconds


class PlanView(Protocol):
    """What is read from a plan of `wm_planner`; see docs/contracts.md."""

    @property
    def references(self) -> FloatArray:
        """(horizon, A) reference after each period, rad."""

    @property
    def goal_energy(self) -> float:
        """Energy of the current frame against the goal."""

    @property
    def distance_m(self) -> float:
        """Decoded distance of the hand to the goal."""

    @property
    def object_distance_m(self) -> float:
        """Decoded distance of the object to the goal; NaN when not decoded."""

    @property
    def trust(self) -> float:
        """0..1."""


class PlannerView(Protocol):
    """The planner of `wm_planner`, or a stand-in with the same face."""

    @property
    def joint_names(self) -> tuple[str, ...]:
        """(A,) order of the action."""

    @property
    def period_s(self) -> float:
        """Time between two way points, s."""

    def encode_goal(self, image: ImageArray, target: str = "hand") -> Any:
        """Goal from a picture; target "hand" or "object": what has to match it."""

    def set_goal(self, goal: Any) -> None:
        """Plan towards this from now on."""

    def reset(self) -> None:
        """Forget the last plan."""

    def plan(
        self,
        image: ImageArray,
        position: FloatArray,
        reference: FloatArray,
        deadline_s: float | None = None,
    ) -> Any:
        """A `PlanView` from here on; position and reference are (A,) rad."""


@dataclass(frozen=True, slots=True)
class PlanLoopConfig:
    """How plans become trajectories.

    Attributes:
        points: periods taken from the plan; after them it comes to rest.
        latency_s: added to every way point's time. 0 suits a planner that is done before
            its first way point is due: points then lie where the plan meant them, and the
            tracker joins it at the right time. More than 0 slows the motion down, because
            the echo that the plan starts from is older by that much.
        max_age_ms: an older camera frame is refused.
        max_skew_ms: joints and frame further apart than this are refused.
        deadline_s: handed to the planner; None leaves it to its own.
        target: "hand" or "object": which decoded distance decides.
    """

    points: int = 5
    latency_s: float = 0.0
    max_age_ms: float = 300.0
    max_skew_ms: float = 20.0
    deadline_s: float | None = None
    target: str = "hand"

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ValueError(f"plan loop: points must be at least 2, got {self.points}")
        if self.target not in ("hand", "object"):
            raise ValueError(f"plan loop: target must be 'hand' or 'object', got '{self.target}'")
        for name in ("latency_s", "max_age_ms", "max_skew_ms"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0.0):
                raise ValueError(f"plan loop: {name} must be >= 0, got {getattr(self, name)}")
        if self.deadline_s is not None and not self.deadline_s > 0.0:
            raise ValueError(f"plan loop: deadline_s must be > 0 or None, got {self.deadline_s}")


@dataclass(frozen=True, slots=True)
class GoalAnswer:
    """Whether a goal was taken; ``message`` says why not and what to do."""

    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class LoopCounts:
    """Since construction.

    Attributes:
        steps: all. plans: that gave a plan.
        refused: observations not planned from. failed: planner errors.
    """

    steps: int = 0
    plans: int = 0
    refused: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class PlanStep:
    """What one step gave.

    Attributes:
        trajectory: to send on; None when there is nothing safe to say.
        plan: the planner's own result; None when it was not asked or failed.
        summary: what the goal monitor saw.
        status: of the goal.
        refused: why the observation was not used; "" when it was.
        plan_s: time inside the planner. total_s: time inside the step.
    """

    trajectory: Trajectory | None
    plan: Any
    summary: PlanSummary | None
    status: GoalStatus
    refused: str = ""
    plan_s: float = 0.0
    total_s: float = 0.0

    @property
    def outcome(self) -> Outcome | None:
        """None while the goal is still pursued."""
        return self.status.outcome


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
    ) -> None:
        self._planner = planner
        self._config = config or PlanLoopConfig()
        self._monitor = GoalMonitor(goal_config)
        self._clock = clock
        self._joint_names = tuple(spec.joint_names)
        self.names = tuple(planner.joint_names)
        self._place = find_joints(self.names, self._joint_names)
        self._lower = np.asarray(spec.lower, dtype=np.float64)[self._place]
        self._upper = np.asarray(spec.upper, dtype=np.float64)[self._place]
        self._goal_trust = 1.0
        self._hold: FloatArray | None = None
        self._last_stamp_ns = 0
        self.counts = LoopCounts()

    @property
    def status(self) -> GoalStatus:
        """Of the goal, as of the last step."""
        return self._monitor.status

    def set_goal(
        self, picture: ImageArray, now_ns: int, goal_config: GoalConfig | None = None
    ) -> GoalAnswer:
        """Start pursuing a picture; a picture the planner rejects leaves all as it was.

        Args:
            picture: (H, W, 3) uint8 RGB. now_ns: node time.
            goal_config: replaces the settings when given.
        """
        problem = _picture_problem(picture)
        if problem:
            return GoalAnswer(False, f"goal {problem}")
        try:
            goal = self._planner.encode_goal(picture, self._config.target)
            trust = float(getattr(goal, "trust", 1.0))
            self._planner.set_goal(goal)
            self._planner.reset()
        except Exception as error:  # noqa: BLE001  the planner is foreign code
            return GoalAnswer(False, f"the planner does not take this goal picture: {error}")
        self._goal_trust = trust
        self._hold = None
        self._monitor.begin(now_ns, goal_config)
        return GoalAnswer(True)

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
            reference = observation.reference[self._place]
            reference = np.clip(reference, self._lower, self._upper)
            position = observation.joints.position[
                find_joints(self.names, observation.joints.names)
            ]
            if self.status.phase is GoalPhase.DONE:
                trajectory = self._holding(reference, observation.frame.stamp_ns)
            else:
                asked, plan_begin = True, self._clock()
                plan, refused = self._plan(observation.frame.image, position, reference)
                plan_ns = self._clock() - plan_begin
            if plan is not None:
                summary = self._summary(plan, observation)
                trajectory = self._trajectory(plan, reference, observation.frame.stamp_ns)
        status = self._monitor.update(summary, now_ns)
        if plan is not None and status.phase is GoalPhase.DONE:
            trajectory = self._holding(reference, observation.frame.stamp_ns)
        old = self.counts
        self.counts = LoopCounts(
            old.steps + 1,
            old.plans + (plan is not None),
            old.refused + (bool(refused) and not asked),
            old.failed + (asked and plan is None),
        )
        total_ns = self._clock() - begin
        return PlanStep(trajectory, plan, summary, status, refused, plan_ns * 1e-9, total_ns * 1e-9)

    def _problem(self, observation: Observation, now_ns: int) -> str:
        """Why the observation cannot be planned from; "" when it can."""
        frame, joints = observation.frame, observation.joints
        if self.status.phase is GoalPhase.IDLE:
            return "no goal set; send a ReachGoal first"
        problem = _picture_problem(frame.image)
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
        if age_ms > self._config.max_age_ms:
            return f"camera frame is {age_ms:.0f} ms old, limit {self._config.max_age_ms:.0f} ms"
        skew_ms = abs(joints.stamp_ns - frame.stamp_ns) / MS
        if skew_ms > self._config.max_skew_ms:
            return f"joints are {skew_ms:.0f} ms away from the frame; align them first"
        return ""

    def _plan(
        self, image: ImageArray, position: FloatArray, reference: FloatArray
    ) -> tuple[Any, str]:
        """The planner's plan, or None and why not."""
        try:
            plan = self._planner.plan(image, position, reference, self._config.deadline_s)
            references = np.asarray(plan.references, dtype=np.float64)
        except Exception as error:  # noqa: BLE001  the planner is foreign code
            return None, f"planner failed: {error}"
        if references.ndim != 2 or references.shape[1] != len(self.names) or len(references) < 1:
            return None, f"plan has shape {references.shape}, expected (horizon, {len(self.names)})"
        if not np.isfinite(references).all():
            return None, "plan is not finite"
        return plan, ""

    def _summary(self, plan: PlanView, observation: Observation) -> PlanSummary:
        hand = self._config.target == "hand"
        joints = observation.joints
        speed = np.abs(joints.velocity[find_joints(self.names, joints.names)]).max()
        return PlanSummary(
            observation.frame.stamp_ns,
            float(plan.distance_m if hand else plan.object_distance_m),
            float(speed),
            float(plan.goal_energy),
            float(plan.trust),
            self._goal_trust,
        )

    def _trajectory(self, plan: PlanView, reference: FloatArray, stamp_ns: int) -> Trajectory:
        """The plan's path through the middle of each period, then at rest at its end.

        Between p_k and p_{k+1} the plan moves at u_k = (p_{k+1} - p_k) / T. Way points
        half way, at that velocity, make the cubic between them an exact parabola: its
        acceleration is (u_{k+1} - u_k) / T, so a plan within the acceleration limit stays
        within it (through the p_k themselves it would reach three times as much). The
        path leaves the p_k by at most |u_{k+1} - u_k| T / 8.
        """
        points = np.asarray(plan.references, dtype=np.float64)[: self._config.points]
        points = np.clip(points, self._lower, self._upper)
        period = self._planner.period_s
        path = np.concatenate([reference[None], points])
        positions = np.concatenate([(path[1:] + path[:-1]) * 0.5, path[-1:]])
        velocities = np.concatenate([np.diff(path, axis=0) / period, np.zeros_like(path[:1])])
        first = self._config.latency_s
        times = tuple(round((first + (k + 0.5) * period) * 1e9) for k in range(len(positions)))
        return Trajectory(self.names, times, positions, velocities, stamp_ns)

    def _holding(self, reference: FloatArray, stamp_ns: int) -> Trajectory:
        """Stand still at the reference of the moment the goal was done."""
        if self._hold is None:
            self._hold = reference
        time_ns = round((self._config.latency_s + self._planner.period_s) * 1e9)
        return Trajectory(
            self.names, (time_ns,), self._hold[None], np.zeros((1, len(self.names))), stamp_ns
        )


def _picture_problem(picture: object) -> str:
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        kind = picture.dtype if isinstance(picture, np.ndarray) else type(picture).__name__
        return f"picture must be a uint8 array, got {kind}"
    if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        return f"picture must be (height, width, 3) RGB, got {picture.shape}"
    return ""
