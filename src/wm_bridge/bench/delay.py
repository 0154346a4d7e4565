"""`./wm bench delay`: reaching while plans arrive late, planned from the frame and from what it will have become.

Every row has the starts, goals and random numbers of the first one. Finished episodes are kept in
--state, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from wm_bridge import resources
from wm_bridge.bench.reach import Job, add_common_arguments, count, default_checkpoint, planner_config, results_of
from wm_bridge.bench.report import BenchResult, percent
from wm_bridge.bench.resume import Finished, settings_key
from wm_bridge.errors import UserError
from wm_bridge.sim.closed_loop import LoopSettings
from wm_planner.weights import weights_hash

LATENCIES_MS = (0, 100, 200, 400)


def main(argv: list[str]) -> int:
    """Print the table of delays."""
    parser = argparse.ArgumentParser(prog="wm bench delay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser, 50, latency=False)
    parser.add_argument("--latencies-ms", type=int, nargs="+", default=LATENCIES_MS, help="camera frame to filter (default: 0 100 200 400)")
    parser.add_argument("--state", type=Path, help="finished episodes (default: runs/delay.jsonl)")
    args = parser.parse_args(argv)
    if args.episodes < 1 or min(args.latencies_ms) < 0:
        raise UserError(f"--episodes {args.episodes}, --latencies-ms {args.latencies_ms}", "give at least 1 episode and no negative delay", 2)
    checkpoint, config = default_checkpoint(args), planner_config(args)
    key = settings_key(checkpoint, args.seed, config, LoopSettings())
    finished = Finished(args.state or resources.root() / "runs" / "delay.jsonl", key)
    figures: dict[str, float] = {"episodes": args.episodes}
    table: list[tuple[str, str]] = []
    for latency in args.latencies_ms:
        for word, compensate in (("without", False), ("with", True)):
            row, settings = f"{word}_{latency}ms", LoopSettings(latency_ms=latency, compensate=compensate)
            jobs = [Job("planner", "none", args.seed, n, checkpoint, config, settings) for n in range(args.episodes)]
            results = finished.complete(row, jobs, lambda todo: results_of(todo, args.workers))
            for goal in ("3cm", "5cm"):
                figures[f"{row}_{goal}"] = count(results, f"held_{goal}") / len(results)
            figures[f"{row}_end_cm_median"] = 100 * float(np.median([result["end_m"] for result in results]))
            refused = sum(result["refused"] for result in results)
            text = f"3 cm {percent(count(results, 'held_3cm'), len(results))}, 5 cm {percent(count(results, 'held_5cm'), len(results))}"
            table += [(f"{latency} ms, {word} compensation", text), ("", f"end {figures[f'{row}_end_cm_median']:.2f} cm, {refused:.0f} plans refused")]
    BenchResult("delay", args.seed, weights_hash(checkpoint), figures, table).show(args.json)
    return 0
