"""What the safety filter makes of plans, each judged from where the recorded run was when it came.

The recorded filter is run again (``safety.replay``). For each plan a copy of it is taken, given that plan instead
of the recorded one, and followed for one period with the recorded joints; a plan that is the recorded one needs none. So one plan that differs does not put
the filter's output elsewhere than the recorded arm for the rest of the bag, and nothing of the filter is left out.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from wm_bridge.core.types import FloatArray, Reason, SafetyMode, Trajectory, Verdict
from wm_bridge.replay.recorded import Recorded
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.journal import TICK
from wm_bridge.safety.packing import Value, pack
from wm_bridge.safety.replay import Entry, JournalError, Replayed, Report, entries, replay


@dataclass(frozen=True)
class Proposal:
    """A plan for the filter: of which picture, when at the earliest, and how to get it.

    Attributes:
        plan: waits for the planner; the plan and its trust (NaN: unknown), None where it gave none.
    """

    stamp_ns: int
    now_ns: int
    plan: Callable[[], tuple[Trajectory, float] | None]


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
        recorded: the bag. proposals: of one stamp the last one with a plan counts. period_s: for which a plan is followed.
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
        self._by_stamp: dict[int, list[Proposal]] = {}
        for proposal in reversed(proposals):
            self._by_stamp.setdefault(proposal.stamp_ns, []).append(proposal)
        self._waiting = sorted((p for p in proposals if p.stamp_ns not in told), key=lambda p: p.now_ns)
        self._period_ns = period_ns
        self._begun: set[int] = set()
        self._judged: dict[int, Judged] = {}
        self._fork: _Fork | None = None
        self._first_ns: int | None = None

    def watch(self, entry: Entry, recorded: Replayed) -> None:
        """See ``safety.replay.replay``."""
        if entry.kind == "submit":
            asked = self._by_stamp.get(int(entry.arguments[4]), ())
            if not any(self._begin(proposal, recorded, *entry.arguments[5:7], entry) for proposal in asked) and self._fork is not None:
                self._fork.part()  # it follows its own plan on
            return
        if entry.kind == TICK:
            self._late(entry, recorded)
        if self._fork is not None and not self._fork.follow(entry, recorded):
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
            if proposal.now_ns >= self._first_ns:
                self._begin(proposal, recorded, now_ns, steady_ns)

    def _begin(self, proposal: Proposal, recorded: Replayed, now_ns: int, steady_ns: int, submitted: Entry | None = None) -> bool:
        found = None if proposal.stamp_ns in self._begun else proposal.plan()
        if found is None:
            return False
        self._end()
        self._begun.add(proposal.stamp_ns)
        plan, trust = found
        ours = Entry(-1, "submit", (plan.names, plan.times_ns, plan.positions, plan.velocities, plan.stamp_ns, now_ns, steady_ns), None)
        if submitted is not None and _bits(ours.arguments) == _bits(submitted.arguments):
            self._fork = _Fork(plan, trust, recorded, now_ns + self._period_ns, submitted)
        else:
            self._fork = _Fork(plan, trust, copy.deepcopy(recorded), now_ns + self._period_ns)
            self._fork.feed(ours)
        return True

    def _end(self) -> None:
        if self._fork is not None:
            self._judged[self._fork.plan.stamp_ns] = self._fork.judged()
            self._fork = None


class _Fork:
    """One copy that follows one plan. Of a plan that is the recorded one to the bit it is the recorded filter itself, until
    something else differs: that one is fed by the replay, and here its answers are looked at.

    Args:
        filter_: a copy, or the recorded filter. until_ns: followed before then.
        fed: what the recorded filter is fed next; None: it is a copy.
    """

    def __init__(self, plan: Trajectory, trust: float, filter_: Replayed, until_ns: int, fed: Entry | None = None) -> None:
        self.plan, self._trust, self._filter, self._until_ns = plan, trust, filter_, until_ns
        self._fed, self._copied = fed, fed is None
        self._refused = Reason.NONE
        self._ticks: list[tuple[Verdict, FloatArray | None]] = []
        self._recorded: list[SafetyMode] = []

    def follow(self, entry: Entry, recorded: Replayed) -> bool:
        """Feed what was recorded; False when the period is over."""
        self._look()
        if entry.kind == TICK and entry.arguments[0] >= self._until_ns:
            return False
        self._copied |= recorded is not self._filter  # the replay goes on with another one, after a reset
        if entry.kind == "observe_trust" and entry.arguments[1] == self.plan.stamp_ns and _bits(entry.arguments[0]) != _bits(self._trust):
            entry = entry._replace(arguments=(self._trust, *entry.arguments[1:]))
            self.part()
        if self._copied:
            self.feed(entry)
        else:
            self._fed = entry
        return True

    def part(self) -> None:
        """Go on with a copy from here."""
        if not self._copied:
            self._filter, self._copied = copy.deepcopy(self._filter), True

    def feed(self, entry: Entry) -> None:
        """Feed the copy."""
        if entry.kind == TICK:
            self._filter.tick(*entry.arguments)
        else:
            self._filter.tell(entry.kind, entry.arguments)
        self._note(entry)

    def _look(self) -> None:
        """What came of the entry that the recorded filter was fed."""
        if self._fed is not None:
            self._note(self._fed)
            self._fed = None

    def _note(self, entry: Entry) -> None:
        if entry.kind == TICK:
            command, verdict = self._filter.answered
            self._ticks.append((verdict, None if command is None else command.position))
            self._recorded.append(SafetyMode(entry.answer[0]))  # type: ignore[index,arg-type]
        elif entry.kind == "submit":
            self._refused = Reason(self._filter.answered)

    def judged(self) -> Judged:
        """What came of it."""
        self._look()
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


def _bits(value: Value) -> bytes:
    out = bytearray()
    pack(value, out)
    return bytes(out)
