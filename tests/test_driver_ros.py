"""The driver process with the fake arm: whom it follows, and how soon it stops by itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from conftest import wait_until
from rclpy.node import Node
from rclpy.publisher import Publisher
from ros_probe import SpunNode, use_fast_dds_profile
from wm_interfaces.msg import Heartbeat

from wm_bridge.core.types import Command
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.gate import Ticket
from wm_bridge.ros import convert, qos

SESSION = 4711


class FakeSafety(SpunNode):
    """Stands where the safety node would: writes hw/command at 100 Hz with good tickets.

    Attributes:
        beats: (arrival on the steady clock, message) of driver/heartbeat.
        speed: rad/s of every joint. silent: writes nothing. epoch, frozen: of the ticket.
    """

    def __init__(self, domain: int, name: str = "safety") -> None:
        self.spec = robot_spec.load("nico")
        super().__init__(domain, name)
        self.beats: list[tuple[float, Heartbeat]] = []
        self.joints: dict[str, np.ndarray] = {}
        self.clock_ns = 0
        self.q: np.ndarray | None = None
        self.speed, self.silent, self.epoch, self.counter, self.frozen = 0.0, False, 0, 0, False
        self.sent: list = []
        self.sent_at = 0.0
        self.ticks = 0
        self.node.create_subscription(Heartbeat, "driver/heartbeat", self._on_beat, qos.monitor_profile("driver/heartbeat"))
        self.node.create_subscription(qos.message_type("joint_states"), "joint_states", self._on_joints, qos.monitor_profile("joint_states"))
        self.command = self.node.create_publisher(qos.message_type("hw/command"), "hw/command", qos.profile("hw/command"))
        self.node.create_timer(0.01, self._tick)
        self._lock = threading.Lock()  # of what a tick writes: q, counter
        self.strays: list[Node] = []
        self.start()

    def _on_beat(self, message: Heartbeat) -> None:
        self.beats.append((time.monotonic(), message))

    def _on_joints(self, message) -> None:
        self.clock_ns = convert.from_time(message.header.stamp)
        self.position, self.velocity = np.array(message.position), np.array(message.velocity)
        if self.q is None:
            self.q = self.position.copy()

    def _tick(self) -> None:
        self.ticks += 1
        with self._lock:
            if self.q is None or self.silent or not self.beats:
                return
            self.q = self.q + self.speed * 0.01
            self.counter += not self.frozen
            self.publish(self.ticket())

    def ticket(self) -> Ticket:
        return Ticket(SESSION, self.beats[-1][1].session, self.counter, self.epoch)

    def publish(self, ticket: Ticket | None, offset: float = 0.0) -> None:
        command = Command(self.spec.joint_names, self.q + offset, np.full_like(self.q, self.speed), self.clock_ns)
        self.sent.append(convert.to_command(command, ticket))
        self.command.publish(self.sent[-1])
        self.sent_at = time.monotonic()

    @property
    def beat(self) -> Heartbeat:
        return self.beats[-1][1]

    def follow(self) -> None:
        """Reset the driver's latch as safety/reset would, move, and wait until it follows."""
        with self._lock:
            self.epoch += 1
            self.q = self.position.copy()
            self.silent, self.frozen, self.speed = False, False, 0.1
        wait_until(lambda: self.beat.following and self.beat.writer == SESSION, 15.0, "the driver follows")

    def rest(self) -> None:
        """Stop the motion and wait until the arm has caught up and stands."""
        self.speed = 0.0
        wait_until(lambda: np.abs(self.position - self.q).max() < 5e-3 and np.abs(self.velocity).max() < 1e-3, 15.0, "at rest")

    def gap(self) -> float:
        """Longest time between two heartbeats, s: how late this machine is with what comes every 20 ms."""
        at = [at for at, _ in self.beats]
        return max(np.diff(at), default=0.0)

    def leave(self) -> None:
        """Write nothing from now on, and go; not in the middle of a tick of the other thread."""
        self.silent = True
        ticks = self.ticks
        wait_until(lambda: self.ticks > ticks, 15.0, "a silent tick")
        self.node.destroy_publisher(self.command)

    def stray_writer(self, name: str) -> Publisher:
        """A publisher of hw/command in another node, once the driver reads it."""
        self.strays.append(rclpy.create_node(name, context=self.context))
        writer = self.strays[-1].create_publisher(qos.message_type("hw/command"), "hw/command", qos.profile("hw/command"))
        wait_until(lambda: writer.get_subscription_count() > 0, 15.0, "matched")
        return writer

    def close(self) -> None:
        for node in self.strays:
            node.destroy_node()
        super().close()


class RealTimeSafety(FakeSafety):
    """Stamps commands with the wall clock, as the safety node does on a robot.

    Attributes:
        measured_ns: stamp of the newest joint state.
    """

    measured_ns = 0

    def _on_joints(self, message) -> None:
        super()._on_joints(message)
        self.measured_ns = self.clock_ns

    def publish(self, ticket: Ticket | None, offset: float = 0.0) -> None:
        self.clock_ns = time.time_ns()
        super().publish(ticket, offset)


@pytest.fixture
def safety(ros_env: dict[str, str], tmp_path: Path) -> Iterator[FakeSafety]:
    """The driver's process and its writer."""
    use_fast_dds_profile(ros_env)
    command = [sys.executable, "-m", "wm_bridge.nodes.driver", "--ros-args", "-p", "robot_driver:=fake"]
    log = tmp_path / "driver.log"
    with log.open("w") as stderr:
        driver = subprocess.Popen(command, env=ros_env, stderr=stderr)
    found = FakeSafety(int(ros_env["ROS_DOMAIN_ID"]))
    found.driver, found.log = driver, log
    try:
        wait_until(lambda: found.beats and found.q is not None, 30.0, "the driver's heartbeat")
        yield found
    finally:
        driver.kill()
        driver.wait()
        found.close()
        print(log.read_text(), file=sys.stderr)


def held(safety: FakeSafety) -> bool:
    return not safety.beat.following


def test_silence_stops_the_arm_within_100_ms_without_a_latch(safety: FakeSafety) -> None:
    safety.follow()
    counter = safety.beat.counter
    safety.silent = True
    wait_until(lambda: held(safety), 15.0, "the driver stops")
    beats = list(safety.beats)
    at, message = next(beat for beat in beats if beat[1].counter > counter and not beat[1].following)
    # 60 ms by its own clock; the rest is this test's and the machine's, which may be a slow one
    assert at - safety.sent_at <= 0.1 + 3.0 * safety.gap()
    assert not message.latched
    counters = [message.counter for _, message in beats]
    assert counters == list(range(counters[0], counters[0] + len(counters)))


def test_a_driver_tells_where_it_is_and_goes_on(safety: FakeSafety) -> None:
    safety.driver.send_signal(signal.SIGUSR1)
    wait_until(lambda: "in spin_once" in safety.log.read_text(), 10.0, "the lines that the driver's threads are at")
    safety.follow()


def test_a_frozen_counter_is_a_replay_and_latches(safety: FakeSafety) -> None:
    safety.follow()
    safety.frozen = True
    wait_until(lambda: safety.beat.latched and held(safety), 15.0, "the driver stops and latches")


def test_a_second_publisher_is_seen_within_300_ms_and_latched_until_a_reset(safety: FakeSafety) -> None:
    safety.follow()
    begin = time.monotonic()
    other = safety.node.create_publisher(qos.message_type("hw/command"), "hw/command", qos.profile("hw/command"))
    wait_until(lambda: safety.beat.latched, 15.0, "latched")
    seen, message = next(beat for beat in list(safety.beats) if beat[0] > begin and beat[1].latched)
    assert seen - begin <= 0.3 + 5.0 * safety.gap() and "more than one" in message.detail
    assert not safety.call("driver/reset").success, "the cause still acts"
    safety.epoch += 1
    safety.node.destroy_publisher(other)
    wait_until(lambda: safety.call("driver/reset").success, 15.0, "reset")
    safety.follow()


@pytest.mark.parametrize("kind", ["no ticket", "own counter", "replay"])
def test_one_message_of_another_writer_moves_nothing_and_latches(safety: FakeSafety, kind: str) -> None:
    """All from another node, at once with its appearance, so that discovery has no time to help."""
    safety.follow()
    safety.rest()
    writer = safety.stray_writer("safety")  # even with the right name
    if kind == "replay":
        message = safety.sent[-3]
    else:
        ticket = None if kind == "no ticket" else Ticket(SESSION, safety.beat.session, safety.counter + 5, safety.epoch)
        q = safety.q + 0.15
        message = convert.to_command(Command(safety.spec.joint_names, q, np.zeros_like(q), safety.clock_ns), ticket)
    before = safety.position.copy()
    writer.publish(message)
    wait_until(lambda: safety.beat.latched, 15.0, "latched")
    assert np.abs(safety.position - before).max() < 0.03


def test_a_sole_foreign_writer_is_never_followed(safety: FakeSafety) -> None:
    safety.follow()
    ticket = safety.ticket()
    safety.leave()
    writer = safety.stray_writer("planner")
    # what is heard of the arm may be older than what is heard of the driver: wait for both
    wait_until(lambda: held(safety) and np.abs(safety.velocity).max() < 1e-3, 15.0, "held, and at rest")
    resting, number = safety.position.copy(), 0

    def forge() -> None:
        nonlocal number
        number += 1
        forged = Ticket(ticket.writer, ticket.reader, ticket.counter + number, ticket.epoch + 1)
        q, beat = resting + 0.05, safety.beat.counter
        writer.publish(convert.to_command(Command(safety.spec.joint_names, q, np.zeros_like(q), safety.clock_ns), forged))
        wait_until(lambda: safety.beat.counter > beat, 10.0, "the next heartbeat")

    def seen_through() -> bool:
        forge()
        return safety.beat.latched and "expected node" in safety.beat.detail

    for _ in range(30):
        forge()
    wait_until(seen_through, 15.0, "the driver knows who writes")
    assert np.abs(safety.position - resting).max() < 0.01


def test_a_ticket_travels_with_the_command() -> None:
    q = np.zeros(2)
    for ticket in (None, Ticket(1, 2**53, 3, 4)):
        message = convert.to_command(Command(("a", "b"), q, q, 5, 6), ticket)
        assert convert.from_ticket(message) == ticket and convert.source_stamp(message) == 6
    for wrong in ("base_link", "1:2", "1:2:3:4:-5", "1:2:3:4:5:6", "²"):
        message.header.frame_id = wrong
        with pytest.raises(ValueError, match="frame_id"):
            convert.from_ticket(message)
