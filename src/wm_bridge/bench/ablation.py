"""`./wm bench ablation`: reaching, with one part of the search switched off or changed at a time.

Every row has the starts, goals and random numbers of the first one. Finished episodes are kept in
--state, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge import resources
from wm_bridge.bench.reach import Job, add_common_arguments, count, default_checkpoint, planner_config, results_of
from wm_bridge.bench.report import BenchResult, percent
from wm_bridge.bench.resume import Finished, settings_key
from wm_bridge.errors import UserError
from wm_bridge.sim.closed_loop import LoopSettings
from wm_planner.config import PlannerConfig
from wm_planner.weights import weights_hash

ROWS: dict[str, dict[str, Any]] = {
    "default": {},
    "no_warm_start": {"warm_start": False},
    "white_noise": {"noise_beta": 0.0},
    "no_elites_kept": {"keep_elites": 0},
    "mean_sent": {"best_so_far": False},
    "no_prior": {"prior_samples": 0},
    "no_prior_cold": {"prior_samples": 0, "warm_start": False},
    "horizon_3": {"horizon": 3},
    "horizon_5": {"horizon": 5},
    "samples_24": {"samples": 24},
    "samples_96": {"samples": 96},
    "iterations_1": {"iterations": 1},
    "iterations_4": {"iterations": 4},
    "cem": {"optimiser": "cem"},
    "mppi": {"optimiser": "mppi"},
    "gradient": {"optimiser": "gradient"},
}


def steps(config: PlannerConfig) -> int:
    """Predictor steps of one plan at most."""
    candidates = config.gradient_starts if config.optimiser == "gradient" else config.samples
    return candidates * config.iterations * config.horizon


def main(argv: list[str]) -> int:
    """Print the ablation table."""
    parser = argparse.ArgumentParser(prog="wm bench ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser, 50)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="rows to run")
    parser.add_argument("--state", type=Path, help="finished episodes (default: runs/ablation.jsonl)")
    args = parser.parse_args(argv)
    if args.episodes < 1:
        raise UserError(f"--episodes must be at least 1, got {args.episodes}", "name a larger number", exit_code=2)
    checkpoint, config = default_checkpoint(args), planner_config(args)
    settings = LoopSettings(latency_ms=args.latency_ms)
    finished = Finished(args.state or resources.root() / "runs" / "ablation.jsonl", settings_key(checkpoint, args.seed, config, settings))
    figures: dict[str, float] = {"episodes": args.episodes}
    table: list[tuple[str, str]] = []
    for row in args.only:
        changed = dataclasses.replace(config, **ROWS[row])
        jobs = [Job("planner", "none", args.seed, n, checkpoint, changed, settings) for n in range(args.episodes)]
        results = finished.complete(row, jobs, lambda todo: results_of(todo, args.workers))
        for goal in ("3cm", "5cm"):
            figures[f"{row}_{goal}"] = count(results, f"held_{goal}") / len(results)
        figures[f"{row}_end_cm_median"] = 100 * float(np.median([result["end_m"] for result in results]))
        figures[f"{row}_steps"] = steps(changed)
        figures[f"{row}_plan_ms_median"] = float(np.median([result["plan_ms"] for result in results]))
        table.append((row, f"3 cm {percent(count(results, 'held_3cm'), len(results))}, 5 cm {percent(count(results, 'held_5cm'), len(results))}"))
        table.append(("", f"end {figures[f'{row}_end_cm_median']:.2f} cm, {figures[f'{row}_steps']:.0f} steps, {figures[f'{row}_plan_ms_median']:.0f} ms a plan"))
    BenchResult("ablation", args.seed, weights_hash(checkpoint), figures, table).show(args.json)
    return 0
