"""From a wish to the output that may be sent: box, distance rows, certificate, else the brake."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wm_bridge.core.types import FloatArray, Reason
from wm_bridge.safety import qp
from wm_bridge.safety.guard import CLEAR, Assessment, Certificate, DistanceGuard, Row
from wm_bridge.safety.limits import MotionLimits
from wm_bridge.safety.outputs import Outputs, Step

_ROOM_SLACK = 1e-9  # m, rounding
_SHARES = (1.0, 0.7, 0.45, 0.2)  # of the way from the brake to the wish


@dataclass(frozen=True, slots=True)
class Choice:
    """What goes out.

    Attributes:
        step: the output and the brake from it.
        wrong: what the post-check still objects to.
        kept_off: distance reasons that changed the wish.
        certificate: of the stop that decided.
    """

    step: Step
    wrong: Reason
    kept_off: Reason = Reason.NONE
    certificate: Certificate = CLEAR


class StepChooser:
    """Finds the nearest output to a wish from which a safe stop is certain.

    Args:
        outputs: what went out before. limits: of the joints. dt: control period, s.
        guard: distances, None for a robot without a description. solver: of the rows.
    """

    def __init__(
        self,
        outputs: Outputs,
        limits: MotionLimits,
        dt: float,
        guard: DistanceGuard | None,
        solver: qp.Solver,
    ) -> None:
        self._outputs, self._limits, self._dt = outputs, limits, dt
        self._guard, self._solver = guard, solver
        release = float((limits.acceleration / limits.jerk).max())
        self._rowed: tuple[Assessment, Step] | None = None  # what the rows gave in the last tick
        self._rising = math.ceil(release / dt) + 2  # outputs after which a brake only slows

    def choose(self, wish: FloatArray, steady_ns: int, speed_limit: float = np.inf) -> Choice:
        """The output for this tick.

        Args:
            wish: (J,) rad. steady_ns: steady clock. speed_limit: of every link point, m/s.
        """
        last, self._rowed = self._rowed, None
        if last is not None and speed_limit == np.inf and last[1].motion is self._outputs.motion:
            choice = self._again(wish, last[0], steady_ns)
            if choice is not None:
                return choice
        step, wrong = self._within_limits(wish)
        if self._guard is None or wrong:
            return Choice(step, wrong)
        kept_off = Reason.NONE
        if speed_limit < np.inf:
            slower = self._slowed(step, speed_limit)
            if slower is None:
                return Choice(self._outputs.brake_step, Reason.NONE, Reason.TOOL_SPEED)
            if slower is not step:
                step, kept_off = slower, Reason.TOOL_SPEED
        found = self._guard.assess(self._outputs.motion.q, step.outputs, steady_ns)
        if not found.broken.any():
            return self._certified(step, found, kept_off, steady_ns)
        kept_off |= self._guard.kinds(found.pairs[found.broken])
        rowed = self._obey_rows(step.motion.q, self._guard.rows(found))
        if rowed is None:
            return Choice(self._outputs.brake_step, Reason.NONE, kept_off, found.certificate)
        return self._rowed_choice(rowed, kept_off, steady_ns)

    def _again(self, wish: FloatArray, found: Assessment, steady_ns: int) -> Choice | None:
        """The choice of a tick after one whose rows acted: rows first.

        They mostly act again, and what they need was measured at this posture when it was
        assessed as the next one. The rows are stricter than the look at the wish that they
        replace (all of them hold, whether the wish itself came too near or not); the
        certificate is the same. None when the rows do not act or have no answer: then the
        usual way goes on.
        """
        assert self._guard is not None
        row = self._guard.rows_after(found, steady_ns)
        if row is None:
            return None
        broken = row.gradient @ (wish - self._outputs.motion.q) < row.bound - _ROOM_SLACK
        if not broken.any():
            return None
        step = self._obey_rows(wish, row)
        if step is None:
            return None
        return self._rowed_choice(step, self._guard.kinds(found.pairs[broken]), steady_ns)

    def _rowed_choice(self, step: Step, kept_off: Reason, steady_ns: int) -> Choice:
        """A step that obeys the rows, if it is certified; remembered for the next tick."""
        assert self._guard is not None
        found = self._guard.assess(self._outputs.motion.q, step.outputs, steady_ns)
        choice = self._certified(step, found, kept_off, steady_ns)
        if choice.step is step:
            self._rowed = found, step
        return choice

    def _certified(self, step: Step, found: Assessment, kept_off: Reason, steady_ns: int) -> Choice:
        """The step if its stop is certified, else halfway to the brake, else the brake."""
        assert self._guard is not None
        certificate = found.certificate
        if certificate.room >= -_ROOM_SLACK:
            return Choice(step, Reason.NONE, kept_off, certificate)
        kept_off |= certificate.kind
        brake = self._outputs.brake_step
        middle, wrong = self._within_limits((step.motion.q + brake.motion.q) * 0.5)
        if not wrong:
            halfway = self._guard.assess(self._outputs.motion.q, middle.outputs, steady_ns)
            if halfway.certificate.room >= -_ROOM_SLACK:
                self._rowed = halfway, middle
                return Choice(middle, Reason.NONE, kept_off, certificate)
        return Choice(brake, Reason.NONE, kept_off, certificate)

    def _within_limits(self, wish: FloatArray) -> tuple[Step, Reason]:
        """The step nearest to ``wish`` (J,) rad, and what is still wrong with it."""
        outputs = self._outputs
        if not outputs.exceeds(wish):
            step = outputs.step_to(wish)
            wrong = outputs.check(step)
            if not wrong:
                return step, wrong
        step = outputs.step_to(outputs.lanes.project(wish, outputs.motion))
        return step, outputs.check(step)

    def _obey_rows(self, wish: FloatArray, row: Row) -> Step | None:
        """The step nearest to ``wish`` (J,) rad that keeps the barrier rows; None when there is none."""
        motion, dt = self._outputs.motion, self._dt
        low, high = self._outputs.lanes.box(motion)
        v = qp.solve(
            (wish - motion.q) / dt,
            motion.v + np.minimum(low, high) * dt,
            motion.v + high * dt,
            row.gradient,
            row.bound / dt,
            self._solver,
        )
        if v is None:
            return None
        nearest, wrong = self._within_limits(motion.q + v * dt)
        return None if wrong else nearest

    def _slowed(self, step: Step, limit: float) -> Step | None:
        """The step with no point of the robot faster than ``limit`` m/s; None for only the brake.

        The brake counts too: the speed still grows while it takes the acceleration back.
        So the brake of the last step is always slow enough.
        """
        assert self._guard is not None
        q, brake = self._outputs.motion.q, self._outputs.brake_step.motion.q
        wish = step.motion.q
        for share in _SHARES:
            if share < 1.0:
                step, wrong = self._within_limits(brake + share * (wish - brake))
                if wrong:
                    continue
            path = np.concatenate([q[None], step.outputs[: self._rising]])
            if self._guard.longest_way(path) / self._dt <= limit:
                return step
        return None
