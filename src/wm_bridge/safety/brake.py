"""The full brake: an acceleration-limited stop of every joint on its own."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import FloatArray


def brake_step(
    q: FloatArray, v: FloatArray, acceleration: FloatArray, dt: float
) -> tuple[FloatArray, FloatArray]:
    """One period of the hardest allowed stop.

    Args:
        q: (..., J) rad. v: (..., J) rad/s. acceleration: (J,) rad/s^2. dt: s.

    Returns:
        (q, v) after one period; v is exactly zero once |v| <= a dt.
    """
    step = acceleration * dt
    slower = v - np.minimum(np.maximum(v, -step), step)
    return q + slower * dt, slower


def stop_position(
    q: FloatArray, v: FloatArray, acceleration: FloatArray, dt: float
) -> FloatArray:
    """Where the full brake from (q, v) comes to rest, in closed form.

    The speeds of the remaining periods are |v| - i a dt for i = 1..m with
    m = floor(|v| / (a dt)), so the way is dt (m |v| - a dt m (m + 1) / 2).

    Args:
        q: (..., J) rad. v: (..., J) rad/s. acceleration: (J,) rad/s^2. dt: s.

    Returns:
        (..., J) rad. The way there is monotone, so both ends inside means all inside.
    """
    step = acceleration * dt
    speed = np.abs(v)
    m = np.floor(speed / step)
    return np.asarray(q + np.sign(v) * dt * (m * speed - step * m * (m + 1.0) * 0.5))


def brake_path(
    q: FloatArray, v: FloatArray, acceleration: FloatArray, dt: float
) -> FloatArray:
    """Every position of the full brake until all joints rest.

    Args:
        q: (J,) rad. v: (J,) rad/s. acceleration: (J,) rad/s^2. dt: s.

    Returns:
        (N, J) rad, the position after each period; N is 0 for a state at rest.
    """
    path = []
    while np.any(v != 0.0):
        q, v = brake_step(q, v, acceleration, dt)
        path.append(q)
    return np.array(path).reshape(len(path), np.size(q))
