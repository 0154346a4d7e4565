"""Pictures of a MuJoCo model, one cached off-screen renderer per size."""

from __future__ import annotations

import numpy as np

from wm_bridge.sim.backend import load_mujoco

mujoco = load_mujoco()


class RenderError(RuntimeError):
    """No picture can be drawn on this machine; the text says what to install."""


class Painter:
    """Draws a model's cameras. Renderers belong to the thread that made them."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}

    def paint(self, data: mujoco.MjData, camera: str, width: int, height: int) -> np.ndarray:
        """Return (height, width, 3) uint8 RGB of what ``camera`` sees.

        Raises:
            ValueError: unknown camera or a size the scene was not built for.
            RenderError: neither EGL nor OSMesa works.
        """
        known = [self._model.camera(index).name for index in range(self._model.ncam)]
        if camera not in known:
            raise ValueError(f"no camera {camera!r} in the scene; have {known}")
        renderer = self._renderers.get((width, height))
        if renderer is None:
            renderer = self._renderers[width, height] = self._make(width, height)
        renderer.update_scene(data, camera=camera)
        return renderer.render().copy()

    def close(self) -> None:
        """Free the off-screen buffers; drawing again makes new ones."""
        while self._renderers:
            self._renderers.popitem()[1].close()

    def _make(self, width: int, height: int) -> mujoco.Renderer:
        limits = self._model.vis.global_
        if not (0 < width <= limits.offwidth and 0 < height <= limits.offheight):
            raise ValueError(
                f"picture size {width}x{height} is outside 1x1..{limits.offwidth}x{limits.offheight}"
            )
        try:
            renderer = mujoco.Renderer(self._model, height=height, width=width)
        except Exception as error:  # every backend raises its own kind
            raise RenderError(
                f"cannot draw off screen ({error}); install a backend "
                "(apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri, or libosmesa6 and "
                "MUJOCO_GL=osmesa)"
            ) from error
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION,
                     mujoco.mjtRndFlag.mjRND_SKYBOX, mujoco.mjtRndFlag.mjRND_HAZE):  # fmt: skip
            renderer.scene.flags[flag] = 0
        return renderer
