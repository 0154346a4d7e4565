"""All pairs whose distance is kept: self, table, workspace, obstacles."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.types import FloatArray, Reason
from wm_bridge.safety.compiled import Index
from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.scene import SceneSettings
from wm_bridge.safety.shapes import RobotShapes
from wm_bridge.safety.sweep import Sweep


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

    @functools.cached_property
    def sweep(self) -> Sweep:
        """Measures the pairs."""
        return Sweep(self)

    def points(self, frames: FloatArray) -> FloatArray:
        """(T, S, K, 3) corner points of all shapes, base frame, m."""
        T = frames[:, self.shapes.joint]
        R, p = T[..., :3, :3], T[..., None, :3, 3]
        return np.asarray(self.shapes.points @ np.swapaxes(R, -1, -2) + p)


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
