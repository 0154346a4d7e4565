"""The second training stage and the snapshots that help the encoder."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import torch
from wm_planner import refine as stage
from wm_planner import sharpen as sharpening
from wm_planner.data import ARRAYS, Dataset, Snapshots, write_shard
from wm_planner.errors import PlannerError
from wm_planner.imitate import ImitateConfig, Lessons, imitate, periods_left, unexplained
from wm_planner.latents import Latents, encode_episodes, windows
from wm_planner.refine import RefineConfig, dynamics_loss, moved, refine
from wm_planner.sharpen import SharpenConfig, hand_errors_m, look, sharpen
from wm_planner.skill import ObjectSkill
from wm_planner.testing import random_checkpoint, small_config, synthetic_dataset
from wm_planner.train import TrainConfig, Trainer
from wm_planner.weights import load_model
from wm_planner.world_model import WorldModel


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    torch.set_num_threads(1)
    return Dataset([synthetic_dataset(tmp_path_factory.mktemp("play"), episodes=40)])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return WorldModel(small_config(("first", "second"))).eval()


SHORT = RefineConfig(steps=60, batch=32, horizon=4, goal_steps=6, learning_rate=3e-3, ema=0.9)


def test_refining_lowers_the_error_and_leaves_the_encoder_alone(data, model):
    latents = encode_episodes(model, data, data.training[:20])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    e, _, window = windows(latents, np.random.default_rng(9), 64, SHORT.horizon)
    first = float(dynamics_loss(model, latents, e, window, SHORT).detach())
    refined = refine(model, latents, None, SHORT)
    last = float(dynamics_loss(refined, latents, e, window, SHORT).detach())
    assert last < 0.8 * first
    for name, value in refined.state_dict().items():
        if name.startswith(("encoder.", "readout_head.")):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(refined.predictor.latent_head.weight, before["predictor.latent_head.weight"])


def test_an_offset_moves_all_latents_of_a_window_alike(data, model):
    latents = encode_episodes(model, data, data.training[:1])
    e, _, window = windows(latents, np.random.default_rng(9), 16, SHORT.horizon)
    offset = torch.randn(1, 1, latents.z.shape[2])
    away = dataclasses.replace(latents, z=latents.z + offset)
    torch.testing.assert_close(dynamics_loss(model, latents, e, window, SHORT, offset), dynamics_loss(model, away, e, window, SHORT))
    drawn = moved(dataclasses.replace(latents, z=latents.z[:, [0, -1]]), 4000, 0.15, np.random.default_rng(1))
    apart = latents.z[0, -1] - latents.z[0, 0]
    shares = (drawn[:, 0] @ apart) / apart.square().sum()
    torch.testing.assert_close(drawn[:, 0], shares[:, None] * apart, atol=1e-5, rtol=1e-4)
    assert float(shares[shares != 0].std()) == pytest.approx(0.15, rel=0.06), "the share of the difference of two frames"


def test_refining_moves_windows_only_when_asked(data, model, monkeypatch):
    latents = encode_episodes(model, data, data.training[:2])
    seen, plain = [], stage.dynamics_loss
    monkeypatch.setattr(stage, "dynamics_loss", lambda *given: seen.append(given[-1]) or plain(*given))
    for share in (0.0, 0.2):
        refine(model, latents, None, dataclasses.replace(SHORT, steps=1, offset=share))
    assert seen[0] == 0.0 and seen[1].shape == (SHORT.batch, 1, latents.z.shape[2]) and seen[1].abs().max() > 0


def test_encoded_latents_are_those_of_the_model(data, model):
    latents = encode_episodes(model, data, data.training[:1])
    shard, episode = data.training[0]
    from wm_planner.preprocess import to_tensor

    with torch.inference_mode():
        alone = model.encode(to_tensor(np.array(data.shards[shard]["images"][episode, 3:4])))
    torch.testing.assert_close(latents.z[0, 3:4], alone, atol=1e-5, rtol=1e-4)
    motion = data.shards[shard]["reference"][episode, 1] - data.shards[shard]["reference"][episode, 0]
    np.testing.assert_allclose(latents.actions[0, 0].numpy(), motion / 0.1, atol=1e-5)


def snapshot_folder(folder, data, count=12, **changes):
    shard = data.shards[0]
    arrays = {name: np.array(shard[name][:count, :1]) for name in ARRAYS}
    write_shard(folder, 0, arrays, {**data.meta, "length": 0, **changes})
    return folder


def test_snapshots_are_drawn_with_their_own_labels(tmp_path, data):
    snapshots = Snapshots([snapshot_folder(tmp_path, data)], data.meta)
    assert len(snapshots) == 12
    drawn = snapshots.draw(np.random.default_rng(0), 5)
    for image, hand in zip(drawn["images"], drawn["hand"], strict=True):
        same = [i for i in range(12) if np.array_equal(snapshots.arrays["images"][i], image.numpy())]
        assert any(np.array_equal(snapshots.arrays["hand"][i], hand.numpy()) for i in same)


QUICK = SharpenConfig(steps=80, batch=64, learning_rate=3e-3, ema=0.9)


@pytest.fixture
def seen(tmp_path, data, model):
    shards = [snapshot_folder(tmp_path / str(k), data, count=len(data.shards[0]["position"])) for k in range(4)]
    return look(model, Snapshots(shards, data.meta))


def test_sharpening_reads_better_and_changes_the_last_layers_alone(model, seen):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    blurred = float(hand_errors_m(model, seen).mean())
    sharp = sharpen(model, seen, QUICK)
    assert float(hand_errors_m(sharp, seen).mean()) < 0.7 * blurred
    changed = {name for name, value in sharp.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith(("encoder.head.", "readout_head.")) for name in changed)


def test_new_latents_stay_the_nearer_to_the_old_ones_the_more_they_are_held(model, seen):
    def moved(keep):
        sharp = sharpen(model, seen, dataclasses.replace(QUICK, loss_keep=keep))
        with torch.inference_mode():
            return float((sharp.encoder.head(seen.features.float()) - seen.z).square().mean())

    assert 0.0 < moved(100.0) < 0.2 * moved(0.0)


def test_what_is_seen_once_is_what_the_encoder_sees(model, data, tmp_path):
    snapshots = Snapshots([snapshot_folder(tmp_path, data)], data.meta)
    seen = look(model, snapshots)
    from wm_planner.preprocess import to_tensor

    with torch.inference_mode():
        z = model.encode(to_tensor(snapshots.arrays["images"]))
    torch.testing.assert_close(seen.z, z, atol=1e-5, rtol=1e-4)
    assert len(seen.part(held_out=True).z) + len(seen.part(held_out=False).z) == len(z)


def test_too_few_snapshots_to_sharpen_are_refused(model, seen):
    with pytest.raises(PlannerError, match="fewer than a batch"):
        sharpen(model, seen, dataclasses.replace(QUICK, batch=10_000))


def test_snapshots_of_another_robot_are_refused(tmp_path, data):
    with pytest.raises(PlannerError, match="joint_names"):
        Snapshots([snapshot_folder(tmp_path, data, joint_names=["other"])], data.meta)
    with pytest.raises(PlannerError, match="--snapshots"):
        Snapshots([tmp_path / "nothing"], data.meta)


def test_snapshots_take_part_in_a_training_step(tmp_path, data, model):
    snapshots = Snapshots([snapshot_folder(tmp_path, data)], data.meta)
    config = TrainConfig(steps=2, batch=4, snapshots=6, horizon=3, warmup=1)
    terms = Trainer(model.train(), config, torch.device("cpu")).train_step(data, snapshots=snapshots)
    assert terms["snapshot_readout"] > 0.0
    assert json.dumps(terms)  # plain floats


def test_periods_left_counts_down_to_the_last_arrival():
    x = torch.tensor([0.00, 0.05, 0.10, 0.05, 0.09, 0.10, 0.10])  # there, away again, there for good
    place = torch.stack([x, torch.zeros(7)], dim=-1)[None]
    assert periods_left(place, 0.015).tolist() == [[4, 3, 2, 1, 0, 0, 0]]
    assert periods_left(torch.full((1, 3, 2), torch.nan), 0.015).tolist() == [[0, 0, 0]]


def lessons(folder, rng, episodes=60, length=20):
    """A world in which two joints carry the object, slightly shaky hands, and a teacher who advises the straight way."""
    place = np.zeros((episodes, length + 1, 1, 3), np.float32)
    place[:, 0, 0, :2] = rng.uniform([0.2, -0.4], [0.4, 0.0], (episodes, 2))
    goal = rng.uniform([0.2, -0.4], [0.4, 0.0], (episodes, 2)).astype(np.float32)
    advice = np.zeros((episodes, length, 2), np.float32)
    for t in range(length):
        advice[:, t] = np.clip((goal - place[:, t, 0, :2]) / 0.02, -1, 1)
        shaken = advice[:, t] + rng.normal(0, 0.1, (episodes, 2))
        place[:, t + 1] = place[:, t]
        place[:, t + 1, 0, :2] += 0.02 * shaken
    position = rng.uniform(-1, 1, (episodes, length + 1, 2)).astype(np.float32)
    hand = np.tile(np.float32([0.3, -0.2, 0.8]), (episodes, length + 1, 1))
    hand[..., :2] += 0.1 * position[..., ::-1]
    arrays = dict(position=position, reference=position, hand=hand, objects=place, advice=0.1 * advice, goal=goal)
    names = ("joint_names", "period_s", "image_size", "objects")
    meta = {name: None for name in names} | {"length": length, "blind": True}
    write_shard(folder, 0, arrays, meta)
    return folder


def test_the_skill_learns_the_way_and_the_time_from_demonstrations(model, tmp_path):
    shown = Lessons.read(model, [lessons(tmp_path, np.random.default_rng(1))], 0.015)
    assert shown.advice.shape == (57 * 20, 2) and float(shown.advice.abs().max()) == 1.0
    learned = imitate(model, shown, ImitateConfig(steps=400, batch=256, learning_rate=3e-3, ema=0.9))
    here, reference = torch.zeros(3, 2), torch.zeros(3, 2)
    goal = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.3, 0.0]])  # decimetres from the object
    actions, periods = learned.skill.action(here, reference, goal), learned.skill.periods(here, reference, goal)
    assert actions[0, 0] > 0.8 and actions[1, 1] < -0.8
    assert abs(actions[0, 1]) < 0.3 and abs(actions[1, 0]) < 0.3
    hand = learned.skill.body(torch.tensor([[0.5, -0.3]]))[0]  # decimetres from the centre
    torch.testing.assert_close(hand, torch.tensor([-0.3, 0.5, 0.0]), atol=0.1, rtol=0)
    assert 2.0 < periods[0] < 7.0 and periods[2] < periods[0] - 1.5  # 5 and 1 to 2


def test_of_two_ways_round_the_skill_takes_the_commoner_and_not_their_mean(model):
    rng = np.random.default_rng(0)
    count = 600
    way = np.where(rng.uniform(size=count) < 0.65, 0.8, -0.8)
    zeros = {name: torch.zeros(count, size) for name, size in (("position", 2), ("reference", 2), ("hand", 3))}
    places = {name: torch.tensor([[0.3, -0.2]]).repeat(count, 1) for name in ("here", "goal", "end")}
    advice = torch.from_numpy(np.stack([np.full(count, 0.5), way], axis=1).astype(np.float32))
    taught = Lessons(**zeros, **places, advice=advice, left=torch.zeros(count))
    learned = imitate(model, taught, ImitateConfig(steps=300, batch=128, learning_rate=3e-3, ema=0.9))
    here = model.table_place(places["here"][:1])
    torch.testing.assert_close(learned.skill.action(here, torch.zeros(1, 2), here), torch.tensor([[0.5, 0.8]]), atol=0.1, rtol=0)
    share = unexplained(learned, taught)
    assert share["nearest_way"] < 0.05 and 1.0 < share["taken_way"] < 2.0  # .35 x 1.6^2 of a variance of .58 / 2 each


def test_episodes_without_advice_teach_no_skill(model, tmp_path):
    with pytest.raises(PlannerError, match="collect --demonstrations"):
        Lessons.read(model, [synthetic_dataset(tmp_path, episodes=20)], 0.015)


def test_too_few_demonstrations_to_hold_one_out_are_refused_before_the_fit(tmp_path, capsys):
    source = random_checkpoint(tmp_path / "in.safetensors", ("first", "second"))
    play = synthetic_dataset(tmp_path / "play", episodes=40)
    taught = lessons(tmp_path / "taught", np.random.default_rng(1), episodes=19)
    out = tmp_path / "out.safetensors"
    words = ["--checkpoint", str(source), "--data", str(play), "--lessons", str(taught), "--out", str(out)]
    assert stage.main([*words, "--steps", "0"]) == 2
    assert "at least 20" in capsys.readouterr().err and not out.exists()


def test_frames_without_advice_are_left_out(model, tmp_path):
    folder = lessons(tmp_path, np.random.default_rng(1))
    file = folder / "shard_0000" / "advice.npy"
    advice = np.load(file)
    advice[0, 3:7] = np.nan
    np.save(file, advice)
    shown = Lessons.read(model, [folder], 0.015)
    assert len(shown.left) == 57 * 20 - 4 and torch.isfinite(shown.advice).all()


def test_refine_without_steps_fits_the_skill_alone(tmp_path, monkeypatch):
    source = random_checkpoint(tmp_path / "in.safetensors", ("first", "second"))
    play = synthetic_dataset(tmp_path / "play", episodes=40)
    taught = lessons(tmp_path / "taught", np.random.default_rng(1))
    monkeypatch.setattr(stage, "ImitateConfig", functools.partial(ImitateConfig, steps=3))
    out = tmp_path / "out.safetensors"
    words = ["--checkpoint", str(source), "--data", str(play), "--lessons", str(taught), "--out", str(out)]
    assert stage.main([*words, "--steps", "0"]) == 0
    before, after = load_model(source)[0], load_model(out)[0]
    assert after.config.object_skill and not before.config.object_skill
    for name, weight in before.predictor.state_dict().items():
        torch.testing.assert_close(after.predictor.state_dict()[name], weight)


def test_refine_with_snapshots_sharpens_and_may_keep_the_skill(tmp_path, monkeypatch, data, capsys):
    source = random_checkpoint(tmp_path / "in.safetensors", config=dataclasses.replace(small_config(("first", "second")), object_skill=True))
    play = synthetic_dataset(tmp_path / "play", episodes=40)
    taught = lessons(tmp_path / "taught", np.random.default_rng(1))
    single = snapshot_folder(tmp_path / "single", data, count=40)
    monkeypatch.setattr(stage, "SharpenConfig", functools.partial(SharpenConfig, steps=5, batch=16))
    out = tmp_path / "out.safetensors"
    words = ["--checkpoint", str(source), "--data", str(play), "--lessons", str(taught), "--out", str(out)]
    assert stage.main([*words, "--snapshots", str(single)]) == 2 and "held out" in capsys.readouterr().err
    monkeypatch.setattr(sharpening, "_HELD_OUT", 10)
    assert stage.main([*words, "--steps", "2", "--learning-rate", "1e-4", "--snapshots", str(single), "--keep-skill"]) == 0
    (before, _), (after, card) = load_model(source), load_model(out)
    assert not torch.equal(before.readout_head[0].weight, after.readout_head[0].weight)
    for name, weight in before.skill.state_dict().items():
        torch.testing.assert_close(after.skill.state_dict()[name], weight)
    assert card["refine"]["learning_rate"] == 1e-4 and "imitate" not in card
    assert card["sharpen"]["steps"] == 5 and set(card["sharpen"]["held_out"]) >= {"before_median_m", "after_p95_m"}


def test_a_blind_dataset_has_no_pictures_to_train_on(tmp_path):
    folder = lessons(tmp_path, np.random.default_rng(0))
    assert "images" not in Dataset([folder], pictures=False).shards[0]
    with pytest.raises(PlannerError, match="--blind"):
        Dataset([folder])


def test_a_model_without_the_skill_says_how_to_get_one(model):
    with pytest.raises(PlannerError, match="--demonstrations"):
        _ = model.object_skill
