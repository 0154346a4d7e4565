"""Keeps a position that slipped through a checksum away from the controller."""

from __future__ import annotations

_MARGIN_RAD = 0.05


class Plausible:
    """Takes a joint angle only when the motor could have got there, or when two in a row agree.

    The check sum of protocol 1.0 lets one damaged packet in 256 pass.

    Args:
        fastest: rad/s that the joint can turn.
    """

    def __init__(self, fastest: float) -> None:
        self._fastest = fastest
        self._angle: float | None = None
        self._at = 0.0
        self._other: float | None = None

    def take(self, angle: float, now: float) -> bool:
        """True when the angle, rad, may be used; ``now`` in s."""
        reach = self._fastest * max(now - self._at, 0.0) + _MARGIN_RAD
        near = self._angle is not None and abs(angle - self._angle) <= reach
        again = self._other is not None and abs(angle - self._other) <= _MARGIN_RAD
        if near or again:
            self._angle, self._at, self._other = angle, now, None
            return True
        self._other = angle
        return False

    def forget(self) -> None:
        """It may be anywhere now (it was silent): the next two have to agree."""
        self._angle = self._other = None
