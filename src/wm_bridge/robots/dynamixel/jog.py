"""Moves one servo a few degrees, slowly, and stops at the first resistance."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from wm_bridge.robots.base import RobotError
from wm_bridge.robots.dynamixel import arming
from wm_bridge.robots.dynamixel.bus import Block, ServoBus
from wm_bridge.robots.dynamixel.models import Measurement
from wm_bridge.robots.dynamixel.motors import JointMotor

LARGEST_RAD = math.radians(5.0)  # of one move, at the joint
REACH_RAD = math.radians(45.0)  # from where it stood first, at the joint
_STEP_S = 0.1
_LOAD = 0.4  # share of the stall torque at which it gives way
_LATE_S = 1.5  # beyond the time the way takes
_TRIES = 3


class Jog:
    """One joint in the hands of a person; whatever happens it holds where it is.

    The goal runs ahead by a tenth of a second only, so an end of the program leaves it at most that far.

    Args:
        speed: of the joint, rad/s. torque_limit: share of the largest torque.
    """

    def __init__(self, bus: ServoBus, motor: JointMotor, speed: float, torque_limit: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self.motor, self._bus, self._sleep, self._torque_limit = motor, bus, sleep, torque_limit
        self._speed = speed / motor.ratio
        self._moving_speed = motor.model.to_speed(1.5 * self._speed)
        self._start = self.angle()

    def angle(self) -> float:
        """Servo angle that is measured, rad."""
        return self.motor.model.to_angle(self._measure().count)

    def grip(self) -> None:
        """Switch the torque on where it is.

        Raises:
            RobotError: it will not.
        """
        why, _ = arming.arm(self._bus, self.motor.ident, self.motor.model, self._moving_speed, self._torque_limit)
        if why:
            raise RobotError(f"{self.motor.joint} (id {self.motor.ident}) {why}", "mend it, then start again")

    def hold(self) -> None:
        """Stay where it is, with torque."""
        self._go(self.motor.model.to_count(self.angle()))

    def move(self, joint_rad: float) -> str:
        """Turn by an angle of the joint, in the direction the map's sign says; returns "" or why it stopped before.

        Raises:
            RobotError: further than ``LARGEST_RAD`` at once, or than ``REACH_RAD`` in all.
        """
        begin = self.angle()
        goal = begin + self.motor.sign * joint_rad / self.motor.ratio
        if not abs(joint_rad) <= LARGEST_RAD or abs(goal - self._start) * self.motor.ratio > REACH_RAD:
            raise RobotError(
                f"{math.degrees(joint_rad):.1f} deg is too far", f"at most {math.degrees(LARGEST_RAD):.0f} deg at once, {math.degrees(REACH_RAD):.0f} in all"
            )
        steps = max(math.ceil(abs(goal - begin) / (self._speed * _STEP_S)), 1)
        patience = math.ceil(_LATE_S / _STEP_S)
        try:
            for index in range(1, steps + patience + 1):
                self._go(self.motor.model.to_count(begin + (goal - begin) * min(index / steps, 1.0)))
                self._sleep(_STEP_S)
                now = self._measure()
                if abs(now.load) > _LOAD:
                    self.hold()
                    return f"it meets resistance (load {100 * abs(now.load):.0f} %)"
                if index >= steps and abs(self.motor.model.to_angle(now.count) - goal) < 0.01:
                    return ""
        except BaseException:
            self.hold()
            raise
        self.hold()
        return "it did not get there"

    def _go(self, count: int) -> None:
        if arming.hold_at(self._bus, self.motor.ident, self.motor.model, count, self._moving_speed):
            return
        raise RobotError(f"{self.motor.joint} (id {self.motor.ident}) does not take its goal", "check its power and its own angle limits")

    def _measure(self) -> Measurement:
        model, ident = self.motor.model, self.motor.ident
        for _ in range(_TRIES):
            data = self._bus.read(Block(ident, *model.block))
            if data is not None:
                return model.measured(data)
        raise RobotError(f"{self.motor.joint} (id {ident}) does not answer", "check its power and its cable")
