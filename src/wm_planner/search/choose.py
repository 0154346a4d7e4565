"""The optimiser that a configuration names."""

from __future__ import annotations

import time

from wm_planner.actions import ActionSpec
from wm_planner.config import OPTIMISERS, PlannerConfig
from wm_planner.search.base import Optimiser, WarmSearch
from wm_planner.search.cem import Cem
from wm_planner.search.gradient import Gradient
from wm_planner.search.icem import ICem
from wm_planner.search.mppi import Mppi
from wm_planner.search.trial import Clock

KINDS: dict[str, type[WarmSearch]] = dict(zip(OPTIMISERS, (ICem, Cem, Mppi, Gradient), strict=True))


def make_optimiser(config: PlannerConfig, spec: ActionSpec, seed: int, clock: Clock = time.monotonic) -> Optimiser:
    """A fresh optimiser of the kind ``config.optimiser``, which ``PlannerConfig`` has checked, for actions as of ``spec``."""
    return KINDS[config.optimiser](config, spec, seed, clock)
