"""The safety filter: from whatever the planner says to what the arm may do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from wm_bridge.core.joints import JointTable
from wm_bridge.core.types import (
    Command,
    FloatArray,
    JointState,
    Reason,
    SafetyMode,
    Trajectory,
    Verdict,
)
from wm_bridge.safety import qp
from wm_bridge.safety.answers import Answer, FilterStatus
from wm_bridge.safety.budget import TimeBudget
from wm_bridge.safety.chooser import Choice, StepChooser
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.follower import Follower
from wm_bridge.safety.guard import DistanceGuard
from wm_bridge.safety.inputs import Inputs
from wm_bridge.safety.judge import Judge
from wm_bridge.safety.ladder import Ladder
from wm_bridge.safety.lanes import Lanes
from wm_bridge.safety.limits import MotionLimits, Shares
from wm_bridge.safety.outputs import Outputs, Step
from wm_bridge.safety.record import InterventionRecord
from wm_bridge.safety.shapes import described
from wm_bridge.safety.start import describe_outside
from wm_bridge.safety.stricter import looser
from wm_bridge.safety.supervision import Supervision
from wm_bridge.safety.watching import Watching

_SETTLED_NS = 100_000_000  # the arm lags behind the output: at rest for so long, it stands too
_CHASE = 0.5  # share of acceleration and jerk for catching up with a request

__all__ = ["Answer", "FilterStatus", "SafetyFilter"]


class SafetyFilter(Watching):
    """Turns plans into references that never break a limit, and stops when in doubt.

    Each tick takes the first row that applies; every row but the last two is the full
    brake (as hard as the acceleration limit allows) and then standing still.

    | mode    | while                                                     | left by                    |
    |---------|-----------------------------------------------------------|----------------------------|
    | LATCHED | since construction; stop request; state dead for          | `reset`: refused while a   |
    |         | state_latch_ms; tracking error; internal error            | cause acts or the arm moves|
    | BRAKE   | malformed, non-finite or misnamed message; joint jump;    | output at rest for 100 ms, |
    |         | state silent for state_timeout_ms; clock jump             | arm too, cause gone -> HOLD|
    | HOLD    | not enabled; camera dead or frozen; no plan, or plan      | `enable`, frames, and then |
    |         | older than command_timeout_ms                             | a fresh plan               |
    | LIMITED | the box changed the request by more than intervention_rad | change < half of that      |
    | NORMAL  | the request goes out as it is                             |                            |

    Latching also takes the enable away. HOLD and BRAKE drop the plan: motion starts again
    only with a plan accepted later. Replayed, old, zero- or future-stamped plans are
    refused and counted but do not brake by themselves; the command time-out does.
    The order is tracker -> `approach` -> box (`project`) -> post-check -> output; if the
    post-check objects, or anything raises, the brake step prepared in the last tick goes
    out, whose whole way was inside the limits by the checks of that tick.

    After construction no method raises. Equal inputs give equal bits (but for
    ``Verdict.duration_ns``). Outputs are one `period_ms` apart: call `tick` at that rate.

    Args:
        spec: names and limits of the joints.
        config: margins and time-outs.
        clock: steady nanoseconds, only for ``Verdict.duration_ns`` and the time budget of a tick.

    Raises:
        ValueError: limits or settings that make no sense.
    """

    def __init__(
        self,
        spec: JointTable,
        config: SafetyConfig,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._clock = clock
        self._spec = spec
        self._names = tuple(spec.joint_names)
        self._shapes = described(spec)
        self._ladder = Ladder()
        self._record = InterventionRecord()
        self._ticks = 0
        self._begin_ns = 0
        self._steady_ns = 0
        self._moved_ns = 0  # steady clock, when the output last moved
        self._configure(config)

    def _configure(self, config: SafetyConfig, known: DistanceGuard | None = None) -> None:
        """Everything that depends on the settings, as at the start but for the things ``known``."""
        spec = self._spec
        limits = MotionLimits.from_spec(
            spec,
            config.position_margin_rad,
            Shares(config.velocity_scale, config.acceleration_scale, config.jerk_scale),
        )
        if limits.lower.shape != (len(self._names),):
            raise ValueError(f"{len(self._names)} joints but limits {limits.lower.shape}")
        solver = qp.solver(config.qp_backend)
        self._config, self._limits, self._dt = config, limits, config.dt
        self._inputs = Inputs(self._names, limits.velocity, config)
        self._chase = Lanes(limits.scaled(_CHASE), self._dt)
        self._follower = Follower(spec, limits, self._dt)
        self._outputs = Outputs(limits, self._dt)
        self._guard = None
        if config.scene.enabled and self._shapes is not None:
            self._guard = DistanceGuard(self._shapes, config.scene, self._dt)
            if known is not None:
                self._guard.inherit(known)
        self._chooser = StepChooser(self._outputs, limits, self._dt, self._guard, solver)
        self._supervision = Supervision(config, getattr(spec, "effort", None))
        self._budget = TimeBudget(config.tick_budget_ms, config.tick_latch_ms)
        self._judge = Judge(limits, self._dt, config.intervention_rad, self._record)

    # ---- what others ask for -------------------------------------------------------

    def stop(self, detail: str = "stop requested", reason: Reason = Reason.STOP_REQUEST) -> Answer:
        """Brake now and latch; also for causes found outside, such as SECOND_WRITER."""
        self._latch(reason, detail)
        return Answer(True, f"latched: {detail}")

    def enable(self, on: bool) -> Answer:
        """Allow or forbid motion; releasing brakes at the next tick."""
        ladder = self._ladder
        if on and ladder.latched:
            return Answer(False, f"latched ({ladder.latch_detail}); call reset first")
        ladder.enabled = bool(on)
        if not on:
            self._drop_plan()
        return Answer(True, "enabled" if on else "disabled")

    def tighten(self, config: SafetyConfig) -> Answer:
        """Take stricter settings where a reset would be granted too; refused when any of them is looser.

        The filter is latched afterwards, as after a start. Things that were added stay, so do reduced mode, too
        little trust and a warm motor; everything else has to be heard anew.
        """
        loose = looser(self._config, config)
        if loose:
            return Answer(False, f"refused: {loose} would allow more than now; restart the node for that")
        q, started = self._outputs.motion.q, self._outputs.started
        cause = self._why_not_reset(self._steady_ns) if started else ""
        if cause:
            return Answer(False, f"refused: {cause}")
        before, measured, guard, supervision = self._config, self._inputs.measured, self._guard, self._supervision
        try:
            self._configure(config, guard)
            if started and describe_outside(self._names, q, self._limits, 0.0):
                self._configure(before, guard)
                return Answer(False, "refused: the arm stands outside of the new limits")
        except Exception as error:  # noqa: BLE001
            self._configure(before, guard)
            return Answer(False, f"refused: {error}")
        finally:
            self._inputs.measured = measured
            self._supervision.inherit(supervision)
            self._latch(Reason.NOT_ENABLED, "settings changed")
            if started:
                self._begin_at(q, np.zeros_like(q))
        return Answer(True, "stricter settings taken; reset and enable to go on")

    def reset(self, now_ns: int, steady_ns: int) -> Answer:
        """Leave LATCHED for HOLD (not yet enabled).

        Refused while there is no fresh and sane joint state, until 100 ms after a jump of it, while
        the arm or the output moves, and while the arm is outside of its limits. After a tracking error the
        output begins anew at the measured position; otherwise it goes on where it is.
        """
        try:
            cause = self._why_not_reset(steady_ns)
            if cause:
                return Answer(False, f"reset refused: {cause}")
            assert self._inputs.measured is not None
            measured = self._inputs.measured
            error = np.abs(measured.position - self._outputs.motion.q).max()
            if not error <= self._config.tracking_error_rad:
                self._start_at(measured)
        except Exception as error:  # noqa: BLE001  a fault must not reach the caller
            self._latch(Reason.INTERNAL, f"internal error in reset: {error!r}")
            return Answer(False, self._ladder.latch_detail)
        self._ladder.release()
        self._follower.lapsed = False
        return Answer(True, "reset; call enable to move")

    # ---- what arrives --------------------------------------------------------------

    def observe_state(self, state: JointState, now_ns: int, steady_ns: int) -> Reason:
        """Take a measured joint state; returns why it was not used, or what is odd about it."""
        try:
            wrong, detail, brakes = self._inputs.state(state, now_ns, steady_ns)
            if brakes:
                self._brake(wrong, detail)
            return wrong
        except Exception as error:  # noqa: BLE001
            return self._fault(f"joint state: {error!r}")

    def observe_camera(self, stamp_ns: int, digest: int, now_ns: int, steady_ns: int) -> Reason:
        """Take note of a camera frame; returns why it was not counted."""
        try:
            return self._inputs.frame(stamp_ns, digest, now_ns, steady_ns)
        except Exception as error:  # noqa: BLE001
            return self._fault(f"camera frame: {error!r}")

    def submit(self, plan: Trajectory, now_ns: int, steady_ns: int) -> Reason:
        """Hand in a plan; Reason.NONE when it will be followed from the next tick on."""
        try:
            return self._submit(plan, now_ns, steady_ns)
        except Exception as error:  # noqa: BLE001
            return self._fault(f"plan: {error!r}")

    # ---- control rate --------------------------------------------------------------

    def tick(self, now_ns: int, steady_ns: int) -> tuple[Command | None, Verdict]:
        """One output.

        Args:
            now_ns: node time. steady_ns: steady clock.

        Returns:
            The command to send, None until a sane joint state told where the arm is
            (Verdict.output is NaN then), and what was done.
        """
        self._begin_ns = self._clock()
        self._ticks += 1
        try:
            with np.errstate(all="ignore"):  # an absurd number fails the post-check, quietly
                command, requested = self._tick(now_ns, steady_ns)
        except Exception as error:  # noqa: BLE001  the last resort of the whole robot
            self._fault(f"tick: {error!r}")
            command, requested = self._emergency(now_ns)
        return command, Verdict(
            mode=self._ladder.mode,
            reasons=self._ladder.reasons,
            requested=requested,
            output=self._outputs.motion.q,
            margin=self._outputs.margin,
            stamp_ns=now_ns,
            duration_ns=self._clock() - self._begin_ns,
            detail=self._ladder.detail,
        )

    def status(self) -> FilterStatus:
        """Summary as of the last tick."""
        ladder = self._ladder
        return FilterStatus(
            ladder.mode,
            ladder.reasons,
            ladder.enabled,
            bool(ladder.latched),
            self._ticks,
            self._record.count,
            sum(self.refusals.values()),
            ladder.detail,
        )

    @property
    def prepared_brake(self) -> FloatArray:
        """(N, J) outputs that would follow if everything failed now, rad."""
        return self._outputs.prepared_brake

    @property
    def refusals(self) -> Counter[Reason]:
        """How often each reason refused an input."""
        return self._inputs.refusals

    # ---- the tick in steps ---------------------------------------------------------

    def _tick(self, now_ns: int, steady_ns: int) -> tuple[Command | None, FloatArray]:
        outputs = self._outputs
        self._steady_ns = steady_ns
        self._watch(now_ns, steady_ns)
        if not outputs.started:
            ladder = self._ladder
            ladder.set(SafetyMode.LATCHED, ladder.latched, ladder.latch_detail)
            return None, outputs.motion.q
        self._choose_mode(now_ns, steady_ns)
        self._follower.advance(now_ns)
        if not self._follower.active:
            self._judge.limiting = Reason.NONE
            step, source = outputs.brake_step, 0
            requested = outputs.motion.q  # nothing was asked for
            wrong = outputs.check(step)
            if not outputs.at_rest:
                mode, reasons = self._ladder.mode, self._ladder.reasons
                self._judge.note(now_ns, mode, reasons, requested, Choice(step, wrong))
        else:
            last, now = self._follower.sample()
            requested, source = now.q, self._follower.source_stamp_ns
            wish = self._chase.approach(requested, last, outputs.motion)
            pace = self._supervision.pace(now_ns, steady_ns)
            choice = self._chooser.choose(wish, steady_ns, pace.limit_m_s)
            if self._budget.exceeded(self._clock() - self._begin_ns):
                choice = Choice(outputs.brake_step, Reason.NONE, Reason.TIME_BUDGET)
            step, wrong = choice.step, choice.wrong
            changed = self._judge.compare(now, outputs.motion, choice, pace.reason, now_ns)
            if changed:
                self._ladder.set(SafetyMode.LIMITED, self._judge.limiting, changed)
            if self._budget.lost:
                self._latch(Reason.TIME_BUDGET, f"late ticks in a row took {self._config.tick_latch_ms:.0f} ms")
        if wrong:
            self._fault(f"post-check: {wrong.name} on the output")
            self._ladder.reasons |= wrong
            return self._emergency(now_ns)
        return self._commit(step, now_ns, source), requested

    def _watch(self, now_ns: int, steady_ns: int) -> None:
        """Watchdogs and clocks; may brake or latch."""
        inputs, config = self._inputs, self._config
        if inputs.clock_jumped(now_ns):
            self._follower.resume_at(now_ns)
            self._brake(Reason.CLOCK_JUMP, "node time jumped")
        for reason, why in self._supervision.faults(steady_ns):
            self._latch(reason, why)
        if not self._outputs.started:
            if inputs.measured is not None:
                self._start_at(inputs.measured)
        elif inputs.state_silent(steady_ns, config.state_latch_ms):
            self._latch(Reason.STALE_STATE, f"no joint state for {config.state_latch_ms:.0f} ms")
        elif inputs.state_silent(steady_ns, config.state_timeout_ms):
            self._brake(Reason.STALE_STATE, f"no joint state for {config.state_timeout_ms:.0f} ms")
        else:
            assert inputs.measured is not None, "nothing starts without a joint state"
            error = float(np.maximum.reduce(np.abs(self._outputs.motion.q - inputs.measured.position)))
            if inputs.tracking.lost(error, steady_ns) and not self._ladder.latched:
                self._latch(Reason.TRACKING_ERROR, f"arm is {error:.2f} rad from its command")

    def _choose_mode(self, now_ns: int, steady_ns: int) -> None:
        """First matching row of the class table."""
        ladder, follower = self._ladder, self._follower
        if ladder.stopped(self._settled(steady_ns)):
            return
        held, why = self._supervision.holds(now_ns, steady_ns)
        if held:
            self._drop_plan()
            ladder.set(SafetyMode.HOLD, held, why)
            return
        camera = self._inputs.camera_reasons(steady_ns)
        if camera:
            self._drop_plan()
            ladder.set(SafetyMode.HOLD, camera, "camera dead or frozen: planner not trusted")
            return
        if follower.active and self._inputs.command_silent(steady_ns):
            left = np.abs(follower.end_position - self._outputs.motion.q).max()
            follower.lapsed = bool(not self._outputs.at_rest or left > self._config.intervention_rad)
            self._drop_plan()
        if not follower.active:
            reason = Reason.STALE_COMMAND if follower.lapsed else Reason.NONE
            detail = "no fresh plan in time" if follower.lapsed else "waiting for a plan"
            ladder.set(SafetyMode.HOLD, reason, detail)
            return
        ladder.set(SafetyMode.NORMAL, Reason.NONE, "")

    def _settled(self, steady_ns: int) -> bool:
        """True when the output has rested for a while, and the arm is not measured to move."""
        if not self._outputs.at_rest:
            self._moved_ns = steady_ns
        measured = self._inputs.measured
        slow = measured is not None and np.abs(measured.velocity).max() <= self._config.start_speed_rad_s
        return bool(slow and steady_ns - self._moved_ns >= _SETTLED_NS)

    def _commit(self, step: Step, now_ns: int, source_stamp_ns: int) -> Command:
        self._outputs.commit(step)
        return Command(self._names, step.motion.q, step.motion.v, now_ns, source_stamp_ns)

    def _emergency(self, now_ns: int) -> tuple[Command | None, FloatArray]:
        """The brake step that was certified by the last tick, without any new decision."""
        ladder, requested = self._ladder, self._outputs.motion.q
        ladder.set(SafetyMode.LATCHED, ladder.latched | ladder.reasons, ladder.latch_detail)
        if not self._outputs.started:
            return None, requested
        return self._commit(self._outputs.brake_step, now_ns, 0), requested

    # ---- events --------------------------------------------------------------------

    def _submit(self, plan: Trajectory, now_ns: int, steady_ns: int) -> Reason:
        ladder, outputs = self._ladder, self._outputs
        wrong, detail, brakes = self._inputs.plan_content(plan)
        if brakes:
            self._brake(wrong, detail)
            return wrong
        others = ladder.latched | ladder.braking
        if not outputs.started or not ladder.enabled:
            others |= Reason.NOT_ENABLED
        others |= self._supervision.holds(now_ns, steady_ns)[0]
        wrong = self._inputs.plan_time(plan, others, now_ns, steady_ns)
        if wrong:
            return wrong
        if not self._follower.active or self._judge.limiting:
            self._follower.start(outputs.motion)
        self._follower.take(plan)
        return Reason.NONE

    def _start_at(self, measured: JointState) -> None:
        """Begin where the arm is and as fast as it moves (bumpless), if it can begin there."""
        ladder, limits = self._ladder, self._limits
        outside = describe_outside(self._names, measured.position, limits, self._allowed_outside)
        if outside:
            ladder.latched |= Reason.POSITION_LIMIT
            ladder.latch_detail = f"cannot start: {outside}"
            return
        moves = np.abs(measured.velocity).max() > self._config.start_speed_rad_s
        speed = measured.velocity if moves else np.zeros_like(measured.velocity)
        self._begin_at(measured.position, speed)
        if ladder.latched & Reason.POSITION_LIMIT:
            ladder.latch_detail = "not reset since the start"

    def _begin_at(self, q: FloatArray, v: FloatArray) -> None:
        self._outputs.begin(q, v)
        self._follower.start(self._outputs.motion)
        if self._guard is not None:
            self._guard.start(self._outputs.motion.q)

    @property
    def _allowed_outside(self) -> float:
        return self._config.start_tolerance_rad + self._config.position_margin_rad

    def _why_not_reset(self, steady_ns: int) -> str:
        """What still speaks against a reset; empty when nothing does."""
        inputs = self._inputs
        for _, why in self._supervision.faults(steady_ns):
            return why
        if inputs.measured is None or inputs.state_silent(steady_ns, self._config.state_timeout_ms):
            return "no fresh joint state; is the driver running?"
        if inputs.jumped_within(steady_ns, _SETTLED_NS):
            return "the measured joints have just jumped; wait until they stay where they are"
        measured = inputs.measured
        outside = describe_outside(
            self._names, measured.position, self._limits, self._allowed_outside
        )
        if outside:
            return outside
        if not self._outputs.started:
            return "not started yet; wait for the next tick"
        speed = float(np.abs(measured.velocity).max())
        if not self._outputs.at_rest or speed > self._config.start_speed_rad_s:
            return f"the arm moves ({speed:.2f} rad/s); wait until it rests"
        return ""

    def _latch(self, reason: Reason, detail: str) -> None:
        self._ladder.latch(reason, detail)
        self._drop_plan()

    def _brake(self, reason: Reason, detail: str) -> None:
        self._ladder.brake(reason, detail)
        self._drop_plan()

    def _fault(self, detail: str) -> Reason:
        self._latch(Reason.INTERNAL, f"internal error, {detail}")
        return Reason.INTERNAL

    def _drop_plan(self) -> None:
        self._follower.drop()
        self._judge.limiting = Reason.NONE
