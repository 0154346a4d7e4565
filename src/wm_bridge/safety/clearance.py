"""The filter's distances for a planner, so that it does not ask for what the filter would refuse."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.joints import find_joints
from wm_bridge.core.types import FloatArray, JointState
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.shapes import RobotShapes
from wm_bridge.safety.surroundings import build


class Clearance:
    """How deep postures of some joints reach into the margins around robot, table and workspace.

    Things that are added while the graph runs are known to the safety node alone.

    Args:
        spec: robot, with a URDF. config: of its safety filter.
        names: (A,) the joints that are planned; the others stay where they were last seen.
        reserve_m: added to the margins: near them the filter already slows the arm down.
    """

    def __init__(self, spec: RobotSpec, config: SafetyConfig, names: tuple[str, ...], reserve_m: float = 0.006) -> None:
        whole = build(RobotShapes.from_spec(spec), config.scene, {})
        self._place = {name: place for place, name in enumerate(spec.joint_names)}
        self._columns = find_joints(names, spec.joint_names)
        self._sweep = whole.sweep
        self._pairs = np.flatnonzero((whole.lever[:, self._columns] > 0.0).any(axis=1))
        self._kept = whole.margin[self._pairs] + reserve_m
        self._posture = spec.home.copy()

    def observe(self, joints: JointState) -> None:
        """Where the joints are that are not planned; what is unknown or not finite stays as it was."""
        for name, position in zip(joints.names, joints.position, strict=True):
            if name in self._place and np.isfinite(position):
                self._posture[self._place[name]] = position

    def __call__(self, references: FloatArray) -> FloatArray:
        """(N,) m by which postures (N, A) rad break the nearest kept distance, 0 when they break none."""
        postures = np.tile(self._posture, (len(references), 1))
        postures[:, self._columns] = references
        return np.maximum(0.0, -self._sweep.room(postures, self._pairs, self._kept))
