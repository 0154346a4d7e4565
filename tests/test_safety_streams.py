"""Message streams as a state machine: lost, late, doubled, swapped, forged; an account kept apart says what counts.

The account (`Books`) knows the rules of the messages and no code of the filter: which stamps are believed, and
since when a stream is silent. After every tick the filter must be at least as careful as the account demands.
"""

from __future__ import annotations

import numpy as np
from conftest import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from test_safety_filter import CONFIG, HOME, MS, NAMES, Rig, T

from wm_bridge.core.types import JointState, Reason, SafetyMode, Trajectory

FUTURE_MS = CONFIG.future_tolerance_ms
AGE_MS = {"plan": CONFIG.command_max_age_ms, "state": CONFIG.state_timeout_ms, "frame": CONFIG.camera_timeout_ms}
STALE = {"plan": Reason.STALE_COMMAND, "state": Reason.STALE_STATE, "frame": Reason.STALE_CAMERA}
STAMPS = STALE["plan"] | Reason.FUTURE_STAMP | Reason.REPLAYED | Reason.ZERO_STAMP
KINDS = st.sampled_from(sorted(AGE_MS))


class Books:
    """What was believed of one stream: the last stamp, and when it came on the steady clock."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.stamp: int | None = None
        self.heard: int | None = None

    def wrong(self, stamp: int, now: int) -> Reason:
        if stamp <= 0:
            return Reason.ZERO_STAMP
        if stamp - now > FUTURE_MS * MS:
            return Reason.FUTURE_STAMP
        if self.stamp is not None and stamp <= self.stamp:
            return Reason.REPLAYED
        return STALE[self.kind] if now - stamp > AGE_MS[self.kind] * MS else Reason.NONE

    def note(self, stamp: int, steady: int) -> None:
        self.stamp, self.heard = stamp, steady

    def silent(self, steady: int, limit_ms: float) -> bool:
        return self.heard is None or steady - self.heard > limit_ms * MS


class Streams(RuleBasedStateMachine):
    """A filter and three streams with a network between that does what it likes."""

    @initialize()
    def start(self) -> None:
        self.rig = Rig(running=False)
        self.rig.state_on = self.rig.camera_on = False
        self.leap = 0  # node time minus steady time
        self.steady = self.rig.now
        self.books = {kind: Books(kind) for kind in AGE_MS}
        self.flight: list[tuple[str, object]] = []
        self.past: list[tuple[str, object]] = []
        self.frames = 0
        for kind in ("state", "frame"):
            self.deliver(self.make(kind))
        self.tick()
        self.rig.filter.reset(self.now, self.steady)
        self.rig.filter.enable(True)

    @property
    def now(self) -> int:
        return self.steady + self.leap

    # ---- the network -----------------------------------------------------------------

    @rule(kind=KINDS)
    def send(self, kind: str) -> None:
        self.flight.append(self.make(kind))

    @rule(which=st.integers(0, 20), copies=st.integers(1, 2))
    def arrives(self, which: int, copies: int) -> None:
        if self.flight:
            message = self.flight.pop(which % len(self.flight))
            for _ in range(copies):
                self.deliver(message)

    @rule(which=st.integers(0, 20))
    def is_lost(self, which: int) -> None:
        if self.flight:
            self.flight.pop(which % len(self.flight))

    @rule(which=st.integers(0, 200))
    def comes_again(self, which: int) -> None:
        if self.past:
            self.deliver(self.past[which % len(self.past)])

    @rule(kind=KINDS, stamp=st.sampled_from([0, -1, None]), ahead_ms=st.integers(-700, 700))
    def is_forged(self, kind: str, stamp: int | None, ahead_ms: int) -> None:
        self.deliver(self.make(kind, self.now + ahead_ms * MS if stamp is None else stamp))

    @rule(ticks=st.integers(1, 30), alive=st.sets(KINDS))
    def time_goes_on(self, ticks: int, alive: set[str]) -> None:
        for k in range(ticks):
            for kind in sorted(alive - {"plan"}):
                self.deliver(self.make(kind))
            if "plan" in alive and k % 10 == 0:
                self.deliver(self.make("plan"))
            self.tick()

    @rule(ticks=st.integers(20, 60))
    def all_is_well(self, ticks: int) -> None:
        """Unless something latched, good streams bring the arm to move."""
        self.time_goes_on(30, {"state", "frame"})
        self.time_goes_on(ticks, set(AGE_MS))
        if not self.rig.filter.status().latched:
            assert self.rig.verdicts[-1].mode <= SafetyMode.LIMITED, self.rig.verdicts[-1]

    @rule(by_ms=st.sampled_from([-2000, -11, 480, 600, 5000]))
    def clock_leaps(self, by_ms: int) -> None:
        self.leap += by_ms * MS
        self.tick()
        if not 0 <= by_ms * MS + T <= CONFIG.clock_jump_ms * MS:
            assert self.rig.verdicts[-1].mode >= SafetyMode.BRAKE
            for books in self.books.values():
                books.stamp = None

    @rule()
    def somebody_resets(self) -> None:
        self.rig.filter.stop()
        for _ in range(40):
            self.deliver(self.make("state"))
            self.tick()
        assert self.rig.filter.reset(self.now, self.steady).ok and self.rig.filter.enable(True).ok

    # ---- inside ----------------------------------------------------------------------

    def make(self, kind: str, stamp: int | None = None) -> tuple[str, object]:
        stamp = self.now if stamp is None else stamp
        if kind == "frame":
            self.frames += 1
            return kind, (stamp, self.frames)
        q = self.rig.outputs[-1] if self.rig.outputs else HOME
        if kind == "state":
            return kind, JointState(NAMES, q, np.zeros(3), np.zeros(3), stamp)
        towards = -1.0 if q[0] > 0.0 else 1.0
        positions = q[:1] + towards * 0.03 * np.arange(1, 9)[:, None]
        velocities = np.append(np.full((7, 1), towards * 0.3), [[0.0]], axis=0)
        return kind, Trajectory(NAMES[:1], tuple(round(1e8 * (k + 1)) for k in range(8)), positions, velocities, stamp)

    def deliver(self, message: tuple[str, object]) -> None:
        kind, content = message
        self.past.append(message)
        stamp = content[0] if kind == "frame" else content.stamp_ns
        books, f = self.books[kind], self.rig.filter
        wrong, refused = books.wrong(stamp, self.now), f.status().refused
        if kind == "frame":
            found = f.observe_camera(*content, self.now, self.steady)
        elif kind == "state":
            found = f.observe_state(content, self.now, self.steady) & ~Reason.STATE_JUMP  # an old place, freshly stamped
        else:
            found = f.submit(content, self.now, self.steady)
            wrong |= found & ~STAMPS  # closed for plans, whatever their stamps
        assert found == wrong, (kind, found, wrong)
        assert f.status().refused == refused + bool(wrong)
        if not wrong:
            books.note(stamp, self.steady)

    def tick(self) -> None:
        self.steady += T
        self.rig.now = self.now
        command, verdict = self.rig.filter.tick(self.now, self.steady)
        if command is not None:
            self.rig.outputs.append(command.position)
        self.rig.verdicts.append(verdict)
        plan, state, frame = (self.books[kind] for kind in ("plan", "state", "frame"))
        if state.silent(self.steady, CONFIG.state_latch_ms):
            assert verdict.mode is SafetyMode.LATCHED
        elif state.silent(self.steady, CONFIG.state_timeout_ms):
            assert verdict.mode >= SafetyMode.BRAKE
        if frame.silent(self.steady, CONFIG.camera_timeout_ms) or plan.silent(self.steady, CONFIG.command_timeout_ms):
            assert verdict.mode >= SafetyMode.HOLD
        stopped = [v.mode >= SafetyMode.HOLD for v in self.rig.verdicts[-25:]]
        if len(stopped) == 25 and all(stopped):
            assert self.rig.speed() == 0.0, "a stop from full speed takes 0.25 s"

    @invariant()
    def no_internal_error(self) -> None:
        assert not any(verdict.reasons & Reason.INTERNAL for verdict in self.rig.verdicts[-60:])


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=examples(30), stateful_step_count=30, deadline=None)
