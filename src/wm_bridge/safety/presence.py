"""Who must be there: a hand on the deadman switch, a driver that is alive, one single writer."""

from __future__ import annotations

from dataclasses import dataclass

from wm_bridge.safety.monitor import MS, Watchdog
from wm_bridge.safety.settings import check_plain


@dataclass(frozen=True, slots=True)
class DeadmanSettings:
    """See the comments in ``config/safety.yaml``."""

    required: bool
    timeout_ms: float

    def __post_init__(self) -> None:
        check_plain(self, "deadman")


@dataclass(frozen=True, slots=True)
class DriverSettings:
    """See the comments in ``config/safety.yaml``."""

    required: bool
    timeout_ms: float

    def __post_init__(self) -> None:
        check_plain(self, "driver")


class Deadman:
    """A switch that must be held, and said to be held again and again."""

    def __init__(self, settings: DeadmanSettings) -> None:
        self._settings = settings
        self._held = Watchdog()

    def observe(self, pressed: bool, steady_ns: int) -> None:
        """The state of the switch; anything but True is released."""
        if pressed is True:
            self._held.feed(steady_ns)
        else:
            self._held.clear()

    def released(self, steady_ns: int) -> bool:
        """True when motion is not allowed."""
        limit = round(self._settings.timeout_ms * MS)
        return self._settings.required and self._held.expired(steady_ns, limit)


class Heartbeat:
    """A counter that must go on; a frozen one is a dead one.

    Watched from the first beat on, or from the start when it is required.
    """

    def __init__(self, settings: DriverSettings) -> None:
        self._settings = settings
        self._alive = Watchdog()
        self._counter: int | None = None

    def observe(self, counter: int, steady_ns: int) -> None:
        """Take a beat."""
        if counter != self._counter:
            self._counter = counter
            self._alive.feed(steady_ns)

    def dead(self, steady_ns: int) -> bool:
        """True when the counter did not change for ``timeout_ms``."""
        watched = self._settings.required or self._counter is not None
        return watched and self._alive.expired(steady_ns, round(self._settings.timeout_ms * MS))
