"""iCEM: sample-efficient cross-entropy search (Pinneri et al. 2020, arXiv 2008.06389).

The search knows nothing of the model: it asks for the cost of candidate action sequences.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.config import PlannerConfig

Cost = Callable[[Tensor], Tensor]  # (S, H, A) candidates -> (S,) cost
Project = Callable[[Tensor], Tensor]  # (S, H, A) -> nearest allowed (S, H, A)


@dataclass(frozen=True)
class SearchResult:
    """Outcome of one search.

    Attributes:
        best: (H, A) cheapest candidate of the whole search. cost: its cost.
        cost_per_iteration: best so far after each iteration.
        elites: (E, H, A), cheapest first. elite_costs: (E,).
        samples, iterations: really done. nan_costs: candidates with a cost that is not finite.
        deadline_met: False when the search was cut short.
    """

    best: Tensor
    cost: float
    cost_per_iteration: tuple[float, ...]
    elites: Tensor
    elite_costs: Tensor
    samples: int
    iterations: int
    nan_costs: int
    deadline_met: bool


def coloured_mixing(horizon: int, beta: float) -> Tensor:
    """(H, H) matrix that turns white noise over time into noise with spectrum 1 / f^beta.

    Rows have unit length, so every time step keeps unit variance.
    """
    frequency = torch.fft.rfftfreq(2 * horizon)
    frequency[0] = frequency[1]
    amplitude = frequency ** (-beta / 2)
    impulse = torch.fft.irfft(amplitude, n=2 * horizon)
    lag = (torch.arange(horizon)[:, None] - torch.arange(2 * horizon)[None]) % (2 * horizon)
    covariance = impulse[lag] @ impulse[lag].T
    deviation = covariance.diagonal().sqrt()
    covariance = covariance / deviation[:, None] / deviation[None]
    mixing: Tensor = torch.linalg.cholesky(covariance + 1e-5 * torch.eye(horizon))
    return mixing


class ICem:
    """Warm-started search over (H, A) action sequences in [-1, 1].

    Keeps its mean and elites between calls; ``shift`` moves them one period on. Candidates
    come from coloured noise around the mean, the kept elites, and proposals given from
    outside, which have to win on cost like any other.
    """

    def __init__(self, config: PlannerConfig, action_dim: int, seed: int) -> None:
        self.config, self.action_dim = config, action_dim
        self.generator = torch.Generator().manual_seed(seed)
        self.mixing = coloured_mixing(config.horizon, config.noise_beta)
        self.reset()

    def reset(self) -> None:
        """Forget the last plan."""
        self.mean = torch.zeros(self.config.horizon, self.action_dim)
        self.elites = torch.zeros(0, self.config.horizon, self.action_dim)
        self.warm = False

    def shift(self, periods: int = 1) -> None:
        """Move the kept plan on by ``periods``; what comes after its end is rest."""
        if periods >= self.config.horizon:
            self.reset()
        elif periods > 0:
            rest = torch.zeros(periods, self.action_dim)
            self.mean = torch.cat([self.mean[periods:], rest])
            tail = rest.expand(len(self.elites), -1, -1)
            self.elites = torch.cat([self.elites[:, periods:], tail], dim=1)

    def noise(self, count: int) -> Tensor:
        """(count, H, A) coloured noise of unit variance."""
        white = torch.randn(count, self.action_dim, self.config.horizon, generator=self.generator)
        return (white @ self.mixing.T).transpose(1, 2)

    def search(
        self,
        cost: Cost,
        project: Project,
        proposals: Tensor,
        noise_scale: float = 1.0,
        deadline: float | None = None,
    ) -> SearchResult:
        """Refine the plan.

        Args:
            cost: of candidates (S, H, A); a value that is not finite counts as +inf.
            project: brings candidates into the action box and the limits.
            proposals: (P, H, A) candidates from elsewhere.
            noise_scale: factor on the sampling deviation (small near the goal).
            deadline: ``time.monotonic()`` after which no further iteration starts.
        """
        config = self.config
        spread = (config.warm_std if self.warm else config.initial_std) * noise_scale
        mean, deviation = self.mean, torch.full_like(self.mean, spread)
        best, best_cost = mean, float("inf")
        elites, elite_costs = self.elites[: config.keep_elites], torch.zeros(0)
        history: list[float] = []
        evaluated = nan_costs = 0
        met = True
        for iteration in range(config.iterations):
            if iteration and deadline is not None and time.monotonic() >= deadline:
                met = False
                break
            given = torch.cat([elites[: config.keep_elites], mean[None]])
            if iteration == 0:
                given = torch.cat([given, proposals])
            fresh = max(1, config.samples - len(given))
            candidates = project(torch.cat([given, mean + deviation * self.noise(fresh)]))
            costs = cost(candidates)
            bad = ~torch.isfinite(costs)
            nan_costs += int(bad.sum())
            costs = costs.masked_fill(bad, float("inf"))
            evaluated += len(candidates)
            elite_costs, order = torch.topk(costs, min(config.elites, len(costs)), largest=False)
            elites = candidates[order]
            if float(elite_costs[0]) < best_cost:
                best, best_cost = elites[0], float(elite_costs[0])
            mean = elites.mean(0)
            deviation = elites.std(0, unbiased=False).clamp(min=config.min_std * noise_scale)
            history.append(best_cost)
        if best_cost == float("inf"):
            self.reset()
        else:
            self.mean, self.elites, self.warm = best, elites[: config.keep_elites], True
        return SearchResult(
            best, best_cost, tuple(history), elites, elite_costs, evaluated, len(history), nan_costs, met
        )


def cheapest(cost: Cost, project: Project, proposals: Tensor) -> SearchResult:
    """The cheapest of the proposals (P, H, A) as they are; rest when none has a finite cost."""
    candidates = project(proposals)
    costs = cost(candidates)
    finite = torch.isfinite(costs)
    costs, order = costs.masked_fill(~finite, float("inf")).sort()
    best = candidates[order[0]] if finite.any() else torch.zeros_like(candidates[0])
    return SearchResult(
        best, float(costs[0]), (float(costs[0]),), candidates[order], costs, len(costs), 1, int((~finite).sum()), True
    )
