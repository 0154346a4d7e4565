"""Play: ways of moving an arm about that are worth learning from.

Each player is asked once per control period for the next change of the arm's references and
answers with an (A,) action in rad. Players know the simulator; what they leave behind (the
dataset) holds only what a robot could have recorded, plus object positions as labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from wm_bridge.core.kinematics import Kinematics
from wm_bridge.core.roam import Roam, Visits
from wm_bridge.core.types import FloatArray
from wm_bridge.robots.spec import Box
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld

Area = tuple[tuple[float, float], tuple[float, float]]

ARM = "right_arm"
LOW = Box((0.20, -0.45, 0.60), (0.45, 0.10, 0.68))  # tool positions with the fingers at the table


NEAR = ((0.24, 0.44), (-0.42, 0.06))  # x and y where the right hand gets at a thing on the table, m
AROUND = ((0.30, 0.43), (-0.38, -0.13))  # ... and gets behind it from nearly every side


def scatter_block(world: SimWorld, rng: np.random.Generator, area: Area = NEAR) -> None:
    """Put the block into ``area`` (x and y ranges, m), clear of the arm; park it when there is no room."""
    hand = world.hand_position(ARM)
    for _ in range(20):
        x, y = rng.uniform(*area[0]), rng.uniform(*area[1])
        if np.hypot(hand[0] - x, hand[1] - y) > 0.10 or hand[2] > world.scene.table_height + 0.14:
            world.set_object("block", world.on_table("block", x, y, rng.uniform(-np.pi, np.pi)))
            return
    world.set_object("block", None)


def place_beside_hand(world: SimWorld, rng: np.random.Generator) -> None:
    """Put the block on the table next to the hand, or under it, without touching the arm."""
    hand = world.hand_position(ARM)
    for _ in range(20):
        angle, far = rng.uniform(-np.pi, np.pi), rng.uniform(0.02, 0.12)
        x, y = hand[0] + far * np.cos(angle), hand[1] + far * np.sin(angle)
        if 0.20 < x < 0.48 and -0.46 < y < 0.12:
            world.set_object("block", world.on_table("block", x, y, rng.uniform(-np.pi, np.pi)))
            if not world.touches_object("block", ARM):
                return
    world.set_object("block", None)


class Player(ABC):
    """Moves one arm for one episode.

    Attributes:
        goal: (2,) place in the table plane that the block is brought to, m; None without one.
        advice: (A,) rad, what would have been best at the last action, of a player with a goal;
            NaN when it does not know.
    """

    goal: FloatArray | None = None
    advice: FloatArray | None = None

    def __init__(self, world: SimWorld, rng: np.random.Generator, action_scale: FloatArray) -> None:
        self.world, self.rng, self.scale = world, rng, action_scale
        self.index = world.spec.indices(ARM)

    @abstractmethod
    def start(self) -> FloatArray:
        """Return the (J,) pose in which the episode begins."""

    @abstractmethod
    def action(self, reference: FloatArray) -> FloatArray:
        """Return the (A,) change of the arm's references, given the present ones (A,)."""

    def place_objects(self, share: float) -> None:
        """Put the block on the table in a ``share`` of the episodes, clear of the hand."""
        if self.rng.uniform() < share:
            scatter_block(self.world, self.rng)

    def toward(self, goal: FloatArray, reference: FloatArray, speed: float) -> FloatArray:
        """Step on the straight joint-space line to ``goal``, slowing down near it."""
        step = 0.6 * (goal - reference)
        largest = float(np.max(np.abs(step) / (speed * self.scale)))
        return step / max(1.0, largest)


class GoalDirected(Player):
    """Straight joint-space moves between reachable poses, with pauses and some noise."""

    near_rad = 0.02  # a goal that is this close in every joint has been reached

    def start(self) -> FloatArray:
        self.speed, self.noise, self.pause = 1.0, 0.0, 0
        self.colour = np.zeros(len(self.index))
        pose = sample_reachable(self.world, self.rng)
        self.renew(pose[self.index])
        return pose

    def renew(self, near: FloatArray) -> None:
        """Choose the next goal: mostly anywhere, sometimes a small correction."""
        rng = self.rng
        self.pose = sample_reachable(self.world, rng)[self.index]
        if rng.uniform() < 0.3:
            self.pose = near + (self.pose - near) * rng.uniform(0.05, 0.4)
        self.speed = rng.uniform(0.3, 1.0)
        self.noise = rng.choice([0.0, 0.0, 0.1, 0.3])
        self.pause = int(rng.integers(0, 7))

    def action(self, reference: FloatArray) -> FloatArray:
        if np.max(np.abs(self.pose - reference)) < self.near_rad:
            self.pause -= 1
            if self.pause < 0:
                self.renew(reference)
        self.colour = 0.7 * self.colour + 0.3 * self.rng.normal(size=len(self.index))
        return self.toward(self.pose, reference, self.speed) + 2 * self.noise * self.scale * self.colour


class Roaming(GoalDirected):
    """As `./wm play` moves a real arm: postures all over, on straight ways that keep the safety filter's distances."""

    near_rad = Roam.near_rad

    def __init__(self, world: SimWorld, rng: np.random.Generator, action_scale: FloatArray, visits: Visits) -> None:
        super().__init__(world, rng, action_scale)
        self.visits = visits

    def start(self) -> FloatArray:
        spec = self.world.spec
        clearance = Clearance(spec, SafetyConfig.load(spec.safety_path()), spec.groups[ARM])
        self.roam = Roam(spec, ARM, clearance, self.rng, self.visits)
        self.colour = np.zeros(len(self.index))
        pose = spec.home.copy()
        pose[self.index] = self.roam.posture()
        self.renew(pose[self.index])
        return pose

    def renew(self, near: FloatArray) -> None:
        """Set out for the next posture."""
        self.pose = self.roam.goal(near)
        self.speed = self.rng.uniform(0.7, 1.0)
        self.noise = self.rng.choice([0.0, 0.0, 0.1, 0.3])
        self.pause = 0


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


class Rest(Player):
    """Stays in one given (J,) pose, with the block anywhere or, ``beside``, next to the hand."""

    def __init__(
        self,
        world: SimWorld,
        rng: np.random.Generator,
        action_scale: FloatArray,
        pose: FloatArray,
        beside: bool = False,
    ) -> None:
        super().__init__(world, rng, action_scale)
        self.pose, self.beside = pose, beside

    def place_objects(self, share: float) -> None:
        if self.beside:
            place_beside_hand(self.world, self.rng)
        else:
            super().place_objects(share)

    def start(self) -> FloatArray:
        return self.pose

    def action(self, reference: FloatArray) -> FloatArray:
        return np.zeros_like(reference)


class Push(Player):
    """Sweeps the hand low over the table into the block, then lifts it away, and again."""

    def start(self) -> FloatArray:
        self.kinematics = Kinematics(self.world.spec)
        self.speed = self.rng.uniform(0.4, 0.9)
        self.plan_sweep()
        if self.rng.uniform() < 0.5:
            return self.with_arm(self.route[0])
        return sample_reachable(self.world, self.rng)

    def with_arm(self, arm: FloatArray) -> FloatArray:
        """(J,) home pose with this arm pose."""
        pose = self.world.spec.home.copy()
        pose[self.index] = arm
        return pose

    def plan_sweep(self) -> None:
        """Choose a low pose, a direction, and the arm poses along it."""
        while True:
            low = sample_reachable(self.world, self.rng, workspace=LOW, clearance_m=0.005)
            here = self.tool(low)
            angle = self.rng.uniform(-np.pi, np.pi)
            along = np.array([np.cos(angle), np.sin(angle), 0.0])
            length = self.rng.uniform(0.10, 0.22)
            self.block = here + along * self.rng.uniform(0.06, 0.09)
            route = [low]
            for share in (0.25, 0.5, 0.75, 1.0):
                route.append(self.solve(route[-1], here + along * length * share))
            reached = np.linalg.norm(self.tool(route[-1]) - here - along * length)
            inside = 0.20 < self.block[0] < 0.46 and -0.46 < self.block[1] < 0.10
            if reached < 0.02 and inside:
                break
        lift = self.solve(route[-1], self.tool(route[-1]) + np.array([-0.03, 0.0, 0.12]))
        above = self.solve(low, here + np.array([0.0, 0.0, 0.08]))
        self.route = [q[self.index] for q in [above, *route, lift]]
        self.stage = 0

    def tool(self, q: FloatArray) -> FloatArray:
        """(3,) tool position, base frame."""
        return self.kinematics.forward(q, self.world.spec.tools[ARM])[:3, 3]

    def solve(self, q: FloatArray, target: FloatArray) -> FloatArray:
        """Damped least-squares inverse kinematics of the tool position from (J,) q."""
        q = q.copy()
        for _ in range(30):
            error = target - self.tool(q)
            if np.linalg.norm(error) < 0.003:
                break
            jacobian = self.kinematics.jacobian(q, self.world.spec.tools[ARM])[:3, self.index]
            q[self.index] += jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(3), error)
            q = self.world.spec.clip(q)
        return q

    def place_objects(self, share: float) -> None:
        yaw = self.rng.uniform(-np.pi, np.pi)
        self.world.set_object("block", self.world.on_table("block", self.block[0], self.block[1], yaw))

    def action(self, reference: FloatArray) -> FloatArray:
        if self.stage >= len(self.route):
            self.aim_at_block()
        goal = self.route[self.stage]
        if np.max(np.abs(goal - reference)) < 0.05:
            self.stage += 1
        noise = 0.1 * self.scale * self.rng.normal(size=len(self.index))
        return self.toward(goal, reference, self.speed) + noise

    def aim_at_block(self) -> None:
        """Sweep again, this time from a low pose beside where the block is now."""
        block = self.world.object_pose("block")[:3]
        best: tuple[float, list[FloatArray]] | None = None
        for _ in range(6):
            self.plan_sweep()
            shift = float(np.linalg.norm((self.block - block)[:2]))
            if best is None or shift < best[0]:
                best = (shift, self.route)
        assert best is not None
        self.route, self.stage = best[1], 0
