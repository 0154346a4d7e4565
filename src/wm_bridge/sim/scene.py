"""The MuJoCo model: our URDF, a table, a few objects, lights, servos and cameras."""

from __future__ import annotations

import re

import numpy as np

from wm_bridge.robots.spec import RobotSpec
from wm_bridge.sim.backend import load_mujoco
from wm_bridge.sim.config import ObjectConfig, PlateConfig, SceneConfig

mujoco = load_mujoco()

EYES = ("left_eye", "right_eye")
COLLISION_GROUP = 3  # collision shapes are drawn by nobody

# Collision classes: (bit, bits it meets). Static things never meet each other.
_ROBOT, _FIXED, _OBJECT = 1, 2, 4

_TABLE_COLOUR = (0.55, 0.43, 0.32)
_FLOOR_COLOUR = (0.33, 0.36, 0.39)

# Servo stiffness, N m/rad, by the end of the joint's name. Damping is stiffness * _SERVO_LAG_S, which
# is above critical for every pose, so a joint never runs ahead of its speed-limited target.
_STIFFNESS = {"shoulder_z": 300.0, "shoulder_y": 300.0, "arm_x": 300.0, "elbow_y": 150.0}
_OTHER_STIFFNESS = 60.0
_SERVO_LAG_S = 0.035
_ARMATURE = 0.01  # rotor inertia behind the gears, kg m^2


def build(spec: RobotSpec, config: SceneConfig) -> mujoco.MjModel:
    """Compile the whole world.

    Raises:
        ValueError: when a joint of the spec is not in the URDF, or the other way round.
    """
    scene = mujoco.MjSpec.from_string(_keep_all_parts(spec.urdf_path().read_text(encoding="utf-8")))
    names = {joint.name for joint in scene.joints}
    if names != set(spec.joint_names):
        raise ValueError(
            f"joints differ between {spec.urdf} and {spec.name}.yaml: "
            f"{sorted(names ^ set(spec.joint_names))}"
        )
    scene.option.timestep = config.timestep_s
    scene.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    scene.option.iterations = 20
    scene.option.tolerance = 1e-7
    _prepare_robot(scene, spec)
    _add_room(scene, config)
    for item in config.objects:
        _add_object(scene, item)
    for plate in config.plates:
        _add_plate(scene, plate)
    _add_lights_and_cameras(scene, config)
    return scene.compile()


def look_at(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return (3, 3) ``R_world_camera`` of a MuJoCo camera (x right, y up, -z to the target)."""
    back = np.asarray(position, dtype=float) - np.asarray(target, dtype=float)
    back /= np.linalg.norm(back)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], axis=1)


def front_optical_pose(config: SceneConfig) -> np.ndarray:
    """Return (4, 4) ``T_base_optical`` of the fixed camera (z forward, x right, y down)."""
    T_base_optical = np.eye(4)
    position, target = np.array(config.camera_position), np.array(config.camera_target)
    T_base_optical[:3, :3] = look_at(position, target) @ np.diag([1.0, -1.0, -1.0])
    T_base_optical[:3, 3] = position
    return T_base_optical


def to_quaternion(rotation: np.ndarray) -> np.ndarray:
    """Return the (w, x, y, z) quaternion of a (3, 3) rotation."""
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation, dtype=float).ravel())
    return quaternion


def _keep_all_parts(urdf: str) -> str:
    """Add MuJoCo's import settings: keep visual shapes and the links behind fixed joints."""
    settings = '<mujoco><compiler discardvisual="false" fusestatic="false"/></mujoco>'
    return re.sub(r"(<robot\b[^>]*>)", lambda match: match[1] + settings, urdf, count=1)


def _prepare_robot(scene, spec: RobotSpec) -> None:
    for geom in scene.geoms:
        if geom.contype == 0:
            continue
        geom.group = COLLISION_GROUP
        geom.contype, geom.conaffinity = _ROBOT, _ROBOT | _FIXED | _OBJECT
        geom.friction = [0.8, 0.005, 0.0001]
    for body in scene.bodies:
        body.gravcomp = 1.0  # the servos' integral part holds the weight
    for index, name in enumerate(spec.joint_names):
        joint = scene.joint(name)
        effort = float(spec.effort[index])
        joint.armature = _ARMATURE
        joint.actgravcomp = True  # ... and its share counts against their effort limit
        joint.actfrclimited = True
        joint.actfrcrange = [-effort, effort]
        joint.range = [spec.lower[index], spec.upper[index]]
        stiffness = _STIFFNESS.get(name.split("_", 1)[1], _OTHER_STIFFNESS)
        servo = scene.add_actuator(
            name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, forcerange=[-effort, effort]
        )
        servo.set_to_position(kp=stiffness, kv=stiffness * _SERVO_LAG_S)


def _add_room(scene, config: SceneConfig) -> None:
    world, fixed = scene.worldbody, {"contype": _FIXED, "conaffinity": _ROBOT | _OBJECT}
    world.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[25, 25, 1.0],  # drawn in squares of 1 m
        rgba=[*_FLOOR_COLOUR, 1], **fixed,
    )
    (x0, x1), (y0, y1), thickness = config.table_x, config.table_y, 0.03
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[(x1 - x0) / 2, (y1 - y0) / 2, thickness / 2],
        pos=[(x0 + x1) / 2, (y0 + y1) / 2, config.table_height - thickness / 2],
        rgba=[*_TABLE_COLOUR, 1], friction=[0.6, 0.005, 0.0001], **fixed,
    )  # fmt: skip


def _add_object(scene, item: ObjectConfig) -> None:
    body = scene.worldbody.add_body(name=item.name)
    body.add_freejoint(name=item.name)
    kind = {"box": mujoco.mjtGeom.mjGEOM_BOX, "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER}
    body.add_geom(
        name=item.name, type=kind[item.shape], size=list(item.size), mass=item.mass,
        rgba=[*item.colour, 1], friction=[0.6, 0.005, 0.0001],
        contype=_OBJECT, conaffinity=_ROBOT | _FIXED | _OBJECT,
    )  # fmt: skip


def _add_plate(scene, plate: PlateConfig) -> None:
    (width, height), thickness = plate.size, 0.001
    corners = [(x, y, z) for z in (0.0, thickness) for y in (0.0, height) for x in (0.0, width)]
    faces = [(0, 2, 1), (1, 2, 3), (4, 5, 6), (5, 7, 6), (0, 4, 2), (2, 4, 6), (1, 3, 5), (3, 7, 5), (0, 1, 4), (1, 5, 4), (2, 6, 3), (3, 6, 7)]
    texture = [(x / width, 1.0 - y / height) for x, y, _ in corners]
    scene.add_texture(
        name=plate.name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=plate.pixels[0], height=plate.pixels[1], nchannel=3,
        data=np.frombuffer(plate.picture, np.uint8).reshape(plate.pixels[1], -1)[::-1].ravel().tolist(),  # rows from the bottom
    )
    material = scene.add_material(name=plate.name, specular=0.0, emission=0.4)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = plate.name
    scene.add_mesh(
        name=plate.name, uservert=np.ravel(corners), userface=np.ravel(faces), usertexcoord=np.ravel(texture), userfacetexcoord=np.ravel(faces),
    )
    scene.body(plate.link).add_geom(
        name=plate.name, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=plate.name, material=plate.name, pos=list(plate.position),
        quat=list(plate.quaternion), contype=0, conaffinity=0, mass=1e-6,
    )  # fmt: skip


def _add_lights_and_cameras(scene, config: SceneConfig) -> None:
    visual, world = scene.visual, scene.worldbody
    visual.headlight.ambient = [0.35, 0.35, 0.35]
    visual.headlight.diffuse = [0.25, 0.25, 0.25]
    visual.headlight.specular = [0.0, 0.0, 0.0]
    visual.global_.offwidth, visual.global_.offheight = 1280, 960
    visual.quality.offsamples = config.multisamples
    visual.quality.numslices, visual.quality.numstacks = 16, 10  # round enough, and 1.5x faster
    visual.map.znear, visual.map.zfar = 0.02, 25.0
    world.add_light(
        name="main", type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=[0.8, -0.5, 2.5],
        dir=[-0.35, 0.25, -0.9], diffuse=[0.55, 0.55, 0.55], specular=[0.05, 0.05, 0.05],
        castshadow=False,
    )  # fmt: skip
    rotation = look_at(np.array(config.camera_position), np.array(config.camera_target))
    world.add_camera(
        name="front", pos=list(config.camera_position), quat=to_quaternion(rotation),
        fovy=config.camera_fovy_deg,
    )  # fmt: skip
    for eye in EYES:  # optical frame (z forward, y down) -> MuJoCo camera (z back, y up)
        scene.body(f"{eye}_optical").add_camera(
            name=eye, quat=[0, 1, 0, 0], fovy=config.eye_fovy_deg
        )
