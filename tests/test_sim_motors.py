"""The simulated motors tell of their health, and an arm that strains warms up."""

from __future__ import annotations

import numpy as np
import pytest

from wm_bridge.core.types import Command
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.mujoco import MotorModel, MujocoRobot
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.health import Health, HealthMonitor, Level
from wm_bridge.sim.config import SceneConfig
from wm_bridge.sim.world import SimWorld

SPEC = robot_spec.load("nico")
HEALTH = SafetyConfig.load().health


def robot(**motors: float) -> MujocoRobot:
    made = MujocoRobot(SPEC, world=SimWorld(SPEC, SceneConfig()), motors=MotorModel(**motors))
    made.connect()
    return made


def level(watch: HealthMonitor, made: MujocoRobot) -> Level:
    told = made.health()
    assert len(told.effort) == len(told.temperature) == len(told.voltage) == len(told.error) == len(SPEC.joint_names)
    return watch.observe(Health(told.temperature, told.voltage, told.effort), made.time_ns)


def test_an_arm_that_rests_and_one_that_swings_are_well() -> None:
    made, watch = robot(), HealthMonitor(HEALTH, SPEC.effort)
    for k in range(400):
        if k > 100:
            q = SPEC.home + 0.2 * np.sin(0.02 * (k - 100)) * (np.arange(len(SPEC.home)) < 6)
            made.write(Command(SPEC.joint_names, SPEC.clip(q), np.zeros(len(q)), made.time_ns))
        made.advance(0.01)
        if k % 10 == 0:
            assert level(watch, made) is Level.OK, watch.detail
    assert max(made.health().effort, key=abs) != 0.0, "the weight of the arm is felt"


def test_temperature_goes_to_the_analytic_value_with_the_time_constant() -> None:
    made = robot(time_s=0.5)
    made.advance(0.5)  # the weight has settled
    share = made.world.tau / SPEC.effort
    settled, begin, steps = 25.0 + 60.0 * share**2, np.array(made.health().temperature), 100
    made.advance(steps * 0.01)
    expected = settled + (begin - settled) * np.exp(-steps * 0.01 / 0.5)
    np.testing.assert_allclose(made.health().temperature, expected, atol=0.02)
    assert expected.max() > 25.3


def test_a_motor_that_strains_for_long_is_noticed_before_it_stops_the_arm() -> None:
    """The elbow is told to go far below the table top: the servo pushes with all it has."""
    made, watch = robot(time_s=2.0, rise_c=90.0), HealthMonitor(HEALTH, SPEC.effort)
    q = SPEC.home.copy()
    q[SPEC.index("r_shoulder_y")], q[SPEC.index("r_elbow_y")] = 0.0, 0.0
    seen = []
    for _ in range(100):
        made.write(Command(SPEC.joint_names, q, np.zeros(len(q)), made.time_ns))
        made.advance(0.1)
        seen.append(level(watch, made))
    assert Level.WARN in seen or Level.DERATE in seen
    first = [seen.index(kind) for kind in (Level.WARN, Level.DERATE, Level.STOP) if kind in seen]
    assert first == sorted(first)


def test_the_supply_sags_with_the_load() -> None:
    made = robot()
    made.advance(0.3)
    load = np.abs(made.world.tau).sum() / SPEC.effort.sum()
    assert made.health().voltage[0] == pytest.approx(12.0 - 0.8 * load) and 11.0 < made.health().voltage[0] < 12.0
