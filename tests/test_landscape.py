"""The energy around a frame: on a grid, as a picture, as markers, and beside every plan."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from test_vjepa_planner import HOME, MOTION, knowing, pictured, pose_of

from wm_bridge.cli import landscape as command
from wm_bridge.core.surveyed import SurveyedPlanner
from wm_bridge.errors import UserError
from wm_planner.errors import PlannerError
from wm_planner.landscape import Survey

torch.set_num_threads(1)


def surveyed(goal: np.ndarray, axes=("x", "y"), size=9, extent=0.04):
    planner = knowing()
    planner.energy.turn_weight = 0.0  # type: ignore[attr-defined]
    pose = pose_of(HOME)
    pose[:3] += goal
    planner.set_goal(planner.encode_goal(pictured(pose)))
    return planner, Survey(planner, axes, size, extent).look(pictured(pose_of(HOME)), HOME, HOME)


def test_the_least_energy_lies_where_the_goal_does():
    """The model knows poses exactly, so the landscape is the distance to the goal."""
    _, found = surveyed(np.array([0.02, -0.03, 0.0]))
    assert found.energies.shape == (9, 9) and found.units == ("m", "m") and found.seconds > 0
    assert np.allclose([found.values[k, i] for k, i in enumerate(found.best)], [0.02, -0.03])
    here, goal = MOTION.frames(HOME)[:3, 3], MOTION.frames(HOME)[:3, 3] + [0.02, -0.03, 0.0]
    assert np.allclose(found.energies, np.linalg.norm(found.hands - goal, axis=-1), atol=2e-4)
    assert np.allclose(found.hands[4, 4], here, atol=1e-6) and np.allclose(found.hands[8, 4] - here, [0.04, 0, 0], atol=2e-3)


def test_three_axes_in_the_order_that_is_asked_for():
    _, found = surveyed(np.array([0.02, 0.0, -0.04]), ("z", "x", "y"), 5)
    assert found.names == ("z", "x", "y") and found.energies.shape == (5, 5, 5)
    assert np.allclose([found.values[k, i] for k, i in enumerate(found.best)], [-0.04, 0.02, 0.0])
    assert len(command.draw(found).axes) == 6  # five slices and the scale


def test_what_cannot_be_surveyed_is_said():
    planner, _ = surveyed(np.zeros(3))
    for axes in (("x",), ("x", "x"), ("x", "r_elbow_y"), ("x", "y", "z", "turn_x")):
        with pytest.raises(PlannerError, match="two or three different axes"):
            Survey(planner, axes)
    with pytest.raises(PlannerError, match="make the extent smaller"):
        Survey(planner, ("x", "y"), extent=0.2)
    with pytest.raises(PlannerError, match="at least 2 points"):
        Survey(planner, ("x", "y"), size=1)


def test_a_surveyed_planner_plans_the_same_and_tells():
    planner, _ = surveyed(np.array([0.02, 0.0, 0.0]))
    image, told = pictured(pose_of(HOME)), []
    planner.search.generator.manual_seed(1)
    alone = planner.plan(image, HOME, HOME)
    planner.reset()
    planner.search.generator.manual_seed(1)
    both = SurveyedPlanner(planner, Survey(planner, ("x", "y"), 5, 0.04).look, told.append)
    assert np.array_equal(both.plan(image, HOME, HOME).references, alone.references)
    assert len(told) == 1 and told[0].energies.shape == (5, 5) and both.period_s == planner.period_s


def test_markers_show_where_moves_lead_and_the_cheapest():
    markers = pytest.importorskip("wm_bridge.ros.markers")
    _, found = surveyed(np.array([0.02, -0.03, 0.0]))
    cubes, least = markers.landscape_markers(found.hands.reshape(-1, 3), found.energies.ravel(), 5, "base_link").markers
    assert len(cubes.points) == len(cubes.colors) == 81 and cubes.header.frame_id == "base_link"
    assert np.allclose([least.pose.position.x, least.pose.position.y], found.hands[found.best][:2])
    gone = markers.landscape_markers(np.full((4, 3), np.nan), np.zeros(4), 5, "base_link").markers
    assert all(marker.action == marker.DELETE for marker in gone)


def test_the_command_draws_simulation_and_pictures(tmp_path, capsys):
    out = tmp_path / "deep" / "land.png"
    assert command.main(["--size", "5", "--repeat", "1", "--seed", "5001", "--out", str(out)]) == 0
    assert cv2.imread(str(out)) is not None and "5 x 5 = 25 plans" in capsys.readouterr().out
    for name, seed in (("now.png", 0), ("goal.png", 1)):
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(seed).integers(0, 256, (120, 160, 3), dtype=np.uint8))
    files = ["--image", str(tmp_path / "now.png"), "--goal", str(tmp_path / "goal.png")]
    joints = [str(value) for value in HOME]
    assert command.main([*files, "--joints", *joints, "--axes", "r_elbow_y", "r_shoulder_y", "--size", "3", "--repeat", "1", "--out", str(out)]) == 0
    assert "rad" in capsys.readouterr().out
    with pytest.raises(UserError, match="controls 6 joints"):
        command.main([*files, "--joints", "0.1", "--out", str(out)])
