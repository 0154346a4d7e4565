"""The stamps of a camera's own clock, in node time."""

from __future__ import annotations

DRIFT = 200e-6  # two crystals differ by less than this share
RESTART_NS = 500_000_000  # further off than this: the camera, or the node's clock, began anew


class ClockMap:
    """Maps a device's clock to node time from the pictures' arrival alone.

    A picture arrives after it was taken, by a delay d >= d0 that varies with the load. So ``arrival - device``
    is never less than the clocks' offset plus d0, and its smallest recent value is the best guess of
    that (one-way minimum filter). The guess may grow by ``DRIFT`` of the time that passes, so that it follows
    clocks that drift. Stamps keep the device's even spacing instead of the arrival's jitter, never
    lie after the arrival, and are late by d0 (some milliseconds over USB): what one side alone cannot know.
    """

    def __init__(self) -> None:
        self._offset: int | None = None
        self._device_ns = 0

    def node_time(self, device_ns: int, arrival_ns: int) -> int:
        """Node time of a picture: taken at ``device_ns`` of the camera's clock, here since ``arrival_ns``."""
        seen = arrival_ns - device_ns
        passed = device_ns - self._device_ns
        if self._offset is None or passed < 0 or abs(seen - self._offset) > RESTART_NS:
            self._offset = seen
        else:
            self._offset = min(seen, self._offset + round(DRIFT * passed))
        self._device_ns = device_ns
        return device_ns + self._offset
