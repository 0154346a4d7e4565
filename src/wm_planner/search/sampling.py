"""What searches have in common that sample around a mean and fit the next distribution."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from wm_planner.search.base import WarmSearch
from wm_planner.search.trial import Trial


class Sampling(WarmSearch):
    """A Gaussian over action sequences, sampled and fitted again at every iteration.

    The mean is itself a candidate of every iteration.
    """

    carried = 0  # elites of an iteration that are candidates of the next one as well
    usual_momentum = 0.0  # share of the old distribution in the next one, where the action space names none

    def refine(self, trial: Trial, given: Tensor, noise_scale: float) -> Tensor:
        """See ``WarmSearch``."""
        config = self.config
        spread = config.warm_std if self.warm else config.initial_std
        mean, deviation = self.mean, torch.full_like(self.mean, spread * noise_scale) * self.factor
        least = torch.full_like(self.factor, config.min_std * noise_scale) * self.factor
        kept: Tensor | float = self.usual_momentum if self.momentum is None else self.momentum
        while trial.goes_on():
            fresh = max(1, config.samples - len(given))
            elites, costs = trial.evaluate(torch.cat([given, mean + deviation * self.noise(fresh)]))
            if len(elites):
                centre, width = self.fit(elites, costs)
                if isinstance(kept, Tensor) or kept:
                    centre, width = kept * mean + (1 - kept) * centre, kept * deviation + (1 - kept) * width
                mean, deviation = centre, width.maximum(least)
            given = torch.cat([elites[: self.carried], mean[None]])
        return mean

    @abstractmethod
    def fit(self, elites: Tensor, costs: Tensor) -> tuple[Tensor, Tensor]:
        """The distribution that the elites speak for.

        Args:
            elites: (E, H, A), cheapest first, E at least 1; costs: (E,).

        Returns:
            mean and deviation (H, A).
        """
