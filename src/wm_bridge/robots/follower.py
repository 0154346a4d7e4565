"""What the driver does once per period: write the newest allowed command, or hold. Knows no ROS."""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import Command, FloatArray
from wm_bridge.robots.base import Robot
from wm_bridge.robots.gate import Arrival, CommandGate, Refusal

COMMAND_TIMEOUT_MS = 60.0  # silence after which the driver stops: with period and delays below 100 ms
_FOLLOWED_RAD = 0.2  # a command further from the reference than this is not followed ...
_RESUMED_RAD = 0.1  # ... and after the driver held the arm ...
_PLACED_RAD = 0.03  # ... and after the arm was placed elsewhere
_HURRY = 2.5  # largest step per period, in periods at the joints' speed limit: two ticks may meet


class Follower:
    """Moves one robot by commands that its gate lets through, and holds it otherwise.

    | state     | while                                              | left by                     |
    |-----------|----------------------------------------------------|-----------------------------|
    | HOLDING   | at the start; silence longer than the time-out;    | a good command close to the |
    |           | a malformed or far command; a latched gate         | held reference -> FOLLOWING |
    | FOLLOWING | good commands come                                 | any of the above, or the    |
    |           |                                                    | robot is lost -> HOLDING    |

    A step per period is never larger than the joints' speed limit allows for the two commands
    that may fall into one period, so catching up after a pause is bounded too.

    Args:
        robot: connected. gate: of its ``hw/command``.
        timeout_ns: silence after which it holds, steady clock. period_s: between two ``step``.
    """

    def __init__(self, robot: Robot, gate: CommandGate, timeout_ns: int, period_s: float) -> None:
        if timeout_ns <= 0 or not period_s > 0:
            raise ValueError(f"follower: timeout {timeout_ns} ns and period {period_s} s must be > 0")
        self.robot, self.gate = robot, gate
        self._timeout_ns = timeout_ns
        self._largest_step = _HURRY * robot.spec.velocity * period_s
        self._newest: Command | None = None
        self._heard_ns = 0
        self._reach = _RESUMED_RAD
        self.reference: FloatArray = np.array(robot.read().position)
        self.following = False
        self.problem = "no command yet"
        self.stops = 0
        self.refused = 0
        self._lost, self._lost_because = False, ""

    def offer(self, command: Command | None, arrival: Arrival, now_ns: int, steady_ns: int, malformed: str = "") -> str:
        """Take a command that arrived; returns why it is not followed, "" when it will be.

        Args:
            command: None when it could not be read; ``malformed`` says why.
            arrival: its way here. now_ns: node time. steady_ns: steady clock.
        """
        wrong = self.gate.judge(arrival, now_ns)
        if wrong is not Refusal.NONE:
            self.refused += 1
            why = f"hw/command {wrong.value}"
            if self.gate.latched is not Refusal.NONE:
                why = self._latched()
                self.hold(why)
            return why
        why = malformed if command is None else self._why_not(command)
        if why:
            self.refused += 1
            self.hold(why)
            return why
        self._newest, self._heard_ns = command, steady_ns
        return ""

    def step(self, steady_ns: int) -> None:
        """Write the newest command if it is recent enough, else hold.

        A robot that was lost closes the gate, and is held where it is measured when it comes back.
        """
        if trouble := self.robot.trouble():
            self._lost, self._lost_because = True, trouble
            self.gate.close()
            self.hold(f"robot: {trouble}")
            return
        if self._lost:
            self._lost = False
            self.reference = np.array(self.robot.stop())
            self._reach = min(self._reach, _RESUMED_RAD)
        silent_ns = steady_ns - self._heard_ns
        if self.gate.latched is not Refusal.NONE:
            self.hold(self._latched())
        elif self._newest is None:
            self.hold(self.problem)
        elif silent_ns > self._timeout_ns:
            self.hold(f"no hw/command for {silent_ns * 1e-6:.0f} ms; is the safety node running?")
        else:
            step = np.clip(self._newest.position - self.reference, -self._largest_step, self._largest_step)
            sent = self.robot.write(
                Command(
                    self._newest.names,
                    self.reference + step,
                    self._newest.velocity,
                    self._newest.stamp_ns,
                    self._newest.source_stamp_ns,
                )
            )
            self.reference = np.array(sent.position)
            self.following, self.problem, self._reach = True, "", _FOLLOWED_RAD

    def hold(self, why: str) -> None:
        """Stop the arm (once) and drop the command; ``why`` is the reason shown."""
        if self.following:
            self.stops += 1
            self._reach = min(self._reach, _RESUMED_RAD)
            self.reference = np.array(self.robot.stop())
        self.following, self.problem, self._newest = False, why, None

    def placed(self, reference: FloatArray) -> None:
        """The arm was put elsewhere (simulation): follow again only from there on."""
        self.reference = np.array(reference)
        self.following, self._newest, self._reach = False, None, _PLACED_RAD
        self.problem = "the arm was placed; reset the safety node"

    def _latched(self) -> str:
        if self.gate.latched is Refusal.ROBOT_LOST:
            remedy = "when it is back, call safety/reset" if self._lost else "it is back, call safety/reset"
            return f"latched: the robot was lost ({self._lost_because}); {remedy}"
        return f"latched: hw/command {self.gate.latched.value}; stop that node, then call safety/reset"

    def _why_not(self, command: Command) -> str:
        names = self.robot.spec.joint_names
        if command.names != names:
            return f"hw/command names {list(command.names)}, expected {list(names)}"
        if not (np.isfinite(command.position).all() and np.isfinite(command.velocity).all()):
            return "hw/command is not finite"
        distance = float(np.abs(command.position - self.reference).max())
        if distance <= self._reach:
            return ""
        if self._reach == _PLACED_RAD:
            return f"the arm was placed; commands are {distance:.2f} rad away, reset the safety node"
        return f"hw/command jumps by {distance:.2f} rad; reset the safety node"

