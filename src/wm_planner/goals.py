"""What a planner can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.errors import PlannerError
from wm_planner.preprocess import check_picture, square_resize, to_tensor
from wm_planner.world_model import Readout, WorldModel


@dataclass(frozen=True)
class Goal:
    """An embedded goal picture.

    Attributes:
        latent: (D,). readout: decoded scene.
        novelty: see ``WorldModel.novelty``; above ``limit`` the picture shows another scene.
        target: "hand" or "object": what has to match the picture.
    """

    latent: Tensor
    readout: Readout
    novelty: float
    limit: float
    target: str = "hand"

    @property
    def trust(self) -> float:
        """1 inside the novelty limit, falling to 0 at twice the limit and beyond."""
        return min(1.0, max(0.0, 2.0 - self.novelty / self.limit)) if self.novelty > self.limit else 1.0


def picture_goal(model: WorldModel, image: NDArray[np.uint8], target: str = "hand") -> Goal:
    """Embed a (H, W, 3) uint8 RGB goal picture.

    Raises:
        PlannerError: not a picture, or a target that the model does not know.
    """
    able = model.config.object_skill
    if target not in ("hand", "object") or (target == "object" and not able):
        known = "hand or object" if able else "hand; this model has not learned to move objects"
        raise PlannerError(f"unknown goal target {target!r}; expected {known}")
    check_picture(image)
    small = to_tensor(square_resize(image, model.config.image_size)[None])
    z = model.encode(small)
    return Goal(z[0], model.read(z[0]), float(model.novelty(small)[0]), float(model.novelty_limit), target)
