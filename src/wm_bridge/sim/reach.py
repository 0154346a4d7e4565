"""Where the simulated arm can bring its hand, and the poses with the hand at the table."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.robots import spec as robots
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.shapes import RobotShapes
from wm_bridge.safety.surroundings import Surroundings, build
from wm_bridge.sim.backend import load_mujoco
from wm_bridge.sim.config import SceneConfig
from wm_bridge.sim.play import ARM, LOW
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld

mujoco = load_mujoco()

HAND = "right_palm"
POSES = 1500  # hand poses at the table to choose from
USUAL = 100  # ... of which these are preferred: who chooses among many changes too often to be imitated
TOP, CLEARANCE = 0.04, 0.020  # parts lower than TOP over the table push the block; gap below the hand, m
RESERVE = 0.006  # kept beyond the safety filter's margins, near which it slows the arm down, m


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
            if min(hand[:, 2].min(), rest[:, 2].min()) > table + CLEARANCE - 0.003 and surface.free(lowered):
                chosen.append((lowered, *(np.where(p[:, 2:] < table + TOP, p, np.nan) for p in (hand, rest)), palm))
        return cls(*(np.array(values) for values in zip(*chosen, strict=True)))


@functools.cache
def hand_poses(robot: str, scene: SceneConfig) -> HandPoses:
    """The poses of a robot in a scene: always the same ones, drawn once per process."""
    world = SimWorld(robots.load(robot), scene)
    return HandPoses.draw(world, np.random.default_rng(7), POSES)


@functools.cache
def kept_apart(robot: str) -> Surroundings:
    """The distances that the safety filter keeps around a robot."""
    spec = robots.load(robot)
    return build(RobotShapes.from_spec(spec), SafetyConfig.load(spec.safety_path()).scene, {})


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
        self.pairs = kept_apart(world.spec.name)
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
        """True when the safety filter's margins around pose ``q`` (J,), and ``RESERVE`` more, are kept."""
        return bool((self.pairs.sweep.at(q) > self.pairs.margin + RESERVE).all())
