"""The rotation between a model's action axes and the robot: estimated, refused, kept in a file, applied."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from test_vjepa_planner import CONFIG, HOME, INDEX, MOTION, NICO, PoseEncoder, PoseEnergy, knowing, observation, pictured, pose_of

from wm_bridge.cli import calibrate_axes
from wm_bridge.core.axes import Axes, angle_deg, between_deg, estimate_axes
from wm_bridge.core.axes_probe import AxesProbe
from wm_bridge.core.goal import GoalConfig, Outcome
from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.core.plan_step import PlanLoopConfig
from wm_bridge.errors import UserError
from wm_bridge.sim.scene import look_at
from wm_bridge.sim.world import SimWorld
from wm_planner.axes import Glimpse, believed_move
from wm_planner.errors import PlannerError
from wm_planner.vjepa.planner import ACPlanner

torch.set_num_threads(1)
rotations = st.tuples(*[st.floats(-3, 3)] * 3).map(lambda v: Rotation.from_rotvec(v).as_matrix())


@settings(max_examples=40, deadline=None)
@given(rotations, st.integers(0, 1000))
def test_the_rotation_is_found_and_its_error_is_honest(rotation, seed):
    rng = np.random.default_rng(seed)
    sent = 0.04 * Rotation.random(18, random_state=seed).apply([1.0, 0.0, 0.0])
    exact = estimate_axes(sent, sent @ rotation, rng)
    assert angle_deg(exact.rotation @ rotation.T) < 1e-4 and exact.residual_deg < 1e-4 and exact.error_deg < 1e-4
    assert exact.before_deg == pytest.approx(np.mean(between_deg(sent, sent @ rotation)))
    noisy = (sent + 0.04 * rng.normal(0, 0.15, sent.shape)) @ rotation * rng.uniform(0.5, 2.0, (18, 1))
    found = estimate_axes(sent, noisy, rng)
    assert found.turns == (found.angle_deg > 2 * found.error_deg)
    assert angle_deg(found.rotation @ rotation.T) < 4 * found.error_deg < 40


def test_what_cannot_be_trusted_is_refused():
    rng = np.random.default_rng(0)
    sent = 0.04 * rng.normal(size=(18, 3))
    with pytest.raises(ValueError, match="7 moves could be seen, 8 are needed"):
        estimate_axes(sent[:7], sent[:7], rng)
    with pytest.raises(ValueError, match="0 moves could be seen"):
        estimate_axes(sent, np.zeros_like(sent), rng)
    with pytest.raises(ValueError, match="along one line"):
        estimate_axes(sent, sent[:, :1] * [[1.0, 0.0, 0.0]], rng)
    with pytest.raises(ValueError, match="too uncertain"):
        estimate_axes(sent, rng.normal(size=(18, 3)), rng)
    mirrored = estimate_axes(sent, sent, rng)
    assert np.allclose(mirrored.rotation, np.eye(3))
    with pytest.raises(ValueError, match="too uncertain"):  # a mirror is no rotation
        estimate_axes(sent, -sent, rng)


def test_the_file_gives_back_what_was_written_and_nothing_else(tmp_path):
    axes = Axes(tuple(Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix().ravel().tolist()), 21.4, 3.0, 9.0, 25.0, 18, 0.01, 0.02, 0.001, "nico", "m")
    axes.write(tmp_path / "a" / "axes.yaml")
    assert Axes.read(tmp_path / "a" / "axes.yaml") == axes
    config = dataclasses.replace(CONFIG, **axes.settings())
    assert np.allclose(np.reshape(config.R_base_action, (3, 3)), axes.rotation)
    (tmp_path / "b.yaml").write_text("horizon: 3\n")
    with pytest.raises(ValueError, match="no calibration of action axes"):
        Axes.read(tmp_path / "b.yaml")
    with pytest.raises(ValueError, match="rotation"):
        Axes((1.0,) * 9, 0, 0, 0, 0, 8)


# ---- a model that sees the world from a turned side -----------------------------------------------

TURN = Rotation.from_rotvec([0.2, -0.1, 2.0]).as_matrix()  # R_base_action, 115 degrees


class TurnedEncoder(PoseEncoder):
    """Reads poses in axes turned by TURN."""

    def __call__(self, pictures):
        poses = super().__call__(pictures)
        poses[..., :3] = poses[..., :3] @ torch.from_numpy(TURN).float()
        return poses


class TurnedEnergy(PoseEnergy):
    """Imagines translations exactly in its own axes; its state is in those of the base and does not fit."""

    def observe(self, latents, states, goal):
        self.pose, self.goal = latents[0, 0], goal[0]

    def __call__(self, actions):
        return (self.pose[:3] + actions[..., :3].sum(1) - self.goal[:3]).norm(dim=1)


def turned(**changes) -> ACPlanner:
    planner = knowing(dataclasses.replace(CONFIG, **changes))
    planner.encoder, planner.energy = TurnedEncoder(), TurnedEnergy()  # type: ignore[assignment]
    return planner


def chase(planner, picture, periods: int, goal_config: GoalConfig | None = None, noise: float = 0.0):
    """Pursue through the planning loop with a robot that goes where it is sent; joints at the end and the outcome."""
    loop, rng = PlanLoop(planner, NICO, PlanLoopConfig(), goal_config), np.random.default_rng(0)
    assert loop.set_goal(picture, 0).ok
    q = NICO.home.copy()
    for k in range(1, periods):
        now = k * 250_000_000
        seen = q + rng.normal(0, noise, len(q))
        step = loop.step(observation(seen, now, pictured(pose_of(q[INDEX]))), now)
        if step.outcome is not None:
            return q[INDEX], step
        q[INDEX] = step.plan.references[0]
    return q[INDEX], step


def away(q: np.ndarray, goal: np.ndarray) -> float:
    return float(np.linalg.norm(MOTION.frames(q)[:3, 3] - MOTION.frames(goal)[:3, 3]))


def test_a_probe_through_the_loop_finds_the_axes_and_with_them_the_goal_is_reached():
    goal, wide = HOME + np.array([0.3, -0.2, -0.2, 0.3, 0.0, 0.0]), GoalConfig(timeout_s=120.0, stall_s=120.0)
    lost, _ = chase(turned(), pictured(pose_of(goal)), 25, wide)
    assert away(lost, goal) > 0.9 * away(HOME, goal) > 0.05
    planner = turned()
    ends = []
    probe = AxesProbe(planner, MOTION, lambda a, b: believed_move(planner, a, b, 0.025), 12, 0.025, finished=ends.append)
    q, step = chase(probe, pictured(pose_of(HOME)), 400, wide, noise=0.0005)
    assert step.outcome is Outcome.REACHED and ends == [probe] and away(q, HOME) < 0.03
    assert len(probe.sent) == 12 and angle_deg(probe.axes.rotation @ TURN.T) < 5.0 < 70.0 < probe.axes.before_deg
    found, _ = chase(turned(**probe.axes.settings()), pictured(pose_of(goal)), 25, wide)
    assert away(found, goal) < 0.01


def test_a_probe_that_learns_nothing_ends_untrusted():
    rng = np.random.default_rng(0)
    probe = AxesProbe(turned(), MOTION, lambda a, b: rng.normal(size=3), 9, 0.025)
    _, step = chase(probe, pictured(pose_of(HOME)), 400, GoalConfig(timeout_s=120.0, stall_s=120.0))
    assert step.outcome is Outcome.NOT_TRUSTED and probe.axes is None and "uncertain" in probe.problem


def test_moves_that_come_too_near_are_not_made():
    planner = turned()
    planner.intrusion = lambda postures: np.maximum(0.0, MOTION.frames(postures)[:, 0, 3] - MOTION.frames(HOME)[0, 3] - 1e-3)
    probe = AxesProbe(planner, MOTION, lambda a, b: np.ones(3), 9, 0.025, config=None)
    chase(probe, pictured(pose_of(HOME)), 150, GoalConfig(timeout_s=120.0, stall_s=120.0))
    assert len(probe.sent) == 9 and max(MOTION.frames(look.reference)[0, 3] for look in probe.looks) < MOTION.frames(HOME)[0, 3] + 2e-3
    planner.intrusion = lambda postures: np.ones(len(postures))
    caught = AxesProbe(planner, MOTION, lambda a, b: np.ones(3), 9, 0.025)
    _, step = chase(caught, pictured(pose_of(HOME)), 60, GoalConfig(timeout_s=120.0, stall_s=120.0))
    assert step.outcome is Outcome.NOT_TRUSTED and "no direction is free" in caught.problem


def test_moves_larger_than_the_box_are_refused():
    look = Glimpse(pictured(pose_of(HOME)), HOME, HOME)
    with pytest.raises(PlannerError, match="make them smaller"):
        believed_move(turned(), look, look, 0.05)


def test_the_turned_camera_looks_at_the_same_point_from_the_same_distance():
    world = SimWorld(NICO)
    scene, camera = world.scene, world.model.camera("front").id
    target = np.array(scene.camera_target)
    before = np.array(scene.camera_position) - target
    for degrees in (0.0, 35.0, -60.0):
        world.turn_camera(degrees)
        place = world.model.cam_pos[camera] - target
        assert np.linalg.norm(place) == pytest.approx(np.linalg.norm(before)) and place[2] == pytest.approx(before[2])
        turn = np.degrees(np.arctan2(place[1], place[0]) - np.arctan2(before[1], before[0]))
        assert turn == pytest.approx(degrees, abs=1e-6)
        w, x, y, z = world.model.cam_quat[camera]
        assert np.allclose(Rotation.from_quat([x, y, z, w]).as_matrix(), look_at(place + target, target), atol=1e-9)
    world.close()


@pytest.mark.slow
def test_the_command_calibrates_the_shipped_model_in_simulation(tmp_path, capsys):
    out = tmp_path / "axes.yaml"
    assert calibrate_axes.main(["--moves", "9", "--turn-axes", "60", "--seed", "5001", "--out", str(out)]) == 0
    axes = Axes.read(out)
    expected = calibrate_axes.about_vertical(60.0)
    assert angle_deg(axes.rotation @ expected.T) < 20 and axes.before_deg > 40 and axes.robot == "nico"
    assert "deg before" in capsys.readouterr().out
    with pytest.raises(UserError, match="could not be calibrated"):
        calibrate_axes.main(["--moves", "9", "--size-m", "0.005", "--turn-camera", "150", "--seed", "5001", "--out", str(out)])
