"""How the world looks (lights, colours, fixed camera): nominal, shifted or drawn at random."""

from __future__ import annotations

import colorsys

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.sim.backend import load_mujoco
from wm_bridge.sim.config import DomainRandomization
from wm_bridge.sim.scene import COLLISION_GROUP

mujoco = load_mujoco()

_FIELDS = ("geom_rgba", "light_diffuse", "light_ambient", "light_dir", "cam_pos", "cam_quat",
           "cam_fovy")  # fmt: skip
_HEADLIGHT = ("ambient", "diffuse")


class Look:
    """Owns every visual field of a model and the nominal values to come back to.

    Changes never add up: each call starts from the nominal look.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._nominal = {name: getattr(model, name).copy() for name in _FIELDS}
        self._headlight = {n: getattr(model.vis.headlight, n).copy() for n in _HEADLIGHT}
        self._camera = model.camera("front").id
        self._surfaces = [model.geom(name).id for name in ("table", "floor")]
        free = {int(model.jnt_bodyid[j]) for j in range(model.njnt)
                if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE}  # fmt: skip
        bodies = model.geom_bodyid
        self._objects = [g for g in range(model.ngeom) if int(bodies[g]) in free]
        self._robot = [g for g in range(model.ngeom) if g not in self._objects
                       and g not in self._surfaces and model.geom_group[g] != COLLISION_GROUP]

    def nominal(self) -> None:
        """Put every visual field back to what the scene was built with."""
        for name, value in self._nominal.items():
            getattr(self._model, name)[:] = value
        for name, value in self._headlight.items():
            getattr(self._model.vis.headlight, name)[:] = value

    def shift(self, light: float, offset: FloatArray, rotation_deg: FloatArray) -> None:
        """Nominal look, but lights times ``light`` and ``front`` moved.

        Args:
            light: factor on all lights, > 0.
            offset: (3,) m, base frame.
            rotation_deg: (3,) turn about the camera's own x (right), y (up), z (back) axes.
        """
        if not light > 0:
            raise ValueError(f"light factor must be > 0, got {light}")
        self.nominal()
        self._scale_lights(np.full(3, light))
        self._move_camera(offset, rotation_deg)

    def randomize(self, rng: np.random.Generator, ranges: DomainRandomization) -> None:
        """Draw a new look around the nominal one; see ``DomainRandomization`` for the ranges."""
        self.nominal()
        warm = rng.uniform(-1, 1) * ranges.colour_temperature
        self._scale_lights(rng.uniform(*ranges.light) * np.array([1 + warm, 1, 1 - warm]))
        direction = self._model.light_dir[0]
        tilt = np.tan(np.radians(ranges.light_direction_deg)) * rng.uniform(-1, 1, 3)
        direction[:] = direction + tilt
        direction /= np.linalg.norm(direction)
        for geoms, hue, value, together in (
            (self._surfaces, ranges.surface_hue, ranges.surface_value, False),
            (self._robot, ranges.robot_hue, ranges.robot_value, True),
            (self._objects, ranges.object_hue, ranges.object_value, False),
        ):
            draw = rng.uniform(-1, 1, (len(geoms), 2))
            for geom, (h, v) in zip(geoms, draw[:1].repeat(len(geoms), 0) if together else draw):
                rgba = self._model.geom_rgba[geom]
                rgba[:3] = _jitter(rgba[:3], h * hue, 1.0 + v * value)
        self._move_camera(
            rng.uniform(-1, 1, 3) * ranges.camera_position_m,
            rng.uniform(-1, 1, 3) * ranges.camera_rotation_deg,
        )
        self._model.cam_fovy[self._camera] *= 1.0 + rng.uniform(-1, 1) * ranges.camera_fovy

    def _scale_lights(self, gain: FloatArray) -> None:
        self._model.light_diffuse *= gain
        self._model.light_ambient *= gain
        for name in _HEADLIGHT:
            getattr(self._model.vis.headlight, name)[:] *= gain

    def _move_camera(self, offset: FloatArray, rotation_deg: FloatArray) -> None:
        offset = np.asarray(offset, dtype=float)
        rotation = np.radians(np.asarray(rotation_deg, dtype=float))
        if offset.shape != (3,) or rotation.shape != (3,) or not np.isfinite(
            np.concatenate([offset, rotation])
        ).all():
            raise ValueError(f"camera shift needs two finite (3,), got {offset}, {rotation_deg}")
        self._model.cam_pos[self._camera] += offset
        own = np.empty(4)
        mujoco.mju_euler2Quat(own, rotation, "xyz")
        turned = np.empty(4)
        mujoco.mju_mulQuat(turned, self._model.cam_quat[self._camera].copy(), own)
        self._model.cam_quat[self._camera] = turned


def _jitter(colour: FloatArray, hue: float, gain: float) -> FloatArray:
    h, s, v = colorsys.rgb_to_hsv(*colour)
    return np.array(colorsys.hsv_to_rgb((h + hue) % 1.0, s, min(1.0, v * gain)))


