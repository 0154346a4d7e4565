"""Injected faults end in standstill; and the bench would notice one that does not."""

from __future__ import annotations

import json

import pytest

from wm_bridge.bench import faults
from wm_bridge.bench.fault_kinds import KINDS, Kind, at_once
from wm_bridge.core.types import Reason
from wm_bridge.robots.watch import Beat, DriverWatch

MS = 1_000_000


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_arm_stands_in_time_after(kind: Kind) -> None:
    row = faults.Row(kind.name, "process", [faults.inject(kind, seed=100)])
    assert row.good(), row.text()


def test_there_are_enough_different_kinds_for_a_thousand_injections() -> None:
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names) >= 40
    assert len(names) * faults.SEEDS >= 1000


def test_an_injection_is_repeatable_and_seeds_differ() -> None:
    kind = next(kind for kind in KINDS if kind.name == "state_silence")
    assert faults.inject(kind, 3) == faults.inject(kind, 3)
    assert faults.inject(kind, 3) != faults.inject(kind, 4)


@pytest.mark.parametrize("late", [False, True])
def test_a_fault_without_consequence_or_noticed_late_is_reported_as_failing(late: bool, tmp_path, monkeypatch) -> None:
    def apply(rig) -> None:
        rig.acted()
        if late:
            begin = rig.now
            rig.before_tick = lambda: rig.filter.stop() if rig.now > begin + 30 * MS else None

    monkeypatch.setattr(faults, "KINDS", [Kind("unnoticed", apply, at_once)])
    path = tmp_path / "faults.json"
    assert faults.main(["--seeds", "2", "--graph-seeds", "0", "--json", str(path)]) == 1
    figures = json.loads(path.read_text())["figures"]
    assert figures["failing_kinds"] == 1 and figures["injections"] == 2
    assert figures["standstill_rate"] == (1.0 if late else 0.0)


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(Exception, match="plan_silence"):
        faults.main(["--kind", "plan_silenc"])


@pytest.mark.alone
def test_in_the_real_graph_the_arm_stands_and_the_driver_stops_by_itself() -> None:
    """Two of the graph's kinds; `./wm bench faults` has all. Times are those of a busy machine."""
    rows = {row.name: row for row in faults.in_graph(1, ["second_writer_talks", "safety_sigkill"])}
    assert all(row.stood == 1 for row in rows.values()), [row.text() for row in rows.values()]
    assert rows["second_writer_talks"].outcomes[0].braked_by in ("driver", "SECOND_WRITER")
    assert 0.0 < rows["safety_sigkill"].driver_ms[0] < 1000.0  # 60 ms on a calm machine


# The safety node's watch over the driver ------------------------------------------------------


def beat(session: int = 1, following: bool = True, latched: bool = False) -> Beat:
    return Beat(session, 1, following, latched, "x")


def test_a_restarted_driver_is_a_reason_to_stop_and_the_first_one_is_not() -> None:
    watch = DriverWatch()
    assert watch.observe(beat(5), True, 0)[0] is Reason.NONE and watch.session == 5
    assert watch.observe(beat(6), False, 0)[0] is Reason.STALE_STATE and watch.session == 6
    assert watch.observe(beat(6), False, 0)[0] is Reason.NONE


def test_a_latched_driver_stops_the_filter_but_gets_time_to_hear_of_a_reset() -> None:
    watch = DriverWatch()
    assert watch.observe(beat(latched=True), False, 1 * MS)[0] is Reason.SECOND_WRITER
    watch.reset(1000 * MS)
    assert watch.observe(beat(latched=True), False, 1200 * MS)[0] is Reason.NONE
    assert watch.observe(beat(latched=True), False, 1201 * MS)[0] is Reason.SECOND_WRITER


def test_a_driver_that_holds_while_the_output_moves_stops_the_filter_after_100_ms() -> None:
    watch = DriverWatch()
    for ms in range(0, 101, 20):
        assert watch.observe(beat(following=False), True, ms * MS)[0] is Reason.NONE
    assert watch.observe(beat(following=False), True, 101 * MS)[0] is Reason.TRACKING_ERROR
    for calm in ({"moving": False, "following": False}, {"moving": True, "following": True}):
        assert watch.observe(beat(following=calm["following"]), calm["moving"], 200 * MS)[0] is Reason.NONE
        assert watch.observe(beat(following=False), True, 290 * MS)[0] is Reason.NONE
