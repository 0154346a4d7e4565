"""The whole state of a simulated world as one small value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_bridge.core.types import FloatArray, frozen_array

_FIELDS = ("qpos", "qvel", "control", "reference", "warmstart")


@dataclass(frozen=True, slots=True)
class SimState:
    """Enough to continue or to draw a world exactly, in this or in another process.

    Attributes:
        time_ns: simulated time since the last reset.
        qpos, qvel: MuJoCo positions (Q,) and velocities (V,), joints and free objects.
        control: (J,) where the servos' speed-limited targets are, ``joint_names`` order, rad.
        reference: (J,) where they are going, rad.
        warmstart: (V,) the constraint solver's last accelerations (exact continuation).
    """

    time_ns: int
    qpos: FloatArray
    qvel: FloatArray
    control: FloatArray
    reference: FloatArray
    warmstart: FloatArray

    def __post_init__(self) -> None:
        for name in _FIELDS:
            object.__setattr__(self, name, frozen_array(getattr(self, name)))

    def to_array(self) -> FloatArray:
        """Return everything as one flat float64 array (for a Float64MultiArray message).

        The time is split into whole seconds and nanoseconds, so it stays exact.
        """
        seconds, nanoseconds = divmod(self.time_ns, 1_000_000_000)
        parts = [getattr(self, name) for name in _FIELDS]
        head = [seconds, nanoseconds, *(part.size for part in parts)]
        return np.concatenate([np.array(head, dtype=np.float64), *parts])

    @classmethod
    def from_array(cls, values: FloatArray) -> SimState:
        """Undo ``to_array``; a wrong length raises ValueError."""
        values = np.asarray(values, dtype=np.float64)
        head = 2 + len(_FIELDS)
        if values.ndim != 1 or values.size < head or not np.isfinite(values[:head]).all():
            raise ValueError(f"not a simulator state: array of shape {values.shape}")
        sizes = values[2:head].astype(int)
        if (sizes < 0).any() or values.size != head + sizes.sum():
            raise ValueError(f"simulator state of {values.size} numbers announces parts {sizes}")
        parts = np.split(values[head:], np.cumsum(sizes)[:-1])
        time_ns = int(values[0]) * 1_000_000_000 + int(values[1])
        return cls(time_ns, **dict(zip(_FIELDS, parts, strict=True)))
