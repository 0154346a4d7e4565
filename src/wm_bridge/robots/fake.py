"""A robot in memory: joints follow their references with a first-order lag. For tests."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import Command, FloatArray, JointState
from wm_bridge.robots.base import MotorHealth, Robot
from wm_bridge.robots.spec import RobotSpec

_TICK_S = 0.001


class FakeRobot(Robot):
    """Full ``Robot`` with no physics: ``dq = clip((reference - q) / lag, velocity limit)``.

    Time moves only in ``advance``. Effort is the distance to the reference times a stiffness,
    within the effort limit. With the torque off every joint sinks at its velocity limit.

    Attributes:
        sent: every command that was taken, oldest first.
        stops: how often ``stop`` was called. torque: the motors are on.
        reported: what ``health`` returns.
    """

    def __init__(self, spec: RobotSpec, lag_s: float = 0.03) -> None:
        super().__init__(spec)
        if not lag_s >= _TICK_S:
            raise ValueError(f"lag must be at least {_TICK_S} s, got {lag_s}")
        self._lag_s = lag_s
        self._time_ns = 0
        self._q = spec.home.copy()
        self._dq = np.zeros_like(self._q)
        self._reference = self._q.copy()
        self.sent: list[Command] = []
        self.stops = 0
        self.torque = True
        self.reported: MotorHealth | None = None

    @property
    def time_ns(self) -> int:
        """Time that was advanced so far."""
        return self._time_ns

    def health(self) -> MotorHealth | None:
        """What a test set in ``reported``."""
        return self.reported

    def advance(self, duration_s: float) -> None:
        """Let time pass, in ticks of 1 ms."""
        limit = self.spec.velocity
        for _ in range(round(duration_s / _TICK_S)):
            self._dq = np.clip((self._reference - self._q) / self._lag_s, -limit, limit) if self.torque else -limit
            self._q = self._q + self._dq * _TICK_S
        self._time_ns += round(duration_s / _TICK_S) * round(_TICK_S * 1e9)

    def _open(self) -> None:
        self._reference = self._q.copy()
        self.torque = True

    def _close(self) -> None:
        self.torque = self.needs_torque_to_hold

    def _read(self) -> JointState:
        effort = np.clip(50.0 * (self._reference - self._q), -self.spec.effort, self.spec.effort)
        return JointState(self.spec.joint_names, self._q, self._dq, effort, self._time_ns)

    def _write(self, command: Command) -> Command:
        self._reference = command.position.copy()
        self.sent.append(command)
        return command

    def _stop(self) -> FloatArray:
        self._reference = self._q.copy()
        self.stops += 1
        return self._reference.copy()
