"""What the bridge asks of a planner: the face of `wm_planner`, without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from wm_bridge.core.types import FloatArray, ImageArray


class PlanView(Protocol):
    """What is read from a plan of `wm_planner`; see docs/contracts.md."""

    @property
    def references(self) -> FloatArray:
        """(horizon, A) reference after each period, rad."""

    @property
    def goal_energy(self) -> float:
        """Energy of the current frame against the goal."""

    @property
    def distance_m(self) -> float:
        """Decoded distance of the hand to the goal."""

    @property
    def object_distance_m(self) -> float:
        """Decoded distance of the object to the goal; NaN when not decoded."""

    @property
    def joint_distance_rad(self) -> float:
        """Largest decoded distance of a joint to the goal."""

    @property
    def angle_rad(self) -> float:
        """Of a goal that asks for joints or an orientation: what is left to turn."""

    @property
    def goal_trust(self) -> float:
        """0..1, of the goal as it looks beside the present frame."""

    @property
    def trust(self) -> float:
        """0..1, a p-value; NaN when unknown."""


class PlannerView(Protocol):
    """The planner of `wm_planner`, or a stand-in with the same face."""

    @property
    def joint_names(self) -> tuple[str, ...]:
        """(A,) order of the action."""

    @property
    def period_s(self) -> float:
        """Time between two way points, s."""

    def encode_goal(self, image: ImageArray, target: str = "hand", mask: ImageArray | None = None) -> Any:
        """Goal from a picture; target "hand" or "object": what has to match it; mask (H, W): what counts of it."""

    def joints_goal(self, joints: Mapping[str, float]) -> Any:
        """Goal from joints by name, rad."""

    def pose_goal(self, position: FloatArray, rotation: FloatArray | None = None) -> Any:
        """Goal from a place (3,) m and orientation (3, 3) of the tool, base frame; None: free."""

    def set_goal(self, goal: Any) -> None:
        """Plan towards this from now on."""

    def reset(self) -> None:
        """Forget the last plan."""

    def plan(
        self,
        image: ImageArray,
        position: FloatArray,
        reference: FloatArray,
        deadline_s: float | None = None,
    ) -> Any:
        """A `PlanView` from here on; position and reference are (A,) rad.

        Where the delay is one period or more, ``committed`` (K, A) rad is given too: what is sent until the
        plan is followed. Where more than one period has passed since the last plan, ``periods`` is.
        """
