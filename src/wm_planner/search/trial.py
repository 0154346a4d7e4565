"""One search's account: what was tried, what it cost, what is best so far, and when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.errors import PlannerError

Cost = Callable[[Tensor], Tensor]  # (S, H, A) candidates -> (S,) cost
Project = Callable[[Tensor], Tensor]  # (S, H, A) -> nearest allowed (S, H, A)
Clock = Callable[[], float]  # seconds of a clock that never goes back


@dataclass(frozen=True)
class SearchResult:
    """Outcome of one search.

    Attributes:
        best: (H, A) what is to be done: the cheapest candidate of the whole search, or rest when
            none had a finite cost. cost: its cost.
        cost_per_iteration: best so far after each iteration.
        elites: (E, H, A) of the last iteration, cheapest first, finite costs only. elite_costs: (E,).
        samples, iterations: really done. nan_costs: candidates with a cost that is not finite.
        deadline_met: the search was over by its deadline; True without one.
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


class Trial:
    """Evaluates candidates for an optimiser and keeps count.

    A candidate goes through ``project`` before its cost is asked for, so nothing outside of the
    action box is ever evaluated or returned. A cost that is not finite counts as +inf.

    Args:
        cost, project: of candidates (S, H, A).
        elites: how many of an iteration's candidates are kept, at most.
        iterations: how many there are.
        deadline: time on ``clock`` by which the search should be over; None for no deadline.
            The first iteration always runs. No other one starts that would, taking as long as
            the longest so far, end after the deadline: so the search ends by then, or within
            the one iteration that took longer than any before it.
        clock: seconds.
    """

    def __init__(
        self,
        cost: Cost,
        project: Project,
        elites: int,
        iterations: int = 1,
        deadline: float | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.cost, self.project, self.keep = cost, project, elites
        self.iterations, self.deadline, self.clock = iterations, deadline, clock
        self.best: Tensor | None = None
        self.best_cost = math.inf
        self.history: list[float] = []
        self.elites, self.elite_costs = torch.empty(0), torch.empty(0)
        self.samples = self.nan_costs = 0
        self._began, self._longest = 0.0, 0.0

    def goes_on(self) -> bool:
        """True when another iteration may start, which then counts as begun."""
        now = self.clock()
        if self.history:
            self._longest = max(self._longest, now - self._began)
            late = self.deadline is not None and now + self._longest > self.deadline
            if late or len(self.history) >= self.iterations:
                return False
        self._began = now
        return True

    def evaluate(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Do one iteration.

        Args:
            candidates: (S, H, A).

        Returns:
            elites (E, H, A) as they were evaluated, cheapest first, and their costs (E,), all
            finite; E is 0 when no cost was finite.
        """
        allowed = self.project(candidates)
        return self._note(allowed, self.cost(allowed))

    def descend(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Do one iteration and ask for the slope of the cost as well.

        Args:
            candidates: (S, H, A).

        Returns:
            candidates (S, H, A) as they were evaluated, and the gradient (S, H, A) of each one's
            own cost; zero where it is not finite.

        Raises:
            PlannerError: the cost cannot be differentiated.
        """
        with torch.enable_grad():
            allowed = self.project(candidates).detach().requires_grad_()
            costs = self.cost(allowed)
            if not costs.requires_grad:
                raise PlannerError(
                    "the gradient search got a cost that cannot be differentiated: "
                    "compute it without inference_mode, or choose another optimiser"
                )
            (slope,) = torch.autograd.grad(costs.masked_select(costs.isfinite()).sum(), allowed)
        allowed = allowed.detach()
        self._note(allowed, costs.detach())
        return allowed, slope.nan_to_num(0.0, 0.0, 0.0)

    def settle(self, candidate: Tensor) -> None:
        """Take ``candidate`` (H, A) for the outcome in place of the best so far."""
        allowed = self.project(candidate[None])
        cost = float(self.cost(allowed)[0])
        self.samples += 1
        if math.isfinite(cost):
            self.best, self.best_cost = allowed[0], cost
        else:
            self.nan_costs += 1

    def result(self, rest: Tensor) -> SearchResult:
        """The outcome; ``rest`` (H, A) is returned when no candidate had a finite cost."""
        return SearchResult(
            best=rest if self.best is None else self.best,
            cost=self.best_cost,
            cost_per_iteration=tuple(self.history),
            elites=self.elites,
            elite_costs=self.elite_costs,
            samples=self.samples,
            iterations=len(self.history),
            nan_costs=self.nan_costs,
            deadline_met=self.deadline is None or self.clock() <= self.deadline,
        )

    def _note(self, candidates: Tensor, costs: Tensor) -> tuple[Tensor, Tensor]:
        bad = ~torch.isfinite(costs)
        costs = costs.masked_fill(bad, math.inf)
        unusable = int(bad.sum())
        self.samples += len(costs)
        self.nan_costs += unusable
        kept = min(self.keep, len(costs) - unusable)
        self.elite_costs, order = torch.topk(costs, kept, largest=False)
        self.elites = candidates[order]
        if kept and float(self.elite_costs[0]) < self.best_cost:
            self.best, self.best_cost = self.elites[0], float(self.elite_costs[0])
        self.history.append(self.best_cost)
        return self.elites, self.elite_costs


def cheapest(cost: Cost, project: Project, proposals: Tensor) -> SearchResult:
    """The cheapest of the proposals (P, H, A) as they are; rest when none has a finite cost."""
    trial = Trial(cost, project, len(proposals))
    trial.evaluate(proposals)
    return trial.result(torch.zeros_like(proposals[0]))
