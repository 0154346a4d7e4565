"""What the safety filter makes of plans, each judged from where the recorded run was when it came.

The recorded filter is run again (``safety.replay``). For each plan a copy of it is taken, given that plan instead
of the recorded one, and followed for one period with the recorded joints. So one plan that differs does not put
the filter's output elsewhere than the recorded arm for the rest of the bag, and nothing of the filter is left out.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from wm_bridge.core.types import FloatArray, Reason, SafetyMode, Trajectory, Verdict
from wm_bridge.replay.recorded import Recorded
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.journal import TICK
from wm_bridge.safety.replay import Entry, JournalError, Replayed, Report, entries, replay


@dataclass(frozen=True)
class Proposal:
    """A plan for the filter: of which picture, when at the earliest, and the planner's trust (NaN: unknown)."""

    stamp_ns: int
    now_ns: int
    trajectory: Trajectory
    trust: float


@dataclass(frozen=True)
class Judged:
    """What the filter made of a plan.

    Attributes:
        refused: why it was not taken. modes: of the ticks that followed. reasons: of those, together.
        names, outputs: (T, J) rad, what would have gone to the motors.
        changed: ticks in which what was asked for was changed. detail: of the worst tick.
        recorded_modes: of the recorded run in the same ticks.
    """

    refused: Reason
    modes: tuple[SafetyMode, ...]
    reasons: Reason
    names: tuple[str, ...]
    outputs: tuple[tuple[float, ...], ...]
    changed: int
    detail: str
    recorded_modes: tuple[SafetyMode, ...]

    @property
    def stops(self) -> bool:
        """True when the arm would have been stopped."""
        return max(self.modes, default=SafetyMode.NORMAL) >= SafetyMode.BRAKE

    @property
    def stopped(self) -> bool:
        """True when the recorded arm was stopped then."""
        return max(self.recorded_modes, default=SafetyMode.NORMAL) >= SafetyMode.BRAKE


@dataclass(frozen=True)
class Guarded:
    """Of all sessions of the safety node: their replay, and what was made of each plan, by the stamp of its picture.
    ``problem``: why (some of) it could not be run."""

    reports: tuple[Report, ...]
    judged: Mapping[int, Judged]
    problem: str = ""


def guard(recorded: Recorded, proposals: Sequence[Proposal], period_s: float, config: SafetyConfig | None = None) -> Guarded:
    """Run the recorded filter again, and copies of it on the plans.

    Args:
        recorded: the bag. proposals: in order of time. period_s: for which a plan is followed.
        config: settings of the filter instead of the recorded ones.
    """
    reports: list[Report] = []
    judged: dict[int, Judged] = {}
    for number, session in enumerate(recorded.sessions.values(), 1):
        forks = _Forks(proposals, recorded.actions.keys(), round(period_s * 1e9))
        try:
            report = replay(entries(session.pages), session.sent, config, forks.watch)
        except JournalError as error:
            problem = f"session {number} of the safety node cannot be replayed: {error}"
            return Guarded(tuple(reports), judged, problem)
        reports.append(dataclasses.replace(report, repeated=session.repeated, contradicted=session.contradicted))
        judged |= forks.finish()
    return Guarded(tuple(reports), judged, "" if reports else "the bag holds no safety/journal, so the safety filter was not run")


class _Forks:
    """Copies of the filter, one after the other."""

    def __init__(self, proposals: Sequence[Proposal], told: Container[int], period_ns: int) -> None:
        self._by_stamp = {p.stamp_ns: p for p in proposals}
        self._waiting = sorted((p for p in proposals if p.stamp_ns not in told), key=lambda p: p.now_ns)
        self._period_ns = period_ns
        self._begun: set[int] = set()
        self._judged: dict[int, Judged] = {}
        self._fork: _Fork | None = None
        self._first_ns: int | None = None

    def watch(self, entry: Entry, recorded: Replayed) -> None:
        """See ``safety.replay.replay``."""
        if entry.kind == "submit":
            proposal = self._by_stamp.get(int(entry.arguments[4]))
            if proposal is not None and proposal.stamp_ns not in self._begun:
                self._begin(proposal, recorded, *entry.arguments[5:7])
            return
        if entry.kind == TICK:
            self._late(entry, recorded)
        if self._fork is not None and not self._fork.follow(entry):
            self._end()

    def finish(self) -> dict[int, Judged]:
        """All that was judged."""
        self._end()
        return self._judged

    def _late(self, entry: Entry, recorded: Replayed) -> None:
        """Plans of which the recording has none: they come a period after all they were made from."""
        now_ns, steady_ns = entry.arguments[:2]
        self._first_ns = now_ns if self._first_ns is None else self._first_ns
        while self._waiting and self._waiting[0].now_ns + self._period_ns <= now_ns:
            proposal = self._waiting.pop(0)
            if proposal.stamp_ns not in self._begun and proposal.now_ns >= self._first_ns:
                self._begin(proposal, recorded, now_ns, steady_ns)

    def _begin(self, proposal: Proposal, recorded: Replayed, now_ns: int, steady_ns: int) -> None:
        self._end()
        self._begun.add(proposal.stamp_ns)
        self._fork = _Fork(proposal, copy.deepcopy(recorded), now_ns, steady_ns, self._period_ns)

    def _end(self) -> None:
        if self._fork is not None:
            self._judged[self._fork.proposal.stamp_ns] = self._fork.judged()
            self._fork = None


class _Fork:
    """One copy that follows one plan."""

    def __init__(self, proposal: Proposal, filter_: Replayed, now_ns: int, steady_ns: int, period_ns: int) -> None:
        self.proposal, self._filter, self._until_ns = proposal, filter_, now_ns + period_ns
        plan = proposal.trajectory
        arguments = (plan.names, plan.times_ns, plan.positions, plan.velocities, plan.stamp_ns, now_ns, steady_ns)
        self._refused = Reason(filter_.tell("submit", arguments))
        self._ticks: list[tuple[Verdict, FloatArray | None]] = []
        self._recorded: list[SafetyMode] = []

    def follow(self, entry: Entry) -> bool:
        """Feed what was recorded; False when the period is over."""
        arguments = entry.arguments
        if entry.kind == TICK:
            if arguments[0] >= self._until_ns:
                return False
            command, verdict = self._filter.tick(*arguments)
            self._ticks.append((verdict, None if command is None else command.position))
            self._recorded.append(SafetyMode(entry.answer[0]))  # type: ignore[index,arg-type]
        elif entry.kind == "observe_trust":
            trust = self.proposal.trust if arguments[1] == self.proposal.stamp_ns else arguments[0]
            self._filter.tell(entry.kind, (trust, *arguments[1:]))
        else:
            self._filter.tell(entry.kind, arguments)
        return True

    def judged(self) -> Judged:
        """What came of it."""
        verdicts = [verdict for verdict, _ in self._ticks]
        reasons = Reason.NONE
        for verdict in verdicts:
            reasons |= verdict.reasons
        worst = max(verdicts, key=lambda verdict: verdict.mode, default=None)
        return Judged(
            self._refused,
            tuple(verdict.mode for verdict in verdicts),
            reasons,
            self._filter.names,
            tuple(tuple(position.tolist()) for _, position in self._ticks if position is not None),
            sum(verdict.intervened for verdict in verdicts),
            worst.detail if worst is not None else "",
            tuple(self._recorded),
        )

