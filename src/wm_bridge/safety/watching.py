"""The rest of what the filter is told: people, trust, motors, switches, writers, things around."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

from wm_bridge.core.types import Reason
from wm_bridge.safety.answers import Answer
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.guard import DistanceGuard
from wm_bridge.safety.health import Health, Level
from wm_bridge.safety.ladder import Ladder
from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.outputs import Outputs
from wm_bridge.safety.record import Intervention, InterventionRecord
from wm_bridge.safety.supervision import Supervision


class Watching(ABC):
    """Inputs of `SafetyFilter` besides joint states, camera frames and plans.

    None of these raises; what cannot be understood is an internal error and latches.
    Silence is judged at the next tick, on the steady clock of the ticks.
    """

    _config: SafetyConfig
    _guard: DistanceGuard | None
    _ladder: Ladder
    _outputs: Outputs
    _record: InterventionRecord
    _supervision: Supervision
    _steady_ns: int

    @property
    @abstractmethod
    def refusals(self) -> Counter[Reason]:
        """How often each reason refused an input."""

    @abstractmethod
    def _fault(self, detail: str) -> Reason:
        """Latch for an internal error."""

    # ---- things around -------------------------------------------------------------

    def add_obstacle(self, obstacle: Obstacle) -> Answer:
        """Keep away from a thing from the next tick on; one of the same name is moved there.

        Update a moving thing as often as it is seen: what it may have moved since then, at
        its ``speed_bound_m_s``, is kept free as well.
        """
        if self._guard is None:
            return Answer(False, "no distances are kept: scene.enabled is false, or no URDF")
        try:
            if self._outputs.started:
                self._guard.moved(self._outputs.motion.q)
            self._guard.add(obstacle, self._steady_ns)
        except Exception as error:  # noqa: BLE001
            self._fault(f"obstacle: {error!r}")
            return Answer(False, self._ladder.latch_detail)
        return Answer(True, f"{obstacle.name} added")

    def remove_obstacle(self, name: str) -> Answer:
        """Forget a thing that was added."""
        if self._guard is None or not self._guard.remove(name):
            known = [item.name for item in self.obstacles]
            return Answer(False, f"no obstacle {name!r}; there are {known}")
        return Answer(True, f"{name} removed")

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """Things that were added."""
        return self._guard.obstacles if self._guard else ()

    # ---- people, trust, motors, switches -------------------------------------------

    def observe_human(self, distance_m: float, stamp_ns: int, now_ns: int) -> Reason:
        """Distance of the nearest person, m (infinite: nobody); returns why it was not used."""
        try:
            return self._counted(self._supervision.human.observe(distance_m, stamp_ns, now_ns, self._steady_ns))
        except Exception as error:  # noqa: BLE001
            return self._fault(f"human distance: {error!r}")

    def observe_trust(self, trust: float, stamp_ns: int, now_ns: int) -> Reason:
        """Trust of the planner in its model, 0..1; returns why it was not used."""
        try:
            return self._counted(self._supervision.trust.observe(trust, stamp_ns, now_ns, self._steady_ns))
        except Exception as error:  # noqa: BLE001
            return self._fault(f"trust: {error!r}")

    def observe_health(self, health: Health, now_ns: int) -> Level:
        """What the motors report; STOP latches at the next tick, DERATE slows, WARN is told."""
        try:
            return self._supervision.observe_health(health, self._steady_ns)
        except Exception as error:  # noqa: BLE001
            self._fault(f"health: {error!r}")
            return Level.STOP

    def deadman(self, pressed: bool, now_ns: int) -> None:
        """State of the deadman switch; must be told again within its time-out."""
        self._supervision.deadman.observe(pressed, self._steady_ns)

    def observe_driver(self, counter: int, now_ns: int) -> None:
        """A beat of the driver; a counter that stands still is a dead driver."""
        self._supervision.driver.observe(counter, self._steady_ns)

    def writers(self, found: int | Sequence[str]) -> None:
        """Who writes to the hardware topic (a count or node names); more than one latches."""
        try:
            self._supervision.count_writers(found)
        except Exception as error:  # noqa: BLE001
            self._fault(f"writers: {error!r}")

    def set_reduced(self, on: bool) -> Answer:
        """Reduced mode: no point of the robot faster than ``reduced_speed_m_s``."""
        if not on and self._config.reduced:
            return Answer(False, "reduced mode is set in the configuration; run-time changes are only stricter")
        self._supervision.reduced = bool(on)
        return Answer(True, "reduced" if on else "full speed")

    @property
    def health(self) -> tuple[Level, str]:
        """How the motors are, and what is worst."""
        return self._supervision.health.level, self._supervision.health.detail

    def take_interventions(self) -> tuple[Intervention, ...]:
        """All changes since the last call, oldest first."""
        return self._record.take()

    def _counted(self, reason: Reason) -> Reason:
        if reason:
            self.refusals[reason] += 1
        return reason
