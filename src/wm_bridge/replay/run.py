"""A whole replay: settings, the decisions of planner and safety filter, and how long they took."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wm_bridge.core.goal_kinds import Asked, stages_of
from wm_bridge.core.goal_record import GoalRecord
from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.core.subject import camera_subject, robot_subject
from wm_bridge.core.types import Trajectory
from wm_bridge.errors import UserError
from wm_bridge.planner_setup import EquippedPlanner, PlannerSetup
from wm_bridge.replay.beside import beside, possible
from wm_bridge.replay.guarding import Guarded, Proposal, guard
from wm_bridge.replay.planning import Decision, Moment, latest, moments_of, pursue, without_clock
from wm_bridge.replay.recorded import Picture, Recorded, RecordedGoal, read, usual_goal
from wm_bridge.robots import spec as robots
from wm_bridge.safety.config import SafetyConfig

S = 1_000_000_000
USUAL_ROBOT = "nico"


@dataclass(frozen=True)
class ReplaySettings:
    """How a bag is replayed.

    Attributes:
        planner: its parts; the recorded seed and search are used where the setup names none.
        robot: "" = the recorded one. safety: settings of the filter instead of the recorded ones.
        goal: pursued through the whole bag instead of the recorded goals.
        speed: recorded seconds per second; 0 = as fast as possible.
        namespace, camera: see ``recorded.read``.
        as_recorded: plan with the seed and the search that the bag names; else with the setup's.
        jobs: processes that plan, a goal each, while this one runs the safety filter; 1 = this one alone, one thing after
            the other; 0 = as many as there are cores. The decisions are the same to the bit.
    """

    planner: PlannerSetup = PlannerSetup()
    robot: str = ""
    safety: SafetyConfig | None = None
    goal: Asked | None = None
    speed: float = 0.0
    namespace: str = ""
    camera: str = ""
    as_recorded: bool = True
    jobs: int = 0


@dataclass(frozen=True)
class Replay:
    """What a replay gave.

    Attributes:
        bag: what was replayed. recorded: what is in it. decisions: one per picture. guarded: of the safety filter.
        planner: what decided (checkpoint, weights, seed, search). period_s: of it.
        load_s: until model and bag were there. spent_s: from then on, planning and filtering together. guard_s: of the
            process that runs the safety filter, without waiting for plans. notes: what is to be known.
    """

    bag: Path
    recorded: Recorded
    decisions: tuple[Decision, ...]
    guarded: Guarded
    planner: Mapping[str, Any]
    period_s: float
    load_s: float
    spent_s: float
    guard_s: float
    notes: tuple[str, ...] = field(default=())

    @property
    def speed(self) -> float:
        """Seconds of recording per second, without the time to load model and bag."""
        return self.recorded.duration_s / max(self.spent_s, 1e-9)

    @property
    def plan_speed(self) -> float:
        """The same of the planned part alone: one period per decision."""
        return len(self.decisions) * self.period_s / max(self.spent_s, 1e-9)


def replay_planner(bag: Path, settings: ReplaySettings = ReplaySettings()) -> Replay:
    """Plan and filter again what a bag holds.

    Args:
        bag: folder or file. settings: see there.

    Raises:
        UserError: the bag cannot be read, or lacks what a plan needs; what to do.
    """
    begin = time.perf_counter()
    recorded = read(bag, settings.namespace, settings.camera)
    notes = list(recorded.notes)
    if settings.goal is not None:
        recorded.goals[:] = [_asked(recorded, settings.goal)]
        recorded.plans.clear()
    _check(bag, recorded, notes)
    first = recorded.goals[0].record
    spec = robots.load(settings.robot or first.robot or USUAL_ROBOT)
    equipped = EquippedPlanner(_setup(settings, first, notes), spec)
    planner, now = equipped.planner, equipped.description()
    if first.planner and first.planner["weights"] != now["weights"]:
        notes.append(f"recorded with {first.planner['checkpoint']} {first.planner['weights']}, planned now with {now['checkpoint']} {now['weights']}: --checkpoint names another")
    robot, period_s = robot_subject(spec.name, recorded.simulated), float(planner.period_s)
    wait, iterate = _pace(settings.speed), _as_long(planner, recorded, settings)
    apart = all(_own_numbers(goal.record, settings) for goal in recorded.goals)

    def before(picture: Picture) -> None:
        wait(picture.log_ns)
        iterate(picture.stamp_ns)

    @functools.lru_cache(maxsize=1)  # as long as the camera stays the same
    def judge(camera: str) -> str:
        return equipped.judge_by_calibration(robot, camera)

    def work(index: int) -> Iterator[tuple[Decision, str]]:
        """The decisions of a goal, and what is to be known of it."""
        goal, moments = recorded.goals[index], asked[index]
        if not moments:
            return
        problem = judge(_camera(goal.record, moments))
        if apart:
            equipped.begin_goal(goal.record.number)
            for joints in latest(recorded.joints, goal.log_ns):
                equipped.observe(joints)
        loop = PlanLoop(planner, spec, without_clock(goal.record).loop, clock=lambda: 0, observe=equipped.observe)
        yield from ((decision, problem) for decision in pursue(index + 1, goal, moments, loop, before))

    loaded = time.perf_counter()
    asked = [moments_of(recorded, number, period_s) for number in range(1, len(recorded.goals) + 1)]
    with beside(work, [len(moments) for moments in asked], _jobs(settings, planner, len(asked) if apart else 1)) as coming:
        clock = _Waiting()
        proposals = [Proposal(m.picture.stamp_ns, m.now_ns, clock.plan(future)) for moments, futures in zip(asked, coming, strict=True) for m, future in zip(moments, futures, strict=True)]
        begun = time.perf_counter()
        guarded = guard(recorded, proposals, period_s, settings.safety)
        guard_s = time.perf_counter() - begun - clock.waited_s
        results = [result for futures in coming for future in futures if (result := future.result()) is not None]
    spent = time.perf_counter() - loaded
    notes += [*dict.fromkeys(problem for _, problem in results if problem), *([guarded.problem] if guarded.problem else [])]
    return Replay(bag, recorded, tuple(decision for decision, _ in results), guarded, now, period_s, loaded - begin, spent, guard_s, tuple(notes))


class _Waiting:
    """Gives plans as they come. ``waited_s``: how long was waited for them."""

    def __init__(self) -> None:
        self.waited_s = 0.0

    def plan(self, future: Future[tuple[Decision, str] | None]) -> Callable[[], tuple[Trajectory, float] | None]:
        """See ``Proposal``."""

        def wait() -> tuple[Trajectory, float] | None:
            begin = time.perf_counter()
            found = future.result()
            self.waited_s += time.perf_counter() - begin
            if found is None or found[0].trajectory is None:
                return None
            return found[0].trajectory, found[0].numbers.get("trust", 1.0)

        return wait


def _own_numbers(record: GoalRecord, settings: ReplaySettings) -> bool:
    """True when the random numbers of a goal do not depend on the goals before it: not so in recordings of old versions."""
    return not (record.planner and settings.as_recorded) or bool(record.planner.get("seed_per_goal"))


def _jobs(settings: ReplaySettings, planner: Any, parts: int) -> int:
    """Processes that plan, 0 = none beside this one."""
    cores = settings.jobs or len(os.sched_getaffinity(0)) if possible else 1
    threads, slopes = int(planner.config.threads), bool(planner.search.differentiates)
    return 0 if cores == 1 or threads != 1 or slopes or settings.speed > 0.0 else min(cores, parts)


def _camera(record: GoalRecord, moments: Sequence[Moment]) -> str:
    """What the trust calibration calls the camera of the first picture that is whole."""
    for picture in (moment.picture for moment in moments):
        with contextlib.suppress(ValueError):
            height, width = picture.decoded().shape[:2]
            return camera_subject(picture.frame_id.removeprefix(str(record.planner.get("tf_prefix", ""))), width, height)
    return ""


def _check(bag: Path, recorded: Recorded, notes: list[str]) -> None:
    """What no plan can do without."""
    heard = "\n".join(f"  {note}" for note in notes)
    for what, there, remedy in (
        ("pictures", recorded.pictures, "record camera/image_raw or its compressed pictures, or name the topic: --camera"),
        ("joint_states", recorded.joints, "record joint_states"),
        ("hw/command", recorded.commands, "record hw/command: plans begin at the reference that was sent"),
        ("goal", recorded.goals, "record wm/request (or wm/goal) before the goal is sent, or give one: --goal"),
    ):
        if not there:
            raise UserError(f"{bag} holds no {what}" + (f"\n{heard}" if heard else ""), remedy, 2)


def _setup(settings: ReplaySettings, record: GoalRecord, notes: list[str]) -> PlannerSetup:
    """The setup, with recorded seed and search where it names none."""
    setup, told = settings.planner, record.planner
    if not told or not settings.as_recorded:
        return setup
    search = {} if setup.search else {name: value for name, value in told["search"].items() if name != "threads"}
    if record.number > 1 and not _own_numbers(record, settings):
        notes.append(f"the recording begins with goal {record.number} of the planner: its random numbers are not those of the recording")
    return dataclasses.replace(setup, seed=int(told["seed"]), changes={**search, **setup.changes})


def _asked(recorded: Recorded, goal: Asked) -> RecordedGoal:
    """A goal of one's own, with the recorded settings where there are some."""
    stages = stages_of(goal)
    known = dataclasses.replace(recorded.goals[0].record, stages=stages, number=1) if recorded.goals else usual_goal(stages)
    return RecordedGoal(known, recorded.begin_ns)


def _as_long(planner: Any, recorded: Recorded, settings: ReplaySettings) -> Callable[[int], None]:
    """Lets the search of a picture end after as many iterations as the recorded one, which may have been cut by a deadline."""
    search, setup = getattr(planner, "search", None), settings.planner
    usual = getattr(search, "iterations", None)
    if usual is None or setup.search or setup.changes or not settings.as_recorded:
        return lambda stamp_ns: None

    def iterate(stamp_ns: int) -> None:
        plan = recorded.plans.get(stamp_ns)
        search.iterations = usual if plan is None else max(1, min(usual, plan.iterations))

    return iterate


def _pace(speed: float) -> Callable[[int], None]:
    """Waits until a moment of the recording has come, at ``speed`` times its own; 0: never."""
    began: list[tuple[int, float]] = []

    def wait(log_ns: int) -> None:
        if speed <= 0.0:
            return
        began.extend([] if began else [(log_ns, time.monotonic())])
        time.sleep(max(0.0, began[0][1] + (log_ns - began[0][0]) / S / speed - time.monotonic()))

    return wait
