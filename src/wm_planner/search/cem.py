"""CEM: the cross-entropy method with momentum, as V-JEPA 2-AC plans (Assran et al. 2025, arXiv 2506.09985)."""

from __future__ import annotations

from torch import Tensor

from wm_planner.search.sampling import Sampling


class Cem(Sampling):
    """White noise, every iteration sampled anew, and a distribution that moves with momentum."""

    noise_beta = 0.0

    @property
    def usual_momentum(self) -> float:  # type: ignore[override]
        """Share of the old distribution in the next one."""
        return self.config.cem_momentum

    def fit(self, elites: Tensor, costs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the elites."""
        return elites.mean(0), elites.std(0, unbiased=False)
