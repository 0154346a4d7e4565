"""What the world model is compared with: random, still, pose regression, and an oracle.

Each has the face of a planner (`core.plan_view.PlannerView`), so every row of a table runs
through the same loop and the same safety filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.sim.episodes import apply_action
from wm_bridge.sim.play import ARM
from wm_bridge.sim.pusher import Pusher
from wm_bridge.sim.world import SimWorld
from wm_planner.actions import ActionSpec
from wm_planner.config import PlannerConfig
from wm_planner.mpc import Planner
from wm_planner.search.icem import ICem


@dataclass(frozen=True)
class SimplePlan:
    """The least that the loop reads from a plan."""

    references: FloatArray
    goal_energy: float = float("nan")
    distance_m: float = float("nan")
    object_distance_m: float = float("nan")
    joint_distance_rad: float = 0.0
    angle_rad: float = float("nan")
    goal_trust: float = 1.0
    trust: float = 1.0


class Baseline:
    """Common part: joints and period of the planner that is compared with."""

    def __init__(self, planner: Planner, seed: int) -> None:
        config = planner.model.config
        self.joint_names, self.period_s = config.joint_names, config.period_s
        self.lower, self.upper = np.array(config.lower), np.array(config.upper)
        self.scale = np.array(config.action_scale)
        self.rng = np.random.default_rng(seed)

    def encode_goal(self, image: ImageArray, target: str = "hand", mask: ImageArray | None = None) -> Any:
        """The goal as this controller knows it."""
        return image

    def joints_goal(self, joints: Mapping[str, float]) -> Any:
        """The same of joints."""
        return joints

    def pose_goal(self, position: FloatArray, rotation: FloatArray | None = None) -> Any:
        """The same of a pose."""
        return position

    def set_goal(self, goal: Any) -> None:
        """Keep the goal."""
        self.goal = goal

    def reset(self) -> None:
        """Nothing to forget."""

    def path(self, reference: FloatArray, steps: FloatArray) -> FloatArray:
        """(H, A) references after the (H, A) actions, inside box and limits."""
        steps = np.clip(steps, -self.scale, self.scale)
        return np.clip(reference + np.cumsum(steps, axis=0), self.lower, self.upper)


class RandomActions(Baseline):
    """Coloured random actions over the whole action box."""

    velocity: FloatArray | float = 0.0

    def plan(
        self, image: ImageArray, position: FloatArray, reference: FloatArray, deadline_s: float | None = None
    ) -> SimplePlan:
        """Random walk."""
        self.velocity = 0.8 * np.asarray(self.velocity) + 0.6 * self.rng.normal(size=len(self.scale))
        return SimplePlan(self.path(reference, np.tile(self.velocity * self.scale, (5, 1))))


class Still(Baseline):
    """Zero action."""

    def plan(
        self, image: ImageArray, position: FloatArray, reference: FloatArray, deadline_s: float | None = None
    ) -> SimplePlan:
        """Hold."""
        return SimplePlan(np.tile(reference, (5, 1)))


class PoseRegressor(Baseline):
    """Reads the joint pose out of the goal picture once and moves there in joint space."""

    def __init__(self, planner: Planner, seed: int) -> None:
        super().__init__(planner, seed)
        self.reader = planner

    def encode_goal(self, image: ImageArray, target: str = "hand", mask: ImageArray | None = None) -> FloatArray:
        """(A,) joint pose decoded from the goal picture, rad."""
        return self.reader.encode_goal(image).readout.joints.double().numpy()

    def plan(
        self, image: ImageArray, position: FloatArray, reference: FloatArray, deadline_s: float | None = None
    ) -> SimplePlan:
        """Straight line in joint space, slowing down near the goal."""
        step = 0.5 * (self.goal - reference)
        step = step / max(1.0, float(np.max(np.abs(step) / self.scale)))
        return SimplePlan(self.path(reference, np.tile(step, (2, 1))))


class PriorPolicy(Baseline):
    """The goal-conditioned inverse-dynamics prior alone, without planning."""

    def __init__(self, planner: Planner, seed: int) -> None:
        super().__init__(planner, seed)
        self.owner = planner

    def encode_goal(self, image: ImageArray, target: str = "hand", mask: ImageArray | None = None) -> Any:
        """Latent goal."""
        return self.owner.encode_goal(image, target)

    @torch.inference_mode()
    def plan(
        self, image: ImageArray, position: FloatArray, reference: FloatArray, deadline_s: float | None = None
    ) -> SimplePlan:
        """The proposed chunk as it is."""
        chunk = self.owner.propose(image, position, reference, self.goal)
        return SimplePlan(self.path(reference, chunk * self.scale))


class Demonstrator(Baseline):
    """The teacher of the object skill, which sees the true block: what imitation is bounded by."""

    def __init__(self, planner: Planner, seed: int, world: SimWorld, target: FloatArray) -> None:
        super().__init__(planner, seed)
        self.pusher = Pusher(world, target[:2])

    def plan(
        self, image: ImageArray, position: FloatArray, reference: FloatArray, deadline_s: float | None = None
    ) -> SimplePlan:
        """The next step, twice, since a plan is one latency old when it is used."""
        world = self.pusher.world
        q = world.spec.home.copy()
        q[self.pusher.index] = reference
        step = self.pusher.step(q, world.object_pose("block")[:2])
        if step is None:
            step = np.zeros(len(self.scale))
        step = step / max(1.0, float(np.max(np.abs(step) / self.scale)))
        return SimplePlan(self.path(np.asarray(reference), np.tile(step, (2, 1))))


class Oracle(Baseline):
    """The same search with the true simulator as model and the true distance as energy.

    Args:
        world: the world that is controlled; it is copied, never stepped.
        target: true goal position (3,), of the hand or of the object.
        what: "hand" or "object".
    """

    def __init__(self, planner: Planner, seed: int, world: SimWorld, target: FloatArray, what: str = "hand") -> None:
        super().__init__(planner, seed)
        self.config = PlannerConfig(horizon=5, samples=24, iterations=2, elites=4, keep_elites=2, prior_samples=0)
        self.search = ICem(self.config, ActionSpec.shares(len(self.scale)), seed)
        self.world, self.copy, self.target, self.what = world, SimWorld(world.spec, world.scene), target, what
        self.weight = np.linspace(0.5, 1.5, self.config.horizon)

    def plan(
        self, image: ImageArray, position: FloatArray, reference: FloatArray, deadline_s: float | None = None
    ) -> SimplePlan:
        """Search by simulating."""
        state = self.world.state()
        distance = float(np.linalg.norm(self._where(self.world) - self.target))

        def cost(candidates: torch.Tensor) -> torch.Tensor:
            values = []
            for actions in candidates.double().numpy():
                self.copy.load_state(state)
                total = 0.0
                for weight, action in zip(self.weight, actions, strict=True):
                    apply_action(self.copy, action * self.scale, self.scale, self.period_s)
                    total += weight * float(np.linalg.norm(self._where(self.copy) - self.target))
                values.append(total + 0.02 * float(np.square(actions).mean()))
            return torch.tensor(values)

        self.search.shift(1)
        rest = torch.zeros(1, self.config.horizon, len(self.scale))
        noise = min(1.0, max(0.08, distance / 0.12))
        found = self.search.search(cost, lambda a: a.clamp(-1, 1), rest, noise)
        return SimplePlan(self.path(reference, found.best.double().numpy() * self.scale), distance_m=distance)

    def _where(self, world: SimWorld) -> FloatArray:
        return world.hand_position(ARM) if self.what == "hand" else world.object_pose("block")[:3]
