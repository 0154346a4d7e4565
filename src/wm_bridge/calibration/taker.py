"""Takes a view whenever the board is somewhere new and nothing moves; says what is wanted next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wm_bridge.calibration.board import Board, Seen
from wm_bridge.calibration.views import Shot, advice, is_new
from wm_bridge.cameras.base import CameraInfo
from wm_bridge.core.types import Frame, JointState

STILL_RAD = 0.01  # joints that move by less stand
STILL_NS = 250_000_000  # before and after a picture
_STEADY = 0.004  # of the picture's width, from one look to the next


class Taker:
    """Looks at one picture after another.

    Attributes:
        shots, seen: what was taken. without: why other pictures were not used, by their name.

    Args:
        joints: a shot needs the joints, and that they stand; else it is enough that the board does.
        info: intrinsics, when known: they let the advice name angles.
    """

    def __init__(self, board: Board, joints: bool, info: CameraInfo | None = None) -> None:
        self._board, self._joints = board, joints
        self.info = info
        self.shots: list[Shot] = []
        self.seen: list[Seen] = []
        self.without: dict[str, str] = {}
        self._before: Seen | None = None

    def look(self, frame: Frame, states: Sequence[JointState], name: str = "") -> str:
        """Judge a picture.

        Args:
            states: joint states around its time. name: of the shot; "" = its number.

        Returns:
            What happened and what to do next, in a few words.
        """
        name = name or f"{len(self.shots):03d}.png"
        seen, before = self._board.find(frame.image, name), self._before
        if not isinstance(seen, Seen):
            self._before = None
            self.without[str(frame.stamp_ns)] = seen
            return seen
        self._before = seen
        if not is_new(seen, self.seen):
            return "move on: the board is where it was"
        where: dict[str, float] = {}
        if self._joints:
            near = [state for state in states if abs(state.stamp_ns - frame.stamp_ns) <= STILL_NS]
            if not _stands(near, frame.stamp_ns):
                return "stand still"
            where = dict(zip(near[0].names, map(float, np.median([state.position for state in near], axis=0)), strict=True))
        elif before is None or is_new(seen, [before], _STEADY):
            return "hold it still"
        self.shots.append(Shot(name, frame.image, where))
        self.seen.append(seen)
        return f"view {len(self.seen)} taken; {advice(self.seen, self._board, self.info, self._joints) or 'enough: Ctrl-C ends, more make it better'}"


def _stands(states: Sequence[JointState], stamp_ns: int) -> bool:
    """True when states before and after the moment say the same."""
    if len(states) < 2 or not states[0].stamp_ns <= stamp_ns <= states[-1].stamp_ns + STILL_NS:
        return False
    return all(state.names == states[0].names for state in states) and bool(np.ptp([state.position for state in states], axis=0).max() <= STILL_RAD)
