"""An arm that is a YAML file and a URDF and nothing else: limits, shapes, filter, closed loop."""

import numpy as np
import pytest

from wm_bridge.bench.safety_loop import SafetyLoop
from wm_bridge.core.kinematics import Kinematics
from wm_bridge.robots import spec as robots
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.guard import DistanceGuard
from wm_bridge.safety.shapes import RobotShapes

SPEC = robots.load("arm6")
CONFIG = SafetyConfig.load(SPEC.safety_path())


def test_limits_of_urdf_and_configuration_agree():
    shapes = RobotShapes.from_spec(SPEC)
    lower, upper, velocity = shapes.chain.limits()
    np.testing.assert_allclose(lower, SPEC.lower)
    np.testing.assert_allclose(upper, SPEC.upper)
    np.testing.assert_allclose(velocity, SPEC.velocity)


def test_it_has_six_joints_and_twenty_four_pairs_and_room_at_home():
    guard = DistanceGuard(RobotShapes.from_spec(SPEC), CONFIG.scene, CONFIG.dt)
    assert len(SPEC.joint_names) == 6
    assert len(guard._pairs.names) == 24
    assert guard.tightest(SPEC.home).room > 0.02
    hand = Kinematics(SPEC).forward(SPEC.home, SPEC.tools["arm"])[:3, 3]
    assert SPEC.workspaces["arm"].contains(hand)


@pytest.mark.parametrize("rate_hz", [100.0, 250.0])
def test_plans_to_anywhere_bad_messages_and_things_around_break_no_margin(rate_hz):
    loop = SafetyLoop(SPEC, CONFIG.at_rate(rate_hz), np.random.default_rng(1))
    report = loop.run(2000, hostile=True)
    assert not report.breaches and not report.broken_certificates and not report.latched, report.least_room_m
    assert report.limited > 100  # the margins were met


# ---- settings --------------------------------------------------------------------------


def test_settings_that_extend_others_say_only_what_differs(tmp_path):
    base = SafetyConfig.load()
    assert CONFIG.scene.table_upper != base.scene.table_upper
    assert CONFIG.scene.table_margin_m == base.scene.table_margin_m and CONFIG.human == base.human
    (tmp_path / "mine.yaml").write_text("extends: theirs.yaml\n")
    (tmp_path / "theirs.yaml").write_text("extends: mine.yaml\n")
    with pytest.raises(ValueError, match="mine.yaml extends itself, by way of mine.yaml, theirs.yaml"):
        SafetyConfig.load(tmp_path / "mine.yaml")


def test_another_rate_keeps_the_budget_of_a_tick_inside_of_its_period():
    assert CONFIG.at_rate(250.0).dt == 0.004
    assert CONFIG.at_rate(250.0).tick_budget_ms == pytest.approx(3.2)
    assert CONFIG.at_rate(50.0).tick_budget_ms == CONFIG.tick_budget_ms
