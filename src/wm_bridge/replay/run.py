"""A whole replay: settings, the decisions of planner and safety filter, and how long they took."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wm_bridge.core.goal_kinds import Asked, stages_of
from wm_bridge.core.goal_record import GoalRecord
from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.core.subject import camera_subject, robot_subject
from wm_bridge.errors import UserError
from wm_bridge.planner_setup import EquippedPlanner, PlannerSetup
from wm_bridge.replay.guarding import Guarded, Proposal, guard
from wm_bridge.replay.planning import Decision, plan_again, without_clock
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
    """

    planner: PlannerSetup = PlannerSetup()
    robot: str = ""
    safety: SafetyConfig | None = None
    goal: Asked | None = None
    speed: float = 0.0
    namespace: str = ""
    camera: str = ""
    as_recorded: bool = True


@dataclass(frozen=True)
class Replay:
    """What a replay gave.

    Attributes:
        bag: what was replayed. recorded: what is in it. decisions: one per picture. guarded: of the safety filter.
        planner: what decided (checkpoint, weights, seed, search). load_s, plan_s, guard_s: time spent. notes: what is to be known.
    """

    bag: Path
    recorded: Recorded
    decisions: tuple[Decision, ...]
    guarded: Guarded
    planner: Mapping[str, Any]
    period_s: float
    load_s: float
    plan_s: float
    guard_s: float
    notes: tuple[str, ...] = field(default=())

    @property
    def speed(self) -> float:
        """Seconds of recording per second, without the time to load model and bag."""
        return self.recorded.duration_s / max(self.plan_s + self.guard_s, 1e-9)

    @property
    def plan_speed(self) -> float:
        """The same of the planned part alone: one period per decision."""
        return len(self.decisions) * self.period_s / max(self.plan_s + self.guard_s, 1e-9)


def replay_planner(bag: Path, settings: ReplaySettings = ReplaySettings(), equip: Callable[[PlannerSetup, Any], EquippedPlanner] = EquippedPlanner) -> Replay:
    """Plan and filter again what a bag holds.

    Args:
        bag: folder or file. settings: see there. equip: makes the planner.

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
    equipped = equip(_setup(settings, first, notes), spec)
    planner, now = equipped.planner, equipped.description()
    if first.planner and first.planner["weights"] != now["weights"]:
        notes.append(f"recorded with {first.planner['checkpoint']} {first.planner['weights']}, planned now with {now['checkpoint']} {now['weights']}: --checkpoint names another")
    robot, cameras = robot_subject(spec.name, recorded.simulated), set[str]()

    def make_loop(record: GoalRecord, picture: Picture) -> PlanLoop:
        height, width = picture.decoded().shape[:2]
        camera = camera_subject(picture.frame_id.removeprefix(str(record.planner.get("tf_prefix", ""))), width, height)
        if camera not in cameras:
            cameras.add(camera)
            problem = equipped.judge_by_calibration(robot, camera)
            notes.extend([problem] if problem else [])
        return PlanLoop(planner, spec, without_clock(record).loop, clock=lambda: 0, observe=equipped.observe)

    loaded = time.perf_counter()
    wait, iterate = _pace(settings.speed), _as_long(planner, recorded, settings)

    def before(picture: Picture) -> None:
        wait(picture.log_ns)
        iterate(picture.stamp_ns)

    decisions = tuple(plan_again(recorded, make_loop, float(planner.period_s), before))
    planned = time.perf_counter()
    proposals = [Proposal(d.stamp_ns, d.now_ns, d.trajectory, d.numbers.get("trust", 1.0)) for d in decisions if d.trajectory is not None]
    guarded = guard(recorded, proposals, float(planner.period_s), settings.safety)
    end = time.perf_counter()
    notes += [guarded.problem] if guarded.problem else []
    return Replay(bag, recorded, decisions, guarded, now, float(planner.period_s), loaded - begin, planned - loaded, end - planned, tuple(notes))


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
    if record.number > 1:
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
