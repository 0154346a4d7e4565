"""`./wm bench peers`: our search against stable-worldmodel's solvers, on the same world model and task.

Every row plans with the same weights, energy, horizon and control loop from the same starts to
the same goal pictures; only the search differs. Episodes of the rows take turns, and so do the
planning calls that are timed, these in one process. A solver of the peer needs about a hundred times as many rollouts, so 100
episodes take hours: each finished one is kept in --state, and the same command goes on from there. An episode ends a second after
its goal was declared reached.

Rows: `planner` is the default planner of this repository, with its prior and its warm start. `icem` is
stable-worldmodel's iCEM with its defaults, 300 samples and 30 iterations, from what remains of
the last plan; `cem` its CEM with its defaults, each plan from zero (a plan that is carried out
to its end leaves nothing to start from); `cem_warm` the same started like `icem`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wm_bridge import resources
from wm_bridge.bench import peer_packages
from wm_bridge.bench.peer_search import PeerSearch
from wm_bridge.bench.reach import Job, add_common_arguments, count, default_checkpoint, planner_config, play_with, results_of, world_and_planner
from wm_bridge.bench.report import BenchResult, percent, wilson
from wm_bridge.bench.resume import Finished, Row, settings_key
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.errors import UserError
from wm_bridge.sim.closed_loop import LoopSettings
from wm_planner.mpc import Planner
from wm_planner.plan import Plan
from wm_planner.weights import weights_hash

PEERS = {"icem": ("ICEMSolver", True), "cem": ("CEMSolver", False), "cem_warm": ("CEMSolver", True)}
SOLVED_M = 0.05  # a start nearer to its goal than this needs no planner
GOALS = ("3cm", "5cm")
HEADLINES = {
    "success": "planner_3cm",
    "peer_success": "icem_3cm",
    "step_ratio": "icem_step_ratio",
    "wall_ratio": "icem_wall_ratio_median",
}
Call = tuple[float, int]  # seconds, predictor steps


class Metered(Planner):
    """Keeps wall time (s) and predictor steps of every planning call."""

    calls: list[Call]

    def plan(self, image: ImageArray, position: FloatArray, reference: FloatArray, deadline_s: float | None = None, periods: int = 1) -> Plan:
        """See ``Planner``."""
        started = time.perf_counter()
        plan = super().plan(image, position, reference, deadline_s, periods)
        self.calls.append((time.perf_counter() - started, plan.samples * self.config.horizon))
        return plan


def planner_of(row: str, default: Planner) -> Metered:
    """The planner of a row of the table, on the model of the ``default`` one."""
    planner = Metered(default.model, default.config)
    planner.intrusion, planner.calls = default.intrusion, []
    if row != "planner":
        name, warm = PEERS[row]
        solver = getattr(peer_packages.solvers(), name)
        planner.search = PeerSearch(solver, planner.config.horizon, len(planner.joint_names), warm, seed=0)
    return planner


def timed(planners: dict[str, Metered], calls: int, seed: int) -> dict[str, list[Call]]:
    """Planning calls of each row, which take turns, each from a picture and a posture of its own."""
    rng = np.random.default_rng(seed)
    first = next(iter(planners.values()))
    lower, upper = np.array(first.model.config.lower), np.array(first.model.config.upper)
    goal = first.encode_goal(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    for planner in planners.values():
        planner.set_goal(goal)
    for _ in range(calls + 1):
        picture = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
        joints = rng.uniform(lower, upper)
        for planner in planners.values():
            planner.plan(picture, joints, joints)
    return {row: planner.calls[1:] for row, planner in planners.items()}  # the first one fills caches


def paired(ours: list[Row], theirs: list[Row], key: str) -> tuple[int, int, float]:
    """Episodes that only we / only they solved, and the chance of so uneven a split (exact McNemar test)."""
    only_ours = sum(bool(a[key]) and not b[key] for a, b in zip(ours, theirs, strict=True))
    only_theirs = sum(bool(b[key]) and not a[key] for a, b in zip(ours, theirs, strict=True))
    split, total = min(only_ours, only_theirs), only_ours + only_theirs
    tail = sum(math.comb(total, k) for k in range(split + 1)) / 2**total
    return only_ours, only_theirs, min(1.0, 2 * tail)


def play(job: Job) -> Row:
    """Run one episode of the row that the job names as its controller."""
    world, default = world_and_planner(dataclasses.replace(job, controller="planner"))
    planner = planner_of(job.controller, default)
    result: Row = dict(play_with(world, planner, dataclasses.replace(job, controller="planner")))
    return result | {"plans": len(planner.calls)}


def run(jobs: dict[str, list[Job]], finished: Finished, workers: int) -> None:
    """Run what is missing, an episode of each row in turn."""
    todo = [job for turn in zip(*jobs.values(), strict=True) for job in turn if finished.get(job.controller, job.number) is None]
    for job, result in zip(todo, results_of(todo, workers, play), strict=True):
        finished.add(job.controller, job.number, result)


def figures_of(rows: dict[str, list[Row]], calls: dict[str, list[Call]]) -> dict[str, float]:
    """Success, steps and time of every row, and their ratios to ours; no success without episodes."""
    figures: dict[str, float] = {"episodes": len(rows["planner"])}
    for row, results in rows.items():
        for goal in GOALS if results else ():
            good = count(results, f"held_{goal}")
            low, high = wilson(good, len(results))
            figures |= {f"{row}_{goal}": good / len(results), f"{row}_{goal}_low": low, f"{row}_{goal}_high": high}
        seconds, steps = zip(*calls[row], strict=True)
        figures |= {f"{row}_steps": float(np.mean(steps)), f"{row}_ms_min": 1e3 * min(seconds), f"{row}_ms_median": 1e3 * float(np.median(seconds))}
        if row != "planner":
            figures[f"{row}_step_ratio"] = figures[f"{row}_steps"] / figures["planner_steps"]
            for kind in ("min", "median"):
                figures[f"{row}_wall_ratio_{kind}"] = figures[f"{row}_ms_{kind}"] / figures[f"planner_ms_{kind}"]
            only_ours, only_theirs, chance = paired(rows["planner"], results, "held_3cm")
            figures |= {f"{row}_only_ours": only_ours, f"{row}_only_theirs": only_theirs, f"{row}_p": chance}
    for name, of in HEADLINES.items():
        if of in figures:
            figures[name] = figures[of]
    return figures


def table_of(rows: dict[str, list[Row]], figures: dict[str, float]) -> Iterator[tuple[str, str]]:
    """Lines for people."""
    for row, results in rows.items():
        for goal in GOALS if results else ():
            yield f"{row}: held < {goal[0]} cm", percent(count(results, f"held_{goal}"), len(results))
        if results:
            yield f"{row}: worst of last 0.5 s, median", f"{100 * np.median([result['end_m'] for result in results]):.2f} cm"
        yield f"{row}: predictor steps per plan", f"{figures[f'{row}_steps']:.0f}"
        yield f"{row}: one planning call, min / median", f"{figures[f'{row}_ms_min']:.1f} / {figures[f'{row}_ms_median']:.1f} ms"
    for row in rows:
        if row != "planner":
            yield f"{row} / planner: steps, time (min, median)", " ".join(
                f"{figures[f'{row}_{name}']:.1f}x" for name in ("step_ratio", "wall_ratio_min", "wall_ratio_median")
            )
            yield f"3 cm: only planner / only {row}", f"{figures[f'{row}_only_ours']:.0f} / {figures[f'{row}_only_theirs']:.0f} (p = {figures[f'{row}_p']:.2g})"


def main(argv: list[str]) -> int:
    """Print the table of peers."""
    parser = argparse.ArgumentParser(prog="wm bench peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser, 100)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=["icem", "cem"], help="peers (default: icem cem)")
    parser.add_argument("--state", type=Path, help="finished episodes (default: runs/peers.jsonl)")
    parser.add_argument("--duration", type=float, default=LoopSettings.duration_s, help="of an episode, s (default %(default)s)")
    parser.add_argument("--calls", type=int, default=10, help="timed planning calls per row (default 10)")
    args = parser.parse_args(argv)
    if args.episodes < 0 or args.calls < 1 or not args.duration >= 1.0:
        raise UserError("--calls and --duration must be at least 1, --episodes at least 0", "--episodes 0 only times planning calls", exit_code=2)
    checkpoint, config = default_checkpoint(args), planner_config(args)
    settings = LoopSettings(latency_ms=args.latency_ms, duration_s=args.duration, rest_s=1.0)
    key = settings_key(checkpoint, args.seed, config, settings) | {"peers": resources.path("requirements/peers.txt").read_text()}
    finished = Finished(args.state or resources.root() / "runs" / "peers.jsonl", key)
    peer_packages.solvers()  # installed once, not by every process
    names = ["planner", *args.only]
    jobs = {row: [Job(row, "none", args.seed, n, checkpoint, config, settings) for n in range(args.episodes)] for row in names}
    run(jobs, finished, args.workers)
    rows = {row: finished.rows(row, args.episodes) for row in names}
    unsolved = [n for n, result in enumerate(rows["planner"]) if result["start_m"] > SOLVED_M]
    rows = {row: [results[n] for n in unsolved] for row, results in rows.items()}
    _, default = world_and_planner(Job("planner", "none", args.seed, 0, checkpoint, config, settings))
    figures = figures_of(rows, timed({row: planner_of(row, default) for row in names}, args.calls, args.seed))
    table = [("unsolved starts", str(len(unsolved))), *table_of(rows, figures)]
    BenchResult("peers", args.seed, weights_hash(checkpoint), figures, table).show(args.json)
    return 0
