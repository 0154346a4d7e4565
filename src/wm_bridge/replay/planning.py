"""Recorded pictures and joints through the planning loop again; time is that of the recorded messages."""

from __future__ import annotations

import dataclasses
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from wm_bridge.core.goal_record import GoalRecord
from wm_bridge.core.observe import due, joints_at, reference_at
from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.core.plan_step import PlanStep
from wm_bridge.core.types import Frame, ImageArray, JointState, Observation, Trajectory
from wm_bridge.replay.recorded import Picture, Recorded, RecordedGoal

S = 1_000_000_000
_KEPT = 400  # joint states and commands around a picture
_PATIENCE_NS = 3_000_000_000  # of recording time, that a picture waits for joints of its time


@dataclass(frozen=True)
class Moment:
    """A picture to plan from, and what was known of its time: joints and (J,) reference, rad; None: nothing. ``now_ns``: when they were there."""

    picture: Picture
    now_ns: int
    joints: JointState | None
    reference: Any


@dataclass(frozen=True)
class Decision:
    """What came of one picture.

    Attributes:
        goal: from 1. stamp_ns: of the picture. now_ns: when its joints and reference were there.
        refused: why it was not planned from, "" = it was. status: phase of the goal, and its outcome.
        numbers: of the plan, by name; none without a plan. trust_cause: see ``Plan``.
        trajectory: what would go to the safety node.
        times_s: spent, by part; not part of the decision.
    """

    goal: int
    stamp_ns: int
    now_ns: int
    refused: str = ""
    status: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    trust_cause: str = ""
    trajectory: Trajectory | None = None
    times_s: Mapping[str, float] = field(default_factory=dict)


_NUMBERS = "energy goal_energy distance_m object_distance_m joint_distance_rad angle_rad trust trust_score samples iterations nan_costs".split()


def moments_of(recorded: Recorded, number: int, period_s: float) -> list[Moment]:
    """The pictures that a goal, counted from 1, is planned from: those that were planned from; one per period where the bag does not tell."""
    goal = recorded.goals[number - 1]
    end_ns = recorded.goals[number].log_ns if number < len(recorded.goals) else recorded.end_ns + 1
    joints, commands, found = _Stream(recorded.joints), _Stream(recorded.commands), []
    for picture in _chosen(recorded.pictures, goal, end_ns, period_s, bool(recorded.plans)):
        states, state_ns = joints.around(picture.stamp_ns, picture.log_ns)
        sent, sent_ns = commands.around(picture.stamp_ns, picture.log_ns)
        now_ns = max(picture.log_ns, state_ns, sent_ns)
        if picture.stamp_ns in recorded.plans:  # the recorded planner had it in time, however late the recorder was
            now_ns = min(now_ns, picture.stamp_ns + int(goal.record.loop.max_age_ms * 1e6))
        found.append(Moment(picture, now_ns, joints_at(states, picture.stamp_ns), reference_at(sent, picture.stamp_ns)))
    return found


def latest(rows: Sequence[tuple[int, JointState]], log_ns: int) -> list[JointState]:
    """What was last heard of all joints before a time of recording: the newest message with each set of names, oldest first."""
    end = bisect_right(rows, log_ns, key=lambda row: row[0])
    found: dict[tuple[str, ...], JointState] = {}
    for _, state in rows[max(end - _KEPT, 0) : end]:
        found.pop(state.names, None)
        found[state.names] = state
    return list(found.values())


def pursue(number: int, goal: RecordedGoal, moments: Sequence[Moment], loop: PlanLoop, before: Callable[[Picture], None]) -> Iterator[Decision]:
    """Plan from one moment after the other, until the goal has its outcome, as in the planner node.

    Args:
        loop: new, of this goal. before: called with each picture before it is planned from.
    """
    answer = loop.set_goal(goal.record.stages, goal.log_ns, goal.record.goal)
    if not answer.ok:
        yield Decision(number, moments[0].picture.stamp_ns, goal.log_ns, refused=answer.message)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="pictures") as pool:
        coming = pool.submit(moments[0].picture.decoded)
        for index, moment in enumerate(moments):
            decoded = coming
            if index + 1 < len(moments):
                coming = pool.submit(moments[index + 1].picture.decoded)
            before(moment.picture)
            yield _decide(loop, number, moment, decoded)
            if loop.status.outcome is not None:
                return


def _decide(loop: PlanLoop, number: int, moment: Moment, decoded: Future[ImageArray]) -> Decision:
    picture, now_ns, joints, reference = moment.picture, moment.now_ns, moment.joints, moment.reference
    begin = time.perf_counter()
    if joints is None or reference is None:
        lacking = "joint_states" if joints is None else "hw/command"
        return Decision(number, picture.stamp_ns, now_ns, refused=f"no {lacking} of the picture's time")
    try:
        image = decoded.result()
    except ValueError as error:
        return Decision(number, picture.stamp_ns, now_ns, refused=f"damaged picture: {error}")
    ready = time.perf_counter()
    step = loop.step(Observation(Frame(image, picture.stamp_ns, picture.frame_id), joints, reference), now_ns)
    times = {"decode": ready - begin, "step": time.perf_counter() - ready}
    return _decision(number, picture, now_ns, step, times)


def _decision(number: int, picture: Picture, now_ns: int, step: PlanStep, times: dict[str, float]) -> Decision:
    plan, numbers, cause = step.plan, {}, ""
    if plan is not None:
        numbers = {name: float(getattr(plan, name)) for name in _NUMBERS if hasattr(plan, name)}
        cause = str(plan.trust_cause)
        times |= {"encode": float(plan.preprocess_s + plan.encode_s), "search": float(plan.optimise_s)}
    status = step.status.phase.value + (f" {step.outcome.name}" if step.outcome is not None else "")
    return Decision(number, picture.stamp_ns, now_ns, step.refused, status, numbers, cause, step.trajectory, times)


def _chosen(pictures: Iterable[Picture], goal: RecordedGoal, end_ns: int, period_s: float, told: bool) -> list[Picture]:
    """Those that were planned from (``told``: the bag says so), else one per period while the goal was pursued."""
    if told:
        first: dict[int, Picture] = {}
        for picture in pictures:
            if picture.log_ns >= goal.log_ns - S:  # a clock that jumped back gives old stamps again
                first.setdefault(picture.stamp_ns, picture)
        return [first[stamp] for stamp in goal.frames if stamp in first]
    found: list[Picture] = []
    for picture in pictures:
        if goal.log_ns <= picture.log_ns < end_ns and due(picture.stamp_ns, found[-1].stamp_ns if found else 0, period_s):
            found.append(picture)
    return found


class _Stream:
    """A topic in recorded order, of which the messages around a stamp are asked for, later and later ones.

    Like the planner node's mailbox it begins anew where stamps go back.
    """

    def __init__(self, rows: list[tuple[int, Any]]) -> None:
        self._rows, self._next = rows, 0
        self._kept: list[tuple[int, Any]] = []

    def around(self, stamp_ns: int, log_ns: int) -> tuple[list[Any], int]:
        """The last value at or before a stamp and the first after it, and when the latter was recorded (else 0)."""
        self._take(lambda row: row[0] <= log_ns)
        while self._next < len(self._rows) and (not self._kept or self._kept[-1][1].stamp_ns <= stamp_ns):
            row = self._rows[self._next]
            if row[0] > log_ns + _PATIENCE_NS or (self._kept and row[1].stamp_ns < self._kept[-1][1].stamp_ns):
                break
            self._keep()
        middle = bisect_right(self._kept, stamp_ns, key=lambda row: row[1].stamp_ns)
        after = self._kept[middle : middle + 1]
        return [value for _, value in self._kept[max(middle - 1, 0) : middle] + after], after[0][0] if after else 0

    def _take(self, wanted: Callable[[tuple[int, Any]], bool]) -> None:
        while self._next < len(self._rows) and wanted(self._rows[self._next]):
            self._keep()

    def _keep(self) -> None:
        row = self._rows[self._next]
        self._next += 1
        if self._kept and row[1].stamp_ns < self._kept[-1][1].stamp_ns:
            self._kept.clear()
        self._kept.append(row)
        del self._kept[:-_KEPT]


def without_clock(record: GoalRecord) -> GoalRecord:
    """The same goal with a loop that depends on no clock: no deadline, and a measured delay taken as none."""
    loop = dataclasses.replace(record.loop, deadline_s=None, delay_s=0.0 if record.loop.delay_s is None else record.loop.delay_s)
    return dataclasses.replace(record, loop=loop)
