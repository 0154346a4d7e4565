"""Where the demo's arm starts and what its goal pictures show. An own copy of the simulated world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm_bridge.core.goal_kinds import JointsGoal, PictureGoal, PoseGoal, Request
from wm_bridge.core.images import decompress, fit
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.sim.render import RenderError
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.state import SimState
from wm_bridge.sim.world import SimWorld

ARM = "right_arm"
CAMERA, WIDTH, HEIGHT = "front", 320, 240
_BLOCK = "block"
_UNTOUCHED_M = 0.002
_SETTLE_S = 0.3
_TRIES = 50


@dataclass(frozen=True)
class DemoGoal:
    """What is asked for; ``hand`` (3,) m is where that brings the hand, None where nobody knows (a user's picture)."""

    asked: Request
    hand: FloatArray | None


class DemoScene:
    """Draws starts and goals. Use it in one thread: it holds a renderer.

    Args:
        robot: name of the robot. rng: decides everything.
    """

    def __init__(self, robot: str, rng: np.random.Generator) -> None:
        self.spec = robots.load(robot)
        self.world = SimWorld(self.spec)
        self._rng = rng

    def start(self) -> SimState:
        """A random reachable pose that does not touch the objects; all at rest."""
        for _ in range(_TRIES):
            q = sample_reachable(self.world, self._rng, ARM)
            if self._stays(q, None):
                self.world.reset(q)
                return self.world.state()
        raise RuntimeError(f"no start pose clear of the objects in {_TRIES} draws")

    def goal(self, present: SimState, least_m: float = 0.10) -> DemoGoal:
        """A picture of a random reachable pose at least ``least_m`` of hand travel away.

        Args:
            present: the world as it is now; the objects stay where they are.

        Raises:
            UserError: pictures cannot be drawn on this machine.
        """
        hand = self.hand(present)
        objects = self._objects(present)
        for _ in range(_TRIES):
            q = sample_reachable(self.world, self._rng, ARM)
            if not self._stays(q, objects):
                continue
            there = self.world.hand_position(ARM)
            if np.linalg.norm(there - hand) >= least_m:
                return DemoGoal(PictureGoal(self._render()), there)
        raise RuntimeError(f"no goal pose {least_m} m away in {_TRIES} draws")

    def told(self, asked: Request, present: SimState) -> DemoGoal:
        """A user's goal, and where it brings the hand when the arm is as it is now."""
        if isinstance(asked, PoseGoal):
            return DemoGoal(asked, asked.position)
        if not (isinstance(asked, JointsGoal) and set(asked.joints) <= set(self.spec.joint_names)):
            return DemoGoal(asked, None)
        self.world.load_state(present)
        q = self.world.q.copy()
        for name, value in asked.joints.items():
            q[self.spec.index(name)] = value
        if not np.isfinite(q).all() or (self.spec.clip(q) != q).any():
            return DemoGoal(asked, None)  # the planner says what is wrong
        self.world.reset(q)
        return DemoGoal(asked, self.world.hand_position(ARM))

    def hand(self, state: SimState) -> FloatArray:
        """(3,) true hand position of a simulator state, base frame, m. For scoring."""
        self.world.load_state(state)
        return self.world.hand_position(ARM)

    def close(self) -> None:
        """Free the renderer."""
        self.world.close()

    def _objects(self, state: SimState) -> dict[str, tuple[float, float, float, float]]:
        self.world.load_state(state)
        poses = {item.name: self.world.object_pose(item.name) for item in self.world.scene.objects}
        return {name: tuple(float(v) for v in pose) for name, pose in poses.items() if pose[0] > -5.0}  # type: ignore[misc]

    def _stays(self, q: FloatArray, objects: dict[str, tuple[float, float, float, float]] | None) -> bool:
        """Put the arm at ``q``, let it settle; True when the block was not pushed."""
        self.world.reset(q, objects)
        before = self.world.object_pose(_BLOCK)[:3]
        self.world.step(_SETTLE_S)
        return bool(np.linalg.norm(self.world.object_pose(_BLOCK)[:3] - before) < _UNTOUCHED_M)

    def _render(self) -> ImageArray:
        try:
            return self.world.render(CAMERA, WIDTH, HEIGHT)
        except RenderError as error:
            message, _, remedy = str(error).partition("; ")
            raise UserError(message, remedy or "./wm doctor says what is missing", 2) from error


def load_goal_picture(path: Path) -> tuple[ImageArray, str]:
    """Read a user's goal picture and bring it to the camera's size.

    Returns:
        (240, 320, 3) RGB, and what was done to it ("" = nothing).

    Raises:
        UserError: missing, unreadable, or not a picture.
    """
    remedy = "give a PNG or JPEG of this scene, e.g. one from the camera"
    try:
        data = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise UserError(f"goal picture {path} cannot be read: {error.strerror}", remedy, 2) from error
    if data is None:
        raise UserError(f"goal picture {path} {'is no file' if path.exists() else 'does not exist'}", remedy, 2)
    try:
        picture = decompress(data)
    except ValueError as error:
        raise UserError(f"goal picture {path} is not a picture ({len(data)} bytes)", remedy, 2) from error
    try:
        return fit(picture, WIDTH, HEIGHT)
    except ValueError as error:
        raise UserError(f"goal picture {path} is {error}", "give a larger one", 2) from error
