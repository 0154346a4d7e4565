"""Numbers of a recording: planning times, safety interventions, true hand path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_bridge.core.types import FloatArray, SafetyMode
from wm_bridge.report.recording import PlanRow, Recording

S = 1_000_000_000


@dataclass(frozen=True)
class Curve:
    """One goal as curves; ``t`` (K,) and ``truth_t`` (T,) in s of node time after the goal came.

    ``truth_m`` is the hand's real distance to where the goal picture was taken: for scoring
    only, the planner never sees it. Empty when it is not known.
    """

    begin_ns: int
    end_ns: int
    t: FloatArray
    energy: FloatArray
    decoded_m: FloatArray
    truth_t: FloatArray
    truth_m: FloatArray


def curves(recording: Recording, known: Sequence[Mapping[str, Any]], hands: tuple[FloatArray, FloatArray]) -> list[Curve]:
    """One curve per goal in the bag.

    Args:
        known: of each goal what only the sender knew, where there is something: ``goal_hand`` (3,),
            its true hand position, m; ``duration_s`` until its outcome.
        hands: stamps (T,) ns and true positions (T, 3), m, of ``true_hands``.
    """
    found = []
    begins = [stamp for stamp, _ in recording.goals]
    stamps, positions = hands
    for number, begin in enumerate(begins):
        limit = begins[number + 1] if number + 1 < len(begins) else np.iinfo(np.int64).max
        rows = [row for row in recording.plans if row.goal == number]
        facts = known[number] if number < len(known) else {}
        goal, duration = facts.get("goal_hand"), facts.get("duration_s") or 0.0
        last = max((row.stamp_ns for row in rows), default=begin)
        end = min(max(last, begin + round(duration * S)) + S // 10, limit)
        inside = (stamps >= begin) & (stamps <= end)
        scored = goal is not None and inside.any()
        found.append(
            Curve(
                begin,
                end,
                np.array([(row.stamp_ns - begin) / S for row in rows]),
                np.array([row.energy for row in rows]),
                np.array([row.distance_m for row in rows]),
                (stamps[inside] - begin) / S if scored else np.zeros(0),
                np.linalg.norm(positions[inside] - np.asarray(goal), axis=1) if scored else np.zeros(0),
            )
        )
    return found


def true_hands(recording: Recording, robot: str, arm: str, rate_hz: float = 20.0) -> tuple[FloatArray, FloatArray]:
    """Stamps (T,) ns and hand positions (T, 3), m, from the recorded simulator states."""
    if not recording.states:
        return np.zeros(0, np.int64), np.zeros((0, 3))
    from wm_bridge.robots import spec as robots
    from wm_bridge.sim.state import SimState
    from wm_bridge.sim.world import SimWorld

    world = SimWorld(robots.load(robot))
    stamps, positions = [], []
    for stamp, values in recording.states:
        if stamps and 0 <= stamp - stamps[-1] < S / rate_hz:
            continue
        world.load_state(SimState.from_array(values))
        stamps.append(stamp)
        positions.append(world.hand_position(arm))
    world.close()
    return np.array(stamps, np.int64), np.array(positions)


def plan_times(plans: Sequence[PlanRow]) -> dict[str, Any]:
    """Median and 99th percentile of the planning call and of frame to trajectory, ms."""
    if not plans:
        return {"plans": 0}
    calls, totals = [row.call_ms for row in plans], [row.total_ms for row in plans]
    return {
        "plans": len(plans),
        "plan_ms_p50": float(np.percentile(calls, 50)),
        "plan_ms_p99": float(np.percentile(calls, 99)),
        "frame_to_trajectory_ms_p50": float(np.percentile(totals, 50)),
        "frame_to_trajectory_ms_p99": float(np.percentile(totals, 99)),
        "deadlines_missed": sum(not row.deadline_met for row in plans),
    }


def interventions(recording: Recording, goals: Sequence[Curve]) -> list[dict[str, Any]]:
    """What the safety filter changed or refused while it was enabled, by reason.

    Each row: reason, ticks, ticks_during_goals, first_s (node time), worst_mode, largest_change_rad.
    """
    spans = enabled_spans(recording)
    found: dict[str, dict[str, Any]] = {}
    for row in recording.verdicts:
        if not any(begin <= row.stamp_ns < end for begin, end in spans):
            continue
        during = any(goal.begin_ns <= row.stamp_ns <= goal.end_ns for goal in goals)
        for reason in row.reasons:
            entry = found.setdefault(
                reason,
                {"reason": reason, "ticks": 0, "ticks_during_goals": 0, "first_s": row.stamp_ns / S, "worst_mode": 0, "largest_change_rad": 0.0},
            )
            entry["ticks"] += 1
            entry["ticks_during_goals"] += during
            entry["worst_mode"] = max(entry["worst_mode"], row.mode)
            entry["largest_change_rad"] = max(entry["largest_change_rad"], row.change)
    for entry in found.values():
        entry["worst_mode"] = SafetyMode(entry["worst_mode"]).name
    return sorted(found.values(), key=lambda entry: entry["first_s"])


def enabled_spans(recording: Recording) -> list[tuple[int, int]]:
    """When the safety node let commands through: (begin, end) in node time."""
    spans: list[tuple[int, int]] = []
    begin: int | None = None
    for row in recording.safety:
        if row.enabled and begin is None:
            begin = row.stamp_ns
        elif not row.enabled and begin is not None:
            spans.append((begin, row.stamp_ns))
            begin = None
    if begin is not None:
        spans.append((begin, np.iinfo(np.int64).max))
    return spans
