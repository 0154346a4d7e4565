"""What goes into a planning loop as settings, and what comes out of one step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from wm_bridge.core.goal import GoalStatus, Outcome, PlanSummary
from wm_bridge.core.types import Trajectory


@dataclass(frozen=True, slots=True)
class PlanLoopConfig:
    """How plans become trajectories.

    Attributes:
        points: periods taken from the plan; after them it comes to rest.
        delay_s: from a frame to the time when its plan is followed; None measures it. As many
            whole periods as that is (rounded) are what was sent before: the plan begins after
            them, from what the planner imagines to be seen then. 0 plans from the frame itself.
        max_age_ms: an older camera frame is refused.
        max_skew_ms: joints and frame further apart than this are refused.
        deadline_s: handed to the planner; None leaves it to its own.
        target: "hand" or "object": which decoded distance decides.
    """

    points: int = 5
    delay_s: float | None = 0.0
    max_age_ms: float = 300.0
    max_skew_ms: float = 20.0
    deadline_s: float | None = None
    target: str = "hand"

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ValueError(f"plan loop: points must be at least 2, got {self.points}")
        if self.target not in ("hand", "object"):
            raise ValueError(f"plan loop: target must be 'hand' or 'object', got '{self.target}'")
        for name in ("max_age_ms", "max_skew_ms"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0.0):
                raise ValueError(f"plan loop: {name} must be >= 0, got {getattr(self, name)}")
        if self.delay_s is not None and not 0.0 <= self.delay_s < math.inf:
            raise ValueError(f"plan loop: delay_s must be >= 0 or None, got {self.delay_s}")
        if self.deadline_s is not None and not self.deadline_s > 0.0:
            raise ValueError(f"plan loop: deadline_s must be > 0 or None, got {self.deadline_s}")


@dataclass(frozen=True, slots=True)
class GoalAnswer:
    """Whether a goal was taken; ``message`` says why not and what to do."""

    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class LoopCounts:
    """Since construction.

    Attributes:
        steps: all. plans: that gave a plan.
        refused: observations not planned from. failed: planner errors.
    """

    steps: int = 0
    plans: int = 0
    refused: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class PlanStep:
    """What one step gave.

    Attributes:
        trajectory: to send on; None when there is nothing safe to say.
        plan: the planner's own result; None when it was not asked or failed.
        summary: what the goal monitor saw.
        status: of the goal.
        refused: why the observation was not used; "" when it was.
        plan_s: time inside the planner. total_s: time inside the step.
    """

    trajectory: Trajectory | None
    plan: Any
    summary: PlanSummary | None
    status: GoalStatus
    refused: str = ""
    plan_s: float = 0.0
    total_s: float = 0.0

    @property
    def outcome(self) -> Outcome | None:
        """None while the goal is still pursued."""
        return self.status.outcome
