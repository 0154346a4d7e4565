"""A robot whose servos hang on several cables (NICOL): each is a ``DynamixelRobot``, together they are one robot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from wm_bridge.core.types import Command, FloatArray, JointState
from wm_bridge.errors import UserError
from wm_bridge.robots.base import MotorHealth, Robot, RobotError
from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel.hand import HandDriver
from wm_bridge.robots.dynamixel.robot import BusSettings, DynamixelRobot
from wm_bridge.robots.spec import RobotSpec

Result = TypeVar("Result")


def on_cables(spec: RobotSpec, settings: BusSettings, threaded: bool = True) -> Robot:
    """The robot of these settings: ``motors`` names a file per cable, ``port`` as many devices in that order, both with commas.

    ``port`` may be ``sim`` alone: a simulated bus for each cable.

    Raises:
        UserError: not a port per file, or joints of the robot in no file, or in two.
    """
    files, ports = _words(settings.motors), _words(settings.port)
    ports = ports * len(files) if ports == ["sim"] else ports
    if len(files) != len(ports):
        raise UserError(f"{len(files)} motors files {files} and {len(ports)} ports {ports}", "give one port per file, in that order, with commas; or sim", 2)
    owned = [[motor.joint for motor in motor_map.load(file).joints] for file in files]
    every = sorted(joint for joints in owned for joint in joints)
    if every != sorted(spec.joint_names):
        wrong = sorted(set(every) ^ set(spec.joint_names)) or sorted({joint for joint in every if every.count(joint) > 1})
        raise UserError(f"motors {files}: {wrong} have no servo, have two, or are no joints of {spec.name}", "name a file per cable: parameter motors", 2)
    each = [dataclasses.replace(settings, motors=file, port=port) for file, port in zip(files, ports, strict=True)]
    if len(each) == 1:
        return DynamixelRobot(spec, each[0], threaded)
    parts = [[joint for joint in spec.joint_names if joint in joints] for joints in owned]
    return Cables(spec, [DynamixelRobot(spec.part(part), one, threaded) for part, one in zip(parts, each, strict=True)])


class Cables(Robot):
    """Several buses as one robot: what is wrong with one is wrong with the robot, and the others hold.

    A state is as old as its oldest joint. While one cable is in trouble nothing is sent to any.

    Attributes:
        parts: one robot per cable.
    """

    def __init__(self, spec: RobotSpec, parts: Sequence[DynamixelRobot]) -> None:
        super().__init__(spec)
        self.parts = tuple(parts)
        self._places = [np.array([spec.index(joint) for joint in part.spec.joint_names]) for part in parts]

    def trouble(self) -> str:
        """What any of them says."""
        return "; ".join(f"{part.motors.name}: {text}" for part in self.parts if (text := part.trouble()))

    @property
    def hands(self) -> dict[str, HandDriver]:
        """All hands, by name."""
        return {name: hand for part in self.parts for name, hand in part.hands.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes it slower than it could be, with the remedy."""
        return tuple(f"{part.motors.name}: {text}" for part in self.parts for text in part.warnings)

    def details(self) -> dict[str, str]:
        """The buses in words, for diagnostics."""
        return {f"{part.motors.name}: {key}": value for part in self.parts for key, value in part.details().items()}

    def cycle(self) -> None:
        """One turn of every bus; instead of their threads."""
        for part in self.parts:
            part.cycle()

    def health(self) -> MotorHealth | None:
        """That of all; a cable whose servos tell no voltage gets the lowest of the others."""
        found = [part.health() for part in self.parts]
        known = [health for health in found if health is not None]
        if len(known) < len(found):
            return None
        told = [volt for health in known for volt in health.voltage]
        volts = [health.voltage or (min(told),) * len(health.effort) for health in known] if told else []
        return MotorHealth(
            tuple(self._joined([health.effort for health in known])),
            tuple(self._joined([health.temperature for health in known])),
            tuple(self._joined(volts)) if volts else (),
            tuple(int(code) for code in self._joined([health.error for health in known])),
        )

    def _open(self) -> None:
        try:
            for part in self.parts:
                part.connect()
        except RobotError as error:
            name = next(part.motors.name for part in self.parts if not part.connected)
            self._close()
            raise RobotError(f"{name}: {error.message}", error.remedy) from error
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        _all(part.disconnect for part in self.parts)

    def _read(self) -> JointState:
        states = [part.read() for part in self.parts]
        return JointState(
            self.spec.joint_names,
            self._joined([state.position for state in states]),
            self._joined([state.velocity for state in states]),
            self._joined([state.effort for state in states]),
            min(state.stamp_ns for state in states),
        )

    def _write(self, command: Command) -> Command:
        if self.trouble():
            held = self._read().position
            return dataclasses.replace(command, position=held, velocity=np.zeros_like(held))
        sent = []
        for part, place in zip(self.parts, self._places, strict=True):
            one = Command(part.spec.joint_names, command.position[place], command.velocity[place], command.stamp_ns, command.source_stamp_ns)
            sent.append(part.write(one).position)
        return dataclasses.replace(command, position=self._joined(sent))

    def _stop(self) -> FloatArray:
        return self._joined(_all(part.stop for part in self.parts))

    def _joined(self, values: Sequence[Sequence[float] | FloatArray]) -> FloatArray:
        """(J,) in the robot's order from one array per part."""
        out = np.empty(len(self.spec.joint_names))
        for value, place in zip(values, self._places, strict=True):
            out[place] = value
        return out


def _all(calls: Iterable[Callable[[], Result]]) -> list[Result]:
    """Call each, whatever the others do; then raise the first error, or return what they gave."""
    errors: list[Exception] = []
    results: list[Result] = []
    for call in calls:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001  the other cables matter as much
            errors.append(error)
    if errors:
        raise errors[0]
    return results


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
