"""Two checkpoints on the same starts and goals in simulation, and on the same recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wm_bridge.bench.reach import Job, play_with
from wm_bridge.core.effector import give_kinematics
from wm_bridge.core.types import FloatArray
from wm_bridge.errors import UserError
from wm_bridge.planner_setup import PlannerSetup
from wm_bridge.replay.run import ReplaySettings, replay_planner
from wm_bridge.replay.summary import Row, summarise
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.sim.closed_loop import LoopSettings
from wm_bridge.sim.config import SceneConfig
from wm_bridge.sim.world import SimWorld
from wm_planner.compare import Difference, Paired, difference, paired
from wm_planner.config import PlannerConfig
from wm_planner.mpc import Planner



@dataclass(frozen=True)
class ClosedLoop:
    """Reaching goal pictures: successes paired by start and goal, and where the hand ended, cm (N,)."""

    success: Paired
    end_cm: dict[str, FloatArray]
    end: Difference


def closed_loop(checkpoints: Sequence[Path], spec: RobotSpec, config: PlannerConfig, episodes: int, seed: int, scene: SceneConfig = SceneConfig(), settings: LoopSettings = LoopSettings()) -> ClosedLoop:  # noqa: B008
    """Play each start and goal with A and with B: the same noise, the same random numbers of the search."""
    rows: list[list[dict[str, float]]] = []
    for name, path in zip("AB", checkpoints, strict=True):
        world, planner = SimWorld(spec, scene), Planner.load(path, config)
        planner.intrusion = Clearance(spec, SafetyConfig.load(spec.safety_path()), planner.joint_names)
        give_kinematics(planner, spec)
        jobs = [Job("planner", "none", seed, number, path, config, settings) for number in range(episodes)]
        rows.append([play_with(world, planner, job) for job in tqdm(jobs, unit="episode", desc=f"closed loop, {name}")])
        world.close()
    a, b = ([bool(row["held_3cm"]) for row in found] for found in rows)
    ends = {name: 100.0 * np.array([row["end_m"] for row in found]) for name, found in zip("AB", rows, strict=True)}
    return ClosedLoop(paired(a, b), ends, difference(ends["A"], ends["B"], seed))


@dataclass(frozen=True)
class Replays:
    """Recorded goals planned again with both.

    Attributes:
        bags: their names. rows: per model, the pictures of all bags. off: per model, 1 - cosine of planned and recorded motion, median of
            each goal (G,). off_by: B less A, over goals. stops: per model, plans that would have stopped the arm where the recorded run went on.
        recorded_with: hashes of the models that recorded the bags. own: one of the two is among them, and ``off_by`` names nobody: to
            agree with what one did oneself is no merit.
        failed: bags that cannot be replayed, and why.
    """

    bags: list[str] = field(default_factory=list)
    rows: dict[str, list[list[Row]]] = field(default_factory=lambda: {"A": [], "B": []})
    off: dict[str, FloatArray] = field(default_factory=dict)
    off_by: Difference | None = None
    stops: dict[str, int] = field(default_factory=dict)
    recorded_with: set[str] = field(default_factory=set)
    own: bool = False
    failed: dict[str, str] = field(default_factory=dict)


def replays(checkpoints: Sequence[Path], weights: Sequence[str], bags: Sequence[Path]) -> Replays:
    """Plan from the pictures of held-out bags with A and with B."""
    found: dict[str, list[list[Row]]] = {"A": [], "B": []}
    names, failed, made = [], dict[str, str](), set[str]()
    for bag in tqdm(bags, unit="bag", desc="replay"):
        try:
            runs = [replay_planner(bag, ReplaySettings(PlannerSetup(str(path.resolve())))) for path in checkpoints]
        except UserError as error:
            failed[str(bag)] = str(error)
            continue
        names.append(str(bag))
        made |= {str(goal.record.planner["weights"]) for goal in runs[0].recorded.goals if goal.record.planner}
        for name, run in zip("AB", runs, strict=True):
            found[name].append(list(summarise(run).rows))
    off = {name: _off(bags_rows) for name, bags_rows in found.items()}
    both = np.isfinite(off["A"]) & np.isfinite(off["B"])
    off = {name: values[both] for name, values in off.items()}
    apart = difference(off["A"], off["B"]) if len(off["A"]) else None
    own = bool(made & set(weights))
    if apart is not None and own:
        apart = Difference(apart.mean, apart.low, apart.high, "")
    stops = {name: sum(row.stops and not row.stopped for rows in bags_rows for row in rows) for name, bags_rows in found.items()}
    return Replays(names, found, off, apart, stops, made, own, failed)


def _off(bags: Sequence[Sequence[Row]]) -> FloatArray:
    """(G,) median of 1 - cosine over the pictures of each goal of each bag; NaN where nothing moved."""
    found = []
    for rows in bags:
        for goal in sorted({row.goal for row in rows}):
            values = np.array([1.0 - row.cosine for row in rows if row.goal == goal])
            values = values[np.isfinite(values)]
            found.append(float(np.median(values)) if len(values) else float("nan"))
    return np.array(found)
