"""Filter, driver and arm in one process, stepped tick by tick, with a place for a fault at every seam.

The parts are those of the graph: `SafetyFilter`, `CommandGate` + `Follower` (the driver's core)
and `FakeRobot`; the topics between them are lists that a fault may change on their way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wm_bridge.core.types import Command, FloatArray, JointState, Reason, SafetyMode, Trajectory, Verdict
from wm_bridge.robots.fake import FakeRobot
from wm_bridge.robots.follower import COMMAND_TIMEOUT_MS, Follower
from wm_bridge.robots.gate import Arrival, CommandGate, Refusal, Ticket, Writer
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.robots.watch import Beat, DriverWatch
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.filter import SafetyFilter

MS = 1_000_000
START_NS = 1_000_000 * MS
STILL_RAD_S = 0.02  # slower than this in every joint, and for good: standstill
_WRITER, _READER = 22, 11
_FRAME_EVERY, _PLAN_EVERY = 5, 10  # ticks
ARM_JOINTS = "r_shoulder_z r_shoulder_y r_arm_x r_elbow_y r_wrist_z r_wrist_x".split()


@dataclass(frozen=True)
class Hop:
    """A command on its way from the safety node to the driver."""

    command: Command
    arrival: Arrival


@dataclass
class Heard:
    """Node time at which the last good message of each kind was handed over."""

    plan: int = START_NS
    state: int = START_NS
    camera: int = START_NS
    command: int = START_NS


class Rig:
    """One run. The hooks take what was sent and return what arrives (nothing, another, several).

    Attributes:
        on_plan, on_state, on_frame, on_hop: see above. frame = (stamp_ns, digest).
        clock: from true time to the node time that the filter is told, ns.
        before_tick: called before each filter tick. safety_alive: the filter is ticked at all.
        fault_ns: true time from which the fault may act; acted_ns: its first effect. verdicts: (true time, verdict), one per tick.
        speed: (true time, largest joint speed of the arm, largest speed of the output).
    """

    def __init__(self, spec: RobotSpec, config: SafetyConfig, rng: np.random.Generator) -> None:
        self.spec, self.config, self.rng = spec, config, rng
        self.filter_clock: Callable[[], int] = lambda: 0  # what the filter's time budget is measured with
        self.filter = SafetyFilter(spec, config, clock=lambda: self.filter_clock())
        self.robot = FakeRobot(spec)
        self.robot.connect()
        self.gate = CommandGate(_READER, "safety", "/", 100 * MS, 20 * MS, equal_stamps=True)
        self.gate.writers([Writer("aa", "safety", "/")])
        self.follower = Follower(self.robot, self.gate, round(COMMAND_TIMEOUT_MS * MS), config.dt)
        self.watch = DriverWatch()
        self.now = START_NS
        self.ticks = 0
        self.heard = Heard()
        self.on_plan: Callable[[Trajectory], list[Trajectory]] = lambda plan: [plan]
        self.on_state: Callable[[JointState], list[JointState]] = lambda state: [state]
        self.on_frame: Callable[[int, int], list[tuple[int, int]]] = lambda stamp, digest: [(stamp, digest)]
        self.on_hop: Callable[[Hop], list[Hop]] = lambda hop: [hop]
        self.clock: Callable[[int], int] = lambda now: now
        self.before_tick: Callable[[], None] = lambda: None
        self.safety_alive = True
        self.fault_ns: int | None = None
        self.acted_ns: int | None = None
        self.verdicts: list[tuple[int, Verdict]] = []
        self.driver_holds: list[int] = []
        self.speed: list[tuple[int, float, float]] = []
        self.last_plan: Trajectory | None = None
        self._output: FloatArray | None = None
        self._home = spec.home[[spec.index(name) for name in ARM_JOINTS]]
        self._amplitude = np.append(rng.uniform(0.02, 0.12, 3), [rng.uniform(0.15, 0.3), 0.05, 0.05])
        self._omega = rng.uniform(2.0, 3.0)
        self._phase = rng.uniform(0.0, 2.0 * np.pi, len(ARM_JOINTS))

    @property
    def tick_ns(self) -> int:
        return round(self.config.period_ms * MS)

    def start(self) -> None:
        """Reset, enable, and run until the arm moves quickly."""
        for _ in range(5):
            self.step()
        for answer in (self.filter.reset(self.now, self.now), self.filter.enable(True)):
            if not answer.ok:
                raise RuntimeError(f"the rig does not start: {answer.message}")
        begin = self.now
        wait = self.rng.uniform(0.8, 1.6)
        while self.now < begin + wait * 1e9 or self.speed[-1][2] < 0.15:
            self.step()
            if self.now > begin + 6e9:
                raise RuntimeError(f"the rig does not move: {self.filter.status()}")

    def run(self, seconds: float) -> None:
        """Step on; the fault acts from now."""
        self.fault_ns = self.now
        for _ in range(round(seconds / self.config.dt)):
            self.step()

    def acted(self) -> None:
        """A fault says that it has just had an effect."""
        if self.acted_ns is None:
            self.acted_ns = self.now

    def step(self) -> None:
        """One control period of everything."""
        self.now += self.tick_ns
        self.ticks += 1
        told = self.clock(self.now)
        self._measure(told)
        if self.ticks % _FRAME_EVERY == 0:
            for stamp, digest in self.on_frame(told, self.ticks):
                if not self.filter.observe_camera(stamp, digest, told, self.now) & _UNHEARD:
                    self.heard.camera = self.now
        if self.ticks % _PLAN_EVERY == 0:
            for plan in self.on_plan(self._plan(told)):
                if self.filter.submit(plan, told, self.now) is Reason.NONE:
                    self.heard.plan = self.now
        self.before_tick()
        was_following = self.follower.following
        output_speed = self._tick(told) if self.safety_alive else 0.0
        self.follower.step(self.now)
        if was_following and not self.follower.following:
            self.driver_holds.append(self.now)
        self._beat(output_speed > 0.0)
        self.robot.advance(self.config.dt)
        self.speed.append((self.now, float(np.abs(self.robot.read().velocity).max()), output_speed))

    # ---- inside --------------------------------------------------------------------

    def _measure(self, told: int) -> None:
        state = replace(self.robot.read(), stamp_ns=told)
        for arrived in self.on_state(state):
            if not self.filter.observe_state(arrived, told, self.now):
                self.heard.state = self.now

    def _tick(self, told: int) -> float:
        command, verdict = self.filter.tick(told, self.now)
        self.verdicts.append((self.now, verdict))
        if command is None:
            return 0.0
        ticket = Ticket(_WRITER, _READER, self.ticks, 0)
        hop = Hop(command, Arrival(ticket, command.stamp_ns, sequence=self.ticks))
        for arrived in self.on_hop(hop):
            if not self.follower.offer(arrived.command, arrived.arrival, told, self.now):
                self.heard.command = self.now
        return float(np.abs(command.velocity).max())

    def _beat(self, moving: bool) -> None:
        """The driver's heartbeat and what the safety node makes of it."""
        gate, follower = self.gate, self.follower
        latched = gate.latched is not Refusal.NONE
        beat = Beat(_READER, self.ticks, follower.following, latched, follower.problem)
        reason, detail = self.watch.observe(beat, moving, self.now)
        if reason:
            self.filter.stop(detail, reason)

    def _plan(self, told: int) -> Trajectory:
        """The next 0.9 s of a swing of the right arm around home, as the planner would send it."""
        times = tuple(round(1e8 * (k + 0.5)) for k in range(9))
        seconds = np.array([(self.now - START_NS + t) * 1e-9 for t in times])[:, None]
        ramp = np.clip(seconds / 1.0, 0.0, 1.0)
        angle = self._omega * seconds + self._phase
        positions = self._home + ramp * self._amplitude * np.sin(angle)
        velocities = ramp * self._amplitude * self._omega * np.cos(angle)
        velocities[-1] = 0.0
        self.last_plan = Trajectory(tuple(ARM_JOINTS), times, positions, velocities, told)
        return self.last_plan


_UNHEARD = Reason.ZERO_STAMP | Reason.FUTURE_STAMP | Reason.REPLAYED | Reason.STALE_CAMERA


@dataclass(frozen=True)
class Outcome:
    """What came of one injection.

    Attributes:
        stood: the arm stood still at the end, and stayed so.
        late_ticks: first braking output after it was due, in ticks (<= 1 is on time).
        stop_s: from the first braking output to standstill of arm and output.
        braked_by: reasons of that output, or "driver".
    """

    stood: bool
    late_ticks: float
    stop_s: float
    braked_by: str


def judge(rig: Rig, due_ns: int, passes: bool = False) -> Outcome:
    """Read off a run what happened.

    Args:
        due_ns: true time until which the fault need not be noticed.
        passes: the cause is over at once, so a fresh plan may move the arm again after it stood.
    """
    assert rig.fault_ns is not None
    fault = rig.fault_ns
    braked = [
        (now, "+".join(r.name or "" for r in Reason if r.value and r in verdict.reasons))
        for now, verdict in rig.verdicts
        if now > fault and verdict.mode >= SafetyMode.HOLD
    ][:1] + [(now, "driver") for now in rig.driver_holds if now > fault][:1]
    if passes and braked:
        return _first_stand(rig, min(braked), due_ns)
    moving = [now for now, arm, out in rig.speed if now > fault and max(arm, out) > STILL_RAD_S]
    end = rig.speed[-1][0]
    last = moving[-1] if moving else fault
    stood = end - last >= 200 * MS
    if not braked:
        return Outcome(False, float("inf"), float("inf"), "")
    first, why = min(braked)
    return Outcome(
        stood, max(0.0, (first - due_ns) / rig.tick_ns), max(0.0, (last - first) * 1e-9) if stood else float("inf"), why
    )


def _first_stand(rig: Rig, braked: tuple[int, str], due_ns: int) -> Outcome:
    first, why = braked
    stands = [now for now, arm, out in rig.speed if now >= first and arm < STILL_RAD_S and out == 0.0]
    late = max(0.0, (first - due_ns) / rig.tick_ns)
    return Outcome(bool(stands), late, (stands[0] - first) * 1e-9 if stands else float("inf"), why)
