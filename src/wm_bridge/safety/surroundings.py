"""All pairs whose distance is kept: self, table, workspace, obstacles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.types import FloatArray, Reason
from wm_bridge.safety import gaps
from wm_bridge.safety.gaps import Gaps
from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.scene import SceneSettings
from wm_bridge.safety.shapes import RobotShapes

Index = NDArray[np.intp]


@dataclass(frozen=True)
class Surroundings:
    """P pairs of a robot shape and another thing, in three runs: capsules, boxes, workspace.

    Attributes:
        shapes: of the robot. names: of the pairs, for messages.
        shape: (P,) the moving shape. other: (P,) shape, capsule or box it is held away from.
        runs: how many pairs of capsules, boxes and workspace.
        margin: (P,) m. kind: (P,) reason bit. speed: (P,) bound of the other thing, m/s.
        lever: (P, J) m; the distance changes by at most that per rad.
        ends, thickness: axes (C, 2, 3) and radii of obstacle capsules, m.
        R, centre, half: (B, ..) of the boxes.
        workspace: lower and upper corner, m.
    """

    shapes: RobotShapes
    names: tuple[str, ...]
    shape: Index
    other: Index
    runs: tuple[int, int, int]
    margin: FloatArray
    kind: NDArray[np.int64]
    speed: FloatArray
    lever: FloatArray
    ends: FloatArray
    thickness: FloatArray
    R: FloatArray
    centre: FloatArray
    half: FloatArray
    workspace: tuple[FloatArray, FloatArray]

    def measure(self, frames: FloatArray, pairs: Index) -> Gaps:
        """Gaps of the given pairs (ascending) at (T, N, 4, 4) joint frames."""
        found = []
        first, second, third = self._by_run(pairs)
        if first.size:
            a, b, radii = self._capsules(frames, first)
            found.append(gaps.capsules(a, b, radii))
        if second.size:
            s, k = self.shape[second], self.other[second]
            points = _placed(frames, self.shapes, self.shapes.points, s)
            radius = self.shapes.radius[s]
            found.append(gaps.boxes(points, radius, self.R[k], self.centre[k], self.half[k]))
        if third.size:
            s = self.shape[third]
            points = _placed(frames, self.shapes, self.shapes.points, s)
            found.append(gaps.room(points, self.shapes.radius[s], *self.workspace))
        if len(found) == 1:
            return found[0]
        distance, between = zip(*found, strict=True)
        return Gaps(np.concatenate(distance, axis=1), np.concatenate(between, axis=1))

    def gradients(self, frames: FloatArray, pairs: Index) -> FloatArray:
        """(K, J) change of the distances of the pairs (ascending) per rad, at (N, 4, 4) frames."""
        chain, shapes = self.shapes.chain, self.shapes
        axes = (frames[:, :3, :3] @ chain.axes[..., None])[..., 0]
        origins = frames[:, :3, 3]
        first, second, third = self._by_run(pairs)
        found = []
        if first.size:
            a, b, _ = self._capsules(frames[None], first)
            found.append(gaps.capsule_contact(a[0], b[0]))
        if second.size:
            k = self.other[second]
            points = _placed(frames[None], shapes, shapes.points, self.shape[second])[0]
            found.append(gaps.box_contact(points, self.R[k], self.centre[k], self.half[k]))
        if third.size:
            points = _placed(frames[None], shapes, shapes.points, self.shape[third])[0]
            found.append(gaps.room_contact(points, *self.workspace))
        normal, at, other_at = (np.concatenate(part) for part in zip(*found, strict=True))
        rows = _turned(axes, origins, at, normal) * chain.carried[shapes.joint[self.shape[pairs]]]
        own = np.flatnonzero(self.other[first] < len(shapes.joint))
        if own.size:
            b_joint = shapes.joint[self.other[first[own]]]
            rows[own] -= _turned(axes, origins, other_at[own], normal[own]) * chain.carried[b_joint]
        out = np.zeros((len(pairs), len(chain.column) - 1))
        out[:, chain.column[1:]] = rows[:, 1:]
        return out

    def points(self, frames: FloatArray) -> FloatArray:
        """(T, S, K, 3) corner points of all shapes, base frame, m."""
        return _placed(frames, self.shapes, self.shapes.points, np.arange(len(self.shapes.names)))

    def _by_run(self, pairs: Index) -> tuple[Index, Index, Index]:
        first, second = np.searchsorted(pairs, [self.runs[0], self.runs[0] + self.runs[1]])
        return pairs[:first], pairs[first:second], pairs[second:]

    def _capsules(self, frames: FloatArray, pairs: Index) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Axes (T, K, 2, 3) of both capsules, and the sum of their radii (K,)."""
        shapes, count = self.shapes, len(self.shapes.names)
        a, b = self.shape[pairs], self.other[pairs]
        own = np.minimum(b, count - 1)
        at_a = _placed(frames, shapes, shapes.ends, a)
        at_b = _placed(frames, shapes, shapes.ends, own)
        thickness = shapes.thickness[own]
        foreign = b >= count
        if foreign.any():
            at_b[:, foreign] = self.ends[b[foreign] - count]
            thickness[foreign] = self.thickness[b[foreign] - count]
        return at_a, at_b, shapes.thickness[a] + thickness


def _placed(frames: FloatArray, shapes: RobotShapes, points: FloatArray, which: Index) -> FloatArray:
    """(T, K, ..) points of the shapes in the base frame."""
    T = frames[:, shapes.joint[which]]
    return np.asarray(points[which] @ np.swapaxes(T[..., :3, :3], -1, -2) + T[..., None, :3, 3])


def _turned(axes: FloatArray, origins: FloatArray, at: FloatArray, normal: FloatArray) -> FloatArray:
    """(K, N) speed along the normal of a point, per rad/s of each joint: axis . (arm x normal)."""
    x, y, z = np.moveaxis(at[:, None] - origins, -1, 0)
    n = normal[:, None]
    return np.asarray(
        axes[:, 0] * (y * n[..., 2] - z * n[..., 1])
        + axes[:, 1] * (z * n[..., 0] - x * n[..., 2])
        + axes[:, 2] * (x * n[..., 1] - y * n[..., 0])
    )


def build(shapes: RobotShapes, scene: SceneSettings, obstacles: Mapping[str, Obstacle]) -> Surroundings:
    """All pairs of a robot in its surroundings."""
    count, lever = len(shapes.names), shapes.lever
    moving = [s for s in range(count) if shapes.joint[s]]
    rows: list[tuple[str, int, int, float, Reason, float]] = []
    ends: list[FloatArray] = []
    thickness: list[float] = []
    cuboids: list[Obstacle] = []
    levers: list[FloatArray] = []
    for a, b in _self_pairs(shapes, scene.self_ignore):
        rows.append((f"{shapes.names[a]} - {shapes.names[b]}", a, b, scene.self_margin_m, Reason.SELF_DISTANCE, 0.0))
        common = (lever[a] > 0) & (lever[b] > 0)  # a joint that carries both changes nothing
        levers.append(np.where(common, 0.0, lever[a] + lever[b]))
    for item in obstacles.values():
        if item.shape != "box":
            segment, radius = item.capsule()
            for s in moving:
                rows.append(
                    (f"{shapes.names[s]} - {item.name}", s, count + len(ends), scene.obstacle_margin_m,
                     Reason.OBSTACLE_DISTANCE, item.speed_bound_m_s)
                )  # fmt: skip
                levers.append(lever[s])
            ends.append(segment)
            thickness.append(radius)
    capsules = len(rows)
    things: list[tuple[Obstacle, float, Reason]] = []
    if scene.table:
        things.append((scene.table_box(), scene.table_margin_m, Reason.TABLE_DISTANCE))
    things += [
        (item, scene.obstacle_margin_m, Reason.OBSTACLE_DISTANCE)
        for item in obstacles.values()
        if item.shape == "box"
    ]
    for item, margin, reason in things:
        for s in moving:
            rows.append((f"{shapes.names[s]} - {item.name}", s, len(cuboids), margin, reason, item.speed_bound_m_s))
            levers.append(lever[s])
        cuboids.append(item)
    cuboid_pairs = len(rows) - capsules
    for s in moving:
        rows.append((f"{shapes.names[s]} - workspace", s, 0, 0.0, Reason.WORKSPACE, 0.0))
        levers.append(lever[s])
    names, shape, other, margins, kind, speed = zip(*rows, strict=True)
    return Surroundings(
        shapes,
        tuple(names),
        np.array(shape),
        np.array(other),
        (capsules, cuboid_pairs, len(moving)),
        np.array(margins),
        np.array([int(reason) for reason in kind]),
        np.array(speed),
        np.array(levers),
        np.array(ends).reshape(-1, 2, 3),
        np.array(thickness),
        np.array([item.rotation() for item in cuboids]).reshape(-1, 3, 3),
        np.array([item.position for item in cuboids]).reshape(-1, 3),
        np.array([item.size for item in cuboids]).reshape(-1, 3) * 0.5,
        (np.array(scene.workspace_lower), np.array(scene.workspace_upper)),
    )


def _self_pairs(shapes: RobotShapes, ignore: tuple[tuple[str, str], ...]) -> list[tuple[int, int]]:
    """Pairs of shapes on links that are more than two joints apart, but for the ignored."""
    skip = {frozenset(pair) for pair in ignore}
    pairs = []
    for a in range(len(shapes.names)):
        for b in range(a + 1, len(shapes.names)):
            up_a = shapes.chain.carriers(int(shapes.joint[a]))
            up_b = shapes.chain.carriers(int(shapes.joint[b]))
            apart = len(set(up_a) ^ set(up_b))
            if apart > 2 and frozenset((shapes.names[a], shapes.names[b])) not in skip:
                pairs.append((a, b) if up_a else (b, a))
    return pairs
