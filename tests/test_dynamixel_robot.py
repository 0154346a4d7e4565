"""The driver for NICO on the simulated bus, with ROBOTIS' SDK in between: it holds, it recovers, it never jumps."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import wait_until

from wm_bridge.bench import bus as bench_bus
from wm_bridge.bench import bus_faults
from wm_bridge.core.types import Command
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.base import RobotError
from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel.bus import ServoBus
from wm_bridge.robots.dynamixel.bus_process import make
from wm_bridge.robots.dynamixel.bus_sim import BusSim
from wm_bridge.robots.dynamixel.hand import HandState
from wm_bridge.robots.dynamixel.packets import Instruction
from wm_bridge.robots.dynamixel.plausible import Plausible
from wm_bridge.robots.dynamixel.poll import Poll
from wm_bridge.robots.dynamixel.port import latency_ms
from wm_bridge.robots.dynamixel.robot import LIMP, SILENT, BusSettings, DynamixelRobot
from wm_bridge.robots.dynamixel.servo_sim import OVERHEAT, Surroundings
from wm_bridge.robots.gate import CommandGate

SPEC = robot_spec.load("nico")
MOTORS = motor_map.load("nico_rh4d")
PATIENCE_MS = 300.0  # this machine may be busy; a silent servo costs this much per request
ELBOW = SPEC.index("r_elbow_y")


@pytest.fixture(scope="module")
def verified(tmp_path_factory) -> str:
    """The shipped map with every joint confirmed, as a lab's own file would be."""
    path = tmp_path_factory.mktemp("motors") / "mine.yaml"
    path.write_text(motor_map.find("nico_rh4d").read_text().replace("verified: false", "verified: true"))
    return str(path)


@pytest.fixture
def bus() -> Iterator[BusSim]:
    with make(MOTORS) as bus:
        yield bus


def robot_on(bus: BusSim, motors: str, patience_ms: float = PATIENCE_MS, **settings) -> DynamixelRobot:
    given = {"dry_run": False, "lost_ms": 2.0 * PATIENCE_MS, **settings}
    return DynamixelRobot(SPEC, BusSettings(bus.path, motors, patience_ms=patience_ms, **given), threaded=False)


def command(position: np.ndarray) -> Command:
    return Command(SPEC.joint_names, position, np.zeros_like(position), 1)


def where(bus: BusSim) -> np.ndarray:
    """True joint angles, rad."""
    bus.settle()
    return np.array([motor.to_joint(bus.servos[motor.ident].angle) for motor in MOTORS.ordered(SPEC.joint_names)])


def test_connecting_moves_nothing_and_switches_every_joint_on_where_it_is(bus, verified):
    before = where(bus)
    with robot_on(bus, verified) as robot:
        assert robot.trouble() == ""
        assert np.abs(robot.read().position - before).max() < 2e-3  # one count is 1.5 mrad
        for motor in MOTORS.joints:
            servo = bus.servos[motor.ident]
            assert servo.torque and servo.get("moving_speed") >= 1 and servo.get("torque_limit") == round(0.8 * 1023)
    assert np.abs(where(bus) - before).max() < 2e-3
    assert all(bus.servos[motor.ident].torque for motor in MOTORS.joints), "torque off: the arm would fall"


def test_a_command_arrives_at_the_joint_at_its_speed_limit(bus, verified):
    with robot_on(bus, verified) as robot:
        target = SPEC.home.copy()
        target[SPEC.index("r_arm_x")] -= 0.1
        target[SPEC.index("r_wrist_x")] += 0.1
        robot.write(command(target))

        def there() -> bool:
            robot.cycle()
            return np.abs(robot.read().position - target).max() < 5e-3

        wait_until(there, 10.0, "arrived")
        assert np.abs(where(bus) - target).max() < 5e-3
        for motor in MOTORS.joints:
            limit = SPEC.velocity[SPEC.index(motor.joint)]
            assert bus.servos[motor.ident].fastest * motor.ratio <= 1.3 * limit
        health = robot.health()
        assert health is not None and len(health.voltage) == 14 and min(health.voltage) == pytest.approx(12.0)


def test_dry_run_is_the_default_and_sends_nothing(bus):
    assert BusSettings("x").dry_run
    with robot_on(bus, "nico_rh4d", dry_run=True) as robot:
        robot.write(command(SPEC.home + 0.1 * (SPEC.upper - SPEC.home)))
        for _ in range(3):
            robot.cycle()
        robot.stop()
        assert robot.trouble() == "" and robot.read().stamp_ns > 0
    assert set(bus.counts.kinds) == {Instruction.READ, Instruction.BULK_READ} and bus.counts.writes == 0


def test_joints_that_nobody_verified_are_not_driven(bus):
    with pytest.raises(RobotError, match="verified") as found:
        robot_on(bus, "nico_rh4d").connect()
    assert "verify-joints" in found.value.remedy and bus.counts.instructions == 0


def test_a_wrong_model_or_an_absent_servo_is_named_at_the_start(bus, verified):
    bus.servos[5].put("model", 29)
    with pytest.raises(RobotError, match="id 5 .*model 29, expected MX-64"):
        robot_on(bus, verified).connect()
    bus.servos[5].dead = True
    with pytest.raises(RobotError, match="r_elbow_y"):
        robot_on(bus, verified, patience_ms=30.0).connect()
    assert not bus.servos[1].torque


def test_a_servo_in_wheel_mode_is_not_driven(bus, verified):
    """There the moving speed alone would make it turn, on and on."""
    bus.servos[20].put("lower_limit", 0)
    bus.servos[20].put("upper_limit", 0)
    with pytest.raises(RobotError, match=r"head_y .*wheel"):
        robot_on(bus, verified).connect()
    assert not bus.servos[20].torque and bus.servos[20].get("moving_speed") == 0


def test_a_second_program_on_the_same_device_is_refused(bus, verified):
    with robot_on(bus, verified), pytest.raises(RobotError, match="cannot open"):
        robot_on(bus, verified).connect()


def test_return_delay_and_latency_timer_are_told_with_the_remedy(verified, tmp_path):
    with make(MOTORS, return_delay=250) as bus, robot_on(bus, verified) as robot:
        assert "return delay" in robot.warnings[0]
        assert "a cycle of 9.4 ms" in robot.warnings[0] or "9.5 ms" in robot.warnings[0]  # (49 + 14 * 14) bytes * 10 us + 14 * 500 us
    (tmp_path / "ttyUSB7").mkdir()
    (tmp_path / "ttyUSB7" / "latency_timer").write_text("16\n")
    assert latency_ms("/dev/ttyUSB7", tmp_path) == 16 and latency_ms("/dev/ttyUSB8", tmp_path) is None


@pytest.mark.parametrize("ident", [5, 23])
def test_a_dead_servo_is_trouble_for_all_and_the_rest_holds_until_it_is_back(bus, verified, ident):
    with robot_on(bus, verified, lost_ms=300.0) as robot:
        robot._bus.patience_ms = 20.0
        start = where(bus)
        bus.servos[ident].dead = True

        def lost() -> bool:
            robot.cycle()
            return f"(id {ident}) does not answer" in robot.trouble()

        wait_until(lost, 20.0, "noticed")
        old = robot.read().stamp_ns
        sent = robot.write(command(SPEC.home + 0.2 * (SPEC.upper - SPEC.home)))
        assert np.abs(sent.position - start).max() < 2e-3, "nothing else is followed either"
        robot.stop()
        robot.cycle()
        assert robot.read().stamp_ns == old, "a state is as old as its oldest joint"
        errors = dict(zip(SPEC.joint_names, robot.health().error, strict=True))
        name = next(motor.joint for motor in MOTORS.joints if motor.ident == ident)
        assert errors[name] & SILENT and sum(code != 0 for code in errors.values()) == 1
        bus.servos[ident].dead = False
        wait_until(lambda: robot.cycle() is None and robot.trouble() == "", 20.0, "back")
        assert robot.read().stamp_ns > old and np.abs(where(bus) - start).max() < 4e-3


def test_unplugged_while_moving_it_comes_back_where_it_is_and_holds(bus, verified):
    with robot_on(bus, verified) as robot:
        robot.write(command(SPEC.clip(SPEC.home + 0.3)))
        robot.cycle()
        bus.unplug()
        robot.cycle()
        assert "gone" in robot.trouble()
        robot.stop()
        assert np.isfinite(robot.read().position).all()
        bus.replug()
        wait_until(lambda: robot.cycle() is None and robot.trouble() == "", 20.0, "back")
        here = where(bus)
        for _ in range(5):
            robot.cycle()
        assert np.abs(where(bus) - here).max() < 0.02, "it starts from where it is measured"
        goals = [motor.to_joint(motor.model.to_angle(bus.servos[motor.ident].get("goal"))) for motor in MOTORS.ordered(SPEC.joint_names)]
        assert np.abs(np.array(goals) - where(bus)).max() < 0.02


def test_a_slow_adapter_does_not_make_the_servos_look_silent(bus, verified, monkeypatch):
    """Arming a joint takes a dozen requests: longer than ``lost_ms`` with an adapter that waits 16 ms for each."""
    with robot_on(bus, verified, lost_ms=200.0) as robot:
        real = ServoBus.read

        def slow(self, block):
            time.sleep(0.03)
            return real(self, block)

        monkeypatch.setattr(ServoBus, "read", slow)
        bus.unplug()
        robot.cycle()
        bus.replug()
        wait_until(lambda: robot.cycle() is None and robot.trouble() == "", 60.0, "back")


def test_a_servo_whose_power_failed_is_armed_where_it_fell_to_with_its_speed_limited(bus, verified):
    with robot_on(bus, verified) as robot:
        servo = bus.servos[5]
        servo.surroundings = Surroundings(falls=0.5, walls=(-1.6, 0.0))
        robot.write(command(SPEC.home))
        servo.cycle_power()
        seen: list[str] = []

        def rearmed() -> bool:
            robot.cycle()
            seen.append(robot.trouble())
            return any("lost its torque" in text for text in seen) and robot.trouble() == ""

        wait_until(rearmed, 30.0, "noticed, and armed again")
        assert servo.torque and servo.get("moving_speed") >= 1
        assert servo.fastest <= 1.3 * SPEC.velocity[ELBOW], "0 would have been full speed"


def test_an_overheated_servo_protects_itself_and_is_not_forced(bus, verified):
    with robot_on(bus, verified) as robot:
        bus.servos[5].temperature_c = 85.0
        wait_until(lambda: robot.cycle() is None and "r_elbow_y" in robot.trouble(), 20.0, "noticed")
        code = robot.health().error[ELBOW]
        assert code & OVERHEAT and code & LIMP and robot.health().temperature[ELBOW] == 85.0
        for _ in range(20):
            robot.cycle()
        assert not bus.servos[5].torque and "r_elbow_y" in robot.trouble()


def test_damaged_packets_do_not_stop_a_slow_motion(bus, verified):
    with robot_on(bus, verified) as robot:
        robot._bus.patience_ms = 8.0
        start = robot.read().position
        bus.faults.corrupt = 0.05
        for step in range(60):
            target = start.copy()
            target[ELBOW] = start[ELBOW] + 0.2 * np.sin(step / 20.0)
            robot.write(command(target))
            robot.cycle()
            state = robot.read()
            assert state.is_finite() and np.abs(state.position - where(bus)).max() < 0.25
        bus.faults.corrupt = 0.0
        wait_until(lambda: robot.cycle() is None and robot.trouble() == "", 20.0, "well")
        assert robot._bus.counts.corrupt > 5
        limits = [bus.servos[motor.ident].fastest * motor.ratio / SPEC.velocity[SPEC.index(motor.joint)] for motor in MOTORS.joints]
        assert max(limits) <= 1.3


def test_a_position_that_cannot_be_is_taken_only_when_it_is_said_twice():
    judge = Plausible(fastest=1.0)
    assert not judge.take(0.0, 0.0) and judge.take(0.0, 0.01)
    assert not judge.take(2.0, 0.02) and judge.take(0.01, 0.03)
    assert not judge.take(2.0, 0.04) and judge.take(2.01, 0.05)
    assert judge.take(2.5, 0.55)  # half a second at 1 rad/s


def test_the_same_driver_moves_servos_of_protocol_2(tmp_path):
    """Six servos of NICOL's arms, with signs and positions of four bytes."""
    spec = robot_spec.load("arm6")
    kinds = ("PH54-200-S500-R", "PH54-200-S500-R", "PH54-100-S500-R", "PH54-100-S500-R", "PH42-020-S300-R", "PH42-020-S300-R")
    lines = [
        f"  {name}: {{id: {ident}, model: {kind}, sign: {(-1) ** ident}, zero_deg: {5.0 * ident}, ratio: 1.0, verified: true}}"
        for ident, (name, kind) in enumerate(zip(spec.joint_names, kinds, strict=True), start=1)
    ]
    mine = tmp_path / "arm6.yaml"
    mine.write_text("\n".join(["name: arm6", "robot: arm6", "baud: 1000000", "torque_limit: 1.0", "motors:", *lines, ""]))
    motors = motor_map.load(mine)
    with make(motors) as bus:
        settings = BusSettings(bus.path, str(mine), dry_run=False, patience_ms=PATIENCE_MS, lost_ms=600.0)
        with DynamixelRobot(spec, settings, threaded=False) as robot:
            assert robot.read().position == pytest.approx(spec.home, abs=1e-4)
            target = spec.home + np.array([0.05, -0.05, 0.05, -0.05, 0.05, -0.05])
            robot.write(Command(spec.joint_names, target, np.zeros(6), 1))
            wait_until(lambda: robot.cycle() is None and np.abs(robot.read().position - target).max() < 1e-3, 20.0, "arrived")
            assert bus.counts.kinds[Instruction.SYNC_READ] > 1 and bus.counts.kinds[Instruction.SYNC_WRITE] > 1
            bus.servos[3].temperature_c = 90.0
            wait_until(lambda: robot.cycle() is None and robot.health().error[2] & 0x80, 20.0, "the alert bit")
            wait_until(lambda: robot.cycle() is None and "id 3" in robot.trouble(), 20.0, "switched off")
        bus.servos[2].put("mode", 4)
        bus.servos[3].temperature_c = 30.0
        with pytest.raises(RobotError, match="operating mode 4"):
            DynamixelRobot(spec, settings, threaded=False).connect()


class Bus:
    """Answers of a bus as a table: who is dead, who does not know the common read."""

    def __init__(self) -> None:
        self.dead: set[int] = set()
        self.single: set[int] = set()
        self.asked: list[tuple[int, ...]] = []
        from wm_bridge.robots.dynamixel.bus import BusCounts

        self.counts = BusCounts()

    def read_many(self, blocks):
        self.asked.append(tuple(block.ident for block in blocks))
        found = {}
        for block in blocks:
            if block.ident in self.dead | self.single:
                break
            found[block.ident] = b"x"
        return found

    def read(self, block):
        self.asked.append((block.ident,))
        return None if block.ident in self.dead else b"x"


def test_the_poll_goes_round_a_dead_one_and_learns_who_answers_only_alone():
    from wm_bridge.robots.dynamixel.bus import Block

    now = [0.0]
    fake = Bus()
    poll = Poll(fake, [Block(ident, 36, 8) for ident in (1, 2, 3, 4)], 0.02, clock=lambda: now[0])
    assert set(poll.cycle()) == {1, 2, 3, 4} and fake.asked == [(1, 2, 3, 4)]
    fake.dead, fake.single = {2}, {4}
    for _ in range(40):
        now[0] += 0.01
        assert set(poll.cycle()) == {1, 3, 4}
    assert poll.silent == {2} and poll.alone == {4}
    fake.asked.clear()
    now[0] += 0.01
    poll.cycle()
    assert fake.asked[:2] == [(1, 3), (4,)], "one common read for the rest, one for the one that needs it"
    fake.dead = set()
    now[0] += 0.3
    assert set(poll.cycle()) == {1, 2, 3, 4} and not poll.silent


def test_a_hand_closes_until_its_board_tells_of_too_much_current_and_opens_again(bus, verified):
    with robot_on(bus, verified) as robot:
        hand = robot.hands["right"]
        for ident in (27, 29):
            bus.servos[ident].surroundings = Surroundings(walls=(-0.5, 4.0))  # something is in the hand
        hand.move(1.0)
        wait_until(lambda: robot.cycle() is None and hand.state is HandState.HOLDING, 30.0, "gripped")
        assert hand.current > 250 and bus.servos[27].torque
        bus.settle()
        goal = bus.servos[27].model.to_angle(bus.servos[27].get("goal"))
        assert goal == pytest.approx(-0.5, abs=0.05), "it holds, and does not squeeze"
        hand.move(0.0)
        wait_until(lambda: robot.cycle() is None and hand.state is HandState.IDLE, 30.0, "open")
        with pytest.raises(ValueError, match="closure"):
            hand.move(float("nan"))


def test_a_hand_that_is_halted_stays_where_it_is_and_forgets_what_was_asked(bus, verified):
    with robot_on(bus, verified) as robot:
        hand = robot.hands["right"]
        hand.move(1.0)
        wait_until(lambda: robot.cycle() is None and hand.state is HandState.MOVING, 30.0, "closing")
        hand.halt()
        wait_until(lambda: robot.cycle() is None and hand.state is HandState.HOLDING, 30.0, "halted")
        closed = bus.servos[27].model.to_count(hand.hand.fingers[0].at(1.0))
        assert all(bus.servos[finger.ident].get("goal") != closed for finger in hand.hand.fingers)
        hand.move(1.0)
        hand.halt()
        robot.cycle()
        wait_until(lambda: robot.cycle() is None and robot.cycles > 100, 30.0, "cycles go on")
        assert hand.state is HandState.HOLDING


def test_the_thread_cycles_and_leaves_the_arm_held(bus, verified):
    robot = DynamixelRobot(SPEC, BusSettings(bus.path, verified, dry_run=False, patience_ms=PATIENCE_MS, lost_ms=900.0))
    with robot:
        wait_until(lambda: robot.cycles > 10, 20.0, "cycles")
        first = robot.read().stamp_ns
        wait_until(lambda: robot.read().stamp_ns > first, 20.0, "a newer state")
        robot.write(command(SPEC.clip(SPEC.home + 0.05)))
    cycles, here = robot.cycles, where(bus)
    time.sleep(0.1)
    assert robot.cycles == cycles and np.abs(where(bus) - here).max() < 0.15
    assert all(bus.servos[motor.ident].torque for motor in MOTORS.joints)


@pytest.mark.parametrize("kind", ["dead", "unplug"])
def test_a_fault_trial_of_the_benchmark_ends_well(kind):
    outcome = bus_faults.trial(kind, seed=1, patience_ms=30.0, lost_ms=400.0)
    assert outcome.good, outcome


def test_a_fault_trial_fails_when_a_lost_robot_does_not_close_the_gate(monkeypatch):
    monkeypatch.setattr(CommandGate, "close", lambda gate: None)
    outcome = bus_faults.trial("unplug", seed=2, patience_ms=30.0, lost_ms=400.0, limit_s=2.0)
    assert not outcome.good and outcome.detail == "not noticed"


def test_the_wire_time_is_that_of_the_documents():
    # goals: 8 + 14 * 5 bytes; common read: 7 + 14 * 3, 14 answers of 14 bytes; one read of 12 bytes: 8 + 18; 10 us each
    assert bench_bus.wire_ms(0.0) == pytest.approx(0.01 * (78 + 49 + 196 + 26))
    assert bench_bus.wire_ms(0.5) - bench_bus.wire_ms(0.0) == pytest.approx(15 * 0.5)
