"""Plans judged by copies of the recorded filter, or by that filter itself where a plan is the recorded one: the same either way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from test_safety_replay import MS, Session

from wm_bridge.core.types import Reason, Trajectory
from wm_bridge.replay import guarding
from wm_bridge.replay.guarding import Guarded, Proposal, guard
from wm_bridge.replay.recorded import Recorded
from wm_bridge.replay.recorded import Session as Recording
from wm_bridge.safety.replay import Entry, entries

PERIOD_S = 0.1


def run_of(between: Callable[[Session, int], None] = lambda session, k: None) -> Recorded:
    """A plan before every tenth tick, the last period cut short; ``between`` is called after each tick."""
    session = Session()
    session.start()
    for k in range(37):
        session.move(0.4, ticks=1) if k % 10 == 0 else session.tick()
        between(session, k)
    return Recorded(sessions={1: Recording([session.filter.take_pages()], session.sent())})


def submitted(recorded: Recorded) -> list[Entry]:
    return [entry for entry in entries(recorded.sessions[1].pages) if entry.kind == "submit"]


def proposals_of(recorded: Recorded, trust: float = 1.0, speed: float = 1.0) -> list[Proposal]:
    """What was recorded, proposed again; ``speed``: as much faster."""

    def proposal(arguments: tuple) -> Proposal:
        names, times, positions, velocities, stamp, now_ns, _ = arguments
        return Proposal(stamp, now_ns, lambda: (Trajectory(names, times, positions, velocities * speed, stamp), trust))

    return [proposal(entry.arguments) for entry in submitted(recorded)]


def judged_with_copies(recorded: Recorded, proposals: list[Proposal], monkeypatch: pytest.MonkeyPatch) -> Guarded:
    with monkeypatch.context() as patch:
        patch.setattr(guarding, "_bits", lambda value: object())
        return guard(recorded, proposals, PERIOD_S)


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The filters that are copied."""
    made: list[object] = []
    monkeypatch.setattr(guarding, "copy", SimpleNamespace(deepcopy=lambda one: made.append(one) or copy.deepcopy(one)))
    return made


def _other_trust(session: Session, k: int) -> None:
    if k == 12:
        stamp = session.now - 3 * 10 * MS
        session.filter.observe_trust(1.0, stamp, session.now)


def _foreign_plan(session: Session, k: int) -> None:
    if k == 25:
        session.move(-0.8, ticks=1)


def _refused(session: Session, k: int) -> None:
    if k == 25:
        rest = np.zeros((2, 1))
        session.filter.submit(Trajectory(("nobody",), (100 * MS, 200 * MS), rest, rest, session.now), session.now, session.now)


def _renewed(session: Session, k: int) -> None:
    if k == 34:
        sent = len(session.commands)
        session.filter.renew()
        session.start()
        del session.commands[sent]


@pytest.mark.parametrize(
    ("between", "dropped", "expected"),
    [(lambda session, k: None, (), 0), (_other_trust, (), 1), (_foreign_plan, (3,), 1), (_refused, (), 0), (_renewed, (), 0)],
    ids=["nothing else", "trust is another", "a foreign plan comes between", "one is refused", "the filter is renewed"],
)
def test_a_plan_that_is_the_recorded_one_is_judged_as_by_a_copy(
    between: Callable[[Session, int], None], dropped: tuple[int, ...], expected: int, copies: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = run_of(between)
    proposals = [p for k, p in enumerate(proposals_of(recorded, trust=0.0)) if k not in dropped]
    found = guard(recorded, proposals, PERIOD_S)
    assert len(copies) == expected and not found.problem and not found.reports[0].wrong
    assert found == judged_with_copies(recorded, proposals, monkeypatch)
    refused = [judged.refused != Reason.NONE for judged in found.judged.values()]
    assert not any(refused[:3]) and refused[3] is (between is _refused) if len(refused) > 3 else not any(refused)
    assert len(found.judged) == len(proposals) and all(len(judged.modes) > 3 for judged in found.judged.values())


def test_a_plan_that_differs_is_judged_by_a_copy_and_leaves_the_recorded_filter_as_it_was(copies: list[object]) -> None:
    recorded = run_of()
    slow, fast = (guard(recorded, proposals_of(recorded, speed=speed), PERIOD_S) for speed in (1.0, 9.0))
    assert len(copies) == 4 and slow.judged != fast.judged and slow.reports == fast.reports and not fast.reports[0].wrong


def test_the_filter_waits_for_a_plan_where_the_recording_has_it_and_none_is_no_plan() -> None:
    recorded = run_of()
    asked: list[int] = []

    def told(proposal: Proposal, number: int) -> Proposal:
        def plan() -> tuple[Trajectory, float] | None:
            asked.append(number)
            return None if number == 1 else proposal.plan()

        return Proposal(proposal.stamp_ns, proposal.now_ns, plan)

    proposals = [told(proposal, number) for number, proposal in enumerate(proposals_of(recorded))]
    recorded.actions.update({p.stamp_ns: p.plan for p in proposals})  # type: ignore[misc]  all of them are in the recording
    found = guard(recorded, proposals, PERIOD_S)
    assert asked == [0, 1, 2, 3] and set(found.judged) == {proposals[k].stamp_ns for k in (0, 2, 3)}


def test_of_two_plans_on_one_picture_the_last_counts() -> None:
    recorded = run_of()
    usual, fast = proposals_of(recorded), proposals_of(recorded, speed=9.0)
    assert guard(recorded, [*usual, *fast], PERIOD_S).judged == guard(recorded, fast, PERIOD_S).judged
    none = [Proposal(p.stamp_ns, p.now_ns, lambda: None) for p in fast]
    assert guard(recorded, [*usual, *none], PERIOD_S).judged == guard(recorded, usual, PERIOD_S).judged


def test_a_plan_that_the_recording_lacks_comes_a_period_later() -> None:
    recorded = run_of()
    (first, *_) = submitted(recorded)
    names, times, positions, velocities, _, now_ns, _ = first.arguments
    stamp = now_ns + 1
    late = Proposal(stamp, stamp, lambda: (Trajectory(names, times, positions, velocities, stamp), 1.0))
    ticks = [entry for entry in entries(recorded.sessions[1].pages) if entry.kind == "tick"]
    expected = [tick for tick in ticks if stamp + 0.1e9 <= tick.arguments[0] < stamp + 0.2e9 + 10 * MS]
    assert len(guard(recorded, [late], PERIOD_S).judged[stamp].modes) in (len(expected) - 1, len(expected))
