"""A demonstrator that pushes the block to a place, and says at every moment what would be right."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.sim.play import AROUND, Player, scatter_block
from wm_bridge.sim.pusher import Pusher
from wm_bridge.sim.sampling import sample_reachable


def draw_goal(block: FloatArray, rng: np.random.Generator, nearest: float, furthest: float) -> FloatArray:
    """(2,) place on the table that far from the ``block`` (2+), in the area where it can be pushed."""
    while True:
        angle, length = rng.uniform(-np.pi, np.pi), rng.uniform(nearest, furthest)
        x, y = block[0] + length * np.cos(angle), block[1] + length * np.sin(angle)
        if AROUND[0][0] <= x <= AROUND[0][1] and AROUND[1][0] <= y <= AROUND[1][1]:
            return np.array([x, y])


class PushTo(Player):
    """Pushes the block to a goal and leaves, with every frame, the advice of one who sees the truth.

    What it does differs from its advice: it is slower, its hand shakes, and in most episodes it
    believes the block and the goal somewhat beside where they are, as an eye that errs would.
    So it gets into the states in which its pupil will find itself, and shows the way back out
    of them (Laskey et al. 2017, "DART", inject noise into the supervisor for the same end).
    """

    MISTAKES = (0.0, 0.007, 0.014)  # standard deviation of what it believes, m
    SECOND_LOOK = 0.06  # how likely it is in a period that it comes to believe something else
    SHAKING = (0.0, 0.05, 0.15, 0.3)  # share of the action box

    def start(self) -> FloatArray:
        rng = self.rng
        self.speed, self.shaking, self.mistake = rng.uniform(0.7, 1.0), rng.choice(self.SHAKING), rng.choice(self.MISTAKES)
        self.colour = np.zeros(len(self.index))
        self.beside = self.mistake * rng.normal(size=2)  # of the block, where it believes it to be
        self.goal = None
        return sample_reachable(self.world, rng)

    def place_objects(self, share: float) -> None:
        scatter_block(self.world, self.rng, AROUND)

    def pursue(self, goal: FloatArray) -> None:
        """Push the block to ``goal`` (2,)."""
        self.goal = goal
        self.teacher = self.actor = Pusher(self.world, goal)
        if self.mistake:
            self.actor = Pusher(self.world, goal + self.mistake * self.rng.normal(size=2))

    def action(self, reference: FloatArray) -> FloatArray:
        rng, world = self.rng, self.world
        block = world.object_pose("block")[:2]
        if self.goal is None:
            self.pursue(draw_goal(np.clip(block, *np.transpose(AROUND)), rng, 0.03, 0.13))
        q = world.spec.home.copy()
        q[self.index] = reference
        right = self.teacher.step(q, block)
        self.advice = np.full(len(self.index), np.nan) if right is None else self.limited(right, 1.0)
        step = right
        if self.mistake:
            if rng.uniform() < self.SECOND_LOOK:
                self.beside = self.mistake * rng.normal(size=2)
            step = self.actor.step(q, block + self.beside)
        self.colour = 0.7 * self.colour + 0.3 * rng.normal(size=len(self.index))
        step = np.zeros(len(self.index)) if step is None else step
        return self.limited(step, self.speed) + self.shaking * self.scale * self.colour

    def limited(self, step: FloatArray, speed: float) -> FloatArray:
        """``step`` (A,), shortened to a share of the action box."""
        return step / max(1.0, float(np.max(np.abs(step) / (speed * self.scale))))
