"""The references that went out, and the brake prepared from the last of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wm_bridge.core.types import FloatArray, Reason
from wm_bridge.safety.box import Motion
from wm_bridge.safety.brake import brake_path, stop_from
from wm_bridge.safety.limits import MotionLimits
from wm_bridge.safety.postcheck import check_motion


class Step(NamedTuple):
    """A next output and the brake from it.

    Attributes:
        motion: (J,) output with its differences. brake: (N, J) rad, N >= 1.
    """

    motion: Motion
    brake: FloatArray

    @property
    def outputs(self) -> FloatArray:
        """(N + 1, J) the output and the brake, rad."""
        return np.concatenate([self.motion.q[None], self.brake])


class Outputs:
    """Last outputs, and every step of the full brake from the last one."""

    def __init__(self, limits: MotionLimits, dt: float) -> None:
        self._limits, self._dt = limits, dt
        joints = limits.lower.size
        nowhere, zero = np.full(joints, np.nan), np.zeros(joints)
        self.started = False
        self.motion = Motion(nowhere, zero, zero)
        self.history = np.tile(nowhere, (3, 1))  # last outputs, oldest first
        self._brake = nowhere[None]

    def begin(self, q: FloatArray, v: FloatArray) -> None:
        """Start at a measured state, (J,) rad and rad/s.

        A position outside of the limits is moved inside. The arm goes on at its own speed,
        into the brake, if that brake keeps all limits; otherwise it starts at rest.
        """
        q = np.clip(q, self._limits.lower, self._limits.upper)
        for speed in (v, np.zeros_like(q)):
            zero = np.zeros_like(q)
            history = np.stack([q - 2.0 * self._dt * speed, q - self._dt * speed, q])
            step = self.prepare(Motion(q, speed, zero))
            if not check_motion(history, step.brake[0], step.brake[1:], self._limits, self._dt):
                break
        self.motion, self._brake, self.history = step.motion, step.brake, history
        self.started = True

    @property
    def at_rest(self) -> bool:
        """True when the last two outputs were the same."""
        return not (self.motion.v.any() or self.motion.a.any())

    def prepare(self, motion: Motion) -> Step:
        """The brake from a motion."""
        _, v, a = motion
        stop = stop_from(v, a, self._limits, self._dt)
        return Step(motion, brake_path(motion.q, v, stop, self._limits, self._dt))

    def step_to(self, q: FloatArray) -> Step:
        """``q`` (J,) as the next output, rad, and the brake from it."""
        v = (q - self.motion.q) / self._dt
        return self.prepare(Motion(q, v, (v - self.motion.v) / self._dt))

    @property
    def brake_step(self) -> Step:
        """Next step of the brake prepared by the last tick; nothing is computed anew."""
        q = self._brake[0]
        v = (q - self.motion.q) / self._dt
        rest = self._brake[1:] if len(self._brake) > 1 else self._brake
        return Step(Motion(q, v, (v - self.motion.v) / self._dt), rest)

    @property
    def prepared_brake(self) -> FloatArray:
        """(N, J) outputs of the brake that waits, rad."""
        return self._brake

    def check(self, step: Step) -> Reason:
        """Independent look at a step, see `postcheck`."""
        return check_motion(self.history, step.motion.q, step.brake, self._limits, self._dt)

    def commit(self, step: Step) -> None:
        """Make a step the last output."""
        self.motion, self._brake = step
        self.history = np.concatenate([self.history[1:], step.motion.q[None]])

    @property
    def margin(self) -> float:
        """Smallest distance of any joint to its limit, rad."""
        q = self.motion.q
        return float(np.minimum(q - self._limits.lower, self._limits.upper - q).min())
