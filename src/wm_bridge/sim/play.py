"""Play: ways of moving an arm about that are worth learning from.

Each player is asked once per control period for the next change of the arm's references and
answers with an (A,) action in rad. Players know the simulator; what they leave behind (the
dataset) holds only what a robot could have recorded, plus object positions as labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld

ARM = "right_arm"


class Player(ABC):
    """Moves one arm for one episode."""

    def __init__(self, world: SimWorld, rng: np.random.Generator, action_scale: FloatArray) -> None:
        self.world, self.rng, self.scale = world, rng, action_scale
        self.index = world.spec.indices(ARM)

    @abstractmethod
    def start(self) -> FloatArray:
        """Return the (J,) pose in which the episode begins."""

    @abstractmethod
    def action(self, reference: FloatArray) -> FloatArray:
        """Return the (A,) change of the arm's references, given the present ones (A,)."""

    def toward(self, goal: FloatArray, reference: FloatArray, speed: float) -> FloatArray:
        """Step on the straight joint-space line to ``goal``, slowing down near it."""
        step = 0.6 * (goal - reference)
        largest = float(np.max(np.abs(step) / (speed * self.scale)))
        return step / max(1.0, largest)


class GoalDirected(Player):
    """Straight joint-space moves between reachable poses, with pauses and some noise."""

    def start(self) -> FloatArray:
        self.speed, self.noise, self.pause = 1.0, 0.0, 0
        self.colour = np.zeros(len(self.index))
        pose = sample_reachable(self.world, self.rng)
        self.goal = pose[self.index]
        self.renew(self.goal)
        return pose

    def renew(self, near: FloatArray) -> None:
        """Choose the next goal: mostly anywhere, sometimes a small correction."""
        rng = self.rng
        self.goal = sample_reachable(self.world, rng)[self.index]
        if rng.uniform() < 0.3:
            self.goal = near + (self.goal - near) * rng.uniform(0.05, 0.4)
        self.speed = rng.uniform(0.3, 1.0)
        self.noise = rng.choice([0.0, 0.0, 0.1, 0.3])
        self.pause = int(rng.integers(0, 7))

    def action(self, reference: FloatArray) -> FloatArray:
        if np.max(np.abs(self.goal - reference)) < 0.02:
            self.pause -= 1
            if self.pause < 0:
                self.renew(reference)
        self.colour = 0.7 * self.colour + 0.3 * self.rng.normal(size=len(self.index))
        return self.toward(self.goal, reference, self.speed) + 2 * self.noise * self.scale * self.colour


class SmoothRandom(Player):
    """Coloured noise on all joints, drawn back when it leaves the reachable set."""

    def start(self) -> FloatArray:
        rng = self.rng
        self.velocity = rng.normal(size=len(self.index)) * 0.4
        self.memory = rng.uniform(0.6, 0.95)
        self.strength = rng.uniform(0.3, 1.0)
        self.refuge: FloatArray | None = None
        return sample_reachable(self.world, rng)

    def action(self, reference: FloatArray) -> FloatArray:
        box = self.world.spec.workspaces[ARM]
        outside = not box.contains(self.world.hand_position(ARM)) or self.world.in_contact(ARM)
        if outside and self.refuge is None:
            self.refuge = sample_reachable(self.world, self.rng)[self.index]
        if self.refuge is not None:
            if not outside and np.max(np.abs(self.refuge - reference)) < 0.5:
                self.refuge = None
            else:
                return self.toward(self.refuge, reference, 0.8)
        fresh = np.sqrt(1 - self.memory**2) * self.rng.normal(size=len(self.index))
        self.velocity = self.memory * self.velocity + fresh
        return self.strength * self.scale * self.velocity
