"""Figures of a replay: what is planned now against what was recorded, and what the safety filter makes of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wm_bridge.core.types import FloatArray, Reason, Trajectory
from wm_bridge.replay.planning import Decision
from wm_bridge.replay.recorded import Recorded
from wm_bridge.replay.run import Replay

S = 1_000_000_000
_MOVES_RAD = 0.01  # a recorded motion shorter than this has no direction to agree with


@dataclass(frozen=True)
class Row:
    """One picture: what was recorded for it, and what is planned now; NaN where there is none.

    Attributes:
        t_s: after the bag's start, by stamp of the picture. goal: from 1.
        energy, recorded_energy: of the picture against the goal. trust, recorded_trust: p-values.
        plan_ms, recorded_ms: the planning call now; picture to trajectory then.
        difference_rad: largest difference of any way point from the recorded plan of the same picture.
        cosine: of planned motion and of what the recorded arm was sent in the same time.
        changed: ticks that the safety filter changed. stops: it would have stopped the arm; stopped: it did then.
    """

    t_s: float
    goal: int
    refused: str
    energy: float
    recorded_energy: float
    trust: float
    recorded_trust: float
    plan_ms: float
    recorded_ms: float
    difference_rad: float
    cosine: float
    changed: int = 0
    stops: bool = False
    stopped: bool = False
    reasons: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True)
class Summary:
    """All rows, and the figures that a table shows."""

    rows: Sequence[Row]
    figures: Mapping[str, float]
    reasons: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)


def summarise(replay: Replay) -> Summary:
    """See ``Row`` and ``Summary``."""
    sent = _Sent(replay.recorded)
    rows = [_row(replay, decision, sent) for decision in replay.decisions]
    reasons = Counter(name for row in rows for name in row.reasons)
    refused = Counter(row.refused for row in rows if row.refused)
    recorded = replay.recorded
    differences = _known([row.difference_rad for row in rows])
    cosines = _known([row.cosine for row in rows])
    times = _known([row.plan_ms for row in rows])
    reports = replay.guarded.reports
    figures: dict[str, float] = {
        "recorded_s": recorded.duration_s,
        "goals": len(recorded.goals),
        "pictures": len(recorded.pictures),
        "decisions": len(rows),
        "plans": len(times),
        "recorded_plans": len(recorded.plans),
        "plans_the_same": int((differences == 0.0).sum()),
        "plans_compared": len(differences),
        "difference_rad_p50": _quantile(differences, 50),
        "difference_rad_max": _quantile(differences, 100),
        "recorded_cut_by_deadline": sum(not plan.deadline_met for plan in recorded.plans.values()),
        "cosine_p50": _quantile(cosines, 50),
        "plan_ms_p50": _quantile(times, 50),
        "plan_ms_p99": _quantile(times, 99),
        "energy_first": rows[0].energy if rows else float("nan"),
        "energy_last": rows[-1].energy if rows else float("nan"),
        "trust_least": _quantile(_known([row.trust for row in rows]), 0),
        "safety_ticks": sum(report.ticks for report in reports),
        "safety_different": sum(report.different for report in reports),
        "safety_changed": sum(row.changed for row in rows),
        "would_have_stopped": sum(row.stops and not row.stopped for row in rows),
        "recorded_stops": sum(row.stopped for row in rows),
        "speed": replay.speed,
        "plan_speed": replay.plan_speed,
    }
    return Summary(rows, figures, dict(reasons.most_common()), dict(refused.most_common()))


def _row(replay: Replay, decision: Decision, sent: _Sent) -> Row:
    recorded = replay.recorded
    then, action = recorded.plans.get(decision.stamp_ns), recorded.actions.get(decision.stamp_ns)
    judged = replay.guarded.judged.get(decision.stamp_ns)
    nan = float("nan")
    planned = bool(decision.numbers)
    times = decision.times_s
    row = Row(
        (decision.stamp_ns - recorded.pictures[0].stamp_ns + recorded.pictures[0].log_ns - recorded.begin_ns) / S,
        decision.goal,
        decision.refused,
        decision.numbers.get("goal_energy", nan),
        then.goal_energy if then else nan,
        decision.numbers.get("trust", nan),
        then.trust if then else nan,
        times["step"] * 1e3 if planned else nan,
        then.total_ms if then else nan,
        _difference(decision.trajectory, action),
        sent.agreement(decision.trajectory),
    )
    if judged is None:
        return row
    names = tuple(reason.name or "" for reason in Reason if reason.value and reason in judged.reasons)
    refused = tuple(f"plan refused: {reason.name}" for reason in Reason if reason.value and reason in judged.refused)
    return dataclasses.replace(row, changed=judged.changed, stops=judged.stops, stopped=judged.stopped, reasons=(*refused, *names), detail=judged.detail)


def _difference(now: Trajectory | None, then: Trajectory | None) -> float:
    if now is None or then is None or now.names != then.names or now.positions.shape != then.positions.shape:
        return float("nan")
    return float(np.abs(now.positions - then.positions).max())


class _Sent:
    """What the recorded arm was sent, over time."""

    def __init__(self, recorded: Recorded) -> None:
        commands = [command for _, command in recorded.commands]
        names = commands[0].names if commands else ()
        kept = [command for command in commands if command.names == names]
        self._names = names
        self._stamps = np.array([command.stamp_ns for command in kept], dtype=np.int64)
        self._path = np.array([command.position for command in kept]).reshape(len(kept), len(names))
        if (np.diff(self._stamps) <= 0).any():  # time began anew somewhere: there is no single path
            keep = np.concatenate([[True], self._stamps[1:] > np.maximum.accumulate(self._stamps)[:-1]])
            self._stamps, self._path = self._stamps[keep], self._path[keep]

    def agreement(self, plan: Trajectory | None) -> float:
        """Cosine of the planned motion and the recorded one in its time; NaN when there was none."""
        if plan is None or not len(self._stamps) or not set(plan.names) <= set(self._names):
            return float("nan")
        end_ns = plan.stamp_ns + plan.times_ns[-1]
        if end_ns > self._stamps[-1]:
            return float("nan")
        columns = [self._names.index(name) for name in plan.names]
        begin, end = (self._at(columns, at_ns) for at_ns in (plan.stamp_ns, end_ns))
        planned, done = plan.positions[-1] - begin, end - begin
        lengths = np.linalg.norm(planned) * np.linalg.norm(done)
        return float(planned @ done / lengths) if np.linalg.norm(done) > _MOVES_RAD and lengths > 0.0 else float("nan")

    def _at(self, columns: list[int], at_ns: int) -> FloatArray:
        return np.array([np.interp(at_ns - self._stamps[0], self._stamps - self._stamps[0], self._path[:, column]) for column in columns])


def _known(values: Sequence[float]) -> FloatArray:
    found = np.array(values, dtype=float)
    return found[np.isfinite(found)]


def _quantile(values: FloatArray, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else float("nan")
