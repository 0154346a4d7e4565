"""The closed loop without ROS: camera picture, planner, safety filter and physics in one process.

    .venv/bin/python examples/01_plan_in_process.py --seed 1

Prints how the hand comes closer. The true distance is read from the simulator for scoring only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from wm_bridge import resources
from wm_bridge.robots import spec as robots
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.sim.closed_loop import LoopSettings, run_episode
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld
from wm_planner.config import PlannerConfig, load_config
from wm_planner.mpc import Planner
from wm_planner.weights import shipped_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--duration", type=float, default=8.0, help="s of simulated time")
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    world = SimWorld(robots.load("nico"))
    search = load_config(PlannerConfig, resources.path("config/compact_planner.yaml"), {"threads": 1})
    planner = Planner.load(args.checkpoint or shipped_checkpoint("nico"), search, seed=args.seed)

    # Take the goal picture with the arm at a random pose, then put the arm somewhere else.
    world.reset(sample_reachable(world, rng))
    world.step(0.3)
    goal_picture, goal_hand = world.render("front", 320, 240), world.hand_position("right_arm")
    world.reset(sample_reachable(world, rng))

    trace = run_episode(world, planner, goal_picture, rng, SafetyConfig.load(), LoopSettings(duration_s=args.duration))

    distance_cm = np.linalg.norm(np.array(trace.hand) - goal_hand, axis=1) * 100  # one per 10 ms
    for tick in range(0, len(distance_cm), 100):
        print(f"{tick / 100:5.1f} s   true distance {distance_cm[tick]:5.1f} cm")
    print(f"end       true distance {distance_cm[-1]:5.1f} cm   decoded {trace.decoded[-1] * 100:.1f} cm")
    print(f"{len(trace.plan_s)} plans, median {np.median(trace.plan_s) * 1e3:.0f} ms; safety changed {trace.interventions} ticks, refused {trace.refused} plans")


if __name__ == "__main__":
    main()
