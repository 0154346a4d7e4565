"""A V-JEPA 2-AC through the planning loop: random weights of the official layout, and a model that knows the pose exactly."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from wm_bridge import resources
from wm_bridge.core.effector import EffectorMotion, give_kinematics
from wm_bridge.core.goal import GoalConfig, Outcome
from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.core.plan_step import PlanLoopConfig
from wm_bridge.core.types import Frame, JointState, Observation
from wm_bridge.errors import UserError
from wm_bridge.planner_setup import EquippedPlanner, PlannerSetup
from wm_bridge.robots import spec as robots
from wm_planner.actions import ActionSpec
from wm_planner.config import PlannerConfig, load_config
from wm_planner.effector import as_pose
from wm_planner.errors import PlannerError
from wm_planner.trust.calibration import calibrate
from wm_planner.trust.store import Calibrations, Subject
from wm_planner.vjepa import import_weights, store
from wm_planner.vjepa.config import ACConfig, EncoderConfig
from wm_planner.vjepa.planner import ACPlanner
from wm_planner.vjepa.pose import integrate, matrix
from wm_planner.vjepa.predictor import ACPredictor
from wm_planner.weights import weights_hash

torch.set_num_threads(1)
NICO = robots.load("nico")
ARM = tuple(NICO.groups["right_arm"])
INDEX = NICO.indices("right_arm")
LIMITS = NICO.lower[INDEX], NICO.upper[INDEX], NICO.velocity[INDEX]
HOME = NICO.home[INDEX]
PERIOD = 0.25
MOTION = EffectorMotion(NICO, ARM, PERIOD)
CONFIG = load_config(PlannerConfig, resources.path("config/vjepa_planner.yaml"), {"samples": 32, "iterations": 3, "threads": 1})
SINGULAR = np.array([0.0, 0.4, -0.3, 0.0, 0.0, 0.43])


# ---- a model that knows the pose -----------------------------------------------------------------


class PoseEncoder:
    """Reads the pose out of the bytes of the picture (see ``pictured``)."""

    image_size, grid, embed_dim = 32, 1, 7

    def __call__(self, pictures: Tensor) -> Tensor:
        data = (pictures * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        return torch.stack([torch.from_numpy(np.frombuffer(one.tobytes()[:56]).copy()).float() for one in data])[:, None]


def pictured(pose: np.ndarray) -> np.ndarray:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture.reshape(-1)[:56] = np.frombuffer(np.asarray(pose, float).tobytes(), np.uint8)
    return picture


class PoseEnergy:
    """Imagines poses exactly: distance of the last one to the goal's, m and 0.05 m per rad."""

    turn_weight = 0.05

    def __init__(self) -> None:
        self.fast = self.exact = self

    def observe(self, latents: Tensor, states: Tensor, goal: Tensor) -> None:
        self.pose, self.goal = latents[0, 0], goal[0]
        assert torch.allclose(self.pose, states[0], atol=1e-4)  # the state is that of the picture

    def __call__(self, actions: Tensor) -> Tensor:
        end = integrate(self.pose.expand(len(actions), -1), actions)[:, -1]
        turn = (matrix(end[:, 3:6]) - matrix(self.goal[3:6])).square().sum((1, 2)).sqrt()
        return (end[:, :3] - self.goal[:3]).norm(dim=1) + self.turn_weight * turn

    exactly = __call__


def knowing(config: PlannerConfig = CONFIG, seed: int = 0) -> ACPlanner:
    predictor = ACPredictor(ACConfig(embed_dim=7, width=12, depth=1, heads=1, grid=1))
    lower, upper, speed = (torch.from_numpy(limit).float() for limit in LIMITS)
    joints = ActionSpec(ARM, ("rad",) * 6, "joints", speed * PERIOD, lower, upper, PERIOD)
    planner = ACPlanner(predictor, PoseEncoder(), config, joints, seed=seed)
    planner.energy = PoseEnergy()  # type: ignore[assignment]
    give_kinematics(planner, NICO)
    return planner


def pose_of(q: np.ndarray) -> np.ndarray:
    return as_pose(MOTION.frames(q)).numpy()


def pursue(planner: ACPlanner, start: np.ndarray, goal: np.ndarray, periods: int) -> tuple[np.ndarray, np.ndarray]:
    """Joints (N + 1, A) under a robot that goes where it is sent, and the distances (N + 1,) m of its hand to the goal."""
    planner.set_goal(planner.encode_goal(pictured(pose_of(goal))))
    path = [start]
    for _ in range(periods):
        path.append(planner.plan(pictured(pose_of(path[-1])), path[-1], path[-1]).references[0])
    hands = MOTION.frames(np.array(path))[:, :3, 3]
    return np.array(path), np.linalg.norm(hands - MOTION.frames(goal)[:3, 3], axis=1)


def hard_starts() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    lower, upper, _ = LIMITS
    return [HOME, SINGULAR, lower, upper, *(np.where(rng.uniform(size=6) < 0.5, lower, upper) for _ in range(4)), *rng.uniform(lower, upper, (4, 6))]


@pytest.mark.parametrize("rotation", [False, True])
def test_goal_poses_are_reached_within_the_limits(rotation):
    """Xyz goals without a search of rotations; whole poses with it. From limits, corners and a straight elbow too."""
    config = dataclasses.replace(CONFIG, search_rotation=rotation, rotation_weight=0.05 if rotation else 0.0, box_rad=0.3)
    planner, rng, ends, turns = knowing(config), np.random.default_rng(0), [], []
    planner.energy.turn_weight = 0.05 * rotation  # type: ignore[attr-defined]
    middle, half = (LIMITS[1] + LIMITS[0]) / 2, (LIMITS[1] - LIMITS[0]) / 2
    for start in hard_starts():
        goal = middle + 0.7 * half * rng.uniform(-1, 1, 6)
        path, distances = pursue(planner, start, goal, 30)
        assert (path >= LIMITS[0] - 1e-6).all() and (path <= LIMITS[1] + 1e-6).all()
        assert (np.abs(np.diff(path, axis=0)) <= PERIOD * LIMITS[2] + 1e-6).all()
        ends.append(distances[-1])
        turns.append(np.degrees(np.arccos(np.clip((np.trace(MOTION.frames(path[-1])[:3, :3] @ MOTION.frames(goal)[:3, :3].T) - 1) / 2, -1, 1))))
    assert np.median(ends) < 0.01 and np.mean(np.array(ends) < 0.02) > 0.85, ends
    if rotation:
        assert np.median(turns) < 15, turns


def test_an_orientation_that_is_not_searched_is_held_when_asked_for():
    free, held = (knowing(dataclasses.replace(CONFIG, rotation_weight=weight)) for weight in (0.0, 0.3))
    goal = HOME + np.array([0.25, -0.2, 0.1, 0.2, 0.0, 0.0])
    turned = []
    for planner in (free, held):
        planner.energy.turn_weight = 0.0  # type: ignore[attr-defined]
        path, _ = pursue(planner, HOME, goal, 6)
        turned.append(np.linalg.norm(MOTION.frames(path[-1])[:3, :3] - MOTION.frames(HOME)[:3, :3]))
    assert turned[1] < 0.5 * turned[0]


def test_what_will_be_sent_before_the_plan_is_imagined_first():
    planner = knowing()
    planner.set_goal(planner.encode_goal(pictured(pose_of(HOME))))
    away = HOME + np.array([[0.1, 0.0, 0.0, 0.0, 0.0, 0.0], [0.2, 0.0, 0.0, 0.0, 0.0, 0.0]])
    plan = planner.plan(pictured(pose_of(HOME)), HOME, HOME, committed=away)
    assert np.abs(plan.references[0] - away[-1]).max() <= PERIOD + 1e-6
    back = MOTION.frames(plan.references[-1])[:3, 3] - MOTION.frames(HOME)[:3, 3]
    out = MOTION.frames(away[-1])[:3, 3] - MOTION.frames(HOME)[:3, 3]
    assert np.linalg.norm(back) < 0.3 * np.linalg.norm(out)  # the way back begins where it will have been sent


def test_a_posture_that_intrudes_is_gone_round():
    planner = knowing()
    goal = HOME + np.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.0])
    _, free = pursue(planner, HOME, goal, 8)
    planner.intrusion = lambda postures: np.maximum(0.0, postures[:, 0] - HOME[0] - 0.1)
    path, _ = pursue(planner, HOME, goal, 8)
    assert free[-1] < 0.01 and path[:, 0].max() < HOME[0] + 0.15


# ---- trust -----------------------------------------------------------------------------------------


def wandering(planner: ACPlanner, seed: int, gain: float = 1.0, length: int = 8) -> list[tuple[float, int, str]]:
    """Trust, its state and cause at each step of an arm that follows its references, from the middle on with ``gain``."""
    rng = np.random.default_rng(seed)
    q, sent, found = HOME, HOME, []
    planner.watch.pursue("reach")
    for k in range(length):
        judged = planner.witness(pictured(pose_of(q)), q, sent)
        found.append((judged.trust, int(judged.state), judged.cause))
        change = 0.08 * np.sin(0.5 * k + np.arange(6) + seed) + rng.normal(0, 0.005, 6)
        sent = sent + change
        q = q + (gain if k > length // 2 else 1.0) * change + rng.normal(0, 0.001, 6)
    return found


def test_plans_carry_trust_by_the_path_that_the_compact_planner_takes():
    planner = knowing()
    logs = []
    for seed in range(70):
        planner.watch.log = []
        assert wandering(planner, seed)[-1][1:] == (3, "no calibration")
        logs.append(planner.watch.log)
    planner.watch.log = None
    missed = np.array([step.missed for step in logs[0][1:]])
    assert (missed[:, 0] < 0.3 * missed[:, 1]).all() and np.isnan(missed[:, 2]).all() and np.isnan(logs[0][1].decoded).all()
    calibration = calibrate(logs, stop_below=0.02)
    planner.watch.use(Calibrations(Subject("nico", "front", planner.name), {"reach": calibration}))
    assert sum(min(trust for trust, _, _ in wandering(planner, seed)) < 0.05 for seed in range(500, 520)) <= 4
    for seed in range(600, 605):
        weak = min(wandering(planner, seed, gain=0.0))
        assert weak[0] < 0.02 and weak[1] == 2 and weak[2] in ("surprise", "response", "joints")
    planner.set_goal(planner.encode_goal(pictured(pose_of(HOME))))
    plan = planner.plan(pictured(pose_of(HOME)), HOME, HOME)
    assert plan.trust >= 0.05 and math.isfinite(plan.trust_score) and plan.trust_state == 0 and plan.trust_cause


# ---- the official layout, through the loop -------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights of a small size, imported as the published file is."""
    predictor = ACConfig(embed_dim=32, width=48, depth=2, heads=2, grid=4)
    encoder = EncoderConfig("vjepa2", 32, 2, 2, 48 / 11, 64)
    generator, folder = torch.Generator().manual_seed(0), tmp_path_factory.mktemp("ac")

    def random_like(shapes, prefix):
        return {f"{prefix}{name}": 0.2 * torch.randn(t.shape, generator=generator) for name, t in shapes.items()}

    content = {
        "encoder": random_like(import_weights.expected_encoder(encoder), "module.backbone."),
        "predictor": random_like(import_weights.expected_predictor(predictor), "module."),
    }
    torch.save(content, folder / "ac.pt")
    (folder / "shape.yaml").write_text(
        "encoder: {kind: vjepa2, width: 32, depth: 2, heads: 2, image_size: 64}\npredictor: {embed_dim: 32, width: 48, depth: 2, heads: 2, grid: 4}\n"
    )
    assert import_weights.main([str(folder / "ac.pt"), "--config", str(folder / "shape.yaml"), "--out", str(folder / "ac.safetensors")]) == 0
    return folder / "ac.safetensors"


def observation(q: np.ndarray, stamp_ns: int, image: np.ndarray) -> Observation:
    zero = np.zeros(len(q))
    return Observation(Frame(image, stamp_ns, "camera"), JointState(NICO.joint_names, q, zero, zero, stamp_ns), q)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_random_official_weights_drive_the_loop_and_decode_no_distance(checkpoint):
    assert store.is_imported(checkpoint)
    planner = ACPlanner.load(checkpoint, dataclasses.replace(CONFIG, samples=16, iterations=2), ARM, LIMITS)
    give_kinematics(planner, NICO)
    assert planner.period_s == 0.25 and planner.config.action_space == "end_effector"
    assert planner.name == weights_hash(checkpoint) and planner.targets == ("hand",)
    loop = PlanLoop(planner, NICO, PlanLoopConfig(), GoalConfig(timeout_s=2.0))
    assert loop.set_goal(picture(0), 0).ok
    q = NICO.home.copy()
    for k in range(1, 5):
        step = loop.step(observation(q, k * 250_000_000, picture(k)), k * 250_000_000)
        assert step.refused == "" and math.isnan(step.plan.distance_m) and math.isfinite(step.plan.goal_energy)
        points = step.trajectory.positions
        assert np.isfinite(points).all() and (points >= LIMITS[0]).all() and (points <= LIMITS[1]).all()
        assert (np.abs(step.plan.actions) <= 0.25 + 1e-6).all() and step.plan.elite_hands.shape[1:] == (2, 3)
        assert np.allclose(step.plan.predicted_hand, MOTION.frames(step.plan.references)[:, :3, 3])
        q[INDEX] = step.plan.references[0]


def test_bfloat16_scores_the_elites_again(checkpoint, monkeypatch):
    monkeypatch.setattr("wm_planner.vjepa.planner.search_dtype", lambda device: torch.bfloat16)
    config = dataclasses.replace(CONFIG, samples=16, iterations=2)
    planner = ACPlanner.load(checkpoint, config, ARM, LIMITS)
    assert planner.energy.fast is not planner.energy.exact
    give_kinematics(planner, NICO)
    planner.set_goal(planner.encode_goal(picture(0)))
    plan = planner.plan(picture(1), HOME, HOME)
    assert plan.energy <= plan.elite_energies.min() + 1e-7 and plan.nan_costs == 0


def test_the_device_of_the_setup_is_where_it_would_run(checkpoint):
    with pytest.raises(UserError, match="no device 'abacus' here.*name another"):
        EquippedPlanner(PlannerSetup(str(checkpoint), device="abacus"), NICO)
    assert EquippedPlanner(PlannerSetup(str(checkpoint), device="cpu:0"), NICO).planner.energy.exact.device.type == "cpu"


def test_what_does_not_fit_is_said(checkpoint, tmp_path):
    with pytest.raises(PlannerError, match="no gradient"):
        ACPlanner.load(checkpoint, dataclasses.replace(CONFIG, optimiser="gradient"), ARM, LIMITS)
    planner = ACPlanner.load(checkpoint, CONFIG, ARM, LIMITS)
    with pytest.raises(PlannerError, match="matches pictures; give a goal picture with the target hand"):
        planner.encode_goal(picture(0), "object")
    with pytest.raises(PlannerError, match="mask must be uint8 of the goal picture's size"):
        planner.encode_goal(picture(0), "hand", np.ones((3, 3), np.uint8))
    with pytest.raises(PlannerError, match="no goal"):
        planner.plan(picture(0), HOME, HOME)
    planner.set_goal(planner.encode_goal(picture(0)))
    with pytest.raises(PlannerError, match="planner.space.effector"):
        planner.plan(picture(0), HOME, HOME)
    give_kinematics(planner, NICO)
    with pytest.raises(PlannerError, match="reference must hold finite"):
        planner.plan(picture(0), HOME, HOME * np.nan)


# ---- reached by energy ---------------------------------------------------------------------------


def outcome(tolerance_energy: float) -> Outcome | None:
    planner = knowing(dataclasses.replace(CONFIG, search_rotation=True, rotation_weight=0.05))
    loop = PlanLoop(planner, NICO, PlanLoopConfig(), GoalConfig(tolerance_energy=tolerance_energy, timeout_s=20.0))
    goal = HOME + np.array([0.2, 0.1, 0.0, 0.1, 0.0, 0.0])
    assert loop.set_goal(pictured(pose_of(goal)), 0).ok
    q = NICO.home.copy()
    for k in range(1, 70):
        now = k * 250_000_000
        step = loop.step(observation(q, now, pictured(pose_of(q[INDEX]))), now)
        if step.outcome is not None:
            return step.outcome
        q[INDEX] = step.plan.references[0]
    return None


def test_an_energy_decides_reached_only_where_it_was_measured():
    assert outcome(0.02) is Outcome.REACHED
    assert outcome(0.0) is Outcome.STALLED


NODE = """
import sys, numpy as np, rclpy
from wm_bridge.nodes.planner import PlannerNode
from wm_bridge.ros import convert
for words in sys.argv[1:]:
    rclpy.init(args=["--ros-args", *[part for word in words.split(";") for part in ("-p", word)]])
    node = PlannerNode()
    planner, q, image = node.planner, node.spec.home[:6], np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    planner.set_goal(planner.encode_goal(image))
    plan = planner.plan(image, q, q)
    report = convert.to_report(plan, 1, 1, 0.0, 1.0, 0.0)
    print("found", type(planner).__name__, planner.period_s, plan.references.shape[0], report.distance_m)
    node.stop()
    node.destroy_node()
    rclpy.shutdown()
"""


@pytest.mark.slow
def test_the_planner_node_runs_it_and_surveys_and_probes(checkpoint, tmp_path, ros_env):
    search = tmp_path / "search.yaml"
    search.write_text("horizon: 8\nsamples: 24\niterations: 2\naction_space: end_effector\n")
    kinds = [f"checkpoint:={checkpoint}", f"search:={search};landscape:=x y", f"search:={search};probe_axes:={tmp_path / 'axes.yaml'}"]
    done = subprocess.run([sys.executable, "-c", NODE, *kinds], capture_output=True, text=True, env=ros_env, timeout=240)
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("found")]
    assert found == [["ACPlanner", "0.25", "2", "nan"], ["SurveyedPlanner", "0.1", "8", "0.0"], ["AxesProbe", "0.1", "2", "1.8"]], done.stderr
