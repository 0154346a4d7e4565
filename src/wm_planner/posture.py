"""Arm postures that bring the tool to a pose: many starts at once, with the robot's forward kinematics alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Forward = Callable[[FloatArray], FloatArray]  # (N, A) rad -> (N, 4, 4) T_base_tool

STARTS = 24  # random postures that are tried beside the middle one
_SMALL, _DAMPING, _LONGEST = 1e-5, 0.01, 0.3  # rad of a difference quotient, m, rad of a step
_LEVER_M = 0.15  # what a radian of turn counts as


@dataclass(frozen=True)
class Reached:
    """N postures (N, A) rad and what is left to the pose: off_m (N,), off_rad (N,), 0 where the turn is free."""

    postures: FloatArray
    off_m: FloatArray
    off_rad: FloatArray


def spread_starts(lower: FloatArray, upper: FloatArray, seed: int = 0) -> FloatArray:
    """(STARTS + 1, A) the middle posture, and random ones; always the same."""
    drawn = np.random.default_rng(seed).uniform(lower, upper, (STARTS, len(lower)))
    return np.concatenate([(lower + upper)[None] / 2, drawn])


def bring_tool(
    forward: Forward,
    lower: FloatArray,
    upper: FloatArray,
    starts: FloatArray,
    position: FloatArray,
    rotation: FloatArray | None = None,
    iterations: int = 50,
) -> Reached:
    """Damped least squares (Wampler 1986) from every start, inside the joint limits.

    Args:
        lower, upper: (A,) rad. starts: (N, A) rad.
        position: (3,) m. rotation: (3, 3) ``R_base_tool``, None: free.
    """
    count, joints = starts.shape
    q = np.clip(starts, lower, upper)
    for _ in range(iterations):
        nearby = np.concatenate([q[:, None], q[:, None] + _SMALL * np.eye(joints)], axis=1)
        T = forward(nearby.reshape(-1, joints)).reshape(count, joints + 1, 4, 4)
        error = left(T[:, 0], position, rotation)  # (N, 3 or 6)
        change = (error[:, None] - left(T[:, 1:], position, rotation)) / _SMALL  # (N, A, 3 or 6)
        held = ((q <= lower) & (_pull(change, error) < 0)) | ((q >= upper) & (_pull(change, error) > 0))
        J = np.where(held[..., None], 0.0, change).transpose(0, 2, 1)
        inner = J @ J.transpose(0, 2, 1) + _DAMPING**2 * np.eye(error.shape[1])
        step = (J.transpose(0, 2, 1) @ np.linalg.solve(inner, error[..., None]))[..., 0]
        step *= np.minimum(1.0, _LONGEST / np.maximum(np.abs(step).max(1, keepdims=True), 1e-12))
        q = np.clip(q + step, lower, upper)
    return Reached(q, *gaps(forward(q), position, rotation))


def left(T: FloatArray, position: FloatArray, rotation: FloatArray | None) -> FloatArray:
    """(..., 3 or 6) m from frames (..., 4, 4) to the pose: way, and rotation vector times ``_LEVER_M``."""
    way = position - T[..., :3, 3]
    if rotation is None:
        return np.asarray(way)
    R = rotation @ T[..., :3, :3].swapaxes(-1, -2)
    twist = np.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], axis=-1)
    sine = np.linalg.norm(twist, axis=-1, keepdims=True) / 2
    angle = np.arctan2(sine, (np.trace(R, axis1=-2, axis2=-1)[..., None] - 1) / 2)
    vector = twist / 2 * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)
    return np.concatenate([way, _LEVER_M * vector], axis=-1)


def gaps(T: FloatArray, position: FloatArray, rotation: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """What is left from frames (N, 4, 4) to the pose: m and rad, (N,) each; no rad where the turn is free."""
    off_m = np.linalg.norm(T[:, :3, 3] - position, axis=-1)
    if rotation is None:
        return off_m, np.zeros_like(off_m)
    chord = np.linalg.norm(T[:, :3, :3] - rotation, axis=(-2, -1)) / np.sqrt(2.0)
    return off_m, 2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0))


def _pull(change: FloatArray, error: FloatArray) -> FloatArray:
    """(N, A) direction in which each joint brings the tool nearer."""
    return np.asarray(np.einsum("nak,nk->na", change, error))


def easiest(postures: FloatArray, here: FloatArray, scale: FloatArray, depth: Callable[[FloatArray], FloatArray] | None) -> int:
    """Index of the posture (N, A) that is soonest reached from ``here`` (A,), and not through what is kept free.

    Args:
        scale: (A,) rad per period. depth: (N, A) rad -> (N,) m too near, see ``terms.Intrusion``; 1 cm of it on the
            straight way counts as 20 periods.
    """
    periods = np.abs((postures - here) / scale).max(1)
    if depth is not None:
        way = here + np.linspace(0.125, 1.0, 8)[:, None, None] * (postures - here)  # (8, N, A)
        periods = periods + 2000.0 * depth(way.reshape(-1, len(here))).reshape(8, -1).max(0)
    return int(periods.argmin())
