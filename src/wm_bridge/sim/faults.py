"""Things that go wrong between the arm, its camera and the world, injected into a simulated episode.

What the planner is told stays plausible: stamps go on, measured joints are the true ones, and the
references that it reads are those that were sent.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.sim.backend import load_mujoco
from wm_bridge.sim.config import ObjectConfig, SceneConfig
from wm_bridge.sim.play import ARM
from wm_bridge.sim.world import SimWorld

mujoco = load_mujoco()

MOVED_M = 0.10  # by which the camera is moved
GAIN = 0.5  # of a weak joint
MOVING_RAD = 0.02  # a joint moves when its reference changes by this from picture to picture
SEEN, SEEN_LEVELS = 0.02, 12  # a large thing is seen when this share of the pixels changes by these levels (of 255)
CRATES = tuple(
    ObjectConfig(f"crate{edge}", "box", (edge / 200, edge / 200, edge / 200), (0.5, 0.5, 0.5), 5.0) for edge in (12, 16, 20)
)


class FaultyWorld(SimWorld):
    """A simulated world in which one fault begins with one of the pictures that are taken.

    | kind | what happens |
    |---|---|
    | covered camera | the picture shows one dark or grey surface and noise |
    | moved camera | the camera stands 10 cm elsewhere, in a random direction |
    | frozen frame | the picture stays what it was, from a moment when the arm moves |
    | stuck joint | one joint, of those that move, stays where it is |
    | weak joint | one joint, of those that move, does half of what it is told |
    | large object | a box with edges of 12, 16 or 20 cm and of any colour stands on the table |

    Attributes:
        begun: number of the picture, counted from `schedule`, with which the fault began; -1 = not yet.
    """

    def __init__(self, spec: RobotSpec) -> None:
        scene = SceneConfig()
        self.begun = -1
        self._kind = ""
        self._picture: ImageArray | None = None
        super().__init__(spec, dataclasses.replace(scene, objects=(*scene.objects, *CRATES)))
        self._arm = spec.indices(ARM)

    def schedule(self, kind: str, first: int, rng: np.random.Generator) -> None:
        """Let a fault begin with picture ``first`` (counted from 0, now), or the first one after it that suits.

        Args:
            kind: see the class; "" = none.
        """
        if kind and kind not in FAULTS:
            raise ValueError(f"unknown fault {kind!r}; have {', '.join(FAULTS)}")
        self._kind, self._first, self._rng = kind, first, rng
        self._taken, self.begun = 0, -1
        self._before, self._picture = self.reference, None
        self._lame, self._pivot, self._gain = -1, 0.0, 1.0
        self._shown: Callable[[ImageArray], ImageArray] = lambda picture: picture
        if kind != "moved camera":
            self.nominal()

    def render(self, camera: str = "front", width: int = 320, height: int = 240) -> ImageArray:
        """The picture, as the fault leaves it."""
        if not self._kind:
            return super().render(camera, width, height)
        if self.begun < 0 and self._taken >= self._first and FAULTS[self._kind](self, (camera, width, height)):
            self.begun = self._taken
        self._taken += 1
        self._before = self.reference
        self._picture = self._shown(super().render(camera, width, height))
        return self._picture

    def reset(self, q: FloatArray | None = None, objects: dict | None = None) -> None:
        """A new episode, without a fault."""
        self._kind, self._gain = "", 1.0
        super().reset(q, objects)

    def set_reference(self, q_ref: FloatArray) -> None:
        """References as the joints take them."""
        if self._gain < 1.0:
            q_ref = np.array(q_ref, dtype=float)
            q_ref[self._lame] = self._pivot + self._gain * (q_ref[self._lame] - self._pivot)
        super().set_reference(q_ref)

    # Faults: each begins, or says that it cannot yet ------------------------------------------

    def _cover(self, view: tuple[str, int, int]) -> bool:
        colour, rng = self._rng.uniform(0, 128) + self._rng.uniform(-15, 15, 3), self._rng
        self._shown = lambda picture: np.clip(colour + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
        return True

    def _move_camera(self, view: tuple[str, int, int]) -> bool:
        offset = self._rng.normal(size=3)
        self.shift(camera_offset=offset * MOVED_M / np.linalg.norm(offset))
        return True

    def _freeze(self, view: tuple[str, int, int]) -> bool:
        still = self._picture
        if not self._moving().any() or still is None:
            return False
        self._shown = lambda picture: still.copy()
        return True

    def _jam(self, view: tuple[str, int, int], gain: float = 0.0) -> bool:
        moving = np.flatnonzero(self._moving())
        if not len(moving):
            return False
        self._lame, self._gain = int(self._arm[self._rng.choice(moving)]), gain
        self._pivot = float(self.reference[self._lame])
        return True

    def _weaken(self, view: tuple[str, int, int]) -> bool:
        return self._jam(view, GAIN)

    def _intrude(self, view: tuple[str, int, int]) -> bool:
        """Stand a crate where it is seen and touches nothing; None of the places does: not yet."""
        before = super().render(*view).astype(int)
        for _ in range(50):
            crate, rng = CRATES[self._rng.integers(len(CRATES))], self._rng
            self.model.geom(crate.name).rgba = [*rng.uniform(0, 1, 3), 1]
            self.set_object(crate.name, self.on_table(crate.name, rng.uniform(0.2, 0.6), rng.uniform(-0.5, 0.2), rng.uniform(-math.pi, math.pi)))
            changed = np.abs(super().render(*view).astype(int) - before).max(axis=2) >= SEEN_LEVELS
            if changed.mean() >= SEEN and not self._touched(crate.name):
                return True
            self.set_object(crate.name, None)
        return False

    def _moving(self) -> np.ndarray:
        return np.abs(self.reference - self._before)[self._arm] >= MOVING_RAD

    def _touched(self, name: str) -> bool:
        """True when an object touches anything besides the table."""
        mujoco.mj_collision(self.model, self.data)
        own, table = self.model.geom(name).id, self.model.geom("table").id
        pairs = self.data.contact.geom
        mine = pairs[(pairs == own).any(axis=1)]
        return not ((mine == own) | (mine == table)).all()


FAULTS: dict[str, Callable[[FaultyWorld, tuple[str, int, int]], bool]] = {
    "covered camera": FaultyWorld._cover,
    "moved camera": FaultyWorld._move_camera,
    "frozen frame": FaultyWorld._freeze,
    "stuck joint": FaultyWorld._jam,
    "weak joint": FaultyWorld._weaken,
    "large object": FaultyWorld._intrude,
}
