"""The energy around the present frame: a grid of moves along two or three action axes, and what each would cost.

The picture that the public V-JEPA 2-AC notebook draws for one step of its model; here for whole plans, of any planner.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.config import PlannerConfig
from wm_planner.effector import FloatArray, Space
from wm_planner.errors import PlannerError
from wm_planner.posture import Forward


@dataclass(frozen=True)
class Landscape:
    """Energies on a grid of K = 2 or 3 axes with n points each.

    Attributes:
        names, units: (K,) of the axes. values: (K, n) change along each axis, over the whole plan.
        energies: (n,) * K. hands: (n,) * K + (3,) m, where the tool would be at the plan's end; NaN where not known.
        seconds: that it took.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    values: FloatArray
    energies: FloatArray
    hands: FloatArray
    seconds: float

    @property
    def best(self) -> tuple[int, ...]:
        """Where the energy is least."""
        return tuple(int(i) for i in np.unravel_index(np.nanargmin(self.energies), self.energies.shape))


class Surveyed(Protocol):
    """A planner whose energies can be asked for: ``mpc.Planner``, ``vjepa.planner.ACPlanner``."""

    config: PlannerConfig
    space: Space
    forward: Forward | None

    def energies(self, image: NDArray[np.uint8], position: FloatArray, reference: FloatArray, candidates: Tensor) -> Tensor:
        """(S,) energies of candidates (S, H, D)."""


class Survey:
    """Landscapes of one planner.

    Args:
        planner: with a goal. axes: two or three names of its action space. size: n, points per axis.
        extent: largest change along an axis over the whole plan, m or rad.

    Raises:
        PlannerError: unknown axes, or an extent that the action box does not hold.
    """

    def __init__(self, planner: Surveyed, axes: Sequence[str], size: int = 9, extent: float = 0.1) -> None:
        spec, horizon = planner.space.spec, planner.config.horizon
        if not 2 <= len(axes) <= 3 or len(set(axes)) != len(axes) or not set(axes) <= set(spec.names):
            raise PlannerError(f"a landscape has two or three different axes of {', '.join(spec.names)}; got {', '.join(axes) or 'none'}")
        if size < 2 or not extent > 0:
            raise PlannerError(f"a landscape needs at least 2 points per axis and an extent above 0, got {size} and {extent}")
        columns = [spec.names.index(name) for name in axes]
        share = extent / (horizon * spec.scale[columns])
        if bool((share > 1).any()):
            most = float((horizon * spec.scale[columns]).min())
            raise PlannerError(f"{horizon} periods reach {most:.3g} along these axes, not {extent}; make the extent smaller")
        self.planner, self.names, self.size = planner, tuple(axes), size
        self.units = tuple(spec.units[column] for column in columns)
        self.values = np.tile(np.linspace(-extent, extent, size), (len(axes), 1))
        grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, size)] * len(axes), indexing="ij"), dim=-1).view(-1, len(axes))
        self.candidates = torch.zeros(len(grid), horizon, len(spec.names))
        self.candidates[:, :, columns] = (grid * share)[:, None]

    def look(self, image: NDArray[np.uint8], position: FloatArray, reference: FloatArray) -> Landscape:
        """The landscape around a frame: image (H, W, 3) uint8 RGB; position, reference (A,) rad."""
        began, shape = time.perf_counter(), (self.size,) * len(self.names)
        energies = self.planner.energies(image, position, reference, self.candidates)
        hands = np.full((len(self.candidates), 3), np.nan)
        if self.planner.forward is not None:
            start = torch.from_numpy(np.asarray(reference, np.float32))
            ends = start + self.planner.space.joints(start, self.candidates).sum(1) * self.joint_scale
            hands = self.planner.forward(ends.double().numpy())[:, :3, 3]
        found = energies.double().numpy().reshape(shape)
        return Landscape(self.names, self.units, self.values, found, hands.reshape(*shape, 3), time.perf_counter() - began)

    @property
    def joint_scale(self) -> Tensor:
        """(A,) rad, the joints' box per period."""
        return getattr(self.planner.space, "joint_spec", self.planner.space.spec).scale
