"""A simulated camera: draws the simulator's state with its own copy of the scene."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from wm_bridge.cameras.base import Camera, CameraError, CameraInfo, pinhole
from wm_bridge.core.types import Frame
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.sim.config import SceneConfig
from wm_bridge.sim.render import RenderError
from wm_bridge.sim.state import SimState
from wm_bridge.sim.world import SimWorld


class MujocoCamera(Camera):
    """Pictures of whatever ``state_source`` gives, stamped with that state's time.

    The physics may run in this or in another process: only ``SimState`` values are needed.
    Use it in one thread.

    Args:
        spec: the robot in the scene.
        state_source: gives the newest state, or None before the first.
        scene: same scene as that of the physics.
        camera: ``front``, ``left_eye`` or ``right_eye``.
        width, height: pixels.
        noise: standard deviation added to every colour value (of 255).
        latency_s: age of the state that is drawn, as far as states were seen that early.
        seed: of the noise.
    """

    def __init__(
        self,
        spec: RobotSpec,
        state_source: Callable[[], SimState | None],
        scene: SceneConfig | None = None,
        camera: str = "front",
        width: int = 320,
        height: int = 240,
        noise: float = 0.0,
        latency_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (0.0 <= noise <= 128.0 and 0.0 <= latency_s <= 10.0):
            raise ValueError(f"noise must be in 0..128 and latency in 0..10 s: {noise}, {latency_s}")
        self._spec, self._scene, self._source = spec, scene or SceneConfig(), state_source
        self._camera = camera
        fovy = self._scene.fovy_deg(camera)
        self._info = CameraInfo(width, height, pinhole(width, height, fovy), f"{camera}_optical")
        self._noise, self._latency_ns = noise, round(latency_s * 1e9)
        self._rng = np.random.default_rng(seed)
        self._states: deque[SimState] = deque()
        self._world: SimWorld | None = None

    @property
    def info(self) -> CameraInfo:
        """Size, intrinsics and optical frame."""
        return self._info

    @property
    def world(self) -> SimWorld:
        """The copy of the scene that is drawn, for ``shift`` and ``randomize``."""
        if self._world is None:
            raise CameraError("the camera is not connected", "call connect() first")
        return self._world

    def _open(self) -> None:
        self._world = SimWorld(self._spec, self._scene)

    def _close(self) -> None:
        self.world.close()
        self._world = None
        self._states.clear()

    def _read(self) -> Frame:
        state = self._source()
        if state is None:
            raise CameraError(
                "the simulator has not published a state yet", "start the simulated robot's driver"
            )
        state = self._delayed(state)
        self.world.load_state(state)
        try:
            image = self.world.render(self._camera, self._info.width, self._info.height)
        except RenderError as error:
            raise CameraError(str(error), "run ./wm doctor for the missing package") from error
        if self._noise:
            noisy = image + self._noise * self._rng.standard_normal(image.shape, dtype=np.float32)
            image = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        return Frame(image, state.time_ns, self._info.frame_id)

    def _delayed(self, newest: SimState) -> SimState:
        """Return the youngest state seen that is at least ``latency`` old, else the oldest one."""
        if self._states and newest.time_ns < self._states[-1].time_ns:
            self._states.clear()  # the simulation was reset
        if not self._states or newest.time_ns > self._states[-1].time_ns:
            self._states.append(newest)
        due = newest.time_ns - self._latency_ns
        while len(self._states) > 1 and self._states[1].time_ns <= due:
            self._states.popleft()
        return self._states[0]
