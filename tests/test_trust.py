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
from wm_planner.trust.calibration import Calibration, calibrate, episode_scores
from wm_planner.trust.foresight import Moment
from wm_planner.trust.glimpse import Glimpse, thumbnail
from wm_planner.trust.kinds import KINDS, PUSH, REACH, kind_of
from wm_planner.trust.scores import SCATTER, SCORES, Scorer, Usual, elsewhere, lost_gain, scene
from wm_planner.trust.store import Calibrations, Subject, trust_path
from wm_planner.trust.watch import TrustState, Watch
from wm_planner.weights import shipped_checkpoint, weights_hash

from wm_bridge.bench.reach_trust import trust_table
from wm_bridge.bench.trust_episodes import Episode, collected, load, save, simulated_subject
from wm_bridge.cli.calibrate_trust import from_bags, kept, threshold
from wm_bridge.cli.trust_bags import episodes_of
from wm_bridge.errors import UserError
from wm_bridge.planner_setup import EquippedPlanner, PlannerSetup
from wm_bridge.robots import spec as robots

J, LAG = 6, 0.35
SUBJECT = Subject("nico, simulated", "front_optical 320x240", "0123456789ab")
CONFIG = PlannerConfig(horizon=4, samples=24, iterations=1, threads=1)


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    return Planner.load(random_checkpoint(tmp_path_factory.mktemp("trust") / "m.safetensors"), CONFIG)


def episode(seed: int, length: int = 20, touch: float = 0.0) -> list[Glimpse]:
    """A world of its own: servos lag by LAG of the last change and ``touch`` (rad) in contact, the picture follows the joints."""
    rng = np.random.default_rng(seed)
    show = np.random.default_rng(99).normal(size=(J, 24 * 24 * 3))
    reference, steps = rng.uniform(-0.5, 0.5, J), []
    for k in range(length):
        change = 0.05 * np.sin(0.3 * k + np.arange(J) + seed)
        reference = reference + change
        position = reference - LAG * change + rng.normal(0, 0.001, J) + touch * rng.normal(0, 1, J) * (k > length // 2)
        picture = np.clip(128 + 20 * (position @ show), 0, 255).reshape(24, 24, 3)
        missed = np.float32([rng.uniform(0.01, 0.02), rng.uniform(0.05, 0.1), np.nan]) if k else np.full(3, np.nan, np.float32)
        decoded = np.float32(position + rng.normal(0.02, 0.01, J))
        steps.append(Glimpse(np.float32(picture), False, np.float32(position), np.float32(reference), int(k > 0), missed, decoded))
    return steps


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate([episode(seed) for seed in range(90)], stop_below=0.02, made={"from": "a test"})


@pytest.fixture(scope="module")
def pushing() -> Calibration:
    return calibrate([episode(seed, touch=0.01) for seed in range(90)], stop_below=0.02)


def lowest(calibration: Calibration, steps: Sequence[Glimpse]) -> tuple[float, str]:
    """Lowest p-value of an episode, and the score behind it."""
    found = [calibration.combined(scores) for scores in episode_scores(Scorer(calibration.usual), steps)]
    return min((calibration.p_value(score), cause) for score, cause in found)


# ---- p-values ------------------------------------------------------------------------------


def plain(maxima: Sequence[float], **limits: float) -> Calibration:
    none = np.zeros(0)
    usual = Usual(none, none, none, none, none, none, none)
    limits = {"slow_below": 0.05, "stop_below": 0.02} | limits
    return Calibration(usual, np.zeros(len(SCORES)), np.ones(len(SCORES)), np.sort(maxima), made={}, **limits)


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
    with pytest.raises(PlannerError, match="4 episodes are too few to be split; record at least 63"):
        calibrate([episode(seed) for seed in range(4)], stop_below=0.02)


@pytest.mark.parametrize(("count", "fitted"), [(63, 13), (70, 20), (90, 36)])
def test_more_episodes_fit_what_is_usual_where_enough_are_left_for_p_values(count: int, fitted: int) -> None:
    found = calibrate([episode(seed, length=10) for seed in range(count)], stop_below=0.02)
    assert (found.made["fitted"], len(found.maxima)) == (fitted, count - fitted)


# ---- scores --------------------------------------------------------------------------------


def test_nominal_episodes_rarely_alarm_and_each_fault_raises_its_own_score(calibration: Calibration) -> None:
    alarms = sum(lowest(calibration, episode(seed))[0] < 0.05 for seed in range(1000, 1030))
    assert alarms <= 6  # 30 at 0.05: more in one of a thousand
    usual = episode(2000)

    def from_10(**changes: object) -> list[Glimpse]:
        return [dataclasses.replace(step, **changes) if k >= 10 else step for k, step in enumerate(usual)]

    def jammed(values: np.ndarray) -> np.ndarray:
        return np.where(np.arange(J) == 2, usual[9].position, values)

    def halved(step: Glimpse) -> np.ndarray:
        pivot = usual[9].reference
        return np.where(np.arange(J) == 2, pivot + 0.5 * (step.position - pivot), step.position)

    slip = np.float32(0.1 * (np.arange(J) == 2))
    slipped = [dataclasses.replace(s, position=s.position + slip, decoded=s.decoded + slip) if k >= 10 else s for k, s in enumerate(usual)]
    weak = [dataclasses.replace(s, position=halved(s), decoded=halved(s)) if k >= 10 else s for k, s in enumerate(usual)]
    stuck = [dataclasses.replace(s, position=jammed(s.position), decoded=jammed(s.decoded)) if k >= 10 else s for k, s in enumerate(usual)]
    for cause, steps in (
        ("scene", from_10(thumbnail=np.random.default_rng(1).uniform(0, 60, (24, 24, 3)).astype(np.float32))),
        ("freshness", from_10(same=True)),
        ("joints", slipped),
        ("gain", stuck),
        ("gain", weak),
        ("surprise", from_10(missed=np.float32([0.5, 2.0, np.nan]))),
        ("response", from_10(missed=np.float32([0.02, 0.02, np.nan]))),
        ("readout", from_10(decoded=np.float32(usual[9].position + 1.0))),
    ):
        scores = [calibration.combined(s) for s in episode_scores(Scorer(calibration.usual), steps)]
        assert max(s for s, _ in scores[:10]) < threshold(calibration.maxima, 0.05)
        first = next(k for k, (score, _) in enumerate(scores) if calibration.p_value(score) < 0.05)
        assert first <= 13 and max(scores[10:])[1] == cause, (cause, first)


def test_the_servos_are_found_by_the_fit(calibration: Calibration) -> None:
    np.testing.assert_allclose(calibration.usual.servo[:, 0], LAG, atol=0.03)
    assert (calibration.usual.servo_spread < 0.002).all()


def test_the_usual_lag_of_the_servos_is_no_surprise(calibration: Calibration) -> None:
    joints = SCORES.index("joints")
    without = dataclasses.replace(calibration.usual, servo=np.zeros_like(calibration.usual.servo))
    usual, all_of_it = (np.nanmedian([s[joints] for s in episode_scores(Scorer(u), episode(2001))]) for u in (calibration.usual, without))
    assert usual < 1.5 and all_of_it > 2 * usual, (usual, all_of_it)


def test_lost_gain_is_the_missing_slope_in_standard_errors() -> None:
    expected = np.linspace(0.0, 0.3, 8)[:, None] + np.array([0.0, 0.2, -0.1])
    measured = expected * [1.0, 0.5, 0.0] + [0.02, -0.3, 0.1]  # obeys with a constant lag, does half, is stuck
    way = np.linalg.norm(expected[:, 0] - expected[:, 0].mean())
    np.testing.assert_allclose(lost_gain(expected, measured), np.array([0.0, 0.5, 1.0]) * way / SCATTER, atol=1e-6)
    assert lost_gain(2 * expected, 2 * measured)[1] == pytest.approx(2 * lost_gain(expected, measured)[1])
    np.testing.assert_allclose(lost_gain(0 * expected, np.random.default_rng(0).normal(0, 0.1, expected.shape)), 0.0, atol=1e-6)
    at_a_wall = np.minimum(expected[:, :1], 0.15)  # as much way lost as with half the gain, not along a line
    assert lost_gain(expected[:, :1], at_a_wall)[0] < 0.3 * lost_gain(expected, measured)[1]


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


def test_a_missed_period_is_predicted_over_and_a_long_gap_begins_anew(calibration: Calibration) -> None:
    steps = episode(5)
    scorer = Scorer(calibration.usual)
    gap = [*steps[:10], dataclasses.replace(steps[11], periods=2), *steps[12:]]
    late = dict(zip(SCORES, episode_scores(scorer, gap)[10], strict=True))
    assert math.isnan(late["joints"]) and late["surprise"] > 0.0  # nothing to compare the lag with yet
    long = [*steps[:10], dataclasses.replace(steps[19], periods=10)]
    assert math.isnan(dict(zip(SCORES, episode_scores(scorer, long)[10], strict=True))["surprise"])


def test_what_a_model_does_not_tell_never_counts(calibration: Calibration) -> None:
    def without(steps: Sequence[Glimpse]) -> list[Glimpse]:
        return [dataclasses.replace(step, decoded=np.full(J, np.nan, np.float32)) for step in steps]

    blind = calibrate([without(episode(seed)) for seed in range(90)], stop_below=0.02)
    assert [name for name, centre in zip(SCORES, blind.centre, strict=True) if math.isnan(centre)] == ["readout", "disagreement"]
    assert np.isfinite(blind.maxima).all()
    told = [dataclasses.replace(step, missed=np.float32([*step.missed[:2], 9.0])) for step in episode(3)]  # an ensemble that was not there then
    assert lowest(blind, told)[1] not in ("readout", "disagreement") and lowest(blind, without(told)) == lowest(blind, without(episode(3)))


def test_contact_alarms_by_the_calibration_of_reaching_and_not_by_its_own(calibration: Calibration, pushing: Calibration) -> None:
    new = [episode(seed, touch=0.01) for seed in range(3000, 3020)]
    assert sum(lowest(calibration, steps)[0] < 0.05 for steps in new) >= 18
    assert sum(lowest(pushing, steps)[0] < 0.05 for steps in new) <= 5


# ---- the file ------------------------------------------------------------------------------


def test_calibrations_come_back_as_they_were_and_give_the_same_judgement(calibration: Calibration, pushing: Calibration, tmp_path: Path) -> None:
    Calibrations(SUBJECT, {REACH: calibration, PUSH: pushing}).save(tmp_path / "c.trust")
    (tmp_path / "like").touch()
    assert (tmp_path / "c.trust").stat().st_mode == (tmp_path / "like").stat().st_mode, "others may read it where they may read any file"
    found = Calibrations.load(tmp_path / "c.trust", SUBJECT).kinds
    again = found[REACH]
    assert again.made == calibration.made and again.made["fitted"] == 36 and len(again.maxima) == 54
    np.testing.assert_array_equal(again.maxima, calibration.maxima)
    np.testing.assert_array_equal(found[PUSH].maxima, pushing.maxima)
    assert lowest(again, episode(3))[0] == pytest.approx(lowest(calibration, episode(3))[0], abs=0.02)
    twice = calibrate([episode(seed) for seed in range(90)], stop_below=0.02)
    np.testing.assert_array_equal(twice.maxima, calibration.maxima)
    assert set(kept(tmp_path / "c.trust", SUBJECT)) == {REACH, PUSH}
    assert kept(tmp_path / "c.trust", dataclasses.replace(SUBJECT, robot="nico")) == {}


@pytest.mark.parametrize(
    ("field", "other", "text"),
    [
        ("robot", "nico", "robot 'nico, simulated', here is 'nico'"),
        ("camera", "front_optical 640x480", "camera 'front_optical 320x240'"),
        ("weights", "ba9876543210", "weights '0123456789ab'"),
    ],
)
def test_a_calibration_of_something_else_is_refused(calibration: Calibration, tmp_path: Path, field: str, other: str, text: str) -> None:
    Calibrations(SUBJECT, {REACH: calibration}).save(tmp_path / "c.trust")
    with pytest.raises(PlannerError, match=text):
        Calibrations.load(tmp_path / "c.trust", dataclasses.replace(SUBJECT, **{field: other}))


def test_a_missing_or_damaged_calibration_is_a_clear_error(calibration: Calibration, tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match="no trust calibration at .*calibrate-trust"):
        Calibrations.load(tmp_path / "none.trust", SUBJECT)
    path = tmp_path / "c.trust"
    Calibrations(SUBJECT, {REACH: calibration}).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PlannerError, match="not a trust calibration"):
        Calibrations.load(path, SUBJECT)


def test_the_shipped_calibration_belongs_to_the_shipped_checkpoint() -> None:
    checkpoint = shipped_checkpoint("nico")
    found = Calibrations.load(trust_path(checkpoint), simulated_subject("nico", weights_hash(checkpoint)))
    assert set(found.kinds) == set(KINDS)
    assert {kind: (one.slow_below, one.stop_below) for kind, one in found.kinds.items()} == dict.fromkeys(KINDS, (0.05, 0.01))


# ---- the running planner -------------------------------------------------------------------


def test_without_a_calibration_trust_is_unknown_and_the_kind_of_goal_decides(planner: Planner, calibration: Calibration) -> None:
    assert [kind_of(target) for target in ("hand", "object", "joints", "pose")] == [REACH, PUSH, REACH, REACH]
    picture, zero = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8), np.zeros(J)
    planner.set_goal(planner.encode_goal(picture))
    plan = planner.plan(picture, zero, zero)
    assert math.isnan(plan.trust) and math.isnan(plan.trust_score)
    assert (plan.trust_state, plan.trust_cause) == (TrustState.UNKNOWN, "no calibration")
    for kind, state, cause in ((REACH, TrustState.STOP, "scene"), (PUSH, TrustState.UNKNOWN, "no calibration for reach goals")):
        planner.watch.use(Calibrations(SUBJECT, {kind: calibration}))
        plan = planner.plan(picture, zero, zero)
        assert (plan.trust_state, plan.trust_cause, math.isnan(plan.trust)) == (state, cause, kind == PUSH)
    planner.watch.pursue(PUSH)
    assert planner.witness(picture, zero, zero).state is TrustState.STOP, "noise is not the usual scene"
    planner.watch.use(Calibrations(SUBJECT, {REACH: calibration}))
    assert planner.witness(picture, zero, zero).state is TrustState.UNKNOWN
    planner.set_goal(planner.encode_goal(picture))
    assert planner.plan(picture, zero, zero).trust_state == TrustState.STOP, "a goal tells of which kind it is"
    planner.watch.use(None)


def test_a_watch_keeps_what_it_saw_and_a_failed_encoder_stops(planner: Planner, calibration: Calibration) -> None:
    watch, z = Watch(planner.watch._foresight), torch.zeros(16)
    watch.use(Calibrations(SUBJECT, {REACH: calibration}))
    watch.log = []
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)

    def judge(z: torch.Tensor, periods: int = 1) -> TrustState:
        return watch.judge(picture, z, torch.zeros(J), torch.zeros(J), periods).state

    assert judge(z) is TrustState.STOP, "noise is not the usual scene"
    assert judge(z + math.nan) is TrustState.STOP and watch.log[-1].failed
    judge(z)
    judge(z)
    judge(z, 9)
    assert [(g.same, g.periods, bool(np.isfinite(g.missed[:2]).all())) for g in watch.log] == [
        (False, 0, False), (True, 1, False), (True, 1, False), (True, 1, True), (True, 9, False)
    ]  # fmt: skip
    watch.reset()
    judge(z)
    assert (watch.log[-1].same, watch.log[-1].periods) == (False, 0)


def test_each_kind_of_goal_has_its_own_limits_and_what_is_usual_and_begins_anew(
    planner: Planner, calibration: Calibration, pushing: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[str, Usual | None]] = []

    class Told(Scorer):
        def __init__(self, usual: Usual) -> None:
            used.append(("made", usual))
            super().__init__(usual)

        def reset(self) -> None:
            used.append(("reset", None))
            super().reset()

    monkeypatch.setattr("wm_planner.trust.watch.Scorer", Told)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    watch = Watch(planner.watch._foresight)
    patient = dataclasses.replace(pushing, maxima=np.array([-1e9, *(pushing.maxima[1:] + 1e6)]), slow_below=0.9999)  # has seen worse than noise
    watch.use(Calibrations(SUBJECT, {REACH: calibration, PUSH: patient}))
    watch.log = []

    def judge() -> TrustState:
        return watch.judge(picture, torch.zeros(16), torch.zeros(J), torch.zeros(J), 1).state

    assert judge() is TrustState.STOP
    watch.pursue(PUSH)
    assert judge() is TrustState.SLOW
    assert (watch.log[-1].same, watch.log[-1].periods) == (False, 0), "a new episode"
    watch.pursue(REACH)
    assert judge() is TrustState.STOP
    assert [usual for what, usual in used if what == "made"] == [calibration.usual, pushing.usual, calibration.usual]
    count = len(used)
    watch.reset()
    assert used[count:] == [("reset", None)]


def test_the_compact_model_foresees_by_its_own_rollout_and_an_ensemble_is_asked(planner: Planner) -> None:
    model, foresight, rng = planner.model, planner.watch._foresight, np.random.default_rng(0)
    draws = [torch.from_numpy(rng.normal(0, 0.05, n)).float() for n in (16, J, J, 16, J)]
    before, now = Moment(*draws[:3]), Moment(draws[3], draws[4], draws[2] + 0.06)
    sent = torch.full((1, 2, J), 0.03) / model.action_scale
    with torch.no_grad():
        imagined, _ = model.rollout(before.z[None, None], model.proprioception(before.position, before.reference)[None, None], sent)
    missed = foresight.missed(before, now, 2)
    assert missed[0] == pytest.approx(float((imagined[0, -1] - now.z).square().mean()), rel=1e-4) and missed[1] != missed[0] and math.isnan(missed[2])
    planner.uncertainty = lambda latents, states, actions: 7.0 * actions[..., 0]
    assert foresight.missed(before, now, 2)[2] == pytest.approx(7.0 * float(sent[0, 0, 0]))
    planner.uncertainty = None


# ---- the benchmarks ------------------------------------------------------------------------


def test_played_episodes_come_back_as_they_were_kept(tmp_path: Path) -> None:
    played = [Episode(4, -1, tuple(episode(1, 5))), Episode(9, 2, (dataclasses.replace(episode(2, 1)[0], failed=True),))]
    save(tmp_path / "e.npz", played)
    again = load(tmp_path / "e.npz")
    assert [(e.number, e.begun, len(e.steps)) for e in again] == [(4, -1, 5), (9, 2, 1)]
    for a, b in zip(played[0].steps + played[1].steps, again[0].steps + again[1].steps, strict=True):
        np.testing.assert_allclose(a.thumbnail, b.thumbnail, atol=0.1)
        assert (a.same, a.periods, a.failed) == (b.same, b.periods, b.failed) and type(b.same) is bool
        for name in ("position", "reference", "missed", "decoded"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_kept_episodes_are_read_and_only_missing_ones_are_played(tmp_path: Path) -> None:
    class Player:
        key = "weights"
        played: list[tuple[str, str, int, int]] = []

        def play(self, kind: str, fault: str, seed: int, number: int) -> Episode:
            self.played.append((kind, fault, seed, number))
            return Episode(number, -1, tuple(episode(number, 1)))

    player = Player()
    for times in (1, 1):
        found = collected(tmp_path, player, REACH, ("", "stuck joint"), 3, 12)  # type: ignore[arg-type]
        assert [[e.number for e in episodes] for episodes in found.values()] == [list(range(12))] * 2 and list(found) == ["", "stuck joint"]
        assert len(player.played) == 40 * times and len(set(player.played)) == 40, "whole files, each once"
    for kind, seed, total in ((REACH, 4, 50), (PUSH, 3, 60), (REACH, 3, 60)):
        collected(tmp_path, player, kind, ("",), seed, 5)  # type: ignore[arg-type]
        assert len(player.played) == total, "another seed or kind is another file"
    assert {file.suffix for file in tmp_path.iterdir()} == {".npz"}


def test_the_cost_of_trust_is_counted_in_pairs() -> None:
    def rows(held: str, seconds: Sequence[float], least: float = 0.5) -> list[dict[str, float]]:
        return [{"held_3cm": h == "1", "held_5cm": True, "reached": s == s, "reached_s": s, "least_trust": least} for h, s in zip(held, seconds, strict=True)]

    nan = math.nan
    figures, _ = trust_table(shipped_checkpoint("nico"), rows("1110", [2, 2, nan, 3], nan), rows("1011", [2.5, 3, 4, nan], 0.04))
    assert (figures["without_3cm"], figures["with_3cm"], figures["lost"], figures["won"]) == (0.75, 0.75, 1, 1)
    assert figures["later_s"] == pytest.approx(0.75) and figures["alarms"] == 1.0 and figures["with_reached_s"] == 3.0


# ---- bags ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def equipped(tmp_path_factory: pytest.TempPathFactory) -> EquippedPlanner:
    checkpoint = random_checkpoint(tmp_path_factory.mktemp("bags") / "m.safetensors")
    return EquippedPlanner(PlannerSetup(str(checkpoint)), robots.load("nico"))


def test_a_bag_gives_what_the_planner_saw(equipped: EquippedPlanner, tmp_path: Path) -> None:
    found = episodes_of(make_bag(tmp_path / "bag", joints=equipped.planner.joint_names), equipped.planner)
    assert (found.camera, found.simulated) == (" 320x240", False) and len(found.episodes) == 1
    kind, steps = found.episodes[0]
    assert kind == REACH and len(steps) == 30 and [s.periods for s in steps] == [0] + [1] * 29 and not any(s.same for s in steps)
    np.testing.assert_allclose([s.position[1] for s in steps], 1.0 + 0.1 * np.arange(30), atol=1e-5)  # rad: 1 rad/s
    np.testing.assert_allclose([s.reference[1] - s.position[1] for s in steps], 0.02, atol=1e-5)
    assert np.isfinite([s.missed[:2] for s in steps[1:]]).all()


def test_a_bag_without_joints_and_bags_of_two_cameras_are_refused(equipped: EquippedPlanner, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no joint_states"):
        episodes_of(make_bag(tmp_path / "bag"), equipped.planner)
    names = equipped.planner.joint_names
    bags = [make_bag(tmp_path / "one", joints=names), make_bag(tmp_path / "two", joints=names, state=np.zeros(9))]
    episodes, subject = from_bags(bags[:1], equipped, "nico")
    assert {kind: len(found) for kind, found in episodes.items()} == {REACH: 1} and subject.robot == "nico"
    with pytest.raises(UserError, match="different cameras or robots"):
        from_bags(bags, equipped, "nico")
