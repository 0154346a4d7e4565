"""The simulated world: servos, physics, objects, pictures. Plain Python, no ROS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.sim import scene as scene_builder
from wm_bridge.sim.backend import load_mujoco
from wm_bridge.sim.config import DomainRandomization, ObjectConfig, SceneConfig
from wm_bridge.sim.look import Look
from wm_bridge.sim.render import Painter
from wm_bridge.sim.state import SimState

mujoco = load_mujoco()

Pose = tuple[float, float, float, float]  # x, y, z (m, base frame), yaw (rad)

_PARKED_X = -30.0  # parked objects float here, beyond what is drawn, without weight or contact


class SimWorld:
    """One robot at a table in MuJoCo.

    All joint arrays are (J,) in ``spec.joint_names`` order. A joint reference moves a target
    that is limited to ``spec.velocity``; a stiff, torque-limited servo follows the target with
    about 35 ms of lag, like a position-controlled servo with a speed setting.
    """

    def __init__(self, spec: RobotSpec, scene: SceneConfig = SceneConfig()) -> None:  # noqa: B008
        self.spec = spec
        self.scene = scene
        self.model = scene_builder.build(spec, scene)
        self.data = mujoco.MjData(self.model)
        self._step_ns = round(scene.timestep_s * 1e9)
        joints = [self.model.joint(name) for name in spec.joint_names]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dof = np.array([joint.dofadr[0] for joint in joints])
        self._servo = np.array([self.model.actuator(name).id for name in spec.joint_names])
        self._objects = {item.name: item for item in scene.objects}
        self._tools = {arm: self.model.body(tool).id for arm, tool in spec.tools.items()}
        self._arm_geoms = {arm: self._geoms_of(arm) for arm in spec.tools}
        self._object_geoms = np.array([self.model.geom(name).id for name in self._objects], int)
        self._look = Look(self.model)
        self._painter = Painter(self.model)
        self._max_step = spec.velocity * scene.timestep_s
        self.reset()

    # Life ---------------------------------------------------------------------------------

    def reset(
        self,
        q: FloatArray | None = None,
        objects: Mapping[str, Pose] | None = None,
    ) -> None:
        """Start again at time 0, at rest, with the servos' references at ``q``.

        Args:
            q: (J,) rad, moved into the limits; None = home.
            objects: (x, y, z, yaw) of the objects that are on the table, the others are parked;
                None = the places in the scene's configuration, {} = none on the table.
        """
        q = self._joints(self.spec.home if q is None else q)
        mujoco.mj_resetData(self.model, self.data)
        self._time_steps, self._remainder_ns = 0, 0
        self.data.qpos[self._qpos] = q
        self._reference = q
        self._control = q.copy()
        self.data.ctrl[self._servo] = q
        places = self._default_places() if objects is None else objects
        for name in self._objects:
            self._place(name, None)
        for name, pose in places.items():
            self._place(name, pose)
        mujoco.mj_forward(self.model, self.data)

    def close(self) -> None:
        """Free the renderers."""
        self._painter.close()

    # Motion -------------------------------------------------------------------------------

    def set_reference(self, q_ref: FloatArray) -> None:
        """Give the servos a new (J,) target, rad; moved into the limits.

        Raises:
            ValueError: wrong shape, NaN or infinite.
        """
        self._reference = self._joints(q_ref)

    def hold(self) -> None:
        """Stop the servos' targets where they are now."""
        self._reference = self._control.copy()

    def step(self, duration_s: float) -> None:
        """Advance the physics; what does not fill a physics step is kept for the next call."""
        if not 0.0 <= duration_s <= 60.0:
            raise ValueError(f"expected 0..60 s, got {duration_s}")
        steps, self._remainder_ns = divmod(
            self._remainder_ns + round(duration_s * 1e9), self._step_ns
        )
        control, reference, most = self._control, self._reference, self._max_step
        model, data, servo, low = self.model, self.data, self._servo, -self._max_step
        for _ in range(steps):
            control += np.minimum(np.maximum(reference - control, low), most)
            data.ctrl[servo] = control
            mujoco.mj_step(model, data)
        self._time_steps += steps
        self._update_poses()

    # What can be measured -----------------------------------------------------------------

    @property
    def time_ns(self) -> int:
        """Simulated time since the last reset."""
        return self._time_steps * self._step_ns

    @property
    def q(self) -> FloatArray:
        """(J,) joint positions, rad."""
        return self.data.qpos[self._qpos]

    @property
    def dq(self) -> FloatArray:
        """(J,) joint velocities, rad/s."""
        return self.data.qvel[self._dof]

    @property
    def tau(self) -> FloatArray:
        """(J,) servo efforts, N m, the share that carries the weight included."""
        return self.data.qfrc_actuator[self._dof]

    @property
    def reference(self) -> FloatArray:
        """(J,) last reference, rad."""
        return self._reference.copy()

    def hand_position(self, arm: str = "right_arm") -> FloatArray:
        """Return (3,) position of the arm's tool frame, base frame, m."""
        return self.data.xpos[self._tools[arm]].copy()

    def in_contact(self, arm: str = "right_arm") -> bool:
        """True when the arm touches the table, the body or the other arm (objects do not count)."""
        return contact_of(self.data, self._arm_geoms[arm], self._object_geoms)

    def touches_object(self, name: str, arm: str = "right_arm") -> bool:
        """True when the arm touches the object."""
        self._item(name)
        if self.data.ncon == 0:
            return False
        pairs, geom = self.data.contact.geom, self.model.geom(name).id
        touches = np.isin(pairs, self._arm_geoms[arm]).any(axis=1) & (pairs == geom).any(axis=1)
        return bool((touches & (self.data.contact.dist <= 0.0)).any())

    # For samplers -------------------------------------------------------------------------

    @property
    def joint_addresses(self) -> np.ndarray:
        """(J,) places of the joints in a MuJoCo ``qpos``."""
        return self._qpos

    @property
    def object_geoms(self) -> np.ndarray:
        """MuJoCo ids of the shapes of all free objects."""
        return self._object_geoms

    def arm_geoms(self, arm: str) -> np.ndarray:
        """MuJoCo ids of the arm's collision shapes."""
        return self._arm_geoms[arm]

    def tool_body(self, arm: str) -> int:
        """MuJoCo id of the arm's tool frame."""
        return self._tools[arm]

    # Objects ------------------------------------------------------------------------------

    def object_pose(self, name: str) -> FloatArray:
        """Return (4,) x, y, z, yaw of an object, base frame."""
        start = self._object_address(name)
        x, y, z, w, i, j, k = self.data.qpos[start : start + 7]
        return np.array([x, y, z, np.arctan2(2 * (w * k + i * j), 1 - 2 * (j * j + k * k))])

    def set_object(self, name: str, pose: Pose | None) -> None:
        """Put an object at (x, y, z, yaw) at rest; None parks it out of sight."""
        self._place(name, pose)
        mujoco.mj_forward(self.model, self.data)

    def on_table(self, name: str, x: float, y: float, yaw: float = 0.0) -> Pose:
        """Return the (x, y, z, yaw) at which the object stands on the table."""
        return (x, y, self.scene.table_height + self._item(name).half_height, yaw)

    # State --------------------------------------------------------------------------------

    def state(self) -> SimState:
        """Return everything needed to continue or to draw this world elsewhere."""
        return SimState(
            time_ns=self.time_ns + self._remainder_ns,
            qpos=self.data.qpos,
            qvel=self.data.qvel,
            control=self._control,
            reference=self._reference,
            warmstart=self.data.qacc_warmstart,
        )

    def load_state(self, state: SimState) -> None:
        """Continue from ``state``, which must come from a world of the same scene.

        Raises:
            ValueError: sizes differ or a number is not finite; this world is then unchanged.
        """
        values = np.concatenate([state.qpos, state.qvel, state.control, state.reference])
        sizes = (state.qpos.size, state.qvel.size, state.control.size, state.warmstart.size)
        wanted = (self.model.nq, self.model.nv, len(self._servo), self.model.nv)
        if sizes != wanted or state.reference.size != len(self._servo):
            raise ValueError(f"state of another scene: sizes {sizes}, this world has {wanted}")
        if not np.isfinite(values).all():
            raise ValueError("state holds numbers that are not finite")
        self.data.qpos[:] = state.qpos
        self.data.qvel[:] = state.qvel
        self.data.qacc_warmstart[:] = state.warmstart
        self._control = state.control.copy()
        self._reference = state.reference.copy()
        self.data.ctrl[self._servo] = self._control
        steps, self._remainder_ns = divmod(state.time_ns, self._step_ns)
        self._time_steps = steps
        self.data.time = steps * self.scene.timestep_s
        for name in self._objects:
            self._weigh(name)
        self._update_poses()

    # Looks --------------------------------------------------------------------------------

    def render(self, camera: str = "front", width: int = 320, height: int = 240) -> ImageArray:
        """Return (height, width, 3) uint8 RGB seen by ``front``, ``left_eye`` or ``right_eye``."""
        return self._painter.paint(self.data, camera, width, height)

    def nominal(self) -> None:
        """Look as built; objects stay where they are."""
        self._look.nominal()
        self._update_poses()

    def shift(
        self,
        light: float = 1.0,
        camera_offset: Sequence[float] | FloatArray = (0.0, 0.0, 0.0),
        camera_rotation_deg: Sequence[float] | FloatArray = (0.0, 0.0, 0.0),
    ) -> None:
        """Nominal look with lights times ``light`` and ``front`` moved (m, base; deg, own axes)."""
        self._look.shift(light, camera_offset, camera_rotation_deg)
        self._update_poses()

    def turn_camera(self, degrees: float) -> None:
        """Nominal look, with ``front`` carried round the vertical through the point that it looks at."""
        angle, scene = np.radians(degrees), self.scene
        place, target = np.array(scene.camera_position), np.array(scene.camera_target)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
        moved = target + turn @ (place - target)
        own = scene_builder.look_at(place, target).T @ scene_builder.look_at(moved, target)
        y = np.arcsin(np.clip(own[0, 2], -1.0, 1.0))  # own = Rx Ry Rz, turns about the camera's own axes in that order
        x, z = np.arctan2(-own[1, 2], own[2, 2]), np.arctan2(-own[0, 1], own[0, 0])
        self.shift(camera_offset=moved - place, camera_rotation_deg=np.degrees([x, y, z]))

    def randomize(
        self, rng: np.random.Generator, ranges: DomainRandomization = DomainRandomization()
    ) -> None:
        """Draw a new look and scatter the distractors over the table (clear of the arms)."""
        self._look.randomize(rng, ranges)
        for name in ranges.distractors:
            self._item(name)
            present = rng.uniform() < ranges.distractor_probability
            self._place(name, None)
            if present:
                self._scatter(rng, name)
        mujoco.mj_forward(self.model, self.data)

    # Inside -------------------------------------------------------------------------------

    def _joints(self, q: FloatArray) -> FloatArray:
        q = np.asarray(q, dtype=float)
        if q.shape != self.spec.home.shape or not np.isfinite(q).all():
            raise ValueError(f"expected {self.spec.home.shape} finite joint positions, got {q}")
        return self.spec.clip(q)

    def _update_poses(self) -> None:
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def _geoms_of(self, arm: str) -> np.ndarray:
        bodies = {int(self.model.joint(name).bodyid[0]) for name in self.spec.groups[arm]}
        return np.array([g for g in range(self.model.ngeom)
                         if int(self.model.geom_bodyid[g]) in bodies and self.model.geom_contype[g]])

    def _item(self, name: str) -> ObjectConfig:
        if name not in self._objects:
            raise ValueError(f"no object {name!r} in the scene; have {sorted(self._objects)}")
        return self._objects[name]

    def _object_address(self, name: str) -> int:
        self._item(name)
        return int(self.model.joint(name).qposadr[0])

    def _default_places(self) -> dict[str, Pose]:
        return {
            item.name: self.on_table(item.name, *item.place)
            for item in self._objects.values()
            if item.place is not None
        }

    def _place(self, name: str, pose: Pose | None) -> None:
        start = self._object_address(name)
        if pose is None:
            pose = (_PARKED_X, 0.3 * list(self._objects).index(name), 0.5, 0.0)
        values = np.asarray(pose, dtype=float)
        if values.shape != (4,) or not np.isfinite(values).all():
            raise ValueError(f"{name}: expected finite (x, y, z, yaw), got {pose}")
        half = values[3] / 2
        self.data.qpos[start : start + 7] = [*values[:3], np.cos(half), 0, 0, np.sin(half)]
        dof = int(self.model.joint(name).dofadr[0])
        self.data.qvel[dof : dof + 6] = 0.0
        self.data.qacc_warmstart[dof : dof + 6] = 0.0
        self._weigh(name)

    def _weigh(self, name: str) -> None:
        """Parked objects have no weight, so that they cost no contacts."""
        parked = self.data.qpos[self._object_address(name)] < _PARKED_X / 2
        self.model.body_gravcomp[self.model.body(name).id] = 1.0 if parked else 0.0

    def _scatter(self, rng: np.random.Generator, name: str) -> None:
        margin = 0.04
        own = self.model.geom(name).id
        for _ in range(20):
            x = rng.uniform(self.scene.table_x[0] + margin, self.scene.table_x[1] - margin)
            y = rng.uniform(self.scene.table_y[0] + margin, self.scene.table_y[1] - margin)
            self._place(name, self.on_table(name, x, y, rng.uniform(-np.pi, np.pi)))
            mujoco.mj_kinematics(self.model, self.data)
            mujoco.mj_comPos(self.model, self.data)
            mujoco.mj_collision(self.model, self.data)
            pairs = self.data.contact.geom
            table = self.model.geom("table").id
            mine = pairs[(pairs == own).any(axis=1)]
            if not len(mine) or ((mine == own) | (mine == table)).all():
                return
        self._place(name, None)


def contact_of(data: mujoco.MjData, arm: np.ndarray, objects: np.ndarray) -> bool:
    """True when a current contact has a geom of ``arm`` and none of ``objects``."""
    if data.ncon == 0:
        return False
    pairs = data.contact.geom
    close = data.contact.dist <= 0.0
    touches = np.isin(pairs, arm).any(axis=1) & ~np.isin(pairs, objects).any(axis=1)
    return bool((touches & close).any())
