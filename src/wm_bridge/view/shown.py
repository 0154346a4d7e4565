"""What the browser view shows at one moment: values only, made from messages by the node."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from wm_bridge.core.types import FloatArray, ImageArray, frozen_array

SILENT_S = 2.5  # safety/state comes once a second at least


@dataclass(frozen=True)
class Plan:
    """What the planner imagines, base frame, m.

    Attributes:
        hands: (P, H, 3) hand paths, the first is the chosen one. energies: (P,).
        age_s: since it came.
    """

    hands: FloatArray
    energies: FloatArray
    age_s: float


@dataclass(frozen=True)
class Numbers:
    """Of the newest ``wm/report``; distance NaN where the planner reads none."""

    energy: float
    distance_m: float
    progress: float
    plan_ms: float
    trust: float
    trust_state: str
    trust_cause: str
    age_s: float


@dataclass(frozen=True)
class Safety:
    """Of ``safety/state`` and the newest ``safety/verdict``.

    Attributes:
        mode: name of the SafetyMode. reasons: names of its Reason bits. age_s: since the state came.
        margin_rad: of the joint next to its limit. filter_us: time of a tick. source_age_ms: of the picture
            behind the command; all three NaN where not known.
    """

    mode: str
    reasons: tuple[str, ...]
    enabled: bool
    latched: bool
    detail: str
    interventions: int
    age_s: float
    margin_rad: float = float("nan")
    filter_us: float = float("nan")
    source_age_ms: float = float("nan")

    @property
    def silent(self) -> bool:
        """True when what is shown is old news: the safety node says nothing any more."""
        return not self.age_s < SILENT_S


@dataclass(frozen=True)
class Intervention:
    """The last tick of a row of ticks that changed or refused something for the same reasons.

    Attributes:
        ticks: of the row. change_rad: largest change of a reference in it, of ``joint``.
        distance_m, margin_m: of the pair that decided, and what it must keep; NaN when none did.
    """

    mode: str
    reasons: tuple[str, ...]
    ticks: int
    joint: str
    change_rad: float
    distance_m: float
    margin_m: float
    stamp_ns: int


@dataclass(frozen=True)
class NodeHealth:
    """Of ``/diagnostics``: level 0 fine, 1 warning, 2 error; rates are events per second by name."""

    name: str
    level: int
    message: str
    rates: Mapping[str, float]
    age_s: float


@dataclass(frozen=True)
class Shown:
    """One moment; None = nothing of it came yet.

    Attributes:
        joints: position by name, rad. camera, goal: (H, W, 3) uint8 RGB. camera_age_s: since the picture came.
        goal_hand: (3,) m, where the goal brings the hand. said: what became of the last order. goal_text: of the last goal given here.
    """

    joints: Mapping[str, float] = field(default_factory=dict)
    camera: ImageArray | None = None
    camera_age_s: float = float("inf")
    goal: ImageArray | None = None
    goal_hand: FloatArray | None = None
    plan: Plan | None = None
    numbers: Numbers | None = None
    safety: Safety | None = None
    interventions: tuple[Intervention, ...] = ()
    nodes: tuple[NodeHealth, ...] = ()
    said: str = ""
    goal_text: str = ""


class History:
    """Energy and distance of the last plans.

    Args:
        span_s: how far back it goes.
    """

    def __init__(self, span_s: float = 60.0) -> None:
        self._span_s = span_s
        self._rows: deque[tuple[float, float, float]] = deque()
        self.count = 0  # of all plans ever

    def add(self, at_s: float, energy: float, distance_m: float) -> None:
        """One more plan; after time ran backwards (another bag, a restarted simulation) it begins anew."""
        if self._rows and at_s < self._rows[-1][0]:
            self._rows.clear()
        self._rows.append((at_s, energy, distance_m))
        while self._rows[-1][0] - self._rows[0][0] > self._span_s:
            self._rows.popleft()
        self.count += 1

    def columns(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Seconds before the last plan (<= 0), energy, distance in cm; (N,) each."""
        rows = np.array(self._rows, dtype=float).reshape(-1, 3)
        last = rows[-1, 0] if len(rows) else 0.0
        return frozen_array(rows[:, 0] - last), frozen_array(rows[:, 1]), frozen_array(rows[:, 2] * 100.0)
