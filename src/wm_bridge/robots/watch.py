"""The safety node's view of the driver, from its heartbeat: is it the same one, does it do as told?"""

from __future__ import annotations

from dataclasses import dataclass

from wm_bridge.core.types import Reason

_REOPEN_NS = 200_000_000  # time the driver gets to hear of a reset
_IDLE_NS = 100_000_000  # the output moves and the driver does not follow for this long: stop


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat says; see Heartbeat.msg."""

    session: int
    counter: int
    following: bool
    latched: bool
    detail: str


class DriverWatch:
    """Finds reasons to stop in the driver's heartbeats.

    | heartbeat                                             | stop because of |
    |-------------------------------------------------------|-----------------|
    | another session than before                           | STALE_STATE     |
    | latched, 0.2 s after the last reset or later          | SECOND_WRITER   |
    | holds the arm for 0.1 s while the output moves        | TRACKING_ERROR  |
    """

    def __init__(self) -> None:
        self.session = 0  # of the driver; 0 = not heard yet
        self._reset_ns = -_REOPEN_NS
        self._idle_ns: int | None = None

    def reset(self, steady_ns: int) -> None:
        """The safety node was reset; the driver needs a moment to hear of it."""
        self._reset_ns, self._idle_ns = steady_ns, None

    def observe(self, beat: Beat, moving: bool, steady_ns: int) -> tuple[Reason, str]:
        """Return why to stop; Reason.NONE when all is well.

        Args:
            moving: the safety node's last output had a speed. steady_ns: steady clock.
        """
        before, self.session = self.session, beat.session
        if before not in (0, beat.session):
            return Reason.STALE_STATE, "the driver was started anew"
        if beat.latched and steady_ns - self._reset_ns > _REOPEN_NS:
            return Reason.SECOND_WRITER, f"the driver refuses commands: {beat.detail}"
        if beat.following or not moving:
            self._idle_ns = None
        elif self._idle_ns is None:
            self._idle_ns = steady_ns
        elif steady_ns - self._idle_ns > _IDLE_NS:
            return Reason.TRACKING_ERROR, f"the driver holds the arm: {beat.detail}"
        return Reason.NONE, ""
