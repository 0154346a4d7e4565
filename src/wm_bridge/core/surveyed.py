"""A planner that also tells of the energy around every frame that it plans from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wm_bridge.core.plan_view import PlannerView
from wm_bridge.core.types import FloatArray, ImageArray

Look = Callable[[ImageArray, FloatArray, FloatArray], Any]  # image, position, reference -> `wm_planner.landscape.Landscape`


class SurveyedPlanner:
    """Plans as ``planner`` does, to which everything else is handed on; the plan comes later by the time of a look.

    Args:
        planner: see ``PlannerView``. look: gives the landscape. show: is handed it.
    """

    def __init__(self, planner: PlannerView, look: Look, show: Callable[[Any], object]) -> None:
        self._planner, self._look, self._show = planner, look, show

    def __getattr__(self, name: str) -> Any:
        return getattr(self._planner, name)

    def plan(self, image: ImageArray, position: FloatArray, reference: FloatArray, deadline_s: float | None = None, **later: Any) -> Any:
        """The planner's plan."""
        plan = self._planner.plan(image, position, reference, deadline_s, **later)
        self._show(self._look(image, position, reference))
        return plan
