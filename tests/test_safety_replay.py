"""A journal holds all that the filter was told: replayed, every bit of every output is the same."""

from __future__ import annotations

import dataclasses
import math
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wm_bridge.bench import fault_rig
from wm_bridge.bench.fault_kinds import KINDS
from wm_bridge.core.types import Command, JointState, Reason, Trajectory
from wm_bridge.robots import spec as robot_spec
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.filter import SafetyFilter
from wm_bridge.safety.health import Health, Level
from wm_bridge.safety.journal import UNWRITABLE, JournaledFilter, Pages
from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.packing import pack, unpack
from wm_bridge.safety.replay import JournalError, entries, replay

MS = 1_000_000
CONFIG = SafetyConfig.load()
NICO = robot_spec.load("nico")
PLAIN = SimpleNamespace(  # a robot without a URDF
    joint_names=("a", "b"), lower=np.full(2, -1.0), upper=np.ones(2), velocity=np.ones(2), acceleration=np.full(2, 5.0), jerk=np.full(2, 100.0)
)


class Session:
    """A filter of a two-joint robot that is told everything that it can be told."""

    def __init__(self, config: SafetyConfig = CONFIG, spec=PLAIN) -> None:
        self.spec = spec
        self.filter = JournaledFilter(spec, config)
        self.now = 50_000 * MS
        self.commands: list[Command] = []
        self.q = np.zeros(len(spec.joint_names)) if spec is PLAIN else spec.home

    def tick(self, wait_ms: int = 10) -> None:
        self.now += wait_ms * MS
        rest = np.zeros(len(self.q))
        self.filter.observe_state(JointState(self.spec.joint_names, self.q, rest, rest, self.now), self.now, self.now)
        self.filter.observe_camera(self.now, self.now // MS, self.now, self.now)
        command, _ = self.filter.tick(self.now, self.now)
        if command is not None:
            self.commands.append(command)
            self.q = command.position

    def start(self) -> None:
        for _ in range(3):
            self.tick()
        self.restart()

    def restart(self) -> None:
        assert self.filter.reset(self.now, self.now).ok and self.filter.enable(True).ok

    def move(self, speed: float = 0.4, ticks: int = 40) -> None:
        names = self.spec.joint_names[:1]
        for k in range(ticks):
            if k % 10 == 0:
                positions = self.q[:1] + speed * 0.1 * np.arange(1, 9)[:, None]
                velocities = np.full_like(positions, speed)
                velocities[-1] = 0.0
                times = tuple(round(1e8 * (i + 1)) for i in range(8))
                self.filter.submit(Trajectory(names, times, positions, velocities, self.now), self.now, self.now)
            self.tick()

    def sent(self) -> dict[int, Command]:
        return dict(enumerate(self.commands, 1))


@pytest.fixture(scope="module")
def whole() -> tuple[tuple[Pages, ...], dict[int, Command]]:
    """A session with every call there is, in two pages."""
    session = Session(spec=NICO)
    assert session.filter.tick(session.now, session.now)[0] is None, "nothing is known yet"
    session.start()
    session.move()
    first = session.filter.take_pages()
    f, now = session.filter, session.now
    assert f.observe_human(math.inf, now, now) is Reason.NONE and f.observe_trust(0.5, now, now) is Reason.NONE
    assert f.observe_health(Health((30.0, 60.0), (12.0,), (), ()), now) is Level.WARN
    f.deadman(True, now)
    f.observe_driver(1, now)
    f.writers(1)
    assert f.set_reduced(True).ok
    assert f.add_obstacle(Obstacle("ball", "sphere", (0.05,), np.array([0.5, -0.3, 0.9]))).ok
    assert not f.remove_obstacle("bal").ok
    session.move(-0.8)
    f.observe_driver(2, session.now)
    assert f.remove_obstacle("ball").ok
    f.writers(["/a", "/b"])
    session.move(ticks=12)
    f.writers(1)
    for wrong in (("r_wrist_z",), NICO.joint_names[::-1], ("x",) * 14):
        n = len(wrong)
        f.observe_state(JointState(wrong, np.full(n, np.nan), np.zeros(n), np.zeros(n), session.now + MS), session.now + MS, session.now)
    f.submit(Trajectory((), (), np.zeros((0, 0)), np.zeros((0, 0)), 0), session.now, session.now)
    session.move(ticks=20)
    f.observe_driver(3, session.now)
    f.stop()
    session.tick()
    assert not f.tighten(dataclasses.replace(CONFIG, jerk_scale=1.0, velocity_scale=0.99, state_timeout_ms=60.0)).ok
    assert f.tighten(dataclasses.replace(CONFIG, velocity_scale=0.5)).ok
    session.tick()
    session.restart()
    session.move(ticks=20)
    f.observe_driver(4, session.now)
    f.renew()
    sent = len(session.commands)
    session.start()
    del session.commands[sent]  # as in the node: what the tick within a reset gives is not sent
    session.move(ticks=20)
    f.stop("somebody asked", Reason.STALE_STATE)
    session.tick()
    return (first, session.filter.take_pages()), session.sent()


def test_the_rated_effort_is_in_the_journal(whole) -> None:
    begin = next(entry for entry in entries(whole[0]) if entry.kind == "begin")
    np.testing.assert_array_equal(begin.arguments[2], NICO.effort)


def test_everything_that_the_filter_can_be_told_comes_back_bit_for_bit(whole) -> None:
    pages, sent = whole
    kinds = {entry.kind for entry in entries(pages)}
    report = replay(entries(pages), sent)
    assert report.first is None and report.different == 0
    assert report.commands == report.compared == len(sent) > 100 and report.ticks > report.commands
    calls = {name for name in vars(JournaledFilter) if not name.startswith("_")}
    assert kinds == calls - {"renew", "take_pages", "status", "take_interventions", "obstacles", "health", "prepared_brake", "refusals"} | {"begin"}


@pytest.mark.parametrize("kind", KINDS[::4], ids=lambda kind: kind.name)
def test_a_run_with_a_fault_replays_bit_for_bit(kind, monkeypatch) -> None:
    monkeypatch.setattr(fault_rig, "SafetyFilter", JournaledFilter)
    rig = fault_rig.Rig(NICO, CONFIG, np.random.default_rng(1))
    rig.start()
    kind.apply(rig)
    rig.run(0.8)
    report = replay(entries([rig.filter.take_pages()]))
    assert report.first is None, str(report.first)
    assert report.ticks == rig.ticks


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"jerk_scale": 0.9}, "rad/s; now"),
        ({"command_timeout_ms": 90.0}, "STALE_COMMAND"),
        ({"position_margin_rad": 0.011}, ""),
    ],
)
def test_another_setting_is_a_difference_that_names_the_first_tick(change, expected) -> None:
    session = Session()
    session.start()
    session.move(ticks=60)
    pages = session.filter.take_pages()
    assert replay(entries([pages]), session.sent()).first is None
    report = replay(entries([pages]), session.sent(), dataclasses.replace(CONFIG, **change))
    assert report.different > 0 and expected in str(report.first)
    assert str(report.first).startswith("tick ")


def test_a_filter_that_is_renewed_keeps_stricter_settings_and_a_refused_change_leaves_them() -> None:
    session = Session()
    session.start()
    assert session.filter.tighten(dataclasses.replace(CONFIG, velocity_scale=0.25)).ok
    assert not session.filter.tighten(CONFIG).ok
    session.filter.renew()
    session.start()
    session.move(0.8, ticks=60)
    assert max(np.abs(command.velocity).max() for command in session.commands) == pytest.approx(0.25)


def test_a_start_that_another_setting_forbids_or_allows_is_a_difference_in_whether_there_is_an_output() -> None:
    loose = dataclasses.replace(CONFIG, start_tolerance_rad=0.2)
    for recorded, now, text in ((loose, CONFIG, "recorded: an output; now: none"), (CONFIG, loose, "recorded: no output; now: one")):
        session = Session(recorded)
        session.q = np.array([1.1, 0.0])
        session.tick()
        assert bool(session.commands) is (recorded is loose)
        report = replay(entries([session.filter.take_pages()]), session.sent(), now)
        assert text in str(report.first)
    session = Session()
    session.q = np.array([1.5, 0.0])
    session.tick()
    report = replay(entries([session.filter.take_pages()]), {}, dataclasses.replace(CONFIG, position_margin_rad=0.02))
    assert report.different == 1 and report.commands == 0, "no output either way, for limits told otherwise"


def test_the_journal_hides_nothing_of_the_filter() -> None:
    session = Session(spec=NICO)
    session.start()
    session.move(3.0, ticks=30)
    f = session.filter
    assert f.take_interventions() and f.take_interventions() == () and f.obstacles == ()
    f.observe_camera(0, 1, session.now, session.now)
    assert f.refusals[Reason.ZERO_STAMP] == 1 and f.status().interventions > 0
    assert np.array_equal(f.prepared_brake[0], f.tick(session.now + 10 * MS, session.now + 400 * MS)[0].position)
    f.observe_health(Health((56.0,)), session.now)
    assert f.health[0] is Level.WARN


@pytest.mark.parametrize("value", [object(), {1}, np.zeros(2, dtype=np.float32), np.zeros((1,) * 5), [1.0], 2**63])
def test_what_is_no_plain_value_is_not_packed(value) -> None:
    with pytest.raises((TypeError, struct.error)):
        _packed(value)


def test_one_flipped_bit_of_one_recorded_command_is_found(whole) -> None:
    pages, sent = whole
    for field in ("position", "velocity"):
        number = len(sent) // 2
        values = np.array(getattr(sent[number], field))
        values[3] = np.nextafter(values[3], 9.0)
        report = replay(entries(pages), {**sent, number: dataclasses.replace(sent[number], **{field: values})})
        assert report.different == 1 and NICO.joint_names[3] in str(report.first)
    late = {**sent, 5: dataclasses.replace(sent[5], stamp_ns=sent[5].stamp_ns + 1)}
    assert "stamp_ns" in str(replay(entries(pages), late).first)


def test_a_filter_that_computes_something_else_is_found_without_the_recorded_commands(whole, monkeypatch) -> None:
    real = SafetyFilter._commit

    def slightly_wrong(self, step, now_ns, source_stamp_ns):
        command = real(self, step, now_ns, source_stamp_ns)
        return dataclasses.replace(command, velocity=command.velocity + 1e-15)

    monkeypatch.setattr(SafetyFilter, "_commit", slightly_wrong)
    report = replay(entries(whole[0]))
    assert report.different > 100 and "no values can be shown" in str(report.first)


def test_a_recording_computed_by_other_means_says_so(monkeypatch) -> None:
    session = Session()
    session.tick()
    pages = session.filter.take_pages()
    assert replay(entries([pages])).note == ""
    monkeypatch.setattr(np, "__version__", "9.9")
    assert "this is numpy 9.9" in replay(entries([pages])).note


def test_a_lie_about_an_answer_is_found(monkeypatch) -> None:
    session = Session()
    session.start()
    pages = session.filter.take_pages()
    monkeypatch.setattr(SafetyFilter, "observe_camera", lambda *_: Reason.STALE_CAMERA)
    report = replay(entries([pages]))
    assert "observe_camera before tick 1" in str(report.first) and "answer now:      16" in str(report.first)


def test_a_journal_that_lacks_its_begin_or_its_middle_or_is_damaged_says_so(whole) -> None:
    (first, second), _ = whole
    for pages, text in (
        ((second,), "began after the safety node"),
        ((first, Pages(second.first + 1, second.count, second.data)), "pages were lost"),
        ((Pages(0, first.count + 1, first.data),), "damaged"),
        ((Pages(0, first.count, first.data[: len(first.data) // 2]),), "damaged"),
        ((Pages(0, 1, b"a\x05\x00\x00\x00" + bytes(60)),), "5 axes"),
        ((Pages(0, 1, _packed(("tick", (1, 1, (1,)), None))),), "begins with 'tick'"),
        ((Pages(0, 1, _packed(("begin", (1, 2), None))),), "no filter of this version"),
        ((Pages(0, 2, first.data[: unpack(first.data)[1]] + _packed(("fly", (), None))),), "makes no sense"),
    ):
        with pytest.raises(JournalError, match=text):
            replay(entries(pages))


def _packed(value) -> bytes:
    out = bytearray()
    pack(value, out)
    return bytes(out)


def test_an_input_of_a_foreign_type_latches_as_ever_and_is_noted_as_not_replayable() -> None:
    session = Session()
    session.start()
    assert session.filter.submit(None, session.now, session.now) is Reason.INTERNAL  # type: ignore[arg-type]
    session.tick()
    assert session.filter.status().latched
    pages = session.filter.take_pages()
    assert UNWRITABLE in {entry.kind for entry in entries([pages])}
    with pytest.raises(JournalError, match="could not be written"):
        replay(entries([pages]))


def test_pages_go_on_where_the_last_ones_ended() -> None:
    session = Session()
    pages = []
    for _ in range(3):
        session.tick()
        pages.append(session.filter.take_pages())
    assert [page.first for page in pages] == [0, 4, 7] and session.filter.take_pages() == Pages(10, 0, b"")


PLAIN_VALUES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()
    | arrays.arrays(np.float64, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
)  # fmt: skip


@given(st.recursive(PLAIN_VALUES, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=12))
def test_values_survive_the_bytes_bit_for_bit(value) -> None:
    data = _packed(value)
    back, end = unpack(data)
    assert end == len(data) and _packed(back) == data and type(back) is type(value)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    try:
        _, end = unpack(data)
    except ValueError:
        return
    assert 0 < end <= len(data)
