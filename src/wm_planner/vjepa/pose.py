"""End-effector poses under end-effector actions, batched: xyz [m], xyz-Euler angles [rad], gripper 0..1."""

from __future__ import annotations

import torch
from torch import Tensor


def matrix(angles: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of extrinsic x-y-z Euler angles (..., 3) rad: R = Rz Ry Rx."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = [
        cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx,
        sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx,
        -sy, cy * sx, cy * cx,
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).view(*angles.shape[:-1], 3, 3)


def euler(rotation: Tensor) -> Tensor:
    """Extrinsic x-y-z Euler angles (..., 3) rad of rotation matrices; y in [-pi/2, pi/2].

    Where y is at its limit only the sum or difference of x and z is defined: z is then 0.
    """
    r = rotation
    flat = torch.hypot(r[..., 0, 0], r[..., 1, 0])
    locked = flat < 1e-7
    x = torch.where(locked, torch.atan2(-r[..., 1, 2], r[..., 1, 1]), torch.atan2(r[..., 2, 1], r[..., 2, 2]))
    z = torch.where(locked, torch.zeros_like(flat), torch.atan2(r[..., 1, 0], r[..., 0, 0]))
    return torch.stack([x, torch.atan2(-r[..., 2, 0], flat), z], dim=-1)


def integrate(pose: Tensor, actions: Tensor) -> Tensor:
    """Poses along an action sequence, as V-JEPA 2-AC was trained: xyz adds, R' = dR R, gripper clipped.

    Args:
        pose: (..., 7) of the first frame. actions: (..., H, 7) changes to the next frame.

    Returns:
        (..., H + 1, 7) poses, the first one included. Angles are worked out in double precision.
    """
    moves = torch.cat([pose[..., None, :], actions], dim=-2).double()  # the first moves from the origin
    turns = matrix(moves[..., 3:6])
    rotations, grips = [turns[..., 0, :, :]], [moves[..., 0, 6:]]
    for step in range(1, moves.shape[-2]):
        rotations.append(turns[..., step, :, :] @ rotations[-1])
        grips.append((grips[-1] + moves[..., step, 6:]).clamp(0, 1))
    angles = euler(torch.stack(rotations[1:], dim=-3))
    angles = torch.cat([moves[..., :1, 3:6], angles], dim=-2)
    return torch.cat([moves[..., :3].cumsum(-2), angles, torch.stack(grips, dim=-2)], dim=-1).to(pose.dtype)


def difference(start: Tensor, end: Tensor) -> Tensor:
    """The action (..., 7) that leads from one pose to another; inverse of one step of ``integrate``."""
    turn = matrix(end[..., 3:6].double()) @ matrix(start[..., 3:6].double()).mT
    return torch.cat([end[..., :3] - start[..., :3], euler(turn).to(end.dtype), end[..., 6:] - start[..., 6:]], dim=-1)


def integrate_joints(reference: Tensor, actions: Tensor) -> Tensor:
    """(..., H + 1, A) joint references [rad] along changes of them (..., H, A); the first one is included."""
    return torch.cat([reference[..., None, :], actions], dim=-2).cumsum(-2)
