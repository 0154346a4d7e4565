"""The trust monitor: scores, p-values on whole episodes, and calibrations that hold for one robot, camera and model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from bag_maker import make_bag
from wm_planner.config import PlannerConfig
from wm_planner.errors import PlannerError
from wm_planner.mpc import Planner
from wm_planner.testing import random_checkpoint
from wm_planner.trust.calibration import Calibration, Subject, calibrate, episode_scores, trust_path
from wm_planner.trust.glimpse import Glimpse, thumbnail
from wm_planner.trust.scores import SCORES, Scorer, Usual, elsewhere, scene
from wm_planner.trust.watch import TrustState, Watch
from wm_planner.weights import load_model, shipped_checkpoint
from wm_planner.world_model import WorldModel

from wm_bridge.bench.trust_episodes import simulated_subject
from wm_bridge.cli.calibrate_trust import from_bags, threshold
from wm_bridge.cli.trust_bags import episodes_of
from wm_bridge.errors import UserError

J, LAG = 6, 0.35
SUBJECT = Subject("nico, simulated", "front_optical 320x240", "0123456789ab")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    return load_model(random_checkpoint(tmp_path_factory.mktemp("trust") / "m.safetensors"))[0]


def episode(seed: int, length: int = 20) -> list[Glimpse]:
    """A world of its own: servos lag by LAG of the last change, picture and latent follow the measured joints."""
    rng = np.random.default_rng(seed)
    show = np.random.default_rng(99).normal(size=(J, 24 * 24 * 3))
    read = np.random.default_rng(98).normal(size=(J, 16))
    reference, steps = rng.uniform(-0.5, 0.5, J), []
    for k in range(length):
        change = 0.05 * np.sin(0.3 * k + np.arange(J) + seed)
        reference = reference + change
        position = reference - LAG * change + rng.normal(0, 0.001, J)
        picture = np.clip(128 + 20 * (position @ show), 0, 255).reshape(24, 24, 3)
        z = position @ read + rng.normal(0, 0.01, 16)
        steps.append(Glimpse(np.float32(picture), False, np.float32(z), np.float32(position), np.float32(reference), int(k > 0)))
    return steps


@pytest.fixture(scope="module")
def calibration(model: WorldModel) -> Calibration:
    return calibrate(model, [episode(seed) for seed in range(70)], SUBJECT, stop_below=0.02, made={"from": "a test"})


def lowest(calibration: Calibration, model: WorldModel, steps: Sequence[Glimpse]) -> tuple[float, str]:
    """Lowest p-value of an episode, and the score behind it."""
    found = [calibration.combined(scores) for scores in episode_scores(Scorer(model, calibration.usual), steps)]
    return min((calibration.p_value(score), cause) for score, cause in found)


# ---- p-values ------------------------------------------------------------------------------


def plain(maxima: Sequence[float], **limits: float) -> Calibration:
    none = np.zeros(0)
    usual = Usual(none, none, none, none, none, none, none)
    limits = {"slow_below": 0.05, "stop_below": 0.02} | limits
    return Calibration(SUBJECT, usual, np.zeros(len(SCORES)), np.ones(len(SCORES)), np.sort(maxima), made={}, **limits)


def test_a_p_value_counts_the_new_episode_too() -> None:
    c = plain(range(1, 100))
    assert [c.p_value(x) for x in (0.0, 1.0, 1.5, 99.0, 99.5, math.inf, math.nan)] == [1.0, 1.0, 0.99, 0.02, 0.01, 0.01, 0.01]
    assert c.p_value(-math.inf) == 1.0


def test_new_episodes_alarm_in_the_share_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    alarms = [plain(rng.normal(size=99)).p_value(rng.normal()) < 0.05 for _ in range(4000)]
    assert 0.03 < np.mean(alarms) <= 0.05


def test_the_printed_threshold_is_where_the_p_value_falls_below_alpha() -> None:
    for n in (99, 100, 137, 208):
        c = plain(np.random.default_rng(n).normal(size=n))
        for alpha in (0.05, 0.02):
            limit = threshold(c.maxima, alpha)
            assert c.p_value(np.nextafter(limit, math.inf)) < alpha <= c.p_value(limit)


def test_too_few_episodes_for_an_alpha_are_refused() -> None:
    with pytest.raises(PlannerError, match="49 calibration episodes cannot give a p-value below 0.02; at least 50"):
        plain(range(49))
    assert plain(range(50)).p_value(math.inf) < 0.02
    with pytest.raises(PlannerError, match="0 < stop_below < slow_below < 1"):
        plain(range(99), slow_below=0.01)


# ---- scores --------------------------------------------------------------------------------


def test_nominal_episodes_rarely_alarm_and_each_fault_raises_its_own_score(model: WorldModel, calibration: Calibration) -> None:
    alarms = sum(lowest(calibration, model, episode(seed))[0] < 0.05 for seed in range(1000, 1030))
    assert alarms <= 6  # 30 at 0.05: more in one of a thousand
    usual = episode(2000)

    def from_10(**changes: object) -> list[Glimpse]:
        return [dataclasses.replace(step, **changes) if k >= 10 else step for k, step in enumerate(usual)]

    still = usual[9].position
    stuck = [dataclasses.replace(s, position=np.where(np.arange(J) == 2, still, s.position)) if k >= 10 else s for k, s in enumerate(usual)]
    for cause, steps in (
        ("scene", from_10(thumbnail=np.random.default_rng(1).uniform(0, 60, (24, 24, 3)).astype(np.float32))),
        ("freshness", from_10(same=True)),
        ("joints", stuck),
    ):
        scores = [calibration.combined(s) for s in episode_scores(Scorer(model, calibration.usual), steps)]
        assert max(s for s, _ in scores[:10]) < threshold(calibration.maxima, 0.05)
        first = next(k for k, (score, _) in enumerate(scores) if calibration.p_value(score) < 0.02)
        assert first <= 13 and max(scores[10:])[1] == cause, (cause, first)


def test_the_servos_are_found_by_the_fit(calibration: Calibration) -> None:
    np.testing.assert_allclose(calibration.usual.servo[:, 0], LAG, atol=0.03)
    assert (calibration.usual.servo_spread < 0.002).all()


def test_a_dark_and_a_bright_picture_of_the_same_scene_are_alike() -> None:
    picture = np.random.default_rng(0).uniform(40, 120, (24, 24, 3)).astype(np.float32)
    assert np.linalg.norm(scene(picture) - scene(1.8 * picture)) < 0.15 * np.linalg.norm(scene(picture))
    assert np.square(scene(np.full((24, 24, 3), 30.0, np.float32))).sum() < 1e-20


def test_a_change_counts_away_from_what_stood_out_before() -> None:
    change, before = np.zeros((24, 24, 3)), np.zeros((24, 24, 3))
    before[10, 10] = 0.03  # the arm
    change[13, 7] = 0.1  # three pixels from it
    assert elsewhere(change.ravel(), before.ravel()) == 0.0
    change[14, 10] = 0.2
    assert elsewhere(change.ravel(), before.ravel()) == pytest.approx(0.2 * math.sqrt(3))
    before[10, 10] = 0.011  # nothing stands out
    assert elsewhere(change.ravel(), before.ravel()) == pytest.approx(math.sqrt(3 * (0.2**2 + 0.1**2)))


def test_a_thumbnail_is_the_mean_of_its_windows() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    np.testing.assert_allclose(thumbnail(picture), picture.reshape(24, 4, 24, 4, 3).mean((1, 3)), rtol=1e-5)


def test_a_missed_period_is_no_surprise_and_a_long_gap_begins_anew(model: WorldModel, calibration: Calibration) -> None:
    steps = episode(5)
    scorer = Scorer(model, calibration.usual)
    gap = [*steps[:10], dataclasses.replace(steps[11], periods=2), *steps[12:]]
    late = dict(zip(SCORES, episode_scores(scorer, gap)[10], strict=True))
    assert late["joints"] == 0.0 and late["surprise"] > 0.0  # nothing to compare the lag with yet
    long = [*steps[:10], dataclasses.replace(steps[19], periods=10)]
    assert dict(zip(SCORES, episode_scores(scorer, long)[10], strict=True))["surprise"] == 0.0


# ---- the file ------------------------------------------------------------------------------


def test_a_calibration_comes_back_as_it_was_and_gives_the_same_judgement(model: WorldModel, calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(tmp_path / "c.trust")
    again = Calibration.load(tmp_path / "c.trust", SUBJECT)
    assert again.made == calibration.made and again.made["fitted"] == 14 and len(again.maxima) == 56
    np.testing.assert_array_equal(again.maxima, calibration.maxima)
    assert lowest(again, model, episode(3))[0] == pytest.approx(lowest(calibration, model, episode(3))[0], abs=0.02)
    twice = calibrate(model, [episode(seed) for seed in range(70)], SUBJECT, stop_below=0.02)
    np.testing.assert_array_equal(twice.maxima, calibration.maxima)


@pytest.mark.parametrize(
    ("field", "other", "text"),
    [
        ("robot", "nico", "robot 'nico, simulated', here is 'nico'"),
        ("camera", "front_optical 640x480", "camera 'front_optical 320x240'"),
        ("weights", "ba9876543210", "weights '0123456789ab'"),
    ],
)
def test_a_calibration_of_something_else_is_refused(calibration: Calibration, tmp_path: Path, field: str, other: str, text: str) -> None:
    calibration.save(tmp_path / "c.trust")
    with pytest.raises(PlannerError, match=text):
        Calibration.load(tmp_path / "c.trust", dataclasses.replace(SUBJECT, **{field: other}))


def test_a_missing_or_damaged_calibration_is_a_clear_error(calibration: Calibration, tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match="no trust calibration at .*calibrate-trust"):
        Calibration.load(tmp_path / "none.trust", SUBJECT)
    path = tmp_path / "c.trust"
    calibration.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PlannerError, match="not a trust calibration"):
        Calibration.load(path, SUBJECT)


def test_the_shipped_calibration_belongs_to_the_shipped_checkpoint() -> None:
    checkpoint = shipped_checkpoint("nico")
    calibration = Calibration.load(trust_path(checkpoint), simulated_subject("nico", checkpoint))
    assert (calibration.slow_below, calibration.stop_below) == (0.05, 0.01)


# ---- the running planner -------------------------------------------------------------------


def test_without_a_calibration_trust_is_unknown(tmp_path: Path) -> None:
    planner = Planner.load(random_checkpoint(tmp_path / "m.safetensors"), PlannerConfig(horizon=4, samples=24, iterations=1, threads=1))
    picture, zero = np.zeros((48, 64, 3), np.uint8), np.zeros(J)
    planner.set_goal(planner.encode_goal(picture))
    plan = planner.plan(picture, zero, zero)
    assert math.isnan(plan.trust) and math.isnan(plan.trust_score) and (plan.trust_state, plan.trust_cause) == (TrustState.UNKNOWN, "")


def test_a_watch_says_what_to_do_and_a_failed_encoder_stops(model: WorldModel, calibration: Calibration) -> None:
    watch, steps = Watch(model), episode(7)
    watch.use(calibration)
    watch.log = []
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)

    def judge(z: np.ndarray) -> TrustState:
        return watch.judge(picture, torch.from_numpy(z), torch.zeros(J), torch.zeros(J), 1).state

    assert judge(steps[0].z) is TrustState.STOP, "noise is not the usual scene"
    assert judge(np.full(16, np.nan, np.float32)) is TrustState.STOP
    assert [(g.same, g.periods) for g in watch.log] == [(False, 0), (True, 1)]
    watch.reset()
    judge(steps[0].z)
    assert (watch.log[-1].same, watch.log[-1].periods) == (False, 0)


# ---- bags ----------------------------------------------------------------------------------


def test_a_bag_gives_what_the_planner_saw(model: WorldModel, tmp_path: Path) -> None:
    names = model.config.joint_names
    found = episodes_of(make_bag(tmp_path / "bag", joints=names), model)
    assert (found.camera, found.simulated) == (" 320x240", False) and len(found.episodes) == 1
    steps = found.episodes[0]
    assert len(steps) == 30 and [s.periods for s in steps] == [0] + [1] * 29 and not any(s.same for s in steps)
    np.testing.assert_allclose([s.position[1] for s in steps], 1.0 + 0.1 * np.arange(30), atol=1e-5)  # rad: 1 rad/s
    np.testing.assert_allclose([s.reference[1] - s.position[1] for s in steps], 0.02, atol=1e-5)


def test_a_bag_without_joints_and_bags_of_two_cameras_are_refused(model: WorldModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no joint_states"):
        episodes_of(make_bag(tmp_path / "bag"), model)
    checkpoint = random_checkpoint(tmp_path / "m.safetensors")
    bags = [make_bag(tmp_path / "one", joints=model.config.joint_names), make_bag(tmp_path / "two", joints=model.config.joint_names, state=np.zeros(9))]
    assert len(from_bags(bags[:1], checkpoint, "nico")[0]) == 1
    with pytest.raises(UserError, match="different cameras or robots"):
        from_bags(bags, checkpoint, "nico")
