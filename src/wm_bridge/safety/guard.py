"""Keeps the distances: which pairs matter now, their rows, and the certificate of a stop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.types import FloatArray, Reason
from wm_bridge.safety.compiled import Index
from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.scene import SceneSettings
from wm_bridge.safety.shapes import RobotShapes
from wm_bridge.safety.surroundings import Surroundings, build

_LOOK_AHEAD = 1.6  # rows act before the stop itself comes near
_LEAVE_M = 0.0005  # a pair inside its margin at the start may come no nearer than this
_ROW_SLACK = 1e-9  # m, rounding
_ROUNDING = 1e-9  # m, of reserves
_RENEWED = 25
_NOTHING = np.zeros(0, dtype=np.intp)


class Row(NamedTuple):
    """``gradient @ (next - last) >= bound`` for K pairs: (K, J) m/rad, (K,) m."""

    gradient: FloatArray
    bound: FloatArray


class Certificate(NamedTuple):
    """Smallest room to a margin over a whole stop (m, swept) and what it belongs to."""

    room: float
    distance: float
    margin: float
    kind: Reason
    name: str


CLEAR = Certificate(np.inf, np.inf, 0.0, Reason.NONE, "")


class Assessment(NamedTuple):
    """A step seen from the pairs that it could bring near.

    Attributes:
        pairs: (K,) which, of ``among``. postures: (2, J) the last output and the next, rad;
            distance: (2, K) m there.
        least: (K,) m that the distances may change by in this period. broken: (K,) bool,
            which changed by less. certificate: of the whole stop; room >= 0 is certified.
    """

    pairs: Index
    among: Surroundings | None
    postures: FloatArray
    distance: FloatArray
    least: FloatArray
    broken: NDArray[np.bool_]
    certificate: Certificate


_FREE = Assessment(
    _NOTHING, None, np.zeros((2, 0)), np.zeros((2, 0)), np.zeros(0), np.zeros(0, dtype=bool), CLEAR
)


class DistanceGuard:
    """Distances of all pairs, measured only as often as needed.

    A distance measured once is a lower bound as long as the levers of the joints times
    their way since then do not use it up; only pairs that could come near are measured.
    Proof: a turn of joint j by dq moves no point of a shape further than lever_j |dq|
    (`RobotShapes.lever`), so from q0, where d0 was measured, to q the distance changes by at
    most sum_j lever_j |q_j - q0_j|, in whatever order and however often the joints turn.

    A tick asks with less: with t(q) the way of each joint since the start, in whatever
    direction, |q - q0| <= t(q) - t(q0), hence d >= (d0 + lever . t(q0)) - lever . t(q). The
    first part, the reserve, changes only when the pair is measured, so one product of the
    levers with t and one comparison clear all pairs that are far.

    A pair that is inside its margin at the start (or when a thing is put there) must not
    come nearer, and keeps its margin once it has it.

    Args:
        shapes: of the robot. scene: margins and fixed things. dt: control period, s.
    """

    def __init__(self, shapes: RobotShapes, scene: SceneSettings, dt: float) -> None:
        self._shapes, self._scene, self._dt = shapes, scene, dt
        self._obstacles: dict[str, Obstacle] = {}
        self._stamps: dict[str, int] = {}
        self._q: FloatArray | None = None
        self._pairs: Surroundings = build(shapes, scene, {})
        self._sweep = self._pairs.sweep  # made now, not in a tick
        count = len(self._pairs.names)
        self._distance: FloatArray = np.full(count, np.nan)
        self._where: FloatArray = np.full((count, shapes.lever.shape[1]), np.nan)
        self._floor: FloatArray = self._pairs.margin
        self._still: FloatArray = np.zeros(count)
        self._moves = False
        self._noted: tuple[FloatArray | None, Index] = (None, _NOTHING)  # what was measured where
        self._asked = 0
        self._travel: FloatArray = np.zeros(shapes.lever.shape[1])  # way of the joints so far
        self._reserve: FloatArray = np.full(count, np.nan)  # room + lever . travel when measured

    # ---- things --------------------------------------------------------------------

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """Present obstacles."""
        return tuple(self._obstacles.values())

    def add(self, obstacle: Obstacle, steady_ns: int) -> None:
        """Add a thing, or put it elsewhere when one of that name is there."""
        self._obstacles = {**self._obstacles, obstacle.name: obstacle}
        self._stamps[obstacle.name] = steady_ns
        self._rebuild()

    def remove(self, name: str) -> bool:
        """Forget a thing; False when there is none of that name."""
        if name not in self._obstacles:
            return False
        self._obstacles = {key: item for key, item in self._obstacles.items() if key != name}
        self._rebuild()
        return True

    def inherit(self, other: DistanceGuard) -> None:
        """Keep away from what another guard knew, each thing as old as it was there; call `start` afterwards."""
        self._obstacles, self._stamps = dict(other._obstacles), dict(other._stamps)
        self._rebuild()

    def start(self, q: FloatArray) -> None:
        """Begin at (J,) rad."""
        self._q = np.array(q)
        self._measure_all()
        inside = self._distance < self._pairs.margin
        self._settle(np.where(inside, self._distance - _LEAVE_M, self._pairs.margin))

    def moved(self, q: FloatArray) -> None:
        """The arm is at (J,) rad now, without having asked."""
        if self._q is not None and q is not self._q:
            self._travel = self._travel + np.abs(q - self._q)
        self._q = q

    def _rebuild(self) -> None:
        floors = dict(zip(self._keys(), self._floor.tolist(), strict=True)) if self._q is not None else {}
        self._pairs, self._noted = build(self._shapes, self._scene, self._obstacles), (None, _NOTHING)
        self._sweep = self._pairs.sweep
        self._moves = bool(self._pairs.speed.any())
        self._still = np.zeros(len(self._pairs.names))
        if self._q is not None:
            self.start(self._q)
            kept = np.array([floors.get(key, -np.inf) for key in self._keys()])
            self._settle(np.maximum(self._floor, np.minimum(kept, self._pairs.margin)))

    def _settle(self, floor: FloatArray) -> None:
        """Take floors, at a posture where all pairs have just been measured."""
        self._floor, self._reserve = floor, self._distance - floor
        self._travel = np.zeros_like(self._travel)

    def _keys(self) -> list[tuple[int, int, str]]:
        """What makes a pair the same pair before and after a rebuild."""
        pairs, own = self._pairs, len(self._shapes.names)
        others = [int(b) if k < pairs.runs[0] and b < own else -1 for k, b in enumerate(pairs.other)]
        return list(zip(pairs.shape.tolist(), others, pairs.names, strict=True))

    def _measure_all(self) -> None:
        assert self._q is not None
        self._distance = self._sweep.at(self._q)
        self._where = np.tile(self._q, (len(self._distance), 1))

    def tightest(self, q: FloatArray) -> Certificate:
        """The pair with least room to its margin at (J,) rad, measured anew."""
        distance = self._sweep.at(q)
        room = distance - self._pairs.margin
        worst = int(np.argmin(room))
        return self._describe(worst, float(room[worst]), float(distance[worst]))

    # ---- each tick -----------------------------------------------------------------

    def assess(self, q: FloatArray, outputs: FloatArray, steady_ns: int) -> Assessment:
        """Would all margins be kept, from the last output to the end of the stop?

        Args:
            q: (J,) last output, rad. outputs: (N, J) the next one and the brake from it.
        """
        self.moved(q)
        closing = self._closing(steady_ns, (len(outputs) + 1) * self._dt)
        path = np.concatenate([q[None], outputs])
        way = np.maximum.reduce(np.abs(path - q))
        near = self._in_reach(way * _LOOK_AHEAD, closing)
        if not near.size:
            return _FREE
        # A pair may be near for its row only; when the stop uses up no room, two postures will do.
        lever = self._pairs.lever[near]
        used = lever @ way
        left = self._reserve[near] - closing[near] - lever @ self._travel - used
        whole = not bool(np.minimum.reduce(left) >= _ROUNDING)
        distance, lowest = self._sweep.along(path, near, whole)
        if self._noted[0] is not q or not np.array_equal(self._noted[1], near):
            self._note(q, near, distance[0])
            self._noted = q, near
        least = self._least(distance[0], near, steady_ns)
        broken = distance[1] - distance[0] < least - _ROW_SLACK
        if not whole:
            lowest = distance[0] - used
        left = lowest - closing[near] - self._floor[near]
        worst = int(left.argmin())
        certificate = self._describe(int(near[worst]), float(left[worst]), float(lowest[worst]))
        return Assessment(near, self._pairs, path[:2], distance, least, broken, certificate)

    def rows(self, found: Assessment) -> Row:
        """The barrier rows of an assessment that found pairs: gradient . dq >= bound."""
        return Row(self._sweep.gradients(found.postures[0], found.pairs), found.least)

    def rows_after(self, found: Assessment, steady_ns: int) -> Row | None:
        """The barrier rows of the same pairs one period later, when the assessed step has gone out.

        None when there are no pairs, or when things came or went since.
        """
        if found.among is not self._pairs:
            return None
        least = self._least(found.distance[1], found.pairs, steady_ns)
        return Row(self._sweep.gradients(found.postures[1], found.pairs), least)

    def _least(self, distance: FloatArray, pairs: Index, steady_ns: int) -> FloatArray:
        """(K,) m that distances may change by in a period: only a part of the room is used up."""
        room = distance - self._floor[pairs] - self._closing(steady_ns, self._dt)[pairs]
        return np.asarray(-self._scene.approach_rate_s * self._dt * np.maximum(room, 0.0))

    def _in_reach(self, way: FloatArray, closing: FloatArray) -> Index:
        """Pairs that a motion of ``way`` (J,) rad from here could bring below their floor.

        Every `_RENEWED`-th time the reserves are renewed from |q - q0|, so that a joint that
        goes to and fro does not use them up.
        """
        lever = self._pairs.lever
        self._asked += 1
        if self._asked >= _RENEWED and self._q is not None:
            moved = np.abs(self._q - self._where)
            self._travel, self._asked = np.zeros_like(self._travel), 0
            self._reserve = self._distance - self._floor - (moved * lever).sum(axis=1)
        far = self._reserve - closing >= lever @ (self._travel + way) + _ROUNDING
        return np.asarray((~far).nonzero()[0])

    def _note(self, q: FloatArray, near: Index, distance: FloatArray) -> None:
        """Remember distances measured at q; a pair that has its margin keeps it."""
        self._distance[near] = distance
        self._where[near] = q
        kept = np.minimum(self._pairs.margin[near], distance - _LEAVE_M)
        floor = self._floor[near] = np.maximum(self._floor[near], kept)
        self._reserve[near] = distance - floor + self._pairs.lever[near] @ self._travel

    def kinds(self, pairs: Index) -> Reason:
        """Reason bits of the pairs."""
        return Reason(int(np.bitwise_or.reduce(self._pairs.kind[pairs])))

    def longest_way(self, path: FloatArray) -> float:
        """Longest way of any point of the robot between two rows of (T, J) rad, m."""
        points = self._pairs.points(self._shapes.chain.frames(path))
        way = points[1:] - points[:-1]
        return float(np.sqrt((way * way).sum(axis=-1).max()))

    def _describe(self, pair: int, room: float, distance: float) -> Certificate:
        pairs = self._pairs
        return Certificate(room, distance, float(pairs.margin[pair]), Reason(int(pairs.kind[pair])), pairs.names[pair])

    def _closing(self, steady_ns: int, horizon_s: float) -> FloatArray:
        """(P,) m that the other things may have come nearer since seen, at the horizon's end."""
        if not self._moves:
            return self._still
        moving = [item.name for item in self._obstacles.values() if item.speed_bound_m_s]
        seen = min(self._stamps[name] for name in moving)
        age = max(steady_ns - seen, 0) * 1e-9
        return np.asarray(self._pairs.speed * (age + horizon_s))
