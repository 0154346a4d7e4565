"""`./wm bench push`: the block moved to where the goal picture shows it."""

from __future__ import annotations

import argparse

import numpy as np

from wm_bridge.bench.controllers import Demonstrator, PriorPolicy, RandomActions, Still
from wm_bridge.bench.reach import (
    Job,
    add_common_arguments,
    count,
    default_checkpoint,
    planner_config,
    run_jobs,
    world_and_planner,
)
from wm_bridge.bench.report import BenchResult, percent
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.sim.closed_loop import LoopSettings, run_episode
from wm_bridge.sim.play import ARM, AROUND, scatter_block
from wm_bridge.sim.demonstrator import draw_goal
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld
from wm_planner.weights import weights_hash

def draw_push(world: SimWorld, rng: np.random.Generator) -> tuple[np.ndarray, tuple, tuple]:
    """Start pose (J,), block pose, and block goal pose 5 to 12 cm away, both where the hand gets around."""
    while True:
        start = sample_reachable(world, rng)
        world.reset(start, objects={})
        scatter_block(world, rng, AROUND)
        block = world.object_pose("block")
        if block[0] < -5.0:
            continue
        x, y = draw_goal(block, rng, 0.05, 0.12)
        hand = world.hand_position(ARM)
        if np.hypot(hand[0] - x, hand[1] - y) > 0.10 or hand[2] > world.scene.table_height + 0.14:
            return start, tuple(block), world.on_table("block", float(x), float(y), float(block[3]))


def play(job: Job) -> dict[str, float]:
    """Run one episode; returns what it scored."""
    world, planner = world_and_planner(job)
    world.nominal()
    rng = np.random.default_rng(np.random.SeedSequence([job.seed, 7, job.number]))
    start, block, goal = draw_push(world, rng)
    world.reset(start, objects={"block": goal})
    goal_picture = world.render("front", job.settings.width, job.settings.height)
    world.reset(start, objects={"block": block})
    planner.search.generator.manual_seed(job.number)
    controller = {
        "planner": lambda: planner,
        "random": lambda: RandomActions(planner, job.number),
        "still": lambda: Still(planner, job.number),
        "prior": lambda: PriorPolicy(planner, job.number),
        "demonstrator": lambda: Demonstrator(planner, job.number, world, np.array(goal)),
    }[job.controller]()
    trace = run_episode(
        world, controller, goal_picture, rng, SafetyConfig.load(), job.settings, target="object"
    )
    target = np.array(goal[:3])
    end = float(np.linalg.norm((trace.object[-1] - target)[:2]))
    return {
        "end_m": end,
        "start_m": float(np.hypot(goal[0] - block[0], goal[1] - block[1])),
        "success": end <= 0.04 and trace.held(target, 0.04, "object"),
        "moved": float(np.linalg.norm((trace.object[-1] - trace.object[0])[:2])) > 0.01,
        "interventions": trace.interventions,
    }


def main(argv: list[str]) -> int:
    """Print the push table."""
    parser = argparse.ArgumentParser(prog="wm bench push", description=__doc__)
    add_common_arguments(parser, 200)
    parser.add_argument("--only", nargs="*", help="rows to run, e.g. planner random")
    args = parser.parse_args(argv)
    checkpoint, config = default_checkpoint(args), planner_config(args)
    settings = LoopSettings(latency_ms=args.latency_ms)
    figures: dict[str, float] = {"episodes": args.episodes}
    table: list[tuple[str, str]] = []
    for controller in args.only or ["planner", "prior", "random", "still", "demonstrator"]:
        print(f"{controller}: {args.episodes} episodes")
        jobs = [Job(controller, "none", args.seed, n, checkpoint, config, settings) for n in range(args.episodes)]
        rows = run_jobs(jobs, args.workers, play)
        name = "success" if controller == "planner" else controller
        figures[f"{name}_4cm"] = count(rows, "success") / len(rows)
        figures[f"{name}_moved"] = count(rows, "moved") / len(rows)
        ends = 100 * np.array([row["end_m"] for row in rows])
        table.append((f"{controller}: block < 4 cm", percent(count(rows, "success"), len(rows))))
        table.append((f"{controller}: block moved, end distance", f"{100 * figures[f'{name}_moved']:.0f} %, median {np.median(ends):.1f} cm"))
    BenchResult("push", args.seed, weights_hash(checkpoint), figures, table).show(args.json)
    return 0
