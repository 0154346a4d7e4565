"""What every robot driver offers."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from wm_bridge.core.types import Command, FloatArray, JointState
from wm_bridge.errors import UserError
from wm_bridge.robots.spec import RobotSpec


class RobotError(UserError):
    """The robot cannot be read or moved; says what to do about it."""


@dataclass(frozen=True)
class MotorHealth:
    """Per joint in ``spec.joint_names`` order; an empty array was not measured.

    Attributes:
        effort: N m. temperature: degrees Celsius. voltage: V. error: the motor's own code, 0 = none.
    """

    effort: tuple[float, ...] = ()
    temperature: tuple[float, ...] = ()
    voltage: tuple[float, ...] = ()
    error: tuple[int, ...] = ()


class Robot(abc.ABC):
    """One robot behind one driver; a context manager that stops on the way out.

    ``spec`` is known before connecting. Vendor libraries are imported in ``connect``.

    Attributes:
        needs_torque_to_hold: gravity moves the arm when its motors are off, so ``stop`` and
            ``disconnect`` leave them on and holding. False only for arms with brakes or gears
            that hold by themselves.
    """

    needs_torque_to_hold = True

    def __init__(self, spec: RobotSpec) -> None:
        self.spec = spec
        self._connected = False

    @property
    def connected(self) -> bool:
        """True between ``connect`` and ``disconnect``."""
        return self._connected

    def connect(self) -> None:
        """Open the robot; a second call does nothing. Never moves it.

        Raises:
            RobotError: not there, or not usable.
        """
        if not self._connected:
            self._open()
            self._connected = True

    def disconnect(self) -> None:
        """Stop and release the robot; a second call does nothing.

        An arm that needs torque to hold keeps it: it stands, and never falls.
        """
        if self._connected:
            try:
                self.stop()
            finally:
                self._connected = False
                self._close()

    def read(self) -> JointState:
        """Return the newest measurement, all joints in ``spec.joint_names`` order."""
        self._require_connection()
        return self._read()

    def trouble(self) -> str:
        """Why it can be neither measured nor moved at the moment; "" when it can.

        Meanwhile ``read`` tells the last measurement with its old stamp, and nothing that is written is sent.
        """
        return ""

    def health(self) -> MotorHealth | None:
        """Return what the motors say about themselves; None when this robot does not tell."""
        return None

    def write(self, command: Command) -> Command:
        """Send joint references and return what was really sent.

        Positions are moved into the limits of the spec. Nothing is sent when an error is raised.

        Raises:
            RobotError: not connected, other joints than the robot has, or a number that is not
                finite.
        """
        self._require_connection()
        if command.names != self.spec.joint_names:
            raise RobotError(
                f"command names {list(command.names)}, robot has {list(self.spec.joint_names)}",
                "send every joint once, in the order of RobotSpec.joint_names",
            )
        if not (np.isfinite(command.position).all() and np.isfinite(command.velocity).all()):
            raise RobotError(
                "command holds numbers that are not finite; nothing was sent",
                "send commands through the safety node",
            )
        return self._write(
            Command(
                names=command.names,
                position=self.spec.clip(command.position),
                velocity=np.clip(command.velocity, -self.spec.velocity, self.spec.velocity),
                stamp_ns=command.stamp_ns,
                source_stamp_ns=command.source_stamp_ns,
            )
        )

    def stop(self) -> FloatArray:
        """Make every joint hold where it is, at once and with torque.

        Returns:
            (J,) the references that are held from now on, rad.
        """
        self._require_connection()
        return self._stop()

    def __enter__(self) -> Robot:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.disconnect()

    def _require_connection(self) -> None:
        if not self._connected:
            raise RobotError(f"{self.spec.name} is not connected", "call connect() first")

    @abc.abstractmethod
    def _open(self) -> None:
        """Open the device."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Release the device, with the motors on when ``needs_torque_to_hold``."""

    @abc.abstractmethod
    def _read(self) -> JointState:
        """Measure all joints."""

    @abc.abstractmethod
    def _write(self, command: Command) -> Command:
        """Send a checked command; return what the device took."""

    @abc.abstractmethod
    def _stop(self) -> FloatArray:
        """Hold the present pose; return the held references."""
