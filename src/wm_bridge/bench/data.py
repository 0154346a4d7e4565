"""The data loop. A recorded run is planned again: the same bits every time, how fast, and are mistakes noticed? Bags become
training data: how fast, and do joints and picture of a sample belong together?"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from wm_bridge.bench import data_convert
from wm_bridge.bench.data_defects import DEFECTS, defect
from wm_bridge.bench.report import BenchResult
from wm_bridge.errors import UserError
from wm_bridge.planner_setup import PlannerSetup
from wm_bridge.replay import golden
from wm_bridge.replay.run import Replay, ReplaySettings, replay_planner

SEED = 3
_ALONE = 3  # runs with --jobs 1


def measure(bag: Path, repeats: int, settings: ReplaySettings) -> BenchResult:
    """Replay a bag ``repeats`` times as it is, a few times without other processes, and once with each defect.

    Raises:
        UserError: the bag cannot be replayed.
    """
    runs = [replay_planner(bag, settings) for _ in range(repeats)]
    alone = [replay_planner(bag, dataclasses.replace(settings, jobs=1)) for _ in range(_ALONE)]
    texts = [json.dumps(golden.rows(run)) for run in [*runs, *alone]]
    same = sum(text == texts[0] for text in texts)
    wrong = sum(report.wrong for run in [*runs, *alone] for report in run.guarded.reports)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "golden"
        golden.write(file, runs[0])
        caught = {name: _caught(name, bag, settings, file) for name in DEFECTS}
    speed, plan_speed = np.median([run.speed for run in runs]), np.median([run.plan_speed for run in runs])
    parts, plan_speed_alone = _parts(alone), np.median([run.plan_speed for run in alone])
    figures = {
        "replay_identical": float(same == len(texts) and not wrong),
        "replay_speed": float(speed),
        "defects_caught": float(sum(map(bool, caught.values()))),
        "repeats": float(repeats),
        "defects": float(len(DEFECTS)),
        "replay_speed_while_planning": float(plan_speed),
        "replay_speed_while_planning_least": float(min(run.plan_speed for run in runs)),
        "replay_speed_while_planning_one_job": float(plan_speed_alone),
        **{f"{name}_ms": value for name, value in parts.items()},
    }
    recorded = runs[0].recorded
    planned_s = len(runs[0].decisions) * runs[0].period_s
    rows = [
        ("recording", f"{recorded.duration_s:.1f} s, {len(recorded.goals)} goals, {len(runs[0].decisions)} plans ({planned_s:.1f} s of planning)"),
        ("identical repeats", f"{same} of {len(texts)}, {len(alone)} of them with --jobs 1; recorded safety filter the same to the bit: {'yes' if not wrong else 'no'}"),
        ("speed, whole recording", f"{speed:.1f} x recorded time"),
        ("speed, while a goal is pursued", f"{plan_speed:.2f} x recorded time, least {figures['replay_speed_while_planning_least']:.2f} x; --jobs 1: {plan_speed_alone:.2f} x"),
        ("of a plan's time with --jobs 1, median", ", ".join(f"{name} {value:.1f} ms" for name, value in parts.items())),
        ("defects caught", f"{sum(map(bool, caught.values()))} of {len(DEFECTS)}"),
        *((f"  {name}", found or "NOT noticed") for name, found in caught.items()),
    ]
    return BenchResult("data", SEED, str(runs[0].planner["weights"]), figures, rows)


def _caught(name: str, bag: Path, settings: ReplaySettings, file: Path) -> str:
    """How a defect shows; "" when it does not."""
    with defect(name):
        run = replay_planner(bag, settings)
        comparison = golden.compare(file, run)
    different = sum(report.different for report in run.guarded.reports)
    told = [f"{comparison.different} of {comparison.decisions} decisions"] if not comparison.same else []
    return ", ".join(told + ([f"{different} answers of the recorded filter"] if different else []))


def _parts(runs: list[Replay]) -> dict[str, float]:
    """Median over the decisions of all runs, ms: reading of the picture that was not done beside, encoding, search, all of the step; safety filter per plan."""
    decisions = [decision for run in runs for decision in run.decisions if decision.numbers]
    named = {"wait for picture": "decode", "encode": "encode", "search": "search", "whole step": "step"}
    found = {name: float(np.median([decision.times_s.get(key, 0.0) for decision in decisions]) * 1e3) for name, key in named.items()}
    return found | {"safety filter": float(np.median([run.guard_s / max(len(run.decisions), 1) for run in runs]) * 1e3)}


def record(folder: Path) -> Path:
    """Record a run of the demo: two goals."""
    command = [sys.executable, "-m", "wm_bridge.cli.main", "demo", "--seed", str(SEED), "--goals", "2", "--no-video", "--out", str(folder)]
    print("recording a run of the demo ...", flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise UserError(f"the demo ended with code {done.returncode}: {done.stderr.strip()[-300:]}", "try ./wm demo, or name a bag: --bag", 2)
    return folder / "bag"


def main(argv: list[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="./wm bench data", description=__doc__)
    parser.add_argument("--bag", type=Path, help="recorded run (default: one of the demo is recorded)")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", choices=("replay", "dataset"), help="one half of the table")
    parser.add_argument("--duration", type=float, default=60.0, help="of the bags that are converted, s (default 60)")
    parser.add_argument("--checkpoint", default="", help="world model (default: the shipped one)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    figures: dict[str, float] = {}
    rows: list[tuple[str, str]] = []
    weights = ""
    with tempfile.TemporaryDirectory() as folder:
        if args.only != "replay":
            figures, rows = data_convert.measure(Path(folder), args.duration, SEED)
        if args.only != "dataset":
            bag = args.bag or record(Path(folder) / "run")
            replayed = measure(bag, max(args.repeats, 2), ReplaySettings(PlannerSetup(args.checkpoint)))
            figures, rows, weights = {**replayed.figures, **figures}, [*replayed.rows, *rows], replayed.weights
    BenchResult("data", SEED, weights, figures, rows).show(args.json)
    return 0
