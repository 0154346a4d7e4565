"""iCEM: sample-efficient cross-entropy search (Pinneri et al. 2020, arXiv 2008.06389)."""

from __future__ import annotations

from torch import Tensor

from wm_planner.search.sampling import Sampling


class ICem(Sampling):
    """Coloured noise, and elites that stay candidates from iteration to iteration; the default."""

    @property
    def carried(self) -> int:  # type: ignore[override]
        """Elites that are candidates of the next iteration as well."""
        return self.config.keep_elites

    def fit(self, elites: Tensor, costs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the elites."""
        return elites.mean(0), elites.std(0, unbiased=False)
