"""A robot, a planner that wants anything, things that come and go, and the filter between them."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field

import coal
import numpy as np
import pinocchio

from wm_bridge.core.types import FloatArray, JointState, Reason, SafetyMode, Trajectory
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.filter import SafetyFilter
from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.scene import SceneSettings

_PLAN_NS = 100_000_000  # from one plan to the next
_CLEARANCE_M = 0.05  # of the stop from a thing that appears: it can still be kept away from


class CoalDistances:
    """True distances by coal on the URDF's own shapes, and their room in the workspace, as an independent witness."""

    def __init__(self, spec: RobotSpec, config: SafetyConfig) -> None:
        path = str(spec.urdf_path())
        self._model = pinocchio.buildModelFromUrdf(path)
        self._data = self._model.createData()
        self._robot = pinocchio.buildGeomFromUrdf(self._model, path, pinocchio.GeometryType.COLLISION)
        self._order = [spec.joint_names.index(name) for name in self._model.names[1:]]
        self._scene = config.scene
        self._own = self._robot.ngeoms
        self._moving = [k for k, item in enumerate(self._robot.geometryObjects) if item.parentJoint]
        self._sizes = np.array([_sizes(self._robot.geometryObjects[k].geometry) for k in self._moving])
        self.set_obstacles(())

    def set_obstacles(self, obstacles: tuple[Obstacle, ...]) -> None:
        """Table and obstacles as they stand."""
        scene, robot = self._scene, self._robot
        self._geometry = robot.copy()
        margins = []
        chains = [set(self._model.supports[item.parentJoint]) - {0} for item in robot.geometryObjects]
        for a in range(self._own):
            for b in range(a + 1, self._own):
                if len(chains[a] ^ chains[b]) > 2:
                    self._geometry.addCollisionPair(pinocchio.CollisionPair(a, b))
                    margins.append(scene.self_margin_m)
        things = [(scene.table_box(), scene.table_margin_m)] if scene.table else []
        things += [(item, scene.obstacle_margin_m) for item in obstacles]
        for item, margin in things:
            place = pinocchio.SE3(item.rotation(), np.array(item.position))
            index = self._geometry.addGeometryObject(pinocchio.GeometryObject(item.name, 0, 0, place, _shape(item)))
            for a in range(self._own):
                if chains[a]:
                    self._geometry.addCollisionPair(pinocchio.CollisionPair(a, index))
                    margins.append(margin)
        self._margins = np.array(margins)
        self._found = self._geometry.createData()

    def room(self, q: FloatArray) -> float:
        """Least distance beyond the margin of any pair, or from a wall of the workspace, at (J,) rad, m."""
        apart = float((self._distances(q) - self._margins).min())
        (low, high), scene = self._extent(), self._scene
        return min(apart, float((low - scene.workspace_lower).min()), float((scene.workspace_upper - high).min()))

    def boxed(self, q: FloatArray, room_m: float) -> SceneSettings:
        """The scene with the walls of the workspace so near around the robot at (J,) rad, where they were farther."""
        self._distances(q)
        (low, high), scene = self._extent(), self._scene
        lower, upper = np.maximum(low - room_m, scene.workspace_lower), np.minimum(high + room_m, scene.workspace_upper)
        return dataclasses.replace(scene, workspace_lower=tuple(lower.tolist()), workspace_upper=tuple(upper.tolist()))

    def distance_to_last(self, q: FloatArray) -> float:
        """Distance of the robot from the obstacle that was named last, m."""
        return float(self._distances(q)[-len(self._moving) :].min())

    def _distances(self, q: FloatArray) -> FloatArray:
        pinocchio.computeDistances(self._model, self._data, self._geometry, self._found, q[self._order])
        return np.array([result.min_distance for result in self._found.distanceResults])

    def _extent(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper corner (3,) m of all that moves, base frame, where it was placed last."""
        places = [self._found.oMg[k] for k in self._moving]
        R, centre = np.array([place.rotation for place in places]), np.array([place.translation for place in places])
        half, disk, ball = self._sizes[:, :3], self._sizes[:, 3:4], self._sizes[:, 4:]
        reach = np.einsum("mij,mj->mi", np.abs(R), half) + disk * np.sqrt(np.maximum(1.0 - R[:, :, 2] ** 2, 0.0)) + ball
        return (centre - reach).min(axis=0), (centre + reach).max(axis=0)


def _sizes(shape: coal.ShapeBase) -> tuple[float, ...]:
    """Half edges along x, y, z, radius of the disk across z, radius all around; m."""
    if isinstance(shape, coal.Box):
        return (*shape.halfSide, 0.0, 0.0)
    if isinstance(shape, coal.Cylinder):
        return (0.0, 0.0, shape.halfLength, shape.radius, 0.0)
    if isinstance(shape, coal.Sphere):
        return (0.0, 0.0, 0.0, 0.0, shape.radius)
    raise ValueError(f"the witness knows boxes, cylinders and spheres, not {type(shape).__name__}")


def _shape(item: Obstacle) -> coal.ShapeBase:
    if item.shape == "box":
        return coal.Box(*item.size)
    if item.shape == "sphere":
        return coal.Sphere(item.size[0])
    return coal.Capsule(*item.size)


@dataclass
class LoopReport:
    """What a run showed; outputs (T, J) rad."""

    ticks: int = 0
    breaches: int = 0
    broken_certificates: int = 0
    refused: int = 0
    limited: int = 0
    least_room_m: float = np.inf
    duration_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    outputs: list[FloatArray] = field(default_factory=list)
    latched: str = ""


class SafetyLoop:
    """An ideal arm behind the filter, fed with plans of one or two arms.

    Args:
        spec: robot. config: of the filter. rng: of everything random.
        arms: groups that the plans move, the robot's first arm when None.
        timed: measure the ticks; equal inputs no longer give equal bits then, because a slow tick brakes.
    """

    def __init__(
        self,
        spec: RobotSpec,
        config: SafetyConfig,
        rng: np.random.Generator,
        arms: tuple[str, ...] | None = None,
        timed: bool = False,
    ) -> None:
        self.spec, self.rng = spec, rng
        self.filter = SafetyFilter(spec, config, clock=time.perf_counter_ns if timed else lambda: 0)
        self.witness = CoalDistances(spec, config)
        self.arms = arms or tuple(spec.tools)[:1]
        self.names = tuple(name for arm in self.arms for name in spec.groups[arm])
        self.place = np.array([spec.joint_names.index(name) for name in self.names])
        self._tick_ns = round(config.period_ms * 1e6)
        self._plan_ticks = max(_PLAN_NS // self._tick_ns, 1)
        self.now = 10**12
        self.q = spec.home.copy()
        self.frame, self._things = 0, 0
        self.speed = np.zeros(len(self.names))
        self.goal = self.q[self.place]
        self.report = LoopReport()
        self._observe()
        self.filter.tick(self.now, self.now)
        assert self.filter.reset(self.now, self.now).ok and self.filter.enable(True).ok

    def run(self, ticks: int, *, hostile: bool, check_every: int = 1) -> LoopReport:
        """Go on for some ticks.

        Args:
            hostile: bad messages, and things that appear and go away.
            check_every: ticks between two looks of the witness (0: never).
        """
        for k in range(ticks):
            self.now += self._tick_ns
            self._observe()
            if k % self._plan_ticks == 0:
                self.submit(self.wanted())
            if hostile:
                self._disturb()
            before = self.q
            self._tick()
            if check_every and k % check_every == 0:
                self._look(before, whole=k % (50 * check_every) == 0)
        return self.report

    def run_quietly(self, ticks: int) -> None:
        """Go on with the plan that was sent."""
        for _ in range(ticks):
            self.now += self._tick_ns
            self._observe()
            self._tick()

    def wanted(self, gain: float = 2.0, fastest: float = 0.9) -> FloatArray:
        """(7, A) references at 10 Hz towards a random goal that changes every 2 s."""
        if self.rng.random() < 0.05:
            low, high = self.spec.lower[self.place], self.spec.upper[self.place]
            self.goal = self.rng.uniform(low, high)
        path, speed = [self.q[self.place]], self.speed
        for _ in range(6):
            wish = np.clip((self.goal - path[-1]) * gain, -fastest, fastest)
            speed = speed + np.clip(wish - speed, -0.35, 0.35)
            path.append(path[-1] + speed * 0.1)
        self.speed = (path[2] - path[1]) / 0.1
        return np.array(path)

    def submit(self, path: FloatArray) -> Reason:
        """Send references (K, A) as the planner does."""
        count = len(path)
        positions = np.concatenate([(path[1:] + path[:-1]) / 2, path[-1:]])
        velocities = np.concatenate([np.diff(path, axis=0) / 0.1, np.zeros((1, path.shape[1]))])
        times = tuple(round((k + 0.5) * 1e8) for k in range(count))
        plan = Trajectory(self.names, times, positions, velocities, self.now)
        reason = self.filter.submit(plan, self.now, self.now)
        self.report.refused += bool(reason)
        return reason

    def _observe(self) -> None:
        zero = np.zeros_like(self.q)
        state = JointState(self.spec.joint_names, self.q, zero, zero, self.now)
        self.filter.observe_state(state, self.now, self.now)
        self.frame += 1
        self.filter.observe_camera(self.now, self.frame, self.now, self.now)

    def _tick(self) -> None:
        begin = time.thread_time_ns()
        command, verdict = self.filter.tick(self.now, self.now)
        used = time.thread_time_ns() - begin
        if command is not None:
            self.q = command.position
        report = self.report
        report.cpu_ms.append(used * 1e-6)
        report.ticks += 1
        report.limited += verdict.mode is SafetyMode.LIMITED
        report.duration_ms.append(verdict.duration_ns * 1e-6)
        report.outputs.append(self.q)
        if verdict.mode is SafetyMode.LATCHED:
            if not verdict.reasons & Reason.STOP_REQUEST:
                report.latched = report.latched or verdict.detail
            if self.filter.reset(self.now, self.now).ok:
                self.filter.enable(True)

    def _disturb(self) -> None:
        """Every now and then something goes wrong, appears or disappears."""
        event = self.rng.random()
        if event < 0.01:
            bad = np.tile(self.q[self.place], (4, 1))
            bad[1, 0] = self.rng.choice([np.nan, np.inf, 1e300])
            self.submit(bad)
        elif event < 0.015:
            self.submit(self.q[self.place] + self.rng.normal(0, 3.0, (7, len(self.names))))
        elif event < 0.017:
            self.filter.stop("hostile operator")
        elif event < 0.025:
            self._place_thing()
        elif event < 0.03 and self.filter.obstacles:
            self.filter.remove_obstacle(self.filter.obstacles[0].name)
            self.witness.set_obstacles(self.filter.obstacles)

    def _place_thing(self) -> None:
        rng, present = self.rng, self.filter.obstacles
        self._things += 1  # never a name that is there: the filter would move that thing
        shape = str(rng.choice(["box", "sphere", "capsule"]))
        size = {"box": (0.05, 0.06, 0.2), "sphere": (0.04,), "capsule": (0.03, 0.2)}[shape]
        turn, room = rng.normal(size=4), self.spec.workspaces[self.arms[-1]]
        item = Obstacle(
            f"thing {self._things}", shape, size, rng.uniform(room.lower, room.upper),
            turn / np.linalg.norm(turn),
        )  # fmt: skip
        if len(present) >= 3:
            return
        self.witness.set_obstacles((*present, item))
        if all(self.witness.distance_to_last(q) > _CLEARANCE_M for q in (self.q, *self.filter.prepared_brake)):
            self.filter.add_obstacle(item)
        else:
            self.witness.set_obstacles(present)

    def _look(self, before: FloatArray, whole: bool) -> None:
        room = min(self.witness.room(self.q), self.witness.room((self.q + before) / 2))
        self.report.least_room_m = min(self.report.least_room_m, room)
        self.report.breaches += room < -1e-6
        if whole:
            brake = self.filter.prepared_brake
            self.report.broken_certificates += any(self.witness.room(q) < -1e-6 for q in brake)
