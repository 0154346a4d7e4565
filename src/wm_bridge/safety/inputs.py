"""What arrives at the filter: judged, counted, remembered."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from wm_bridge.core.joints import find_joints
from wm_bridge.core.types import FloatArray, JointState, Reason, Trajectory
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.content import check_state, check_trajectory
from wm_bridge.safety.monitor import (
    MS,
    CameraMonitor,
    ClockMonitor,
    StampCheck,
    TrackingMonitor,
    Watchdog,
)


class Judgement(NamedTuple):
    """What is wrong with an input, and whether the arm must brake for it."""

    reason: Reason
    detail: str = ""
    brakes: bool = False


FINE = Judgement(Reason.NONE)


class Inputs:
    """Joint states, camera frames and plans, and since when they are silent.

    Args:
        names: (J,) joints of the robot. velocity: (J,) speed limits, rad/s.
        config: time-outs and tolerances.
    """

    def __init__(self, names: tuple[str, ...], velocity: FloatArray, config: SafetyConfig) -> None:
        self._names, self._velocity, self._config = names, velocity, config
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
        self._clock = ClockMonitor(round(config.clock_jump_ms * MS))
        self.tracking = TrackingMonitor(
            config.tracking_error_rad, round(config.tracking_error_ms * MS)
        )
        self._command_alive, self._state_alive = Watchdog(), Watchdog()
        self.measured: JointState | None = None  # in the order of the robot's joints
        self._jumped_ns: int | None = None  # steady clock, when a joint last jumped
        self.refusals: Counter[Reason] = Counter()

    # ---- messages ------------------------------------------------------------------

    def state(self, state: JointState, now_ns: int, steady_ns: int) -> Judgement:
        """Take a joint state; one that is not believed feeds no watchdog."""
        wrong = self._state_stamps.check(state.stamp_ns, now_ns)
        if wrong:
            return Judgement(self._refuse(wrong))
        wrong, detail = check_state(state, self._names)
        if wrong:
            return Judgement(self._refuse(wrong), detail, brakes=True)
        self._state_stamps.accept(state.stamp_ns)
        self._state_alive.feed(steady_ns)
        last, self.measured = self.measured, self._ordered(state)
        if last is not None:
            elapsed = max(state.stamp_ns - last.stamp_ns, 0) * 1e-9
            reach = self._velocity * elapsed + self._config.state_jump_rad
            jumped = np.abs(self.measured.position - last.position) > reach
            if jumped.any():
                self._jumped_ns = steady_ns
                names = [name for name, flag in zip(self._names, jumped, strict=True) if flag]
                detail = f"measured position jumped: {names}"
                return Judgement(Reason.STATE_JUMP, detail, brakes=True)
        return FINE

    def frame(self, stamp_ns: int, digest: int, now_ns: int, steady_ns: int) -> Reason:
        """Take note of a camera frame."""
        position = self.measured.position if self.measured else None
        wrong = self._camera.observe(stamp_ns, digest, position, now_ns, steady_ns)
        return self._refuse(wrong) if wrong else wrong

    def plan_content(self, plan: Trajectory) -> Judgement:
        """What the plan says, whenever it comes."""
        wrong, detail = check_trajectory(
            plan,
            self._names,
            self._config.command_max_points,
            round(self._config.command_max_duration_ms * MS),
        )
        return Judgement(self._refuse(wrong), detail, brakes=True) if wrong else FINE

    def plan_time(self, plan: Trajectory, others: Reason, now_ns: int, steady_ns: int) -> Reason:
        """Accept the plan's stamp, or say why not.

        Args:
            others: what speaks against any plan at present.
        """
        wrong = self._command_stamps.check(plan.stamp_ns, now_ns)
        wrong |= others | self.camera_reasons(steady_ns)
        if wrong:
            return self._refuse(wrong)
        self._command_stamps.accept(plan.stamp_ns)
        self._command_alive.feed(steady_ns)
        return Reason.NONE

    # ---- silence and time ----------------------------------------------------------

    def clock_jumped(self, now_ns: int) -> bool:
        """True when node time did not move like a clock; old stamps are forgotten then."""
        if not self._clock.jumped(now_ns):
            return False
        for stamps in (self._command_stamps, self._state_stamps, self._camera.stamps):
            stamps.forget()
        return True

    def jumped_within(self, steady_ns: int, span_ns: int) -> bool:
        """True when a joint has jumped in the last ``span_ns``: where the arm is has yet to be confirmed."""
        return self._jumped_ns is not None and steady_ns - self._jumped_ns < span_ns

    def state_silent(self, steady_ns: int, limit_ms: float) -> bool:
        """True when no joint state was believed for that long."""
        return self._state_alive.expired(steady_ns, round(limit_ms * MS))

    def command_silent(self, steady_ns: int) -> bool:
        """True when no plan was accepted for ``command_timeout_ms``."""
        return self._command_alive.expired(steady_ns, round(self._config.command_timeout_ms * MS))

    def camera_reasons(self, steady_ns: int) -> Reason:
        """STALE_CAMERA and FROZEN_CAMERA as they stand; none when no camera is required."""
        if not self._config.camera_required:
            return Reason.NONE
        return self._camera.reasons(steady_ns)

    # --------------------------------------------------------------------------------

    def _ordered(self, state: JointState) -> JointState:
        if state.names == self._names:
            return state
        order = find_joints(self._names, state.names)
        return JointState(
            self._names,
            state.position[order],
            state.velocity[order],
            state.effort[order],
            state.stamp_ns,
        )

    def _refuse(self, reason: Reason) -> Reason:
        self.refusals[reason] += 1
        return reason
