"""Is the goal reached? Decided from what the planner knows, never from the simulator."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, fields

S = 1_000_000_000  # nanoseconds


class Outcome(enum.IntEnum):
    """How a goal ended; numbers as in wm_interfaces/action/ReachGoal."""

    REACHED = 0
    TIMEOUT = 1
    STALLED = 2
    CANCELED = 3
    NOT_TRUSTED = 4
    REJECTED = 5
    PREEMPTED = 6
    FAILED = 7


class GoalPhase(enum.Enum):
    """Where a goal stands; transitions in `GoalMonitor`."""

    IDLE = "idle"
    FAR = "far"
    NEAR = "near"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class GoalConfig:
    """When a goal counts as reached, late, stuck or not to be trusted.

    Attributes:
        tolerance_m: decoded distance that counts as there, m.
        tolerance_rad: what a joint, or the tool's orientation, may lack, where the goal asks for them, rad.
        leave_factor: NEAR is left above the tolerances times ``leave_factor`` (hysteresis).
        speed_rad_s: joints must be slower than this to be there, rad/s.
        hold_s: how long it must stay there, s.
        joint_tolerance_rad: decoded joints further apart than this may mean that the hand is not where it
            seems to be: REACHED then waits until the energy has not fallen for ``settle_s``, rad and s.
        timeout_s: longest whole attempt, s.
        stall_s: FAR without progress for this long is a stall, s.
        stall_distance_m: the best distance must shrink by this to be progress, m.
        stall_energy: or the best energy by this share.
        tolerance_energy: energy of the present frame that counts as there where no distance is decoded (NaN), with the same
            ``leave_factor``; 0: such a goal is never reached. `./wm calibrate-axes` measures it.
        trust_min: planner trust (0..1, a p-value) below this is bad.
        trust_s: bad trust for this long ends the attempt, s.
        goal_trust_min: trust (0..1) of the goal picture itself below this ends it at once.
        switch_energy: of goals in a row (`core.stages`) all but the last are passed when the energy of the present
            frame is as low as this, at about 3 cm from where the picture shows the hand ...
        switch_hold_s: ... for this long, s; 0: without stopping.
    """

    tolerance_m: float = 0.03
    tolerance_rad: float = 0.05
    leave_factor: float = 1.25
    speed_rad_s: float = 0.1
    hold_s: float = 0.5
    joint_tolerance_rad: float = 0.3
    settle_s: float = 1.5
    timeout_s: float = 20.0
    stall_s: float = 5.0
    stall_distance_m: float = 0.005
    stall_energy: float = 0.02
    tolerance_energy: float = 0.0
    trust_min: float = 0.01
    trust_s: float = 1.0
    goal_trust_min: float = 0.05
    switch_energy: float = 0.4
    switch_hold_s: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"goal: {field.name} must be finite and >= 0, got {value}")
        if min(self.tolerance_m, self.tolerance_rad, self.timeout_s) == 0.0 or self.leave_factor < 1.0:
            raise ValueError(
                "goal: tolerance_m, tolerance_rad and timeout_s must be positive and leave_factor at least 1, got "
                f"{self.tolerance_m}, {self.tolerance_rad}, {self.timeout_s}, {self.leave_factor}"
            )


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What one planning call says about the way to the goal.

    Attributes:
        stamp_ns: of the camera frame, node time.
        distance_m: distance of hand (or object) to the goal, m; NaN when unknown, 0 where only joints count.
        joint_speed_rad_s: fastest controlled joint, measured.
        energy: of the current frame against the goal; smaller is closer.
        trust: 0..1, p-value of what the planner sees and feels among nominal episodes.
        goal_trust: 0..1, how much the goal picture is like what the model knows.
        joint_distance_rad: largest decoded joint distance to the goal; 0 where joints do not count.
        angle_rad: what has to turn as well: the furthest joint of a goal for joints, the tool of a pose; else 0.
    """

    stamp_ns: int
    distance_m: float
    joint_speed_rad_s: float
    energy: float
    trust: float = 1.0
    goal_trust: float = 1.0
    joint_distance_rad: float = 0.0
    angle_rad: float = 0.0


@dataclass(frozen=True, slots=True)
class GoalStatus:
    """Feedback on the running goal.

    Attributes:
        phase: of the monitor. outcome: None while it runs.
        progress: 0 at the start, 1 when reached.
        elapsed_s: since the goal was set. distance_m, angle_rad: last ones, see `PlanSummary`.
        stage, stages: which goal of a row is pursued, counted from 1, and how many there are.
        message: one sentence: what happened and what to do.
    """

    phase: GoalPhase
    outcome: Outcome | None = None
    progress: float = 0.0
    elapsed_s: float = 0.0
    distance_m: float = math.nan
    angle_rad: float = 0.0
    message: str = ""
    stage: int = 1
    stages: int = 1


@dataclass(frozen=True, slots=True)
class Left:
    """What is left to a goal: way_m, and what has to turn, angle_rad; 0 where it does not count."""

    way_m: float
    angle_rad: float

    def __str__(self) -> str:
        way, turn = f"{self.way_m:.3f} m", f"{self.angle_rad:.3f} rad"
        if self.angle_rad == 0.0:
            return way
        return turn if self.way_m == 0.0 else f"{way} and {turn}"


class GoalMonitor:
    """Follows one goal from start to outcome.

    | phase | goes to | when                                                              |
    |-------|---------|-------------------------------------------------------------------|
    | IDLE  | FAR     | `begin`                                                           |
    | FAR   | NEAR    | distance and angle <= tolerances (no distance: energy), joints slow |
    | NEAR  | FAR     | one > tolerance * leave_factor, unknown, or joints fast           |
    | NEAR  | DONE    | stayed for hold_s, joints agree or energy settled: REACHED        |
    | FAR   | DONE    | no progress of distance or energy for stall_s: STALLED            |
    | any   | DONE    | trust low for trust_s, or goal trust low: NOT_TRUSTED; TIMEOUT    |

    A joint or an orientation that has to turn by ``tolerance_rad`` counts as ``tolerance_m`` of way, and the
    larger of the two decides. A NaN distance, angle, energy or trust counts as the worst: never near, never progress, not
    trusted. A model that decodes no distance can be near by energy (``tolerance_energy``). DONE stays until the next `begin`.
    """

    def __init__(self, config: GoalConfig | None = None) -> None:
        self._config = config or GoalConfig()
        self._status = GoalStatus(GoalPhase.IDLE)
        self._begin_ns = 0
        self._near_ns = 0
        self._trusted_ns = 0
        self._progress_ns = 0
        self._fall_ns = 0
        self._first_m = math.nan
        self._best_m = math.inf
        self._best_energy = math.inf

    @property
    def status(self) -> GoalStatus:
        """As of the last call."""
        return self._status

    def begin(self, now_ns: int, config: GoalConfig | None = None) -> None:
        """A new goal starts; ``config`` replaces the settings for it and later ones."""
        self._config = config or self._config
        self._begin_ns = self._trusted_ns = self._progress_ns = self._fall_ns = now_ns
        self._first_m, self._best_m, self._best_energy = math.nan, math.inf, math.inf
        self._status = GoalStatus(GoalPhase.FAR)

    def update(self, summary: PlanSummary | None, now_ns: int) -> GoalStatus:
        """Take in one planning call, or None when only time has passed."""
        if self._status.phase in (GoalPhase.IDLE, GoalPhase.DONE):
            return self._status
        elapsed = (now_ns - self._begin_ns) / S
        phase: GoalPhase = self._status.phase
        distance, angle = self._status.distance_m, self._status.angle_rad
        if summary is not None:
            distance, angle = summary.distance_m, summary.angle_rad
            phase = self._next_phase(summary, now_ns)
            self._note_progress(summary, now_ns)
        outcome, message = self._outcome(phase, summary, Left(distance, angle), elapsed, now_ns)
        self._status = GoalStatus(
            GoalPhase.DONE if outcome is not None else phase,
            outcome,
            1.0 if outcome is Outcome.REACHED else self._progress(self._left(distance, angle)),
            elapsed,
            distance,
            angle,
            message,
        )
        return self._status

    def _left(self, distance_m: float, angle_rad: float) -> float:
        """What is left to the goal, m: the way, or the angle in tolerances when that is more."""
        turn = angle_rad * self._config.tolerance_m / self._config.tolerance_rad
        return math.nan if math.isnan(turn) else max(distance_m, turn)

    def _next_phase(self, summary: PlanSummary, now_ns: int) -> GoalPhase:
        config = self._config
        near = self._status.phase is GoalPhase.NEAR
        factor = config.leave_factor if near else 1.0
        if math.isnan(summary.distance_m) and config.tolerance_energy > 0.0:
            close = summary.energy <= config.tolerance_energy * factor
        else:
            close = self._left(summary.distance_m, summary.angle_rad) <= config.tolerance_m * factor
        there = close and summary.joint_speed_rad_s <= config.speed_rad_s
        if there and not near:
            self._near_ns = now_ns
        return GoalPhase.NEAR if there else GoalPhase.FAR

    def _note_progress(self, summary: PlanSummary, now_ns: int) -> None:
        config = self._config
        distance = self._left(summary.distance_m, summary.angle_rad)
        if math.isnan(self._first_m):
            self._first_m = distance
        closer = distance < self._best_m - config.stall_distance_m
        lower = False
        if math.isfinite(self._best_energy):
            need = config.stall_energy * abs(self._best_energy)
            lower = summary.energy < self._best_energy - need
        if closer or self._best_m == math.inf and math.isfinite(distance):
            self._best_m = distance
        if lower or self._best_energy == math.inf and math.isfinite(summary.energy):
            self._best_energy = summary.energy
            self._fall_ns = now_ns
            lower = True
        if closer or lower or self._status.phase is GoalPhase.NEAR:
            self._progress_ns = now_ns
        if summary.trust >= config.trust_min:
            self._trusted_ns = now_ns

    def _outcome(
        self,
        phase: GoalPhase,
        summary: PlanSummary | None,
        left: Left,
        elapsed: float,
        now_ns: int,
    ) -> tuple[Outcome | None, str]:
        config = self._config
        if summary is not None and not summary.goal_trust >= config.goal_trust_min:
            return Outcome.NOT_TRUSTED, (
                f"the goal picture is unlike anything the model knows (trust "
                f"{summary.goal_trust:.2f}); take it with this camera in this scene"
            )
        if phase is GoalPhase.NEAR and now_ns - self._near_ns >= config.hold_s * S and self._agreed(summary, now_ns):
            return Outcome.REACHED, f"held within {self._tolerance(left)} for {config.hold_s:.1f} s"
        if now_ns - self._trusted_ns >= config.trust_s * S and summary is not None:
            return Outcome.NOT_TRUSTED, (
                f"the model does not explain what the camera sees (trust {summary.trust:.3f} "
                f"for {config.trust_s:.1f} s); check camera, light and scene"
            )
        if elapsed >= config.timeout_s:
            return Outcome.TIMEOUT, (
                f"not reached within {config.timeout_s:.1f} s, {self._away(left)}; "
                f"allow more time or choose a nearer goal"
            )
        if phase is GoalPhase.FAR and now_ns - self._progress_ns >= config.stall_s * S:
            return Outcome.STALLED, (
                f"no progress for {config.stall_s:.1f} s, {self._away(left)}; "
                f"the goal may be out of reach"
            )
        return None, ""

    def _tolerance(self, left: Left) -> str:
        config = self._config
        if math.isnan(left.way_m) and config.tolerance_energy > 0.0:
            return f"energy {config.tolerance_energy:.4g}"
        return str(Left(config.tolerance_m if left.way_m else 0.0, config.tolerance_rad if left.angle_rad else 0.0))

    def _away(self, left: Left) -> str:
        if not math.isnan(left.way_m):
            return f"still {left} away"
        wanted = f"{self._config.tolerance_energy:.4g}" if self._config.tolerance_energy > 0.0 else "not set, so it cannot be reached"
        return f"distance not known, lowest energy {self._best_energy:.4g}, tolerance_energy {wanted}"

    def _agreed(self, summary: PlanSummary | None, now_ns: int) -> bool:
        """The joints are where the picture shows them, or planning gains no more."""
        joints = summary is not None and summary.joint_distance_rad <= self._config.joint_tolerance_rad
        return joints or now_ns - self._fall_ns >= self._config.settle_s * S

    def _progress(self, distance: float) -> float:
        tolerance = self._config.tolerance_m
        span = self._first_m - tolerance
        if not math.isfinite(distance) or not math.isfinite(span):
            return 0.0
        if span <= 0.0:
            return 1.0 if distance <= tolerance else 0.0
        return min(max(1.0 - (distance - tolerance) / span, 0.0), 1.0)
