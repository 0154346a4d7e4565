"""MPPI: model predictive path integral control (Williams et al. 2017, "Information theoretic MPC")."""

from __future__ import annotations

from torch import Tensor

from wm_planner.search.sampling import Sampling


class Mppi(Sampling):
    """Candidates count by exp(-cost / temperature) for the next mean, not all alike.

    As in TD-MPC2 (Hansen et al. 2024, arXiv 2310.16828) only the elites are weighed and the
    deviation is fitted as well. The temperature is a share of the spread of the elites' costs,
    so it suits energies of any scale.
    """

    def fit(self, elites: Tensor, costs: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted mean and deviation of the elites."""
        spread = (costs[-1] - costs[0]).clamp(min=1e-9)
        weight = (-(costs - costs[0]) / (self.config.mppi_temperature * spread)).softmax(0)[:, None, None]
        centre = (weight * elites).sum(0)
        return centre, (weight * (elites - centre).square()).sum(0).sqrt()
