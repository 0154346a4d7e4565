"""A demonstrator that pushes the block to a place: the contact-rich, goal-directed play."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.robots import spec as robots
from wm_bridge.sim.backend import load_mujoco
from wm_bridge.sim.config import SceneConfig
from wm_bridge.sim.play import ARM, AROUND, LOW, Player, scatter_block
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld, contact_of

mujoco = load_mujoco()

HAND = "right_palm"
FINGERS = np.array([-0.024, 0.01, -0.09])  # in the palm's frame, m
POSES = 3000  # hand poses at the table to choose from
TOP, CLEARANCE = 0.04, 0.006  # parts lower than TOP over the table push the block; gap below the hand, m


def draw_goal(block: FloatArray, rng: np.random.Generator, nearest: float, furthest: float) -> FloatArray:
    """(2,) place on the table that far from the ``block`` (2+), in the area where it can be pushed."""
    while True:
        angle, length = rng.uniform(-np.pi, np.pi), rng.uniform(nearest, furthest)
        x, y = block[0] + length * np.cos(angle), block[1] + length * np.sin(angle)
        if AROUND[0][0] <= x <= AROUND[0][1] and AROUND[1][0] <= y <= AROUND[1][1]:
            return np.array([x, y])


@dataclass(frozen=True)
class HandPoses:
    """N arm poses with the hand just above the table.

    q (N, J) rad; hand (N, P, 3), rest (N, R, 3): points on the surface of the hand and of the
    rest of the arm, base frame, m, NaN where higher than ``TOP`` above the table; palm (N, 4, 4)
    frame of the palm.
    """

    q: FloatArray
    hand: FloatArray
    rest: FloatArray
    palm: FloatArray

    @classmethod
    def draw(cls, world: SimWorld, rng: np.random.Generator, count: int) -> HandPoses:
        """Draw ``count`` poses: low ones, lowered further until the hand nearly touches the table."""
        surface, reach, table = Surface(world), Reach(world), world.scene.table_height
        chosen = []
        while len(chosen) < count:
            q = sample_reachable(world, rng, workspace=LOW, clearance_m=0.004)
            hand, _, palm = surface.points(q)
            lowest = hand[np.argmin(hand[:, 2])]
            lowered = reach.solve(
                q, palm[:3, :3].T @ (lowest - palm[:3, 3]), np.array([*lowest[:2], table + CLEARANCE]), 0.004
            )
            if lowered is None:
                continue
            hand, rest, palm = surface.points(lowered)
            if min(hand[:, 2].min(), rest[:, 2].min()) > table + 0.003 and surface.free(lowered):
                chosen.append((lowered, *(np.where(p[:, 2:] < table + TOP, p, np.nan) for p in (hand, rest)), palm))
        return cls(*(np.array(values) for values in zip(*chosen, strict=True)))


@functools.cache
def hand_poses(robot: str, scene: SceneConfig) -> HandPoses:
    """The poses of a robot in a scene: always the same ones, drawn once per process (10 s)."""
    world = SimWorld(robots.load(robot), scene)
    return HandPoses.draw(world, np.random.default_rng(7), POSES)


class Surface:
    """Where the arm's surface is; positions base frame, m."""

    def __init__(self, world: SimWorld) -> None:
        self.world, self.data = world, mujoco.MjData(world.model)
        self.data.qpos[:] = world.data.qpos
        model = world.model
        self.geoms, self.body = world.arm_geoms(ARM), model.body(HAND).id
        grid = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
        half = model.geom_size[self.geoms].copy()
        rounded = model.geom_type[self.geoms] != mujoco.mjtGeom.mjGEOM_BOX
        half[rounded] = half[rounded][:, [0, 0, 1]] * [0.8, 0.8, 1.0]
        self.grid = grid[None] * half[:, None]
        self.of_hand = np.repeat(model.geom_bodyid[self.geoms] == self.body, len(grid))

    def points(self, q: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Points (P, 3) of the hand and (R, 3) of the rest, and frame (4, 4) of the palm, for (J,) rad."""
        data = self.data
        data.qpos[self.world.joint_addresses] = q
        mujoco.mj_kinematics(self.world.model, data)
        axes = data.geom_xmat[self.geoms].reshape(-1, 3, 3)
        points = data.geom_xpos[self.geoms][:, None] + np.einsum("gij,gpj->gpi", axes, self.grid)
        points = points.reshape(-1, 3)
        palm = np.eye(4)
        palm[:3, :3], palm[:3, 3] = data.xmat[self.body].reshape(3, 3), data.xpos[self.body]
        return points[self.of_hand], points[~self.of_hand], palm

    def free(self, q: FloatArray) -> bool:
        """True when the arm touches neither the robot nor the table in pose ``q`` (J,)."""
        self.data.qpos[self.world.joint_addresses] = q
        mujoco.mj_kinematics(self.world.model, self.data)
        mujoco.mj_comPos(self.world.model, self.data)
        mujoco.mj_collision(self.world.model, self.data)
        return not contact_of(self.data, self.geoms, self.world.object_geoms)


@dataclass(frozen=True)
class Stroke:
    """One way of pushing: a point of the hand (palm frame), its height (m), poses (A,) over and at its start."""

    point: FloatArray
    height: float
    above: FloatArray
    start: FloatArray


class Reach:
    """Inverse kinematics of a point fixed to the palm; joints (J,) rad, positions base frame, m."""

    def __init__(self, world: SimWorld) -> None:
        spec, model = world.spec, world.model
        self.model, self.data = model, mujoco.MjData(model)
        self.addresses, self.body = world.joint_addresses, model.body(HAND).id
        self.index = spec.indices(ARM)
        self.columns = [model.joint(spec.joint_names[i]).dofadr[0] for i in self.index]
        self.lower, self.upper = spec.lower[self.index] + 0.01, spec.upper[self.index] - 0.01
        self.jacobian = np.zeros((3, model.nv))

    def position(self, q: FloatArray, point: FloatArray) -> FloatArray:
        """(3,) of ``point`` (3,) in pose ``q``."""
        self.data.qpos[self.addresses] = q
        mujoco.mj_kinematics(self.model, self.data)
        return self.data.xpos[self.body] + self.data.xmat[self.body].reshape(3, 3) @ point

    def step(self, q: FloatArray, point: FloatArray, move: FloatArray) -> FloatArray:
        """(A,) least joint change that moves the point by ``move`` (3,); joints at a limit stay there."""
        at = self.position(q, point)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_jac(self.model, self.data, self.jacobian, None, at, self.body)
        linear = self.jacobian[:, self.columns]
        arm, free = q[self.index], np.ones(len(self.index))
        change = np.zeros(len(self.index))
        for _ in range(3):
            active = linear * free
            change = active.T @ np.linalg.solve(active @ active.T + 1e-4 * np.eye(3), move)
            beyond = ((arm + change > self.upper) & (change > 0)) | ((arm + change < self.lower) & (change < 0))
            if not (beyond & (free > 0)).any():
                break
            free = free * ~beyond
        return np.clip(change, self.lower - arm, self.upper - arm)

    def solve(self, q: FloatArray, point: FloatArray, target: FloatArray, tolerance: float) -> FloatArray | None:
        """(J,) pose near ``q`` with the point at ``target``; None when it does not get there."""
        q = q.copy()
        far = before = np.inf
        for _ in range(12):
            error = target - self.position(q, point)
            before, far = far, float(np.sqrt(error @ error))
            if far < 0.002 or far > before - 0.001:
                break
            q[self.index] += self.step(q, point, error * min(1.0, 0.06 / far))
        return q if far < tolerance else None


class PushTo(Player):
    """Brings a part of the hand behind the block, lowers it, and pushes the block to a goal.

    What it does next depends on the arm, the true block and the goal alone, not on what it did
    before, and the way to push is the same whatever pose the arm comes from: so it can be
    imitated by who sees no more than that. A block that slips off the line is approached anew.
    """

    LIFT, GAP, ARRIVED = 0.09, 0.05, 0.010  # raised hand over a start; start behind the block; near enough, m

    def start(self) -> FloatArray:
        rng = self.rng
        self.reach, self.surface = Reach(self.world), Surface(self.world)
        self.poses = hand_poses(self.world.spec.name, self.world.scene)
        self.usual = np.median(self.poses.q[:, self.index], axis=0)
        self.speed = rng.uniform(0.7, 1.0)
        self.noise = rng.choice([0.0, 0.05, 0.15, 0.3])
        self.colour = np.zeros(len(self.index))
        self.goal: FloatArray | None = None
        return sample_reachable(self.world, rng)

    def place_objects(self, share: float) -> None:
        scatter_block(self.world, self.rng, AROUND)

    def pursue(self, goal: FloatArray) -> None:
        """Push the block to ``goal`` (2,)."""
        self.goal, self.chosen_for = goal, np.full(4, np.inf)

    def action(self, reference: FloatArray) -> FloatArray:
        rng, world = self.rng, self.world
        block = world.object_pose("block")[:2]
        if self.goal is None:
            self.pursue(draw_goal(np.clip(block, *np.transpose(AROUND)), rng, 0.03, 0.13))
        self.colour = 0.7 * self.colour + 0.3 * rng.normal(size=len(self.index))
        q = world.spec.home.copy()
        q[self.index] = reference
        step = self.step(q, block)
        largest = float(np.max(np.abs(step) / (self.speed * self.scale)))
        return step / max(1.0, largest) + self.noise * self.scale * self.colour

    def step(self, q: FloatArray, block: FloatArray) -> FloatArray:
        """Unlimited (A,) change of the references from pose ``q`` (J,)."""
        assert self.goal is not None
        arm = q[self.index]
        error = self.goal - block
        distance = float(np.linalg.norm(error))
        along = error / max(distance, 1e-6)
        low = self.reach.position(q, FINGERS)[2] < self.world.scene.table_height + 0.09
        if distance < self.ARRIVED:
            return self.reach.step(q, np.zeros(3), np.array([0.0, 0.0, 0.03])) if low else np.zeros_like(arm)
        key = np.concatenate([block / 0.01, along / 0.15])
        if np.max(np.abs(key - self.chosen_for)) > 1.0 and (distance > 0.03 or not np.isfinite(self.chosen_for[0])):
            self.stroke, self.chosen_for = self.choose(block, along, distance), key
        stroke = self.stroke
        if stroke is None:
            return np.zeros_like(arm)
        tip = self.reach.position(q, stroke.point)
        offset, across = block - tip[:2], np.array([-along[1], along[0]])
        slip, ahead, above_m = float(across @ offset), float(along @ offset), float(tip[2] - stroke.height)
        if abs(slip) < 0.03 and 0.0 < ahead < self.GAP + 0.025 and above_m < 0.015:
            forward = along * min(0.03, 0.6 * distance + 0.006) + across * 0.6 * slip
            return self.reach.step(q, stroke.point, np.array([*forward, -above_m]))
        if np.max(np.abs(stroke.start - arm)) < np.max(np.abs(stroke.start - stroke.above)) + 0.08:
            return stroke.start - arm
        if above_m < 0.06 and np.hypot(*offset) < 0.14:
            return self.reach.step(q, stroke.point, np.array([0.0, 0.0, 0.03]))
        return stroke.above - arm

    def choose(self, block: FloatArray, along: FloatArray, distance: float) -> Stroke | None:
        """The most usual hand pose whose front side can push the block ``distance`` along ``along``."""
        poses = self.poses
        flat, rest = poses.hand[..., :2] - block, poses.rest[..., :2] - block
        u, w = flat @ along, flat @ np.array([-along[1], along[0]])  # (N, P), NaN: too high to touch
        front = np.nanmax(u, axis=1)
        leading = u > front[:, None] - 0.008
        count = leading.sum(axis=1)
        side = np.where(leading, w, 0.0).sum(axis=1) / count
        ahead = np.nanmax(np.where(np.isnan(rest[..., 0]), -9.0, rest @ along), axis=1) > front - 0.005
        shift = np.hypot(front + self.GAP, side)
        unusual = np.max(np.abs(poses.q[:, self.index] - self.usual), axis=1)
        order = np.argsort(shift / 0.05 + unusual)
        for n in order[(shift < 0.1)[order] & ~ahead[order]][:80]:
            middle = np.where(leading[n][:, None], poses.hand[n], 0.0).sum(axis=0) / count[n]
            stroke = self.build(poses.q[n], poses.palm[n], middle, block, along, distance)
            if stroke is not None:
                return stroke
        return None

    def build(
        self, q: FloatArray, palm: FloatArray, touch: FloatArray, block: FloatArray, along: FloatArray, distance: float
    ) -> Stroke | None:
        """Shift a hand pose behind the block and try the stroke; None when the arm cannot do it."""
        point = palm[:3, :3].T @ (touch - palm[:3, 3])
        begin = np.array([*(block - self.GAP * along), touch[2]])
        start = self.reach.solve(q, point, begin, 0.012)
        if start is None:
            return None
        end = self.reach.solve(start, point, begin + np.array([*(along * (distance + 0.015)), 0.0]), 0.02)
        if end is None or not (self.surface.free(start) and self.surface.free(end)):
            return None
        above = self.reach.solve(start, point, begin + np.array([0.0, 0.0, self.LIFT]), 0.03)
        if above is None or not self.surface.free(above):
            return None
        return Stroke(point, float(touch[2]), above[self.index], start[self.index])
