"""Ten mistakes that a change of planner or safety filter could bring, made at run time for as long as they are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from wm_bridge.core import plan_loop
from wm_bridge.safety.filter import SafetyFilter
from wm_bridge.safety.follower import Follower
from wm_bridge.safety.lanes import Lanes
from wm_bridge.safety.limits import MotionLimits
from wm_planner import mpc
from wm_planner.search.base import WarmSearch
from wm_planner.search.trial import Trial

Change = Callable[[Any], Any]  # what is there now -> what is there instead
TICK_NS = 10_000_000


def _colours_swapped(checked_picture: Any) -> Any:
    return lambda image, size: np.ascontiguousarray(checked_picture(image, size)[..., ::-1])


def _plan_a_period_late(path_through: Any) -> Any:
    return lambda names, reference, points, period_s, delay_s, stamp_ns: path_through(names, reference, points, period_s, delay_s + period_s, stamp_ns)


def _two_joints_exchanged(find_joints: Any) -> Any:
    def exchanged(names: Any, table: Any) -> Any:
        found = find_joints(names, table).copy()
        found[[0, 1]] = found[[1, 0]]
        return found

    return exchanged


def _dearest_kept(_: Any) -> Any:
    def evaluate(self: Trial, candidates: torch.Tensor) -> Any:
        allowed = self.project(candidates)
        return self._note(allowed, -self.cost(allowed))

    return evaluate


def _warm_start_not_moved_on(_: Any) -> Any:
    return lambda self, periods=1: None


def _other_random_numbers(noise: Any) -> Any:
    def other(self: WarmSearch, count: int) -> torch.Tensor:
        torch.randn(1, generator=self.generator)
        return torch.as_tensor(noise(self, count))

    return other


def _faster_than_allowed(from_spec: Any) -> Any:
    def faster(*arguments: Any, **named: Any) -> MotionLimits:
        limits: MotionLimits = from_spec(*arguments, **named)
        return dataclasses.replace(limits, velocity=limits.velocity * 1.1)

    return faster


def _followed_a_tick_late(advance: Any) -> Any:
    return lambda self, now_ns: advance(self, now_ns - TICK_NS)


def _speeds_of_way_points_lost(submit: Any) -> Any:
    return lambda self, plan, now_ns, steady_ns: submit(self, dataclasses.replace(plan, velocities=np.zeros_like(plan.velocities)), now_ns, steady_ns)


def _request_chased_without_foresight(_: Any) -> Any:
    return lambda self, target, wanted, motion: target


DEFECTS: dict[str, tuple[Any, str, Change]] = {
    "planner: colours of the picture swapped": (mpc, "checked_picture", _colours_swapped),
    "planner: plan begins a period late": (plan_loop, "path_through", _plan_a_period_late),
    "planner: two joints exchanged": (plan_loop, "find_joints", _two_joints_exchanged),
    "planner: dearest candidates kept": (Trial, "evaluate", _dearest_kept),
    "planner: warm start not moved on": (WarmSearch, "shift", _warm_start_not_moved_on),
    "planner: other random numbers": (WarmSearch, "noise", _other_random_numbers),
    "filter: velocity limit 10 % too high": (MotionLimits, "from_spec", _faster_than_allowed),
    "filter: plan followed a tick late": (Follower, "advance", _followed_a_tick_late),
    "filter: speeds of way points lost": (SafetyFilter, "submit", _speeds_of_way_points_lost),
    "filter: request chased without foresight": (Lanes, "approach", _request_chased_without_foresight),
}


@contextmanager
def defect(name: str) -> Iterator[None]:
    """The code with one mistake, until the end of the block."""
    owner, attribute, change = DEFECTS[name]
    before = vars(owner)[attribute]
    setattr(owner, attribute, change(getattr(owner, attribute)))
    try:
        yield
    finally:
        setattr(owner, attribute, before)
