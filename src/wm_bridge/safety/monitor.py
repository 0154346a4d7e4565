"""Watchdogs and sanity of what arrives: who is alive, whose stamps can be believed."""

from __future__ import annotations

from wm_bridge.core.types import FloatArray, Reason

MS = 1_000_000  # nanoseconds


class Watchdog:
    """Time since something was last seen, on the steady clock."""

    def __init__(self) -> None:
        self._fed_ns: int | None = None

    def feed(self, steady_ns: int) -> None:
        """Something arrived."""
        self._fed_ns = steady_ns

    def clear(self) -> None:
        """As if nothing had ever arrived."""
        self._fed_ns = None

    def expired(self, steady_ns: int, limit_ns: int) -> bool:
        """True when nothing arrived within the limit, or never."""
        return self._fed_ns is None or steady_ns - self._fed_ns > limit_ns


class StampCheck:
    """Is a message's stamp believable, and newer than the last one?

    Args:
        max_age_ns: older messages are stale, node time.
        future_ns: how far ahead of node time a stamp may lie.
        stale: reason bit to give for old messages.
    """

    def __init__(self, max_age_ns: int, future_ns: int, stale: Reason) -> None:
        self._max_age_ns = max_age_ns
        self._future_ns = future_ns
        self._stale = stale
        self._last_ns: int | None = None

    def check(self, stamp_ns: int, now_ns: int) -> Reason:
        """Reason.NONE for a good stamp; changes nothing, see `accept`."""
        if stamp_ns <= 0:
            return Reason.ZERO_STAMP
        if stamp_ns > now_ns + self._future_ns:
            return Reason.FUTURE_STAMP
        if self._last_ns is not None and stamp_ns <= self._last_ns:
            return Reason.REPLAYED
        if now_ns - stamp_ns > self._max_age_ns:
            return self._stale
        return Reason.NONE

    def accept(self, stamp_ns: int) -> None:
        """Remember the stamp of a message that was taken; later ones must be newer."""
        self._last_ns = stamp_ns

    def forget(self) -> None:
        """After a clock jump: older stamps are not replays any more."""
        self._last_ns = None


class ClockMonitor:
    """Notices node time going backwards or leaping ahead between two ticks."""

    def __init__(self, jump_ns: int) -> None:
        self._jump_ns = jump_ns
        self._last_ns: int | None = None

    def jumped(self, now_ns: int) -> bool:
        """True when node time did not move like a clock since the last call."""
        last, self._last_ns = self._last_ns, now_ns
        return last is not None and not 0 <= now_ns - last <= self._jump_ns


class CameraMonitor:
    """Dead camera (no new frame) and frozen camera (new stamps, the same picture).

    A picture of a moving arm must change. The same digest counts as frozen after
    ``frozen_frames`` frames over ``timeout_ns`` if the arm moved ``motion_rad`` in the
    meantime; without that condition a noise-free picture of a resting arm would be one.
    """

    def __init__(
        self, timeout_ns: int, frozen_frames: int, motion_rad: float, stamps: StampCheck
    ) -> None:
        self._timeout_ns = timeout_ns
        self._frozen_frames = frozen_frames
        self._motion_rad = motion_rad
        self.stamps = stamps
        self._alive = Watchdog()
        self._digest: int | None = None
        self._same = 0
        self._since_ns = 0
        self._position: FloatArray | None = None
        self._frozen = False

    def observe(
        self, stamp_ns: int, digest: int, position: FloatArray | None, now_ns: int, steady_ns: int
    ) -> Reason:
        """Take note of a frame.

        Args:
            stamp_ns: of the frame. digest: of its pixels (`core.images.digest`).
            position: (J,) measured joints now, rad; None when unknown.

        Returns:
            Why the frame was not counted; Reason.NONE when it was.
        """
        wrong = self.stamps.check(stamp_ns, now_ns)
        if wrong:
            return wrong
        self.stamps.accept(stamp_ns)
        self._alive.feed(steady_ns)
        if digest != self._digest or self._position is None or position is None:
            self._digest, self._same, self._since_ns = digest, 1, steady_ns
            self._position, self._frozen = position, False
            return Reason.NONE
        self._same += 1
        moved = float(abs(position - self._position).max()) >= self._motion_rad
        long = steady_ns - self._since_ns >= self._timeout_ns
        self._frozen = self._frozen or (self._same >= self._frozen_frames and long and moved)
        return Reason.NONE

    def reasons(self, steady_ns: int) -> Reason:
        """STALE_CAMERA and FROZEN_CAMERA as they stand now."""
        wrong = Reason.NONE
        if self._alive.expired(steady_ns, self._timeout_ns):
            wrong |= Reason.STALE_CAMERA
        if self._frozen:
            wrong |= Reason.FROZEN_CAMERA
        return wrong


class TrackingMonitor:
    """Notices an arm that does not follow its command for a while."""

    def __init__(self, limit_rad: float, patience_ns: int) -> None:
        self._limit_rad = limit_rad
        self._patience_ns = patience_ns
        self._since_ns: int | None = None

    def lost(self, error_rad: float, steady_ns: int) -> bool:
        """True when the largest joint error has been above the limit for too long."""
        if error_rad <= self._limit_rad:
            self._since_ns = None
            return False
        if self._since_ns is None:
            self._since_ns = steady_ns
        return steady_ns - self._since_ns > self._patience_ns
