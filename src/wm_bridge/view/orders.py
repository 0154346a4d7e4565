"""What a person can ask for in the page; the node carries it out."""

from __future__ import annotations

from typing import Protocol

from wm_bridge.core.types import FloatArray, ImageArray


class Orders(Protocol):
    """Every method may be called in any thread and returns at once; what became of it is shown in the page."""

    def stop(self) -> None:
        """Have the safety node stop the arm: sent before this returns."""

    def reset(self) -> None:
        """Ask the safety node to leave its latch."""

    def enable(self, on: bool) -> None:
        """Ask the safety node to follow plans, or not to."""

    def cancel(self) -> None:
        """Have the planner end its goal, whoever gave it."""

    def picture_goal(self, picture: ImageArray) -> None:
        """Bring the scene to where a picture (H, W, 3) uint8 RGB shows it; of the camera's size."""

    def pose_goal(self, position: FloatArray, rotation: FloatArray | None) -> None:
        """Bring the tool to a place (3,) m and orientation (3, 3), base frame; None leaves it free."""

    def say(self, text: str) -> None:
        """Show a line."""
