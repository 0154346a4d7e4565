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

    def refine(self, trial: Trial, given: Tensor, noise_scale: float) -> Tensor:
        """See ``WarmSearch``."""
        config = self.config
        spread = config.warm_std if self.warm else config.initial_std
        mean, deviation = self.mean, torch.full_like(self.mean, spread * noise_scale)
        while trial.goes_on():
            fresh = max(1, config.samples - len(given))
            elites, costs = trial.evaluate(torch.cat([given, mean + deviation * self.noise(fresh)]))
            if len(elites):
                mean, deviation = self.fit(elites, costs, mean, deviation)
                deviation = deviation.clamp(min=config.min_std * noise_scale)
            given = torch.cat([elites[: self.carried], mean[None]])
        return mean

    @abstractmethod
    def fit(self, elites: Tensor, costs: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """The next distribution.

        Args:
            elites: (E, H, A), cheapest first, E at least 1; costs: (E,).
            mean, deviation: (H, A) of the distribution that they were sampled from.

        Returns:
            mean and deviation (H, A).
        """
