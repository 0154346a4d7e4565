"""CEM: the cross-entropy method with momentum, as V-JEPA 2-AC plans (Assran et al. 2025, arXiv 2506.09985)."""

from __future__ import annotations

from torch import Tensor

from wm_planner.search.sampling import Sampling


class Cem(Sampling):
    """White noise, every iteration sampled anew, and a distribution that moves with momentum."""

    noise_beta = 0.0

    def fit(self, elites: Tensor, costs: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """Part of the old distribution, the rest mean and deviation of the elites."""
        momentum = self.config.cem_momentum
        return (
            momentum * mean + (1 - momentum) * elites.mean(0),
            momentum * deviation + (1 - momentum) * elites.std(0, unbiased=False),
        )
