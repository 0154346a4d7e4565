"""Pictures, datasets and checkpoints: what goes in is what comes out, and damage is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from wm_planner.config import ModelConfig, TrainConfig, config_from_mapping, load_config
from wm_planner.data import Dataset, write_shard
from wm_planner.errors import PlannerError
from wm_planner.preprocess import check_picture, square_resize, to_tensor
from wm_planner.testing import random_checkpoint, small_config, synthetic_dataset
from wm_planner.weights import load_model, save_model, shipped_checkpoint, weights_hash


@pytest.mark.parametrize("k", [2, 3, 5])
def test_integer_area_resize_equals_the_torch_path(k: int) -> None:
    image = np.random.default_rng(k).integers(0, 256, (32 * k, 32 * k, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    exact = functional.interpolate(tensor, size=(32, 32), mode="area")[0].permute(1, 2, 0).numpy()
    assert np.abs(square_resize(image, 32).astype(float) - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("side", [192, 240, 300, 480, 144])
def test_any_area_resize_equals_the_torch_path(side: int) -> None:
    image = np.random.default_rng(side).integers(0, 256, (side, side + 20, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image[:, 10:-10].copy()).permute(2, 0, 1)[None].float()
    exact = functional.interpolate(tensor, size=(96, 96), mode="area")[0].permute(1, 2, 0).numpy()
    difference = np.abs(square_resize(image, 96) - exact)
    assert difference.max() <= 0.5 + 1e-4


def test_resize_crops_the_centre_and_keeps_flat_colours() -> None:
    image = np.zeros((48, 96, 3), np.uint8)
    image[:, 24:72] = (10, 200, 77)
    for size in (48, 32, 24, 64):
        assert (square_resize(image, size) == (10, 200, 77)).all()


def test_network_input_spans_minus_one_to_one() -> None:
    tensor = to_tensor(np.stack([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)]))
    assert tensor.shape == (2, 3, 8, 8)
    assert float(tensor[0].max()) == -1.0 and float(tensor[1].min()) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((8, 64, 3), np.uint8),
        [[1]],
    ],
)
def test_a_wrong_picture_is_named(wrong: object) -> None:
    with pytest.raises(PlannerError, match="picture"):
        check_picture(wrong)  # type: ignore[arg-type]


def test_windows_align_actions_frames_and_targets(tmp_path: Path) -> None:
    episodes, length, size = 24, 12, 32
    step = np.arange(length + 1, dtype=np.float32)
    clock = np.arange(episodes, dtype=np.float32)[:, None] * 100 + step  # episode * 100 + frame
    reference = (clock**2)[..., None].repeat(2, -1)
    images = np.zeros((episodes, length + 1, size, size, 3), np.uint8)
    images[..., 0, 0, 0] = step
    arrays = {
        "images": images,
        "position": clock[..., None].repeat(2, -1),
        "reference": reference,
        "hand": clock[..., None].repeat(3, -1),
        "objects": clock[..., None, None].repeat(3, -1),
    }
    write_shard(tmp_path, 0, arrays, META | {"length": length})
    data = Dataset([tmp_path])
    batch = data.windows(np.random.default_rng(0), 30, context=2, horizon=5, targets=3)
    start = batch.position[:, 0, 0]
    offsets = torch.cat([torch.arange(2).expand(30, 2), 1 + batch.target_step], dim=1)
    at = start[:, None] + offsets
    torch.testing.assert_close(batch.position_at[..., 0], at)
    torch.testing.assert_close(batch.hand_at[..., 0], at)
    torch.testing.assert_close(batch.objects_at[..., 0, 0], at)
    assert torch.equal(batch.pictures[..., 0, 0, 0].float(), at % 100)
    times = start[:, None] + torch.arange(7)
    torch.testing.assert_close(batch.position[..., 0], times)
    torch.testing.assert_close(batch.actions[..., 0], times[:, 1:] ** 2 - times[:, :-1] ** 2)
    assert (batch.target_step.diff(dim=1) > 0).all() and batch.target_step.max() <= 5


META = {
    "joint_names": ["first", "second"],
    "period_s": 0.1,
    "image_size": 32,
    "objects": ["block"],
    "length": 12,
}


def test_training_and_held_out_episodes_are_apart(tmp_path: Path) -> None:
    data = Dataset([synthetic_dataset(tmp_path, episodes=40)])
    assert len(data.held_out) == 2 and not set(data.held_out) & set(data.training)
    assert len(data) == 40


def test_half_shards_are_ignored_and_damaged_ones_named(tmp_path: Path) -> None:
    synthetic_dataset(tmp_path)
    shutil.copytree(tmp_path / "shard_0000", tmp_path / ".partial_0001")
    (tmp_path / "shard_0002").mkdir()  # without meta.json: never finished
    assert len(Dataset([tmp_path]).shards) == 1
    shutil.copytree(tmp_path / "shard_0000", tmp_path / "shard_0003")
    (tmp_path / "shard_0003" / "hand.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(PlannerError, match="shard_0003 is damaged.*collect again"):
        Dataset([tmp_path])


def test_mixed_settings_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match="wm collect"):
        Dataset([tmp_path])
    synthetic_dataset(tmp_path / "a")
    synthetic_dataset(tmp_path / "b", size=48)
    with pytest.raises(PlannerError, match="image_size is 48, other shards have 32"):
        Dataset([tmp_path / "a", tmp_path / "b"])
    data = Dataset([tmp_path / "a"])
    with pytest.raises(PlannerError, match="episodes have 17"):
        data.windows(np.random.default_rng(0), 1, context=1, horizon=17, targets=1)
    with pytest.raises(PlannerError, match="missing: hand"):
        write_shard(tmp_path, 1, {n: np.zeros(1) for n in ("images", "position", "reference", "objects")}, META)


def test_weights_survive_the_round_trip(tmp_path: Path) -> None:
    path = random_checkpoint(tmp_path / "m.safetensors", seed=4)
    model, card = load_model(path)
    model.novelty_limit.fill_(0.5)
    save_model(model, tmp_path / "again.safetensors", {"name": "again"})
    (tmp_path / "like").touch()
    assert (tmp_path / "again.safetensors").stat().st_mode == (tmp_path / "like").stat().st_mode, "others may read it where they may read any file"
    again, card = load_model(tmp_path / "again.safetensors")
    assert card == {"name": "again"} and again.config == model.config == small_config()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert weights_hash(path) != weights_hash(tmp_path / "again.safetensors")
    with pytest.raises(PlannerError, match="no checkpoint at .*none; name one"):
        weights_hash(tmp_path / "none")


def test_a_checkpoint_from_before_calibration_loads_uncalibrated(tmp_path: Path) -> None:
    path = random_checkpoint(tmp_path / "m.safetensors")
    tensors, header = load_file(path), read_header(path)
    for name in ("scene_basis", "novelty_limit"):
        del tensors[name]
    tensors["latent_mean"] = torch.zeros(16)
    tensors["residual_limit"] = torch.tensor(0.1)
    save_file(tensors, path, header)
    model, _ = load_model(path)
    assert torch.isinf(model.novelty_limit)


def read_header(path: Path) -> dict[str, str]:
    size = int.from_bytes(path.read_bytes()[:8], "little")
    return dict(json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"])


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def damage_foreign(path: Path) -> None:
    save_file({"w": torch.zeros(2)}, path)


def damage_text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


def damage_nan(path: Path) -> None:
    tensors = load_file(path)
    tensors["predictor.norm.weight"][3] = float("nan")
    save_file(tensors, path, read_header(path))


def damage_shape(path: Path) -> None:
    header = read_header(path)
    header["config"] = json.dumps(json.loads(header["config"]) | {"latent_dim": 24})
    save_file(load_file(path), path, header)


def damage_key(path: Path) -> None:
    header = read_header(path)
    header["config"] = json.dumps(json.loads(header["config"]) | {"colour": 24})
    save_file(load_file(path), path, header)


def damage_missing(path: Path) -> None:
    tensors = load_file(path)
    del tensors["predictor.norm.weight"]
    save_file(tensors, path, read_header(path))


def damage_gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncate, "not a readable safetensors file"),
        (damage_text, "not a readable safetensors file"),
        (damage_foreign, "format 'unknown', expected 'wm-compact-1'"),
        (damage_nan, "NaN or infinite weights"),
        (damage_shape, "does not fit its own configuration"),
        (damage_missing, "does not fit its own configuration.*predictor.norm.weight"),
        (damage_key, "unknown key 'colour'"),
        (damage_gone, "no checkpoint at .*wm train"),
    ],
)
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage, message: str) -> None:
    path = random_checkpoint(tmp_path / "m.safetensors")
    damage(path)
    with pytest.raises(PlannerError, match=message):
        load_model(path)


def test_an_unknown_robot_has_no_checkpoint() -> None:
    with pytest.raises(PlannerError, match="no checkpoint ships for robot 'r2d2'"):
        shipped_checkpoint("r2d2")


def test_an_unknown_setting_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match="did you mean 'learning_rate'"):
        config_from_mapping(TrainConfig, {"learning_rat": 1})
    with pytest.raises(PlannerError, match="at least 1"):
        TrainConfig(steps=0)
    with pytest.raises(PlannerError, match="same joints"):
        ModelConfig(("a",), (0.0, 1.0), (1.0,), (0.1,))
    for text, message in (("- 1\n", "key: value pairs"), ("a: [", "is not YAML")):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(PlannerError, match=message):
            load_config(TrainConfig, tmp_path / "c.yaml")
    with pytest.raises(PlannerError, match="no config file"):
        load_config(TrainConfig, tmp_path / "none.yaml")
