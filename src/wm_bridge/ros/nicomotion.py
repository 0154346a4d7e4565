"""For programs written for ``nicomotion.Motion``: its methods, on top of our graph.

The original talks to the servos itself, without limits and without a watchdog. This one proposes motions on
``wm/action`` as a planner does: the safety node is in between, limits them, and nothing moves before a person has
reset and enabled it. Angles are degrees of the URDF's joints.
"""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import difflib
import math
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import SetBool

from wm_bridge.core.trapezoid import Trapezoid, way_points
from wm_bridge.core.types import Command, FloatArray, JointState
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.ros import convert, qos

_PERIOD_S = 0.1  # a plan that is not renewed is followed for 0.35 s (command_timeout_ms)
_SILENT_S = 0.5  # without hw/command for this long nothing is proposed
_FOREIGN_S = 1.0  # after somebody else's plan
_FULL_SPEED = math.radians(1000.0)  # of the original's fractionMaxSpeed = 1
_SLOWEST = math.radians(0.5)  # rad/s, of a joint that has hardly any way to go
_GENTLE = 0.5  # share of the joints' accelerations
_THERE_RAD = 0.02
_LEAVE = "look at the robot, then: safety/reset, safety/enable (./wm play: --enable)"
_HANDS = {"RHand": "right", "LHand": "left"}
_SERVOS = "torque, stiffness and gains are set in config/motors and by the driver, which holds the arm whenever nothing moves it"
_NOT_HERE = {
    **dict.fromkeys("setStiffness getStiffness enableTorque disableTorque enableTorqueAll disableTorqueAll setPID getPID getTorqueLimit".split(), _SERVOS),
    **dict.fromkeys("enableForceControl disableForceControl enableForceControlAll disableForceControlAll".split(), _SERVOS),
    **dict.fromkeys("thumbsUp okSign pinchToIndex pencilGrip keyGrip pointAt setHandPose".split(), "hands open and close: openHand, closeHand"),
    **dict.fromkeys("getPalmSensorReading getSensorNames getCurrent".split(), "the driver does not tell it; getEffort, getTemperature"),
}


class Motion:
    """One robot in a running graph; a context manager.

    Motions end when the safety node is disabled or latched, and when somebody else plans: nothing goes on by
    itself afterwards.

    Args:
        robot: name in config/robots, as the graph was started with. namespace: of the graph.
        timeout_s: for the graph to be heard. domain: ROS domain; None = ROS_DOMAIN_ID.

    Raises:
        UserError: no graph, or another robot's.
    """

    def __init__(self, robot: str = "nico", namespace: str = "", timeout_s: float = 15.0, domain: int | None = None) -> None:
        self._spec = robot_spec.load(robot)
        self._lock = threading.RLock()
        self._targets: dict[str, tuple[float, float]] = {}  # joint -> (rad, rad/s)
        self._measured: JointState | None = None
        self._sent: Command | None = None
        self._sent_at = self._foreign_at = -math.inf
        self._mine: set[int] = set()
        self._temperature: dict[str, float] = {}
        self._problem, self._enabled = "", False
        self._not_enabled = ""  # in words, once the safety node was heard
        self._fastest = 1.0
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("nicomotion", context=self._context, namespace=namespace)
        self._plans = self._node.create_publisher(qos.message_type("wm/action"), "wm/action", qos.profile("wm/action"))
        self._hands = {name: self._node.create_client(SetBool, f"driver/close_{side}_hand") for name, side in _HANDS.items()}
        for name, callback in {
            "joint_states": self._on_joints,
            "hw/command": self._on_command,
            "safety/state": self._on_safety,
            "wm/action": self._on_plan,
            "driver/health": self._on_health,
        }.items():
            self._node.create_subscription(qos.message_type(name), name, callback, qos.monitor_profile(name, 10))
        self._node.create_timer(_PERIOD_S, self._propose)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="nicomotion", daemon=True)
        self._thread.start()
        if not _until(lambda: self._measured is not None and self._sent is not None and self._not_enabled, timeout_s):
            self.cleanup()
            raise UserError(f"no graph is heard under {namespace or '/'}", "start it: ./wm robot (and the same ROS_DOMAIN_ID)")

    # ---- nicomotion ----------------------------------------------------------------

    def setAngle(self, jointName: str, angle: float, fractionMaxSpeed: float) -> None:  # noqa: N802, N803
        """Move a joint to an angle, deg, in the background; full speed is 1000 deg/s or the joint's limit.

        Raises:
            UserError: unknown joint, an angle outside of its limits, no speed, or nothing may move.
        """
        index = self._index(jointName)
        target, low, high = math.radians(angle), float(self._spec.lower[index]), float(self._spec.upper[index])
        if not low - 1e-6 <= target <= high + 1e-6:
            raise UserError(f"{jointName} {angle:g} deg is outside of {math.degrees(low):.1f} .. {math.degrees(high):.1f}", "choose an angle inside")
        if not fractionMaxSpeed > 0.0:
            raise UserError(f"fractionMaxSpeed is {fractionMaxSpeed:g}", "give a share above 0; 0.03 are 30 deg/s")
        speed = min(_FULL_SPEED * min(fractionMaxSpeed, self._fastest), 0.9 * float(self._spec.velocity[index]))
        with self._lock:
            self._require_leave()
            self._targets[jointName] = (target, speed)

    def changeAngle(self, jointName: str, change: float, fractionMaxSpeed: float) -> None:  # noqa: N802, N803
        """Move a joint by an angle, deg, from where it is measured; see ``setAngle``."""
        self.setAngle(jointName, self.getAngle(jointName) + change, fractionMaxSpeed)

    def getAngle(self, jointName: str) -> float:  # noqa: N802, N803
        """Measured angle of a joint, deg."""
        return math.degrees(self.state().position[self._index(jointName)])

    def getSpeed(self, jointName: str) -> float:  # noqa: N802, N803
        """Measured speed of a joint, deg/s."""
        return math.degrees(self.state().velocity[self._index(jointName)])

    def getTemperature(self, jointName: str) -> float:  # noqa: N802, N803
        """Of a joint's motor, degrees Celsius; NaN where the driver does not tell."""
        self._index(jointName)
        return self._temperature.get(jointName, math.nan)

    def getJointNames(self) -> list[str]:  # noqa: N802
        """All joints, in the robot's order."""
        return list(self._spec.joint_names)

    def getAngleUpperLimit(self, jointName: str) -> float:  # noqa: N802, N803
        """Upper limit of a joint, deg."""
        return math.degrees(self._spec.upper[self._index(jointName)])

    def getAngleLowerLimit(self, jointName: str) -> float:  # noqa: N802, N803
        """Lower limit of a joint, deg."""
        return math.degrees(self._spec.lower[self._index(jointName)])

    def setMaximumSpeed(self, maximumSpeed: float) -> None:  # noqa: N802, N803
        """Share of the full speed that later calls stay below, 0..1."""
        if not 0.0 < maximumSpeed <= 1.0:
            raise UserError(f"maximumSpeed is {maximumSpeed:g}", "give a share above 0, at most 1")
        self._fastest = maximumSpeed

    def openHand(self, handName: str, fractionMaxSpeed: float = 1.0, percentage: float = 1.0) -> None:  # noqa: N802, N803
        """Open RHand or LHand, at the speed of config/motors.

        Raises:
            UserError: unknown hand, a part of the way only, or the driver refuses (safety node not enabled, dry run).
        """
        self._move_hand(handName, percentage, close=False)

    def closeHand(self, handName: str, fractionMaxSpeed: float = 1.0, percentage: float = 1.0) -> None:  # noqa: N802, N803
        """Close RHand or LHand until it grips; see ``openHand``."""
        self._move_hand(handName, percentage, close=True)

    def toSafePosition(self, fractionMaxSpeed: float = 0.02) -> None:  # noqa: N802, N803
        """Move all joints to the home posture of config/robots, in the background."""
        for name, angle in zip(self._spec.joint_names, self._spec.home, strict=True):
            self.setAngle(name, math.degrees(angle), fractionMaxSpeed)

    def cleanup(self) -> None:
        """Propose nothing any more, and leave the graph; the arm stands."""
        self.stop()
        self._closing.set()
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    # ---- and beside ----------------------------------------------------------------

    def getEffort(self, jointName: str) -> float:  # noqa: N802, N803
        """Measured effort of a joint, N m."""
        return float(self.state().effort[self._index(jointName)])

    def toward(self, names: Sequence[str], posture: FloatArray, share: float) -> None:
        """Move several joints to (A,) rad in the background, all of them equally long, the slowest at a share of its limit.

        Raises:
            UserError: as of ``setAngle``.
        """
        index = [self._index(name) for name in names]
        ways = np.abs(posture - self.state().position[index])
        time_s = float(np.max(ways / self._spec.velocity[index])) / share
        with self._lock:
            for name, angle, way in zip(names, posture, ways, strict=True):
                self.setAngle(name, math.degrees(angle), max(way / max(time_s, 1e-3), _SLOWEST) / _FULL_SPEED)

    def state(self) -> JointState:
        """All joints as measured, in the robot's order, rad."""
        state = self._measured
        assert state is not None  # the constructor has waited for it
        return state

    def wait_enabled(self, timeout_s: float) -> None:
        """Wait until the safety node says that it lets plans through.

        Raises:
            UserError: it does not.
        """
        if not _until(lambda: self._enabled, timeout_s):
            raise UserError(self._not_enabled, _LEAVE)

    @property
    def problem(self) -> str:
        """Why the last motion ended early; "" = it did not."""
        return self._problem

    def stop(self) -> None:
        """Forget all targets: the safety node brakes and holds."""
        with self._lock:
            self._targets = {}

    def wait(self, timeout_s: float = 30.0) -> None:
        """Wait until every target is reached.

        Raises:
            UserError: it ended otherwise, or took longer.
        """
        if not _until(lambda: not self._targets, timeout_s):
            raise UserError(f"not reached within {timeout_s:g} s: {self._away()}", "is something in the way? /diagnostics and safety/verdict say why it is held")
        if self._problem:
            raise UserError(f"the motion ended: {self._problem}", "mend it, reset and enable the safety node, and ask again")

    def __enter__(self) -> Motion:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.cleanup()

    def __getattr__(self, name: str) -> Any:
        if name in _NOT_HERE:
            raise UserError(f"nicomotion's {name} is not offered here", _NOT_HERE[name])
        raise AttributeError(name)

    # ---- what comes in (the node's thread) -----------------------------------------

    def _spin(self) -> None:
        while not self._closing.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _on_joints(self, message: Any) -> None:
        state = convert.from_joint_state(message)
        if state.names == self._spec.joint_names:
            self._measured = state

    def _on_command(self, message: Any) -> None:
        self._sent, self._sent_at = convert.from_command(message), time.monotonic()

    def _on_safety(self, message: Any) -> None:
        self._enabled = bool(message.enabled) and not message.latched
        self._not_enabled = f"the safety node is not enabled ({message.mode_name} {message.detail})".replace(" )", ")")
        if not self._enabled:
            self._give_up(self._not_enabled)

    def _on_plan(self, message: Any) -> None:
        if convert.from_time(message.header.stamp) not in self._mine:
            self._foreign_at = time.monotonic()
            self._give_up("somebody else plans on wm/action")

    def _on_health(self, message: Any) -> None:
        self._temperature = dict(zip(message.joint_names, message.temperature, strict=False))

    # ---- what goes out -------------------------------------------------------------

    def _propose(self) -> None:
        """Once per period: from what was sent last, at its speed, to the targets."""
        with self._lock:
            sent, measured = self._sent, self._measured
            if sent is None or measured is None or not self._targets:
                return
            if time.monotonic() - self._sent_at > _SILENT_S:
                self._give_up("hw/command is silent: is the safety node running?")
                return
            parts = []
            for name, (target, speed) in self._targets.items():
                index = sent.names.index(name)
                acceleration = _GENTLE * float(self._spec.acceleration[index])
                parts.append(Trapezoid.to(float(sent.position[index]), float(sent.velocity[index]), target, speed, acceleration))
            names = tuple(self._targets)
            self._mine = {*sorted(self._mine)[-20:], sent.stamp_ns}
            self._plans.publish(convert.to_trajectory(way_points(names, parts, sent.stamp_ns)))
            arrived = [name for name in names if self._arrived(name, sent, measured)]
            if len(arrived) == len(names):
                self._targets = {}

    def _arrived(self, name: str, sent: Command, measured: JointState) -> bool:
        index, target = self._spec.index(name), self._targets[name][0]
        return abs(sent.position[index] - target) < 1e-3 and abs(measured.position[index] - target) < _THERE_RAD and not sent.velocity[index]

    def _give_up(self, why: str) -> None:
        with self._lock:
            if self._targets:
                self._problem, self._targets = why, {}

    def _require_leave(self) -> None:
        if time.monotonic() - self._foreign_at < _FOREIGN_S:
            raise UserError("somebody else plans on wm/action", "end the planner's goal first (goal/cancel)")
        if not self._enabled:
            raise UserError(self._not_enabled, _LEAVE)
        self._problem = ""

    def _move_hand(self, name: str, percentage: float, close: bool) -> None:
        if name not in self._hands:
            raise UserError(f"there is no hand {name!r}", f"one of {sorted(self._hands)}")
        if percentage != 1.0:
            raise UserError(f"percentage {percentage:g} is not offered", "hands open and close all the way, until they grip")
        client = self._hands[name]
        if not _until(client.service_is_ready, 5.0):
            raise UserError("the driver offers no hands", "is the driver of the servos running? ./wm robot")
        future = client.call_async(SetBool.Request(data=close))
        if not _until(future.done, 10.0):
            raise UserError("the driver does not answer", "see its log")
        answer = future.result()
        if not answer.success:
            raise UserError(f"{name}: {answer.message}", "enable the safety node, and start the graph without dry run")

    def _index(self, name: str) -> int:
        if name not in self._spec.joint_names:
            near = difflib.get_close_matches(name, self._spec.joint_names, n=1, cutoff=0.0)
            raise UserError(f"there is no joint {name!r}", f"nearest is {near[0]}; fingers: openHand, closeHand")
        return self._spec.index(name)

    def _away(self) -> str:
        return ", ".join(f"{name} {self.getAngle(name):.1f} of {math.degrees(target):.1f} deg" for name, (target, _) in dict(self._targets).items())


def _until(condition: Callable[[], object], timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
