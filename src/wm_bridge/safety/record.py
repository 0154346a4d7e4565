"""What the filter changed, when, why and by how much."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from wm_bridge.core.types import FloatArray, Reason, SafetyMode, frozen_array

KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Intervention:
    """One tick whose output was not the request.

    Attributes:
        stamp_ns: node time. mode, reasons: as in the verdict.
        before: (J,) requested, after: (J,) sent, rad. For a stop, before is the last output.
        distance_m: of the pair that decided, with margin_m; NaN when no distance did.
    """

    stamp_ns: int
    mode: SafetyMode
    reasons: Reason
    before: FloatArray
    after: FloatArray
    distance_m: float
    margin_m: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "before", frozen_array(self.before))
        object.__setattr__(self, "after", frozen_array(self.after))


class InterventionRecord:
    """The last interventions, oldest first; `take` empties it."""

    def __init__(self) -> None:
        self._kept: deque[Intervention] = deque(maxlen=KEPT)
        self.count = 0

    def add(self, item: Intervention) -> None:
        """Note one."""
        self._kept.append(item)
        self.count += 1

    def take(self) -> tuple[Intervention, ...]:
        """All that were noted since the last call (the last ten thousand)."""
        found = tuple(self._kept)
        self._kept.clear()
        return found
