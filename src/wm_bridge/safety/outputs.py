"""The references that went out, and the brake prepared from the last of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wm_bridge.core.types import FloatArray, Reason
from wm_bridge.safety.box import Motion
from wm_bridge.safety.lanes import Lanes
from wm_bridge.safety.limits import MotionLimits
from wm_bridge.safety.postcheck import MotionCheck


class Step(NamedTuple):
    """A next output and the brake from it.

    Attributes:
        motion: (J,) output with its differences.
        outputs: (N + 1, J) the output and the brake from it, rad; N >= 1.
    """

    motion: Motion
    outputs: FloatArray

    @property
    def brake(self) -> FloatArray:
        """(N, J) rad."""
        return self.outputs[1:]


class Outputs:
    """Last outputs, and every step of the full brake from the last one."""

    def __init__(self, limits: MotionLimits, dt: float) -> None:
        self._limits, self._dt = limits, dt
        self.lanes, self._check = Lanes(limits, dt), MotionCheck(limits, dt)
        joints = limits.lower.size
        nowhere, zero = np.full(joints, np.nan), np.zeros(joints)
        self.started = False
        self.motion = Motion(nowhere, zero, zero)
        self.history = np.tile(nowhere, (3, 1))  # last outputs, oldest first
        self._brake = nowhere[None]
        self.at_rest = True  # the last two outputs were the same

    def begin(self, q: FloatArray, v: FloatArray) -> None:
        """Start at a measured state, (J,) rad and rad/s.

        A position outside of the limits is moved inside. The arm goes on at its own speed,
        into the brake, if that brake keeps all limits; otherwise it starts at rest.
        """
        q = np.clip(q, self._limits.lower, self._limits.upper)
        history, step = self._moving(q, v)
        if self._check(history, step.brake):
            history, step = self._moving(q, np.zeros_like(q))
        self.history = history
        self._set(step.motion, step.brake)
        self.started = True

    def _moving(self, q: FloatArray, v: FloatArray) -> tuple[FloatArray, Step]:
        """Outputs of an arm that has gone at ``v`` for a while, and the brake from there."""
        history = np.stack([q - 2.0 * self._dt * v, q - self._dt * v, q])
        return history, self.prepare(Motion(q, v, np.zeros_like(q)))

    def exceeds(self, q: FloatArray) -> bool:
        """True when ``q`` (J,) as the next output would break a limit in this very period.

        A part of `check`, before the brake is computed: then `check` objects as well.
        """
        return self._check.exceeds(self.history, q)

    def prepare(self, motion: Motion) -> Step:
        """The brake from a motion."""
        return Step(motion, self.lanes.path(motion))

    def step_to(self, q: FloatArray) -> Step:
        """``q`` (J,) as the next output, rad, and the brake from it."""
        v = (q - self.motion.q) / self._dt
        return self.prepare(Motion(q, v, (v - self.motion.v) / self._dt))

    @property
    def brake_step(self) -> Step:
        """Next step of the brake prepared by the last tick; nothing is computed anew."""
        brake = self._brake
        q = brake[0]
        v = (q - self.motion.q) / self._dt
        outputs = brake if len(brake) > 1 else np.concatenate([brake, brake])
        return Step(Motion(q, v, (v - self.motion.v) / self._dt), outputs)

    @property
    def prepared_brake(self) -> FloatArray:
        """(N, J) outputs of the brake that waits, rad."""
        return self._brake

    def check(self, step: Step) -> Reason:
        """Independent look at a step, see `postcheck`."""
        return self._check(self.history, step.outputs)

    def commit(self, step: Step) -> None:
        """Make a step the last output."""
        self._set(step.motion, step.brake)
        self.history = np.concatenate([self.history[1:], step.motion.q[None]])

    def _set(self, motion: Motion, brake: FloatArray) -> None:
        self.motion, self._brake = motion, brake
        self.at_rest = not (motion.v.any() or motion.a.any())

    @property
    def margin(self) -> float:
        """Smallest distance of any joint to its limit, rad."""
        q = self.motion.q
        return float(np.minimum.reduce(np.minimum(q - self._limits.lower, self._limits.upper - q)))
