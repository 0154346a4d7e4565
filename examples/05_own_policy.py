"""A policy of your own as a proposal: the planner imagines what it proposes, and takes it only when it wins on energy.

    .venv/bin/python examples/05_own_policy.py --seed 1

Here the policy proposes the straight way to the joints that the model reads from the goal picture. Yours may be a network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from wm_bridge.robots import spec as robots
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld
from wm_planner.config import PlannerConfig
from wm_planner.goals import Goal
from wm_planner.mpc import Planner
from wm_planner.weights import shipped_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    world = SimWorld(robots.load("nico"))
    planner = Planner.load(args.checkpoint or shipped_checkpoint("nico"), PlannerConfig(samples=48, iterations=2, prior_samples=0), seed=args.seed)
    arm = world.spec.indices("right_arm")

    world.reset(sample_reachable(world, rng))
    goal = planner.encode_goal(world.render("front", 320, 240))
    world.reset(sample_reachable(world, rng))
    picture, joints = world.render("front", 320, 240), world.spec.home[arm]

    asked: list[torch.Tensor] = []

    def straight_way(z: torch.Tensor, state: torch.Tensor, goal: Goal, horizon: int) -> torch.Tensor:
        """(1, H, A): see ``wm_planner.policy.ProposalPolicy``."""
        way = goal.readout.joints - planner.model.read(z[0]).joints  # rad
        asked.append(way)
        return (way / horizon / planner.actions.scale).expand(1, horizon, -1)

    for name, policies in (("search alone", []), ("with the policy", [straight_way])):
        planner.policies[:] = policies
        planner.set_goal(goal)
        plan = planner.plan(picture, joints, joints)
        print(f"{name:<16} energy {plan.goal_energy:.3f} now, {plan.energy:.3f} for the plan; after each iteration {np.round(plan.energy_per_iteration, 3).tolist()}")
    print(f"the policy was asked {len(asked)} time; it wanted to move the joints by up to {float(asked[0].abs().max()):.2f} rad")


if __name__ == "__main__":
    main()
