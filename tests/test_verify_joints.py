"""`./wm verify-joints` on the simulated bus: the operator is played by a function that sees the true joints."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.base import RobotError
from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel import verify
from wm_bridge.robots.dynamixel.bus import ServoBus
from wm_bridge.robots.dynamixel.bus_process import make
from wm_bridge.robots.dynamixel.jog import Jog
from wm_bridge.robots.dynamixel.servo_sim import Surroundings

MOTORS = motor_map.load("nico_rh4d")
BY_NAME = {motor.joint: motor for motor in MOTORS.joints}


@pytest.fixture
def bus():
    with make(MOTORS) as bus:
        yield bus


class Operator:
    """Answers from what really happened: this robot's true sign and zero differ from the file's.

    Attributes:
        said: all that was printed.
    """

    def __init__(self, bus, joint: str, true_sign: int, true_zero: float) -> None:
        self.bus, self.motor, self.sign, self.zero = bus, BY_NAME[joint], true_sign, true_zero
        self.said: list[str] = []
        self.before = self.angle()

    def angle(self) -> float:
        self.bus.settle()
        return self.sign * self.motor.ratio * (self.bus.servos[self.motor.ident].angle - self.zero)

    def say(self, text: str) -> None:
        self.said.append(text)

    def __call__(self, question: str) -> str:
        if "Switch its torque on" in question:
            return "y"
        if "positive direction" in question:
            turned = self.angle() - self.before
            assert 0.02 < abs(turned) < math.radians(5.2), "a few degrees, as asked"
            return "y" if turned > 0 else "n"
        assert "zero>" in question
        return f"a {math.degrees(self.angle()):.4f}"


@pytest.mark.parametrize(("joint", "sign", "zero"), [("r_arm_x", 1, 0.2), ("r_wrist_x", 1, math.radians(-110.0)), ("head_y", -1, -0.1)])
def test_sign_and_zero_of_the_robot_end_up_in_the_file(bus, tmp_path, joint, sign, zero):
    operator, out = Operator(bus, joint, sign, zero), tmp_path / "mine.yaml"
    others = {ident: servo.angle for ident, servo in bus.servos.items() if ident != BY_NAME[joint].ident}
    begin = bus.servos[BY_NAME[joint].ident].angle
    code = verify.main(["--port", bus.path, "--out", str(out), "--move", "--joint", joint, "--speed", "15"], operator, operator.say)
    assert code == 0
    found = {motor.joint: motor for motor in motor_map.load(out).joints}
    assert found[joint].verified and found[joint].sign == sign and found[joint].zero == pytest.approx(zero, abs=4e-3)
    assert [name for name, motor in found.items() if motor.verified] == [joint]
    bus.settle()
    servo = bus.servos[BY_NAME[joint].ident]
    assert servo.torque and servo.angle == pytest.approx(begin, abs=0.02), "back where it stood, and holding"
    assert servo.fastest * BY_NAME[joint].ratio <= math.radians(15.0) * 1.5 + 0.012
    for ident, angle in others.items():
        assert bus.servos[ident].angle == angle and not bus.servos[ident].torque, "no other joint was touched"


def test_without_move_it_only_lists(bus):
    said: list[str] = []
    bus.servos[5].dead = True
    assert verify.main(["--port", bus.path], pytest.fail, said.append) == 0
    assert bus.counts.writes == 0 and sum("NOT VERIFIED" in line for line in said) == 13
    assert any("r_elbow_y" in line and "NO ANSWER" in line for line in said)


@pytest.mark.parametrize("how", ["ctrl-c", "q"])
def test_interrupted_the_joint_holds_and_the_file_is_kept(bus, tmp_path, how):
    out = tmp_path / "mine.yaml"

    def ask(question: str) -> str:
        if "zero>" in question:
            if how == "q":
                return "q"
            raise KeyboardInterrupt
        return "y"

    assert verify.main(["--port", bus.path, "--out", str(out), "--move", "--joint", "head_z", "--speed", "15"], ask, lambda _: None) == 130
    servo = bus.servos[19]
    bus.settle()
    goal = servo.model.to_angle(servo.get("goal"))
    assert servo.torque and goal == pytest.approx(servo.angle, abs=0.01) and not out.exists()


def test_resistance_stops_the_motion_and_a_long_way_is_refused(bus):
    servo = bus.servos[20]
    begin = servo.angle
    line = ServoBus(bus.path, MOTORS.baud, MOTORS.protocol, patience_ms=300.0)
    line.open()
    jog = Jog(line, BY_NAME["head_y"], math.radians(15.0), 0.8)
    jog.grip()
    servo.surroundings = Surroundings(walls=(begin - 0.01, begin + 0.01))
    assert "resistance" in jog.move(math.radians(5.0))
    bus.settle()
    assert abs(servo.model.to_angle(servo.get("goal")) - servo.angle) < 0.01, "it does not push on"
    with pytest.raises(RobotError, match="too far"):
        jog.move(math.radians(6.0))
    with pytest.raises(RobotError, match="too far"):
        jog.move(math.nan)
    line.close()


def test_the_written_file_differs_from_its_source_in_that_joint_only(tmp_path):
    out, source = tmp_path / "mine.yaml", motor_map.find("nico_rh4d")
    changed = verify.dataclasses.replace(BY_NAME["l_elbow_y"], sign=-1, zero=0.5, verified=True)
    verify.write(source, out, changed)
    before, after = (yaml.safe_load(Path(file).read_text()) for file in (source, out))
    assert after["motors"].pop("l_elbow_y") == {"id": 6, "model": "MX-64", "sign": -1, "zero_deg": 28.65, "ratio": 1.0, "verified": True}
    before["motors"].pop("l_elbow_y")
    assert before == after and verify.axes(robot_spec.load("nico").urdf_path()).keys() >= set(BY_NAME)


def test_wrong_options_are_refused(bus):
    for words in (["--degrees", "9"], ["--speed", "40"], ["--move", "--joint", "elbow"]):
        with pytest.raises(UserError):
            verify.main(["--port", bus.path, *words], pytest.fail, lambda _: None)
    assert not any(servo.torque for servo in bus.servos.values())
