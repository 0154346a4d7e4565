"""`./wm bench model`: open-loop error, controls, ranking and rank on data no training has seen."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from wm_bridge import resources
from wm_bridge.bench.reach import default_checkpoint
from wm_bridge.bench.report import BenchResult
from wm_bridge.cli import collect
from wm_planner.config import PlannerConfig, load_config
from wm_planner.data import Dataset
from wm_planner.evaluate import evaluate, plot, table
from wm_planner.weights import load_model, weights_hash

COLLECT_SEED = 900_001  # no training collection uses it


def fresh_data(folder: Path, image_size: int, episodes: int, workers: int) -> Path:
    """Collect a small dataset of its own seed, once; later calls find it."""
    words = ["--out", str(folder), "--episodes", str(episodes), "--shard", "20", "--seed", str(COLLECT_SEED)]
    status = collect.main([*words, "--image-size", str(image_size), "--workers", str(workers)])
    if status:
        raise SystemExit(status)
    return folder


def main(argv: list[str]) -> int:
    """Print the table of the world model's figures."""
    parser = argparse.ArgumentParser(prog="wm bench model", description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", help="unseen dataset folders (default: collects its own)")
    parser.add_argument("--episodes", type=int, default=40, help="episodes to collect without --data (default 40)")
    parser.add_argument("--checkpoint", type=Path, help="world model (default: the one that ships)")
    parser.add_argument("--seed", type=int, default=1, help="of windows and pairs")
    parser.add_argument("--windows", type=int, default=200, help="random windows of 10 steps")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that collect")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="write error against horizon here")
    args = parser.parse_args(argv)
    checkpoint = default_checkpoint(args)
    model, _ = load_model(checkpoint)
    size = model.config.image_size
    cache = resources.root() / "runs" / f"unseen_{size}px_{args.episodes}"
    folders = args.data or [fresh_data(cache, size, args.episodes, args.workers)]
    # all of it is unseen; the probe is fitted on one half of the episodes and scored on the other
    data = Dataset(folders, held_out=0.5)
    config = load_config(PlannerConfig, resources.path("config/compact_planner.yaml"))
    result = evaluate(model, data, config, args.windows, args.seed)
    rows = [("unseen episodes", str(len(data))), *table(result)]
    figures = {**result.figures, "episodes": float(len(data))}
    BenchResult("model", args.seed, weights_hash(checkpoint), figures, rows).show(args.json)
    if args.plot:
        plot(result, args.plot)
    return 0
