"""A solver of stable-worldmodel in the place of our search: same model, energy, start and loop."""

from __future__ import annotations

import contextlib
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wm_planner.search.trial import Cost, Project, SearchResult, Trial


class PeerSearch:
    """``wm_planner.search.base.Optimiser`` around one solver, driven through its own interface.

    What belongs to our search stays out: proposals of the prior, noise that shrinks near the goal,
    deadlines. In the peer's favour every candidate is brought into box and joint limits before it
    is judged, as what is sent will be (its CEM does not clip). Its warm start is that of its
    ``WorldModelPolicy`` with a receding horizon of one: what remains of the last plan.

    Args:
        solver: class of ``stable_worldmodel.solver``; built with its own defaults.
        horizon: H periods. action_dim: A. warm: go on from the last plan.
    """

    differentiates = False

    def __init__(self, solver: Any, horizon: int, action_dim: int, warm: bool, seed: int) -> None:
        from gymnasium.spaces import Box

        self.solver = solver(self, seed=seed)
        self.generator: torch.Generator = self.solver.torch_gen
        box = Box(-1.0, 1.0, (1, action_dim), np.float32)
        self.solver.configure(action_space=box, n_envs=1, config=SimpleNamespace(horizon=horizon, action_block=1))
        self.warm = warm
        self.trial: Trial | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the last plan."""
        self.plan: Tensor | None = None  # (1, h <= H, A)

    def shift(self, periods: int = 1) -> None:
        """Keep what remains of the last plan; the solver fills up with zeros."""
        if self.plan is not None:
            self.plan = self.plan[:, periods:] if self.warm and periods < self.plan.shape[1] else None

    def get_cost(self, info: dict[str, Tensor], candidates: Tensor) -> Tensor:
        """(1, S) cost of candidates (1, S, H, A): what the solver asks of a world model."""
        assert self.trial is not None, "the solver asks for costs outside of a search"
        allowed = self.trial.project(candidates[0])
        self.trial.samples += len(allowed)
        return self.trial.cost(allowed)[None]

    def search(
        self, cost: Cost, project: Project, proposals: Tensor, noise_scale: float = 1.0, deadline: float | None = None
    ) -> SearchResult:
        """The solver's plan; its elites and energies per iteration are not told."""
        self.trial = Trial(cost, project, elites=1)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its time
            found = self.solver.solve({"frame": torch.zeros(1, 1)}, init_action=self.plan)["actions"]
        self.plan = found
        tried = self.trial.samples
        self.trial.evaluate(found)
        result = self.trial.result(torch.zeros_like(found[0]))
        assert result.samples == tried + 1
        return result
