"""Whose commands the driver follows, without ROS: gate and follower."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_bridge.core.types import Command
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.fake import FakeRobot
from wm_bridge.robots.follower import Follower
from wm_bridge.robots.gate import LATCHING, Arrival, CommandGate, Refusal, Ticket, Writer

MS = 1_000_000
DRIVER, SAFETY, OTHER = 11, 22, 33
HOME = Writer("aa", "safety", "/")
STRAY = Writer("bb", "joint_gui", "/")


@pytest.fixture
def gate() -> CommandGate:
    gate = CommandGate(DRIVER, "safety", "/", max_age_ns=100 * MS, future_ns=20 * MS)
    gate.writers([HOME])
    return gate


def arrival(counter: int, *, stamp_ms: int | None = None, epoch: int = 0, writer: int = SAFETY, **more: object) -> Arrival:
    """Message ``counter`` of the safety node, made 10 ms after the one before."""
    stamp = 10 * counter if stamp_ms is None else stamp_ms
    return Arrival(Ticket(writer, DRIVER, counter, epoch), stamp * MS, **{"sequence": counter, **more})


def judge(gate: CommandGate, message: Arrival) -> Refusal:
    return gate.judge(message, message.stamp_ns)


def bound(gate: CommandGate, count: int = 5) -> CommandGate:
    for counter in range(1, count + 1):
        assert judge(gate, arrival(counter)) is Refusal.NONE
    return gate


def test_the_safety_nodes_own_stream_is_followed(gate: CommandGate) -> None:
    assert bound(gate, 50).last == Ticket(SAFETY, DRIVER, 50, 0)


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (dataclasses.replace(arrival(6), ticket=None), Refusal.NO_TICKET),
        (arrival(6, writer=OTHER), Refusal.OTHER_SESSION),
        (arrival(5, stamp_ms=60), Refusal.REPLAYED),
        (arrival(2, stamp_ms=60), Refusal.REPLAYED),
        (arrival(6, sequence=1), Refusal.OTHER_PUBLISHER),  # a forged counter from another publisher
        (arrival(6, sequence=None), Refusal.OTHER_PUBLISHER),
        (arrival(6, gid="bb"), Refusal.OTHER_PUBLISHER),
        (arrival(6, stamp_ms=50), Refusal.CLOCK_SET_BACK),
        (arrival(6, stamp_ms=20), Refusal.CLOCK_SET_BACK),
    ],
)
def test_another_writer_closes_the_gate_until_the_safety_node_is_reset(
    gate: CommandGate, message: Arrival, refusal: Refusal
) -> None:
    bound(gate)
    assert judge(gate, message) is refusal and gate.latched is refusal
    for counter in range(7, 20):  # the true one goes on, unheard
        assert judge(gate, arrival(counter)) is refusal
    assert judge(gate, arrival(20, epoch=1)) is Refusal.NONE
    assert gate.latched is Refusal.NONE


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (arrival(0, stamp_ms=0), Refusal.NO_STAMP),
        (dataclasses.replace(arrival(6), queued_ns=101 * MS), Refusal.OLD),
        (Arrival(Ticket(SAFETY, DRIVER + 1, 6, 0), 60 * MS, sequence=6), Refusal.OTHER_DRIVER),
        (Arrival(Ticket(SAFETY, 0, 6, 0), 60 * MS, sequence=6), Refusal.OTHER_DRIVER),
    ],
)
def test_a_command_that_came_wrong_is_refused_and_the_next_one_followed(
    gate: CommandGate, message: Arrival, refusal: Refusal
) -> None:
    if refusal is not Refusal.NO_STAMP:
        bound(gate)
    assert judge(gate, message) is refusal and gate.latched is Refusal.NONE
    assert judge(gate, arrival(7)) is Refusal.NONE


def test_age_and_future_are_judged_on_node_time(gate: CommandGate) -> None:
    assert gate.judge(arrival(1, stamp_ms=1000), 1101 * MS) is Refusal.OLD
    assert gate.judge(arrival(1, stamp_ms=1000), 979 * MS) is Refusal.FUTURE
    assert gate.judge(arrival(1, stamp_ms=1000), 981 * MS) is Refusal.NONE


def test_a_second_publisher_closes_the_gate_before_it_writes_anything(gate: CommandGate) -> None:
    bound(gate)
    assert gate.writers([HOME, STRAY]) is Refusal.SECOND_WRITER
    assert judge(gate, arrival(6)) is Refusal.SECOND_WRITER
    assert judge(gate, arrival(7, epoch=1)) is Refusal.SECOND_WRITER, "the cause still acts"
    assert gate.reset() is Refusal.SECOND_WRITER
    gate.writers([HOME])
    assert judge(gate, arrival(8)) is Refusal.SECOND_WRITER, "nobody has reset anything"
    assert judge(gate, arrival(9, epoch=1)) is Refusal.NONE


@pytest.mark.parametrize("stray", [STRAY, Writer("bb", "safety", "/left"), Writer("bb", "safety2", "/")])
def test_a_sole_foreign_writer_is_not_followed(gate: CommandGate, stray: Writer) -> None:
    """The safety node is dead, and something else writes, even with a good ticket."""
    assert gate.writers([stray]) is Refusal.WRONG_WRITER
    assert judge(gate, arrival(1, epoch=3)) is Refusal.WRONG_WRITER


def test_nobody_is_followed_before_discovery_knows_the_writer() -> None:
    gate = CommandGate(DRIVER, "safety", "/", 100 * MS, 20 * MS)
    assert judge(gate, arrival(1)) is Refusal.NOT_IDENTIFIED
    gate.writers([Writer("aa", "_NODE_NAME_UNKNOWN_", "")])
    assert judge(gate, arrival(2)) is Refusal.NOT_IDENTIFIED
    gate.writers([HOME])
    assert judge(gate, arrival(3)) is Refusal.NONE


def test_a_restarted_safety_node_is_followed_only_after_its_reset(gate: CommandGate) -> None:
    bound(gate)
    new = [arrival(counter, writer=OTHER, stamp_ms=1000 + 10 * counter) for counter in range(1, 9)]
    assert {judge(gate, message) for message in new} == {Refusal.OTHER_SESSION}
    again = arrival(9, writer=OTHER, stamp_ms=2000, epoch=1)
    assert judge(gate, again) is Refusal.NONE


def test_equal_stamps_pass_only_in_simulation() -> None:
    gate = CommandGate(DRIVER, "safety", "/", 100 * MS, 20 * MS, equal_stamps=True)
    gate.writers([HOME])
    bound(gate)
    assert judge(gate, arrival(6, stamp_ms=50)) is Refusal.NONE
    assert judge(gate, arrival(7, stamp_ms=49)) is Refusal.CLOCK_SET_BACK


MESSAGES = st.builds(
    Arrival,
    st.none() | st.builds(Ticket, st.sampled_from([SAFETY, OTHER]), st.sampled_from([0, DRIVER]), st.integers(0, 60), st.integers(0, 3)),
    st.integers(0, 700).map(lambda ms: ms * MS),
    st.integers(0, 200).map(lambda ms: ms * MS),
    st.none() | st.integers(0, 60),
    st.none() | st.sampled_from(["aa", "bb"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(MESSAGES | st.sampled_from([(HOME,), (HOME, STRAY), (STRAY,), ()]), max_size=40))
def test_whatever_comes_every_followed_counter_is_new_and_of_one_writer_until_a_reset(events: list[object]) -> None:
    gate = CommandGate(DRIVER, "safety", "/", 100 * MS, 20 * MS)
    writers: tuple[Writer, ...] = ()
    last: Ticket | None = None
    for event in events:
        if isinstance(event, tuple):
            writers = event
            gate.writers(writers)
            continue
        assert isinstance(event, Arrival)
        was_latched = gate.latched is not Refusal.NONE
        if gate.judge(event, event.stamp_ns) is not Refusal.NONE:
            continue
        ticket = event.ticket
        assert ticket is not None and ticket.reader == DRIVER and writers == (HOME,)
        assert event.gid in (None, "aa") and event.queued_ns <= 100 * MS
        if last is not None and ticket.writer == last.writer:
            assert ticket.counter > last.counter or (was_latched and ticket.epoch > last.epoch)
        elif last is not None:
            assert was_latched and ticket.epoch > 0
        last = ticket


@pytest.mark.parametrize(("stamp_ns", "queued_ns"), [(0, 0), (1 * MS, 0), (500 * MS, 101 * MS), (900 * MS, 0)])
def test_a_reset_told_by_a_command_that_may_not_be_followed_forgets_no_writer(stamp_ns: int, queued_ns: int) -> None:
    def told(writer: int, counter: int, epoch: int, at_ns: int = 500 * MS, queued: int = 0) -> Refusal:
        return gate.judge(Arrival(Ticket(writer, DRIVER, counter, epoch), at_ns, queued, None, None), 500 * MS)

    gate = CommandGate(DRIVER, "safety", "/", 100 * MS, 20 * MS, equal_stamps=True)
    gate.writers((HOME,))
    assert told(SAFETY, 5, 1) is Refusal.NONE
    gate.close()
    assert told(SAFETY, 6, 2, stamp_ns, queued_ns) is not Refusal.NONE, "no stamp, too old, too long in a queue, of the future"
    assert gate.latched is Refusal.ROBOT_LOST
    for ticket in ((OTHER, 0, 0), (SAFETY, 5, 1), (SAFETY, 7, 1)):
        assert told(*ticket) is Refusal.ROBOT_LOST, "another session, a replay, a command from before the reset"
    assert told(SAFETY, 7, 2) is Refusal.NONE and gate.latched is Refusal.NONE


def test_every_latching_refusal_names_a_cause() -> None:
    assert Refusal.NONE not in LATCHING and Refusal.OLD not in LATCHING


# Follower -----------------------------------------------------------------------------------


@pytest.fixture
def follower(gate: CommandGate) -> Follower:
    robot = FakeRobot(robot_spec.load("nico"))
    robot.connect()
    return Follower(robot, gate, timeout_ns=80 * MS, period_s=0.01)


def send(follower: Follower, counter: int, q: np.ndarray, steady_ms: float | None = None, **more: object) -> str:
    """Offer message ``counter`` with references ``q`` and let one period pass."""
    message = arrival(counter, **more)
    command = Command(follower.robot.spec.joint_names, q, np.zeros_like(q), message.stamp_ns)
    steady = round((10 * counter if steady_ms is None else steady_ms) * MS)
    why = follower.offer(command, message, message.stamp_ns, steady)
    follower.step(steady)
    follower.robot.advance(0.01)
    return why


def moving(follower: Follower, count: int = 20) -> np.ndarray:
    q = follower.reference.copy()
    for counter in range(1, count + 1):
        q = q + 0.005
        assert send(follower, counter, q) == ""
    np.testing.assert_allclose(follower.reference, q)
    return q


def test_commands_of_the_safety_node_pass_unchanged(follower: Follower) -> None:
    moving(follower)
    assert follower.following and follower.stops == 0


@pytest.mark.parametrize("silence_ms", [80.1, 95.0, 5000.0])
def test_silence_stops_the_arm(follower: Follower, silence_ms: float) -> None:
    moving(follower)
    follower.step(round((200 + 79.9) * MS))
    assert follower.following
    follower.step(round((200 + silence_ms) * MS))
    assert not follower.following and follower.stops == follower.robot.stops == 1
    follower.step(round((200 + silence_ms + 10) * MS))
    assert follower.robot.stops == 1, "one stop, then it holds"


def test_a_frozen_counter_is_silence_at_the_latest(follower: Follower) -> None:
    q = moving(follower)
    assert "counter" in send(follower, 20, q + 0.005, stamp_ms=210, steady_ms=210)
    assert not follower.following


@pytest.mark.parametrize("bad", [np.nan, np.inf, 5.0])
def test_a_bad_or_far_command_holds_at_once(follower: Follower, bad: float) -> None:
    q = moving(follower)
    q = q.copy()
    q[3] = bad
    assert send(follower, 21, q) and not follower.following
    q = follower.reference
    speed = Command(follower.robot.spec.joint_names, q, np.full_like(q, np.nan), 300 * MS)
    assert "finite" in follower.offer(speed, arrival(30), 300 * MS, 300 * MS)
    assert np.isfinite(follower.robot.sent[-1].position).all()


def test_after_a_hold_a_near_command_is_caught_up_with_at_bounded_speed(follower: Follower) -> None:
    moving(follower)
    follower.step(1000 * MS)
    held = follower.reference.copy()
    step = 2.5 * follower.robot.spec.velocity * 0.01 + 1e-12
    before = held
    for counter in range(100, 120):
        assert send(follower, counter, held + 0.09) == ""
        assert (np.abs(follower.reference - before) <= step).all()
        before = follower.reference.copy()
    np.testing.assert_allclose(before, held + 0.09)
    assert "jumps" in send(follower, 121, before + 0.25)


PIECES = st.lists(st.tuples(st.floats(-0.3, 0.3), st.integers(0, 13), st.sampled_from([1, 1, 2, 9])), max_size=12)


@given(PIECES)
@settings(deadline=None, max_examples=50)
def test_whatever_comes_and_goes_the_driver_moves_the_arm_in_bounded_pieces_only(pieces: list[tuple[float, int, int]]) -> None:
    """Its own straight ways: never faster than 2.5 times the joints' speed, never further than a command may be away."""
    robot = FakeRobot(robot_spec.load("nico"))
    robot.connect()
    gate = CommandGate(DRIVER, "safety", "/", max_age_ns=100 * MS, future_ns=20 * MS)
    gate.writers([HOME])
    follower = Follower(robot, gate, timeout_ns=80 * MS, period_s=0.01)
    fastest, now, heard = 2.5 * robot.spec.velocity * 0.01 + 1e-12, 0, -(10**12)
    for counter, (offset, joint, periods) in enumerate(pieces, 1):
        q = follower.reference.copy()
        q[joint] += offset
        q = robot.spec.clip(q)
        followed, away = follower.following, float(np.abs(q - follower.reference).max())
        message = arrival(counter, stamp_ms=now // MS + 10)
        why = follower.offer(Command(robot.spec.joint_names, q, np.zeros_like(q), message.stamp_ns), message, now + 10 * MS, now)
        assert bool(why) is (away > (0.2 if followed else 0.1)), why
        heard = heard if why else now
        for _ in range(periods):
            now += 10 * MS
            before, writes, arm = follower.reference.copy(), len(robot.sent), robot.read().position
            follower.step(now)
            robot.advance(0.01)
            if follower.following:
                assert now - heard <= 80 * MS and (np.abs(follower.reference - before) <= fastest).all()
                assert np.abs(robot.sent[-1].position - q).max() <= np.abs(before - q).max() + 1e-12, "towards it"
            else:
                assert len(robot.sent) == writes, "it stands"
            assert (np.abs(robot.read().position - arm) <= robot.spec.velocity * 0.01 + 1e-12).all()


def test_after_placing_only_commands_from_the_new_place_are_followed(follower: Follower) -> None:
    q = moving(follower)
    follower.placed(q + 0.3)
    assert "placed" in send(follower, 30, q)
    assert send(follower, 31, q + 0.31) == ""


def test_an_arm_that_needs_torque_stands_after_stop_and_disconnect(follower: Follower) -> None:
    moving(follower)
    robot = follower.robot
    for end in (lambda: follower.hold("test"), robot.disconnect):
        end()
        before = robot._q.copy()  # disconnected: read() would refuse
        robot.advance(1.0)
        assert robot.torque and np.abs(robot._q - before).max() < 0.06, "it stands where it was, and does not sink"


def test_a_fake_arm_without_torque_sinks() -> None:
    """The control of the test above: the fake would show a fall."""

    class Limp(FakeRobot):
        needs_torque_to_hold = False

    robot = Limp(robot_spec.load("nico"))
    robot.connect()
    before = robot.read().position
    robot.disconnect()
    robot.advance(1.0)
    assert np.abs(robot._q - before).max() > 0.5


class LostRobot(FakeRobot):
    """A fake that can be out of reach."""

    lost = ""

    def trouble(self) -> str:
        return self.lost


def test_a_lost_robot_closes_the_gate_and_is_followed_again_only_after_a_reset_and_from_where_it_is(gate: CommandGate) -> None:
    robot = LostRobot(robot_spec.load("nico"))
    with robot:
        follower = Follower(robot, gate, timeout_ns=60 * MS, period_s=0.01)
        home, names = robot.spec.home, robot.spec.joint_names

        def send(counter: int, position: np.ndarray, epoch: int = 0) -> str:
            message = arrival(counter, epoch=epoch)
            why = follower.offer(Command(names, position, np.zeros_like(position), message.stamp_ns), message, message.stamp_ns, message.stamp_ns)
            follower.step(message.stamp_ns)
            robot.advance(0.01)
            return why

        assert send(1, home) == "" and follower.following
        robot.lost = "the device is gone"
        send(2, home)
        assert not follower.following and gate.latched is Refusal.ROBOT_LOST and robot.stops == 1
        written = len(robot.sent)
        robot._q = home - 0.3  # it sank meanwhile
        robot.lost = ""
        assert send(3, home) and send(4, home) and not follower.following and len(robot.sent) == written
        assert np.allclose(follower.reference, home - 0.3) and robot.stops == 2
        assert "jumps" in send(5, home, epoch=1), "not to where it was before"
        assert send(6, home - 0.3, epoch=1) == "" and follower.following and gate.latched is Refusal.NONE
