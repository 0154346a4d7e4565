"""Random poses that an arm can really take, for starts, goals and data collection."""

from __future__ import annotations

import weakref

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.robots.spec import Box
from wm_bridge.sim.backend import load_mujoco
from wm_bridge.sim.world import SimWorld, contact_of

mujoco = load_mujoco()

_SCRATCH: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def sample_reachable(
    world: SimWorld,
    rng: np.random.Generator,
    arm: str = "right_arm",
    *,
    workspace: Box | None = None,
    clearance_m: float = 0.02,
    margin_rad: float = 0.02,
    attempts: int = 20_000,
) -> FloatArray:
    """Draw one pose: arm joints uniform over their limits, all other joints at home.

    Rejected until the hand is inside the arm's workspace box, nothing of the arm touches the
    body, the other arm or the table, and every part of the arm that is over the table is at
    least ``clearance_m`` above it. Objects are ignored. The world itself is not changed.

    Low poses, for pushing things: ``workspace=Box((0.2, -0.45, 0.60), (0.45, 0.10, 0.68))`` and
    ``clearance_m=0.005``.

    Args:
        workspace: where the hand may be, base frame; None = the arm's workspace in the spec.
        margin_rad: distance kept from each joint limit.
    Returns:
        (J,) rad.
    Raises:
        RuntimeError: no such pose among ``attempts`` draws.
    """
    spec, model = world.spec, world.model
    data = _SCRATCH.get(world)
    if data is None:
        data = _SCRATCH[world] = mujoco.MjData(model)
    data.qpos[:] = world.data.qpos
    index = spec.indices(arm)
    box, tool = workspace or spec.workspaces[arm], world.tool_body(arm)
    lower, upper = spec.lower[index] + margin_rad, spec.upper[index] - margin_rad
    q = spec.home.copy()
    for _ in range(attempts):
        q[index] = rng.uniform(lower, upper)
        data.qpos[world.joint_addresses] = q
        mujoco.mj_kinematics(model, data)
        if not box.contains(data.xpos[tool]):
            continue
        if height_above_table(world, data, arm) < clearance_m:
            continue
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        if not contact_of(data, world.arm_geoms(arm), world.object_geoms):
            return q
    raise RuntimeError(f"no reachable pose of {arm} in {attempts} draws; is its workspace too small?")


def height_above_table(world: SimWorld, data: mujoco.MjData, arm: str) -> float:
    """Return the smallest height of the arm's parts above the table surface, m.

    Only parts whose bounding sphere is over the table count; +inf when there is none.
    """
    model, scene = world.model, world.scene
    geoms = world.arm_geoms(arm)
    centre, radius = data.geom_xpos[geoms], model.geom_rbound[geoms]
    (x0, x1), (y0, y1) = scene.table_x, scene.table_y
    x, y = centre[:, 0], centre[:, 1]
    over = (x > x0 - radius) & (x < x1 + radius) & (y > y0 - radius) & (y < y1 + radius)
    if not over.any():
        return float("inf")
    axis_z = data.geom_xmat[geoms].reshape(-1, 3, 3)[:, 2, :]  # world z in each geom's own axes
    size, kind = model.geom_size[geoms], model.geom_type[geoms]
    extent = np.where(
        kind == mujoco.mjtGeom.mjGEOM_BOX,
        (np.abs(axis_z) * size).sum(axis=1),
        np.abs(axis_z[:, 2]) * size[:, 1]
        + size[:, 0] * np.sqrt(np.maximum(0.0, 1.0 - axis_z[:, 2] ** 2)),
    )
    extent = np.where(kind == mujoco.mjtGeom.mjGEOM_SPHERE, size[:, 0], extent)
    return float((centre[:, 2] - extent - scene.table_height)[over].min())
