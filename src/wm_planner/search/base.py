"""The face of every optimiser, and what all of ours share: memory between calls, noise, the outcome."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from wm_planner.actions import ActionSpec
from wm_planner.config import PlannerConfig
from wm_planner.search.noise import coloured_mixing
from wm_planner.search.trial import Clock, Cost, Project, SearchResult, Trial


class Optimiser(Protocol):
    """Searches action sequences (H, A) in [-1, 1] for the cheapest.

    Attributes:
        differentiates: the cost has to be computed in a way that autograd follows.
        generator: the only source of random numbers; seed it anew for a repeatable episode.
    """

    differentiates: bool
    generator: torch.Generator

    def reset(self) -> None:
        """Forget the last plan."""

    def shift(self, periods: int = 1) -> None:
        """Move the kept plan on by ``periods``; what comes after its end is rest."""

    def search(
        self,
        cost: Cost,
        project: Project,
        proposals: Tensor,
        noise_scale: float = 1.0,
        deadline: float | None = None,
    ) -> SearchResult:
        """Find a plan.

        Args:
            cost: of candidates (S, H, A); a value that is not finite counts as +inf.
            project: brings candidates into the action box and the limits.
            proposals: (P, H, A) candidates from elsewhere, a policy for instance. They enter the
                first iteration and have to win on cost like any other.
            noise_scale: factor on the sampling deviation (small near the goal).
            deadline: time on the optimiser's clock, see ``Trial``; the best so far is returned.
        """


class WarmSearch(ABC):
    """An ``Optimiser`` that goes on from its last plan: the first iteration tries the elites and
    the best of the last call, moved on by ``shift``, and the proposals, beside its own candidates.

    Deviations and momentum of each dimension are those of the action space ``spec``.

    Attributes:
        iterations: of the next searches, at most; those of the settings at first.
    """

    differentiates = False

    def __init__(self, config: PlannerConfig, spec: ActionSpec, seed: int, clock: Clock = time.monotonic) -> None:
        self.config, self.action_dim, self.clock = config, len(spec.names), clock
        self.iterations = config.iterations
        self.factor, self.momentum = spec.deviation_factor, spec.momentum
        self.generator = torch.Generator().manual_seed(seed)
        self.mixing = coloured_mixing(config.horizon, self.noise_beta)
        self.reset()

    @property
    def noise_beta(self) -> float:
        """Colour of the sampling noise."""
        return self.config.noise_beta

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
        """See ``Optimiser``."""
        config = self.config
        if not config.warm_start:
            self.reset()
        trial = Trial(cost, project, config.elites, self.iterations, deadline, self.clock)
        given = torch.cat([self.elites[: config.keep_elites], self.mean[None], proposals])
        centre = self.refine(trial, given, noise_scale)
        if not config.best_so_far:
            trial.settle(centre)
        found = trial.result(torch.zeros_like(self.mean))
        if trial.best is None:
            self.reset()
        else:
            self.mean, self.elites, self.warm = found.best, found.elites[: config.keep_elites], True
        return found

    @abstractmethod
    def refine(self, trial: Trial, given: Tensor, noise_scale: float) -> Tensor:
        """Iterate while the trial goes on.

        Args:
            given: (K, H, A) candidates that the first iteration has to try, as they are.
            noise_scale: factor on every deviation and step.

        Returns:
            (H, A) where the search ended, which need not be the best that it saw.
        """
