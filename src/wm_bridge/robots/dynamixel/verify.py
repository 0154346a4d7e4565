"""`./wm verify-joints`: a person confirms direction and zero of each joint, and the motors file says so."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.base import RobotError
from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel.bus import Block, BusLost, ServoBus
from wm_bridge.robots.dynamixel.bus_process import BusProcess
from wm_bridge.robots.dynamixel.jog import Jog
from wm_bridge.robots.dynamixel.motors import JointMotor

Ask = Callable[[str], str]
Say = Callable[[str], None]
_HEAD = "# Motors of one robot, confirmed with ./wm verify-joints; the form is explained in config/motors/nico_rh4d.yaml.\n"
_ZERO_HELP = "+ or - moves a degree, ++ or -- five; 'z': here is its zero; 'a 12.5': here it is at 12.5 deg; 'k': keep the zero of the file; q"


class Quit(Exception):
    """The operator wants to stop."""


def main(argv: list[str] | None = None, ask: Ask = input, say: Say = print) -> int:
    """Run the dialogue; returns the exit code."""
    parser = argparse.ArgumentParser(prog="wm verify-joints", description=__doc__)
    parser.add_argument("--port", required=True, help="serial device (ls /dev/serial/by-id), or sim")
    parser.add_argument("--motors", default="nico_rh4d", help="name in config/motors, or your file to go on with")
    parser.add_argument("--out", type=Path, default=Path("my_motors.yaml"), help="where the confirmed map is written")
    parser.add_argument("--move", action="store_true", help="really move; without it the servos are only read and listed")
    parser.add_argument("--joint", action="append", metavar="NAME", help="only this joint (may be repeated); default: all that are not verified")
    parser.add_argument("--degrees", type=float, default=3.0, help="of the test motion, at the joint, 1 to 5")
    parser.add_argument("--speed", type=float, default=5.0, help="deg/s at the joint, 1 to 15")
    options = parser.parse_args(argv)
    if not (1.0 <= options.degrees <= 5.0 and 1.0 <= options.speed <= 15.0):
        raise UserError(f"--degrees {options.degrees} --speed {options.speed}", "degrees from 1 to 5, speed from 1 to 15", 2)
    motors = motor_map.load(options.motors)
    process = BusProcess(options.motors) if options.port == "sim" else None
    bus = ServoBus(process.path if process else options.port, motors.baud, motors.protocol, patience_ms=30.0)
    try:
        bus.open()
        listed(bus, motors.joints, say)
        if not options.move:
            say("Nothing was moved. With --move each joint turns a little and you say what you see.")
            return 0
        chosen = _chosen(motors.joints, options.joint)
        file = motor_map.find(options.motors)
        return _dialogue(bus, chosen, motors, file, options.out, math.radians(options.degrees), math.radians(options.speed), ask, say)
    except BusLost as error:
        raise RobotError(str(error), "plug it in and start again; what was confirmed is in the file") from error
    finally:
        bus.close()
        if process is not None:
            process.close()


def listed(bus: ServoBus, joints: Sequence[JointMotor], say: Say) -> None:
    """One line per joint: what its servo says, and the angle that follows from the map."""
    for motor in joints:
        data = bus.read(Block(motor.ident, *motor.model.block))
        if data is None:
            say(f"{motor.joint:<14} id {motor.ident:3d}  NO ANSWER")
            continue
        said = motor.model.measured(data)
        angle = math.degrees(motor.to_joint(motor.model.to_angle(said.count)))
        mark = "verified" if motor.verified else "NOT VERIFIED"
        say(f"{motor.joint:<14} id {motor.ident:3d} {motor.model.name:<16} count {said.count:8d} = {angle:8.2f} deg  {said.temperature:3.0f} C  {mark}")


def confirm(jog: Jog, axis: str, degrees: float, ask: Ask, say: Say) -> JointMotor:
    """The dialogue about one joint: direction, then zero; the joint holds afterwards.

    Args:
        axis: the positive axis, in words. degrees: of the test motion, rad at the joint.

    Raises:
        Quit: the operator stops.
    """
    jog.grip()
    while True:
        why = jog.move(degrees)
        if why:
            say(f"  stopped: {why}")
        seen = _asked(ask, f"  It should have turned in the positive direction: {axis}. Did it? [y/n, r: again, q] ", "ynr")
        jog.move(-degrees)
        if seen == "y":
            break
        if seen == "n":
            jog.motor = dataclasses.replace(jog.motor, sign=-jog.motor.sign)
            say("  The sign is turned round; once more.")
    say("  Now its zero: where the URDF has it (NICO: arm hanging down, palm to the body, head level). " + _ZERO_HELP)
    while True:
        answer = ask("  zero> ").strip()
        if answer == "q":
            raise Quit
        if answer in ("+", "-", "++", "--"):
            why = jog.move(math.radians({"+": 1.0, "-": -1.0, "++": 5.0, "--": -5.0}[answer]))
            say(f"  stopped: {why}" if why else f"  servo at {math.degrees(jog.angle()):.1f} deg")
        elif answer == "k":
            return dataclasses.replace(jog.motor, verified=True)
        elif answer == "z" or answer.startswith("a "):
            try:
                here = math.radians(float(answer[2:])) if answer != "z" else 0.0
            except ValueError:
                say(f"  {answer[2:]!r} is no number")
                continue
            zero = jog.angle() - jog.motor.sign * here / jog.motor.ratio
            return dataclasses.replace(jog.motor, zero=zero, verified=True)
        else:
            say(f"  not understood. {_ZERO_HELP}")


def write(source: Path, out: Path, confirmed: JointMotor) -> None:
    """Copy a motors file with one joint's sign, zero and ``verified`` renewed; whole or not at all."""
    file = out if out.is_file() else source
    motor_map.load(file)  # refuses what could not be written again
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    entry = data["motors"][confirmed.joint]
    entry |= {"sign": confirmed.sign, "zero_deg": round(math.degrees(confirmed.zero), 2), "verified": confirmed.verified}
    motor_map.from_dict(data)  # what is written can be read
    fresh = out.with_name(out.name + ".new")
    fresh.write_text(_HEAD + yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=150), encoding="utf-8")
    os.replace(fresh, out)


def axes(urdf: Path) -> dict[str, str]:
    """The positive direction of each joint in words, from the URDF."""
    found = {}
    for joint in ElementTree.parse(urdf).getroot().iter("joint"):
        axis = joint.find("axis")
        if axis is not None:
            found[joint.get("name", "")] = f"counter-clockwise when axis ({axis.get('xyz')}) of its frame points at you"
    return found


# ---- inside ------------------------------------------------------------------------


def _dialogue(
    bus: ServoBus, chosen: list[JointMotor], motors: motor_map.Motors, file: Path, out: Path, degrees: float, speed: float, ask: Ask, say: Say
) -> int:
    words = axes(robot_spec.load(motors.robot).urdf_path())
    say("Keep clear, a hand on the emergency stop. Arms: have somebody support them. Ctrl-C or q: the joint holds where it is.")
    jog: Jog | None = None
    try:
        for motor in chosen:
            say(f"{motor.joint} (id {motor.ident}, {motor.model.name})")
            if _asked(ask, f"  Switch its torque on and turn it by {math.degrees(degrees):.0f} deg? [y, s: skip, q] ", "ys") == "s":
                continue
            jog = Jog(bus, motor, speed, motors.torque_limit)
            confirmed = confirm(jog, words.get(motor.joint, "as in the URDF"), degrees, ask, say)
            write(file, out, confirmed)
            say(f"  {motor.joint}: sign {confirmed.sign}, zero {math.degrees(confirmed.zero):.2f} deg, written to {out}")
    except (KeyboardInterrupt, Quit, EOFError):
        if jog is not None:
            jog.hold()
        say(f"\nStopped; the joints that were moved hold where they are. Confirmed joints are in {out}; go on with --motors {out}.")
        return 130
    left = [motor.joint for motor in motor_map.load(out).joints if not motor.verified] if out.is_file() else [motor.joint for motor in motors.joints]
    say(f"Not verified yet: {left}" if left else f"All joints are verified. The driver's parameter: motors:={out.resolve()}")
    return 0


def _chosen(joints: Sequence[JointMotor], names: list[str] | None) -> list[JointMotor]:
    if names is None:
        return [motor for motor in joints if not motor.verified]
    known = {motor.joint: motor for motor in joints}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"there are no joints {unknown}", f"known are {sorted(known)}", 2)
    return [known[name] for name in names]


def _asked(ask: Ask, question: str, allowed: str) -> str:
    while True:
        answer = ask(question).strip().lower()[:1]
        if answer == "q":
            raise Quit
        if answer and answer in allowed:
            return answer
