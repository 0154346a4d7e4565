"""`./wm bench plan`: time of one planning call of the default model, on two threads and on one."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from wm_bridge import resources
from wm_bridge.bench.reach import default_checkpoint
from wm_bridge.bench.report import BenchResult
from wm_bridge.core.effector import give_kinematics
from wm_bridge.robots import spec as robots
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig
from wm_planner.config import PlannerConfig, load_config
from wm_planner.mpc import Planner
from wm_planner.plan import Plan
from wm_planner.train import overrides_from
from wm_planner.weights import weights_hash

THREADS = (2, 1)
WIDTH, HEIGHT = 320, 240  # of the simulated camera


def measure(planner: Planner, calls: int, seed: int) -> dict[int, list[tuple[float, float, Plan]]]:
    """Wall time, processor time of this process (both s) and plan of each call, by thread count.

    The thread counts take turns, so that a busy machine slows both alike.
    """
    rng = np.random.default_rng(seed)
    config = planner.model.config
    lower, upper = np.array(config.lower), np.array(config.upper)
    pictures = rng.integers(0, 256, size=(8, HEIGHT, WIDTH, 3), dtype=np.uint8)
    planner.set_goal(planner.encode_goal(pictures[0]))
    found: dict[int, list[tuple[float, float, Plan]]] = {threads: [] for threads in THREADS}
    for call in tqdm(range(calls + 3), unit="call"):
        for threads in THREADS:
            torch.set_num_threads(threads)
            joints = rng.uniform(lower, upper)
            started, processor = time.perf_counter(), time.process_time()
            plan = planner.plan(pictures[call % 8], joints, joints)
            if call >= 3:  # the first calls fill caches
                found[threads].append((time.perf_counter() - started, time.process_time() - processor, plan))
    return found


def milliseconds(values: Sequence[float], quantile: float) -> float:
    """Quantile of times in s, as ms."""
    return 1e3 * float(np.quantile(values, quantile))


def main(argv: list[str]) -> int:
    """Print the table of planning times."""
    parser = argparse.ArgumentParser(prog="wm bench plan", description=__doc__)
    parser.add_argument("--calls", type=int, default=100, help="calls per thread count (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of pictures, joints and search")
    parser.add_argument("--checkpoint", type=Path, help="world model (default: the one that ships)")
    parser.add_argument("--planner", type=Path, help="YAML with PlannerConfig keys")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override a planner setting")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args(argv)
    checkpoint = default_checkpoint(args)
    path = args.planner or resources.path("config/compact_planner.yaml")
    config = load_config(PlannerConfig, path, overrides_from(args.set))
    planner = Planner.load(checkpoint, config, args.seed)
    nico = robots.load("nico")
    planner.intrusion = Clearance(nico, SafetyConfig.load(nico.safety_path()), planner.joint_names)  # as the planner node has it
    give_kinematics(planner, nico)
    found = measure(planner, args.calls, args.seed)
    two, one = ([wall for wall, _, _ in found[threads]] for threads in THREADS)
    plans = [plan for _, _, plan in found[2]]
    parts = {
        name: milliseconds([getattr(plan, f"{name}_s") for plan in plans], 0.5)
        for name in ("preprocess", "encode", "optimise")
    }
    figures = {
        "p50_ms": milliseconds(two, 0.5),
        "p99_ms": milliseconds(two, 0.99),
        "p50_ms_1_thread": milliseconds(one, 0.5),
        "p99_ms_1_thread": milliseconds(one, 0.99),
        "processor_ms_1_thread": milliseconds([cpu for _, cpu, _ in found[1]], 0.5),
        **{f"{name}_ms": value for name, value in parts.items()},
        "samples": plans[0].samples,
        "predictor_steps": plans[0].samples * config.horizon,
        "calls": args.calls,
    }
    rows = [
        ("search", f"horizon {config.horizon}, {config.samples} samples, {config.iterations} iterations"),
        ("predictor steps", f"{figures['predictor_steps']:.0f}"),
        ("2 threads", f"p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms, n={args.calls}"),
        ("  resize + encode + search", " + ".join(f"{value:.1f}" for value in parts.values()) + " ms (p50)"),
        ("1 thread", f"p50 {figures['p50_ms_1_thread']:.1f} ms, p99 {figures['p99_ms_1_thread']:.1f} ms"),
        ("  processor time", f"p50 {figures['processor_ms_1_thread']:.1f} ms, waiting excluded, contention for caches not"),
    ]
    samples = {f"planning call, {name}, ms": [1e3 * wall for wall in walls] for name, walls in (("2 threads", two), ("1 thread", one))}
    BenchResult("plan", args.seed, weights_hash(checkpoint), figures, rows, samples).show(args.json)
    return 0
