"""The ladder as a state machine: whatever happens in whatever order, only reset leads up from the latch."""

import numpy as np
from conftest import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from plain_motion import check_motion
from test_safety_filter import CONFIG, LIMITS, MS, NAMES, Rig, bad_plans

from wm_bridge.core.types import Reason, SafetyMode
from wm_bridge.safety.health import Health


class Ladder(RuleBasedStateMachine):
    """A filter, its arm, and everything that can be said to it."""

    def __init__(self):
        super().__init__()
        self.rig = Rig()
        self.was_reset = True
        self.seen = len(self.rig.verdicts)
        self.checked = len(self.rig.outputs)
        self.begun = -1  # output that may have begun anew at the measured position
        self.jumped = -MS * 1000
        self.rig.tick()

    def moving(self):
        return self.rig.speed() > 0 and len(self.rig.outputs) - 1 != self.begun

    @rule(ticks=st.integers(1, 40))
    def go_on(self, ticks):
        self.rig.run(ticks)

    @rule(speed=st.floats(-3, 3), points=st.integers(1, 9), names=st.permutations(NAMES))
    def plan(self, speed, points, names):
        self.rig.submit(speed=speed, points=points, names=tuple(names))
        self.rig.run(5)

    @rule(case=st.integers(0, 10))
    def bad_plan(self, case):
        plan, _ = bad_plans(self.rig)[case]
        before = self.rig.filter.status()
        reason = self.rig.filter.submit(plan, self.rig.now, self.rig.now)
        assert reason and self.rig.filter.status().refused > before.refused
        assert self.rig.tick().mode >= SafetyMode.BRAKE

    @rule(offset=st.integers(-2000, 2000), digest=st.integers(0, 3))
    def frame(self, offset, digest):
        self.rig.filter.observe_camera(self.rig.now + offset * MS, digest, self.rig.now, self.rig.now)

    @rule(offset=st.integers(-300, 300), jump=st.floats(-1, 1), index=st.integers(0, 2))
    def odd_state(self, offset, jump, index):
        position = self.rig.measured.copy()
        position[index] += jump
        state = self.rig.state(position=position)
        object.__setattr__(state, "stamp_ns", self.rig.now + offset * MS)
        if self.rig.filter.observe_state(state, self.rig.now, self.rig.now) & Reason.STATE_JUMP:
            self.jumped = self.rig.now

    @rule(state_on=st.booleans(), camera_on=st.booleans())
    def silence(self, state_on, camera_on):
        self.rig.state_on, self.rig.camera_on = state_on, camera_on

    @rule(errors=st.sampled_from([(), ("overload",)]), heat=st.sampled_from([30.0, 60.0, 70.0, 90.0, float("nan")]))
    def motors(self, errors, heat):
        self.rig.filter.observe_health(Health(temperature_c=(heat,), errors=errors), self.rig.now)

    @rule(count=st.integers(0, 3))
    def writers(self, count):
        self.rig.filter.writers(count)

    @rule(on=st.booleans())
    def enable(self, on):
        latched = self.rig.filter.status().latched
        assert self.rig.filter.enable(on).ok is not (on and latched)

    @rule()
    def stop(self):
        self.rig.filter.stop()
        assert self.rig.tick().mode is SafetyMode.LATCHED

    @rule()
    def reset(self):
        moving = self.moving()
        answer = self.rig.filter.reset(self.rig.now, self.rig.now)
        assert not (answer.ok and (moving or self.rig.now - self.jumped < 100 * MS))
        if answer.ok:
            self.begun = len(self.rig.outputs)
        self.was_reset |= answer.ok
        self.rig.filter.enable(True)

    @invariant()
    def only_reset_leaves_the_latch(self):
        verdicts = self.rig.verdicts[self.seen - 1 :]
        for before, after in zip(verdicts, verdicts[1:], strict=False):
            if before.mode is SafetyMode.LATCHED and after.mode is not SafetyMode.LATCHED:
                assert self.was_reset
                self.was_reset = False
        self.seen = len(self.rig.verdicts)

    @invariant()
    def no_limit_is_broken_and_no_internal_error_happens(self):
        q = np.array(self.rig.outputs[max(self.checked - 3, 0) :])
        jumps = np.abs(np.diff(q, axis=0)).max(initial=0.0)
        if len(q) > 4 and jumps < 0.011:  # else: begun anew at the measured position after a reset
            wrong = check_motion(q[:3], q[3], q[4:], LIMITS, CONFIG.dt)
            ends = Reason.JERK_LIMIT | Reason.ACCELERATION_LIMIT  # the part need not end at rest
            assert not wrong & ~ends, wrong
        self.checked = len(self.rig.outputs)
        assert not any(v.reasons & Reason.INTERNAL for v in self.rig.verdicts[-60:])

    @invariant()
    def stopped_modes_come_to_rest(self):
        last = self.rig.verdicts[-30:]
        if len(last) == 30 and all(v.mode >= SafetyMode.HOLD for v in last):
            assert not self.moving()


TestLadder = Ladder.TestCase
TestLadder.settings = settings(max_examples=examples(25), stateful_step_count=30, deadline=None)
