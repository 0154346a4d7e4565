"""`./wm bus-sim`: the servos of a robot on a pseudo-terminal, for trying the driver without the robot."""

from __future__ import annotations

import argparse
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import IO

import numpy as np

from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel.bus_sim import BusSim
from wm_bridge.robots.dynamixel.motors import Motors
from wm_bridge.robots.dynamixel.servo_sim import SimServo

_HELP = """Commands, one per line: dead ID, alive ID, heat ID CELSIUS, drop SHARE, corrupt SHARE, unplug SECONDS,
power ID (its supply fails for a moment), show, quit"""


def make(
    motors: Motors, angles: Mapping[str, float] | None = None, seed: int = 0, wire_time: bool = False, return_delay: int = 0
) -> BusSim:
    """A bus with all servos of a map, the joints at given angles, hands open.

    Args:
        angles: joint angles, rad; a joint that is not named stands at its home pose.
        return_delay: of every servo, register counts of 2 us.
    """
    spec = robot_spec.load(motors.robot)
    home = dict(zip(spec.joint_names, spec.home, strict=True)) | dict(angles or {})
    servos = [SimServo(motor.ident, motor.model, motor.to_servo(home[motor.joint]), return_delay) for motor in motors.joints]
    currents = {}
    for hand in motors.hands:
        servos.append(SimServo(*hand.board, 0.0, return_delay))
        servos += [SimServo(finger.ident, finger.model, finger.opened, return_delay) for finger in hand.fingers]
        currents[hand.board[0]] = tuple(finger.ident for finger in hand.fingers)
    return BusSim(servos, seed, wire_time, currents=currents)


class BusProcess:
    """A simulated bus in a process of its own; it ends with the process that made it.

    Attributes:
        path: what the driver opens.
    """

    def __init__(self, motors_file: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "wm_bridge.robots.dynamixel.bus_process", "--motors", motors_file, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = _pipe(self._process.stdout).readline()
        if not line.startswith("bus on "):
            self.close()
            raise UserError("the simulated bus did not start", "./wm bus-sim says why")
        self.path = line.removeprefix("bus on ").strip()

    def tell(self, command: str) -> None:
        """Give it one of the commands of `./wm bus-sim`."""
        _pipe(self._process.stdin).write(command + "\n")
        _pipe(self._process.stdin).flush()

    def close(self) -> None:
        """End it."""
        for pipe in (self._process.stdin, self._process.stdout):
            _pipe(pipe).close()
        self._process.wait(10.0)


def main(argv: list[str] | None = None) -> int:
    """Serve until the input ends or Ctrl-C; returns the exit code."""
    parser = argparse.ArgumentParser(prog="wm bus-sim", description=__doc__, epilog=_HELP)
    parser.add_argument("--motors", default="nico_rh4d", help="name in config/motors, or path of a YAML file")
    parser.add_argument("--seed", type=int, default=0, help="of drops and corruption")
    parser.add_argument("--wire-time", action="store_true", help="answer as late as servos at 1 Mbaud")
    parser.add_argument("--return-delay", type=int, default=0, help="register value of every servo, 2 us each; new servos have 250")
    options = parser.parse_args(argv)
    bus = make(motor_map.load(options.motors), None, options.seed, options.wire_time, options.return_delay)
    print(f"bus on {bus.path}", flush=True)
    replug_at = np.inf
    try:
        with bus:
            while True:
                if time.monotonic() >= replug_at:
                    bus.replug()
                    replug_at = np.inf
                if not select.select([sys.stdin], [], [], 0.05)[0]:
                    continue
                line = sys.stdin.readline()
                if not line or line.strip() == "quit":
                    return 0
                try:
                    replug_at = min(replug_at, _obey(bus, line.split()))
                except (KeyError, ValueError, IndexError):
                    print(f"not understood: {line.strip()!r}. {_HELP}", flush=True)
    except KeyboardInterrupt:
        return 130


def _obey(bus: BusSim, words: list[str]) -> float:
    """Do what a line says; returns when to plug in again, s on the steady clock."""
    if not words:
        return np.inf
    kind, *rest = words
    if kind in ("dead", "alive"):
        bus.servos[int(rest[0])].dead = kind == "dead"
    elif kind == "heat":
        bus.servos[int(rest[0])].temperature_c = float(rest[1])
    elif kind == "power":
        bus.servos[int(rest[0])].cycle_power()
    elif kind in ("drop", "corrupt"):
        setattr(bus.faults, kind, float(rest[0]))
    elif kind == "unplug":
        bus.unplug()
        return time.monotonic() + float(rest[0])
    elif kind == "show":
        bus.settle()
        for servo in bus.servos.values():
            print(f"{servo.ident:3d} {servo.model.name:<16} {np.degrees(servo.angle):8.2f} deg  torque {int(servo.torque)}", flush=True)
    else:
        raise ValueError(kind)
    return np.inf


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None  # both are asked for
    return pipe


if __name__ == "__main__":
    sys.exit(main())
