"""One terminal line that is kept up to date; a plain line per second where there is no terminal."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO


class LiveLine:
    """``update`` as often as wanted, ``close`` when something else is to be printed."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._terminal = self._out.isatty()
        self._every_s = 0.2 if self._terminal else 1.0
        self._next = 0.0
        self._open = False

    def update(self, text: str) -> None:
        """Show the text, if the last one is old enough."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every_s
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._out.write(f"\r\x1b[K{text[:width]}")
            self._open = True
        else:
            self._out.write(f"{text}\n")
        self._out.flush()

    def close(self) -> None:
        """End the line, so that others can print."""
        if self._open:
            self._out.write("\n")
            self._out.flush()
        self._open = False
        self._next = 0.0


def describe(feedback: Any, safety: str) -> str:
    """The line for one ReachGoal feedback (None = no plan yet)."""
    if feedback is None:
        return f"  waiting for the first plan   safety {safety}"
    stage = f"  picture {feedback.stage} of {feedback.stages}" if feedback.stages > 1 else ""
    way = f"  distance {feedback.distance_m * 100:5.1f} cm" if feedback.distance_m != 0.0 else ""
    turn = f"  {feedback.angle_rad:5.2f} rad" if feedback.angle_rad != 0.0 else ""
    return (
        f"  {feedback.elapsed_s:5.1f} s{stage}  energy {feedback.energy:7.3f}{way}{turn}"
        f"  {feedback.progress * 100:3.0f} %  plan {feedback.plan_ms:4.0f} ms  safety {safety}"
    )


def left(result: Any) -> str:
    """What was left to the goal at its end, as the planner sees it."""
    way = f"{result.distance_m * 100:.1f} cm" if result.distance_m != 0.0 or result.angle_rad == 0.0 else ""
    turn = f"{result.angle_rad:.3f} rad" if result.angle_rad != 0.0 else ""
    return ", ".join(filter(None, (way, turn)))
