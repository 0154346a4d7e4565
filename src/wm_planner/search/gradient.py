"""Gradient descent through the imagined rollout, from several starts at once."""

from __future__ import annotations

import torch
from torch import Tensor

from wm_planner.search.base import WarmSearch
from wm_planner.search.trial import Trial

DECAY, DECAY_SQUARE, SMALL = 0.8, 0.9, 1e-12


class Gradient(WarmSearch):
    """Projected descent with Adam's step (Kingma and Ba 2015), each start by itself.

    The step is a share of the action box and falls linearly to zero over the iterations. The
    starts are the kept elites, the last plan and the proposals, and random ones when those are
    fewer than ``gradient_starts``. Energies of learned models have many small valleys: on its own this finds
    far fewer good plans than sampling does, so it is offered and never the default.
    """

    differentiates = True

    def refine(self, trial: Trial, given: Tensor, noise_scale: float) -> Tensor:
        """See ``WarmSearch``."""
        config = self.config
        spread = (config.warm_std if self.warm else config.initial_std) * noise_scale
        fresh = max(0, config.gradient_starts - len(given))
        decay: Tensor | float = DECAY if self.momentum is None else self.momentum
        points = torch.cat([given, self.mean + spread * self.factor * self.noise(fresh)])
        momentum, square = torch.zeros_like(points), torch.zeros_like(points)
        done = 0
        while trial.goes_on():
            points, slope = trial.descend(points)
            done += 1
            momentum = decay * momentum + (1 - decay) * slope
            square = DECAY_SQUARE * square + (1 - DECAY_SQUARE) * slope.square()
            step = (momentum / (1 - decay**done)) / ((square / (1 - DECAY_SQUARE**done)).sqrt() + SMALL)
            points = points - config.gradient_step * noise_scale * (1 - (done - 1) / config.iterations) * self.factor * step
        return trial.elites[0] if len(trial.elites) else self.mean
