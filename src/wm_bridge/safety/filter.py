"""The safety filter: from whatever the planner says to what the arm may do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wm_bridge.core.joints import JointTable, find_joints
from wm_bridge.core.tracking import TrajectoryTracker
from wm_bridge.core.types import (
    Command,
    FloatArray,
    JointState,
    Reason,
    SafetyMode,
    Trajectory,
    Verdict,
)
from wm_bridge.safety.brake import brake_step
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.content import check_state, check_trajectory
from wm_bridge.safety.limits import MotionLimits, approach, project
from wm_bridge.safety.monitor import (
    MS,
    CameraMonitor,
    ClockMonitor,
    StampCheck,
    TrackingMonitor,
    Watchdog,
)
from wm_bridge.safety.postcheck import check_output

_SYNC_GAIN = 0.1  # share of the tick jitter that the sampling time follows
_SYNC_LOST_NS = 100 * MS


@dataclass(frozen=True, slots=True)
class Answer:
    """Reply to reset, stop, enable: ``message`` says why not, and what to do."""

    ok: bool
    message: str


@dataclass(frozen=True, slots=True)
class FilterStatus:
    """Summary for safety/state; counts since construction."""

    mode: SafetyMode
    reasons: Reason
    enabled: bool
    latched: bool
    ticks: int
    interventions: int
    refused: int
    detail: str


class SafetyFilter:
    """Turns plans into references that never break a limit, and stops when in doubt.

    Each tick takes the first row that applies; every row but the last two is the full
    brake (as hard as the acceleration limit allows) and then standing still.

    | mode    | while                                                     | left by                    |
    |---------|-----------------------------------------------------------|----------------------------|
    | LATCHED | since construction; stop request; state dead for          | `reset`: refused while a   |
    |         | state_latch_ms; tracking error; internal error            | cause acts or the arm moves|
    | BRAKE   | malformed, non-finite or misnamed message; joint jump;    | arm at rest and cause gone |
    |         | state silent for state_timeout_ms; clock jump             | -> HOLD                    |
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
        clock: steady nanoseconds, only for ``Verdict.duration_ns``.

    Raises:
        ValueError: limits or settings that make no sense.
    """

    def __init__(
        self,
        spec: JointTable,
        config: SafetyConfig,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._config = config
        self._clock = clock
        self._names = tuple(spec.joint_names)
        self._limits = MotionLimits.from_spec(
            spec, config.position_margin_rad, config.velocity_scale, config.acceleration_scale
        )
        if self._limits.lower.shape != (len(self._names),):
            raise ValueError(f"{len(self._names)} joints but limits {self._limits.lower.shape}")
        self._dt = config.dt
        self._tracker = TrajectoryTracker(spec)
        future = round(config.future_tolerance_ms * MS)
        self._command_stamps = StampCheck(
            round(config.command_max_age_ms * MS), future, Reason.STALE_COMMAND
        )
        self._state_stamps = StampCheck(
            round(config.state_timeout_ms * MS), future, Reason.STALE_STATE
        )
        self._camera = CameraMonitor(
            round(config.camera_timeout_ms * MS),
            config.frozen_frames,
            config.frozen_motion_rad,
            StampCheck(round(config.camera_timeout_ms * MS), future, Reason.STALE_CAMERA),
        )
        self._clock_monitor = ClockMonitor(round(config.clock_jump_ms * MS))
        self._tracking = TrackingMonitor(
            config.tracking_error_rad, round(config.tracking_error_ms * MS)
        )
        self._command_alive = Watchdog()
        self._state_alive = Watchdog()

        nowhere = np.full(len(self._names), np.nan)
        self._measured: JointState | None = None  # in the order of self._names
        self._started = False
        self._q, self._q_before = nowhere, nowhere
        self._v = np.zeros(len(self._names))
        self._certified = (nowhere, self._v)  # next step of the brake from the last output
        self._last_request = nowhere
        self._sample_ns = 0

        self._enabled = False
        self._latched, self._latch_detail = Reason.NOT_ENABLED, "not reset since the start"
        self._braking, self._brake_detail = Reason.NONE, ""
        self._following = False
        self._lapsed = False
        self._limiting = Reason.NONE
        self._mode, self._reasons, self._detail = SafetyMode.LATCHED, Reason.NOT_ENABLED, ""
        self._ticks = 0
        self._interventions = 0
        self.refusals: Counter[Reason] = Counter()

    # ---- what others ask for -------------------------------------------------------

    def stop(self, detail: str = "stop requested", reason: Reason = Reason.STOP_REQUEST) -> Answer:
        """Brake now and latch; also for causes found outside, such as SECOND_WRITER."""
        self._latch(reason, detail)
        return Answer(True, f"latched: {detail}")

    def enable(self, on: bool) -> Answer:
        """Allow or forbid motion; releasing brakes at the next tick."""
        if on and self._latched:
            return Answer(False, f"latched ({self._latch_detail}); call reset first")
        self._enabled = bool(on)
        if not on:
            self._drop_plan()
        return Answer(True, "enabled" if on else "disabled")

    def reset(self, now_ns: int, steady_ns: int) -> Answer:
        """Leave LATCHED for HOLD (not yet enabled).

        Refused while there is no fresh and sane joint state, while the arm or the output
        moves, and while the arm is outside of its limits. After a tracking error the
        output begins anew at the measured position; otherwise it goes on where it is.
        """
        try:
            cause = self._why_not_reset(steady_ns)
            if cause:
                return Answer(False, f"reset refused: {cause}")
            assert self._measured is not None
            error = np.abs(self._measured.position - self._q).max()
            if not error <= self._config.tracking_error_rad:
                self._start_at(self._measured.position)
        except Exception as error:  # noqa: BLE001  a fault must not reach the caller
            self._latch(Reason.INTERNAL, f"internal error in reset: {error!r}")
            return Answer(False, self._latch_detail)
        self._tracking.lost(0.0, steady_ns)
        self._latched, self._latch_detail = Reason.NONE, ""
        self._braking, self._brake_detail = Reason.NONE, ""
        self._lapsed = False
        return Answer(True, "reset; call enable to move")

    # ---- what arrives --------------------------------------------------------------

    def observe_state(self, state: JointState, now_ns: int, steady_ns: int) -> Reason:
        """Take a measured joint state; returns why it was not used, or what is odd about it."""
        try:
            return self._observe_state(state, now_ns, steady_ns)
        except Exception as error:  # noqa: BLE001
            return self._fault(f"joint state: {error!r}")

    def observe_camera(self, stamp_ns: int, digest: int, now_ns: int, steady_ns: int) -> Reason:
        """Take note of a camera frame; returns why it was not counted."""
        try:
            position = self._measured.position if self._measured else None
            wrong = self._camera.observe(stamp_ns, digest, position, now_ns, steady_ns)
            return self._refuse(wrong) if wrong else wrong
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
        begin = self._clock()
        self._ticks += 1
        try:
            command, requested = self._tick(now_ns, steady_ns)
        except Exception as error:  # noqa: BLE001  the last resort of the whole robot
            self._fault(f"tick: {error!r}")
            command, requested = self._emergency(now_ns)
        return command, Verdict(
            mode=self._mode,
            reasons=self._reasons,
            requested=requested,
            output=self._q,
            margin=float(np.minimum(self._q - self._limits.lower, self._limits.upper - self._q).min()),
            stamp_ns=now_ns,
            duration_ns=self._clock() - begin,
            detail=self._detail,
        )

    def status(self) -> FilterStatus:
        """Summary as of the last tick."""
        return FilterStatus(
            self._mode,
            self._reasons,
            self._enabled,
            bool(self._latched),
            self._ticks,
            self._interventions,
            sum(self.refusals.values()),
            self._detail,
        )

    # ---- the tick in steps ---------------------------------------------------------

    def _tick(self, now_ns: int, steady_ns: int) -> tuple[Command | None, FloatArray]:
        self._watch(now_ns, steady_ns)
        if not self._started:
            self._set(SafetyMode.LATCHED, self._latched, self._latch_detail)
            return None, self._q
        self._choose_mode(steady_ns)
        source = 0
        requested = self._q
        self._advance(now_ns)
        if self._following:
            sample = self._tracker.sample(self._sample_ns)
            assert sample is not None  # accept needs a started tracker
            requested, source = sample.position, sample.source_stamp_ns
            wish = approach(requested, self._last_request, self._q, self._limits, self._dt)
            output = project(wish, self._q, self._v, self._limits, self._dt)
            self._last_request = requested
            self._judge(requested, output)
        else:
            output, _ = self._certified
            requested = self._q  # nothing was asked for
            self._limiting = Reason.NONE
        wrong = check_output(output, self._q, self._q_before, self._limits, self._dt)
        if wrong:
            self._fault(f"post-check: {wrong.name} on the output")
            self._reasons |= wrong
            return self._emergency(now_ns)
        return self._commit(output, now_ns, source), requested

    def _watch(self, now_ns: int, steady_ns: int) -> None:
        """Watchdogs and clocks; may brake or latch."""
        if self._clock_monitor.jumped(now_ns):
            for stamps in (self._command_stamps, self._state_stamps, self._camera.stamps):
                stamps.forget()
            self._sample_ns = now_ns
            self._brake(Reason.CLOCK_JUMP, "node time jumped")
        config = self._config
        if not self._started:
            if self._measured is not None:
                self._start_at(self._measured.position)
        elif self._state_alive.expired(steady_ns, round(config.state_latch_ms * MS)):
            self._latch(Reason.STALE_STATE, f"no joint state for {config.state_latch_ms:.0f} ms")
        elif self._state_alive.expired(steady_ns, round(config.state_timeout_ms * MS)):
            self._brake(Reason.STALE_STATE, f"no joint state for {config.state_timeout_ms:.0f} ms")
        elif self._measured is not None:
            error = float(np.abs(self._q - self._measured.position).max())
            if self._tracking.lost(error, steady_ns) and not self._latched:
                self._latch(Reason.TRACKING_ERROR, f"arm is {error:.2f} rad from its command")

    def _choose_mode(self, steady_ns: int) -> None:
        """First matching row of the class table."""
        if self._latched:
            self._set(SafetyMode.LATCHED, self._latched, self._latch_detail)
            return
        if self._braking:
            self._set(SafetyMode.BRAKE, self._braking, self._brake_detail)
            if not self._v.any():  # rests; a cause that still acts sets it again
                self._braking = Reason.NONE
            return
        if not self._enabled:
            self._set(SafetyMode.HOLD, Reason.NOT_ENABLED, "not enabled")
            return
        camera = self._camera_reasons(steady_ns)
        if camera:
            self._drop_plan()
            self._set(SafetyMode.HOLD, camera, "camera dead or frozen: planner not trusted")
            return
        timeout = round(self._config.command_timeout_ms * MS)
        if self._following and self._command_alive.expired(steady_ns, timeout):
            left = np.abs(self._tracker.end_position - self._q).max()
            self._lapsed = bool(self._v.any() or left > self._config.intervention_rad)
            self._drop_plan()
        if not self._following:
            reason = Reason.STALE_COMMAND if self._lapsed else Reason.NONE
            detail = "no fresh plan in time" if self._lapsed else "waiting for a plan"
            self._set(SafetyMode.HOLD, reason, detail)
            return
        self._set(SafetyMode.NORMAL, Reason.NONE, "")

    def _advance(self, now_ns: int) -> None:
        """Move the sampling time by one period, and gently towards node time.

        Sampling at node time itself would turn the jitter of the ticks into acceleration.
        """
        period = round(self._dt * 1e9)
        late = now_ns - (self._sample_ns + period)
        if abs(late) > _SYNC_LOST_NS:
            self._sample_ns = now_ns
        else:
            self._sample_ns += period + round(late * _SYNC_GAIN)

    def _judge(self, requested: FloatArray, output: FloatArray) -> None:
        """NORMAL or LIMITED, with hysteresis, and which limit it was."""
        change = float(np.abs(requested - output).max())
        threshold = self._config.intervention_rad * (0.5 if self._limiting else 1.0)
        if change <= threshold:
            self._limiting = Reason.NONE
            return
        limits, dt = self._limits, self._dt
        v = (requested - self._q) / dt
        found = Reason.NONE
        if ((requested < limits.lower) | (requested > limits.upper)).any():
            found |= Reason.POSITION_LIMIT
        if (np.abs(v) > limits.velocity).any():
            found |= Reason.VELOCITY_LIMIT
        if (np.abs(v - self._v) > limits.acceleration * dt).any():
            found |= Reason.ACCELERATION_LIMIT
        # none of the three: it had to slow down ahead of a position limit
        self._limiting = found or Reason.POSITION_LIMIT
        self._interventions += 1
        self._set(SafetyMode.LIMITED, self._limiting, f"changed by {change:.4f} rad")

    def _commit(self, output: FloatArray, now_ns: int, source_stamp_ns: int) -> Command:
        """Make ``output`` the last one and prepare the brake from it."""
        v = (output - self._q) / self._dt
        certified = brake_step(output, v, self._limits.acceleration, self._dt)
        command = Command(self._names, output, v, now_ns, source_stamp_ns)
        self._q_before, self._q, self._v = self._q, output, v
        self._certified = certified
        return command

    def _emergency(self, now_ns: int) -> tuple[Command | None, FloatArray]:
        """The brake step that was certified by the last tick, without any new decision."""
        self._set(SafetyMode.LATCHED, self._latched | self._reasons, self._latch_detail)
        if not self._started:
            return None, self._q
        requested = self._q
        return self._commit(self._certified[0], now_ns, 0), requested

    # ---- events --------------------------------------------------------------------

    def _observe_state(self, state: JointState, now_ns: int, steady_ns: int) -> Reason:
        wrong = self._state_stamps.check(state.stamp_ns, now_ns)
        if wrong:
            return self._refuse(wrong)
        wrong, detail = check_state(state, self._names)
        if wrong:
            self._brake(wrong, detail)
            return self._refuse(wrong)
        self._state_stamps.accept(state.stamp_ns)
        self._state_alive.feed(steady_ns)
        if state.names != self._names:
            order = find_joints(self._names, state.names)
            state = JointState(
                self._names,
                state.position[order],
                state.velocity[order],
                state.effort[order],
                state.stamp_ns,
            )
        last, self._measured = self._measured, state
        if last is not None:
            elapsed = max(state.stamp_ns - last.stamp_ns, 0) * 1e-9
            reach = self._limits.velocity * elapsed + self._config.state_jump_rad
            jumped = np.abs(state.position - last.position) > reach
            if jumped.any():
                names = [name for name, flag in zip(self._names, jumped, strict=True) if flag]
                self._brake(Reason.STATE_JUMP, f"measured position jumped: {names}")
                return Reason.STATE_JUMP
        return Reason.NONE

    def _submit(self, plan: Trajectory, now_ns: int, steady_ns: int) -> Reason:
        wrong, detail = check_trajectory(
            plan,
            self._names,
            self._config.command_max_points,
            round(self._config.command_max_duration_ms * MS),
        )
        if wrong:
            self._brake(wrong, detail)
            return self._refuse(wrong)
        wrong = self._command_stamps.check(plan.stamp_ns, now_ns)
        if not self._started or not self._enabled:
            wrong |= Reason.NOT_ENABLED
        wrong |= self._latched | self._braking | self._camera_reasons(steady_ns)
        if wrong:
            return self._refuse(wrong)
        self._command_stamps.accept(plan.stamp_ns)
        if not self._following or self._limiting:
            self._tracker.start(self._q, self._v, self._sample_ns)
            self._last_request = self._q
        self._tracker.accept(plan, self._sample_ns)
        self._command_alive.feed(steady_ns)
        self._following, self._lapsed = True, False
        return Reason.NONE

    def _start_at(self, position: FloatArray) -> None:
        """Begin at the measured position (bumpless), if it is one to begin at."""
        outside = np.maximum(self._limits.lower - position, position - self._limits.upper)
        allowed = self._config.start_tolerance_rad + self._config.position_margin_rad
        if outside.max() > allowed:
            self._latched |= Reason.POSITION_LIMIT
            self._latch_detail = f"cannot start: {self._describe_outside(position, allowed)}"
            return
        q = np.clip(position, self._limits.lower, self._limits.upper)
        zero = np.zeros_like(q)
        self._q, self._q_before, self._v = q, q, zero
        self._certified = (q, zero)
        self._last_request = q
        self._tracker.start(q)
        self._started = True
        if self._latched & Reason.POSITION_LIMIT:
            self._latch_detail = "not reset since the start"

    def _describe_outside(self, position: FloatArray, allowed: float) -> str:
        lower, upper = self._limits.lower, self._limits.upper
        return "; ".join(
            f"{name} is at {q:.3f} rad, limits {low:.3f} to {high:.3f}: move it inside by hand"
            for name, q, low, high in zip(self._names, position, lower, upper, strict=True)
            if max(low - q, q - high) > allowed
        )

    def _why_not_reset(self, steady_ns: int) -> str:
        """What still speaks against a reset; empty when nothing does."""
        limit = round(self._config.state_timeout_ms * MS)
        if self._measured is None or self._state_alive.expired(steady_ns, limit):
            return "no fresh joint state; is the driver running?"
        allowed = self._config.start_tolerance_rad + self._config.position_margin_rad
        outside = self._describe_outside(self._measured.position, allowed)
        if outside:
            return outside
        if not self._started:
            return "not started yet; wait for the next tick"
        speed = float(np.abs(self._measured.velocity).max())
        if self._v.any() or speed > self._config.start_speed_rad_s:
            return f"the arm moves ({speed:.2f} rad/s); wait until it rests"
        return ""

    def _camera_reasons(self, steady_ns: int) -> Reason:
        if not self._config.camera_required:
            return Reason.NONE
        return self._camera.reasons(steady_ns)

    def _latch(self, reason: Reason, detail: str) -> None:
        if not self._latched & reason:
            self._latch_detail = str(detail)
        self._latched |= reason
        self._enabled = False
        self._drop_plan()

    def _brake(self, reason: Reason, detail: str) -> None:
        self._braking |= reason
        self._brake_detail = detail
        self._drop_plan()

    def _fault(self, detail: str) -> Reason:
        self._latch(Reason.INTERNAL, f"internal error, {detail}")
        return Reason.INTERNAL

    def _drop_plan(self) -> None:
        self._following = False
        self._limiting = Reason.NONE

    def _refuse(self, reason: Reason) -> Reason:
        self.refusals[reason] += 1
        return reason

    def _set(self, mode: SafetyMode, reasons: Reason, detail: str) -> None:
        self._mode, self._reasons, self._detail = mode, reasons, detail
