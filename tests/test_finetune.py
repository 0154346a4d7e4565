"""Fine-tuning: what may change changes, LoRA begins at the old model and ends as a plain one; comparing refuses guesses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wm_bridge.cli import compare as command
from wm_planner import registry, train
from wm_planner.compare import LEAST_EPISODES, Difference, difference, scores_of, verdict
from wm_planner.config import TrainConfig
from wm_planner.data import Dataset
from wm_planner.errors import PlannerError
from wm_planner.finetune import PARTS, Patience, limit, merged
from wm_planner.testing import random_checkpoint, small_config, synthetic_dataset
from wm_planner.weights import load_model, save_model, weights_hash

CONFIG = small_config(("first", "second"))
SETTINGS = "steps=6 batch=8 horizon=4 warmup=2 validate_every=2 checkpoint_every=3 log_every=2 threads=1 rank=2".split()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_dataset(tmp_path_factory.mktemp("new"), episodes=200)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("start") / "old.safetensors", config=CONFIG)


def fit(folder: Path, out: Path, *words: str, settings: list[str] = SETTINGS) -> int:
    return train.main(["--data", str(folder), "--out", str(out), "--device", "cpu", *words, "--set", *settings])


def changed(start: Path, out: Path) -> set[str]:
    """First parts of the names of all learned weights that differ."""
    old, new = load_model(start)[0], load_model(out / "model.safetensors")[0]
    return {name for (name, a), b in zip(old.named_parameters(), new.parameters(), strict=True) if not torch.equal(a, b)}


@pytest.mark.parametrize("part", PARTS)
def test_only_what_may_change_changes_and_the_result_is_an_ordinary_checkpoint(folder: Path, start: Path, tmp_path: Path, part: str) -> None:
    assert fit(folder, tmp_path, "--from", str(start), "--only", part) == 0
    names = changed(start, tmp_path)
    assert names
    if part == "predictor":
        assert all(name.startswith("predictor.") for name in names)
    elif part == "last-layers":
        assert not any(name.startswith(("encoder.stem", "encoder.fine", "encoder.down", "predictor.blocks")) for name in names)
    elif part == "lora":
        assert all(name.endswith("weight") and ".norm" not in name for name in names)
        assert any(name.startswith("encoder.") for name in names) and any(name.startswith("predictor.blocks") for name in names)
    else:
        assert any(name.startswith("encoder.stem") for name in names)
    if part != "full":
        old, new = load_model(start)[0].encoder, load_model(tmp_path / "model.safetensors")[0].encoder
        for a, b in zip(old.stem.buffers(), new.stem.buffers(), strict=True):
            assert torch.equal(a, b), "running statistics of frozen layers stay"


def test_low_rank_changes_begin_at_the_old_model_and_have_their_rank(start: Path) -> None:
    old, _ = load_model(start)
    model, _ = load_model(start)
    free = limit(model, "lora", rank=2)
    assert 0 < free < 0.5 * sum(p.numel() for p in old.parameters())
    pictures = torch.rand(3, 3, 32, 32) * 2 - 1
    assert torch.equal(old.encode(pictures), model.encode(pictures))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01 * torch.randn_like(parameter))
    plain = merged(model)
    torch.testing.assert_close(plain.encode(pictures), model.encode(pictures))
    ranks = [torch.linalg.matrix_rank((a - b).flatten(1), atol=1e-6).item() for a, b in zip(old.parameters(), plain.parameters(), strict=True) if not torch.equal(a, b)]
    assert ranks and max(ranks) == 2


def test_lora_resumes_bit_for_bit(folder: Path, start: Path, tmp_path: Path) -> None:
    words = ("--from", str(start), "--only", "lora")
    assert fit(folder, tmp_path / "whole", *words) == 0
    assert fit(folder, tmp_path / "parts", *words, "--stop-after", "3") == 0
    assert fit(folder, tmp_path / "parts", *words) == 0
    whole, parts = (torch.load(tmp_path / name / "training.pt", weights_only=True) for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 6
    assert all(torch.equal(tensor, parts["average"][name]) for name, tensor in whole["average"].items())


def test_training_stops_when_nothing_gets_better_and_keeps_the_best(folder: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    course = iter([5.0, 3.0, 4.0, 3.5, 1.0])
    plain = train.validate

    def told(model, data, *rest):
        figures = plain(model, data, *rest)
        return figures | {"hand_cm_median": next(course, 9.0), "hand_cm_h10": 2.0}

    monkeypatch.setattr(train, "validate", told)
    settings = [*SETTINGS, "steps=40", "patience=2"]
    assert fit(folder, tmp_path, "--from", str(start), settings=settings) == 0
    assert torch.load(tmp_path / "training.pt", weights_only=True)["step"] == 8, "two validations after the best"
    _, card = load_model(tmp_path / "model.safetensors")
    assert card["step"] == 4


@pytest.mark.parametrize("after", [1.0, 2.0])
def test_what_is_refined_at_the_end_is_kept_only_when_it_predicts_better(folder: Path, start: Path, monkeypatch: pytest.MonkeyPatch, after: float) -> None:
    monkeypatch.setattr(train, "validate", lambda *_: {"error_ratio_h1": 0.0, "error_ratio_h10": after})
    model, noted = load_model(start)[0], {"validation": {"error_ratio_h1": 9.0, "error_ratio_h10": 1.5}}
    found = train.refined_at_the_end(model, Dataset([folder]), TrainConfig(refine_steps=3, horizon=4, threads=1), noted)
    assert noted["refine"]["kept"] is (after < 1.5) and noted["validation"]["error_ratio_h10"] == min(after, 1.5)
    same = {name: torch.equal(a, b) for (name, a), b in zip(model.state_dict().items(), found.state_dict().values(), strict=True)}
    assert all(same.values()) is (after > 1.5)
    assert all(equal for name, equal in same.items() if not name.startswith(("predictor.", "prior_head."))), "eye and readout stay"


def test_a_training_with_refine_steps_is_refined_once(folder: Path, start: Path, tmp_path: Path) -> None:
    settings = [*SETTINGS, "refine_steps=3", "patience=1"]
    for _ in range(2):
        assert fit(folder, tmp_path, "--from", str(start), settings=settings) == 0
    _, card = load_model(tmp_path / "model.safetensors")
    assert card["refine"]["steps"] == 3 and card["refine"]["after"]["hand_cm_median"] == card["refine"]["before"]["hand_cm_median"]


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=30), st.integers(1, 5))
def test_patience_ends_after_so_many_that_are_not_better(values: list[float], allowed: int) -> None:
    patience, since, best = Patience(allowed), 0, np.inf
    for step, value in enumerate(values):
        since = 0 if value < best else since + 1
        best = value if value < best else best
        assert patience.better(value, step) == (since == 0) and patience.over == (since >= allowed)


def test_what_is_forgotten_and_where_it_comes_from_stands_in_the_card(folder: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = synthetic_dataset(tmp_path / "old", episodes=40, seed=7)
    assert fit(folder, tmp_path / "out", "--from", str(start), "--old", str(old)) == 0
    _, card = load_model(tmp_path / "out/model.safetensors")
    assert card["parent"]["weights"] == weights_hash(start)
    assert card["data_digest"] == Dataset([folder]).digest() != Dataset([old]).digest()
    assert card["forgetting"]["before"] != card["forgetting"]["after"]
    assert "old data: hand_cm_median" in capsys.readouterr().out
    assert registry.main([str(start), str(tmp_path / "out"), "--json", str(tmp_path / "models.json")]) == 0
    listed = capsys.readouterr().out
    assert f"\n  {weights_hash(tmp_path / 'out/model.safetensors')}" in listed and "on the old data" in listed, "a child under its parent"
    assert [entry["parent"] for entry in json.loads((tmp_path / "models.json").read_text())] == ["", weights_hash(start)]


def test_data_that_do_not_fit_the_checkpoint_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = random_checkpoint(tmp_path / "other.safetensors", config=small_config(("first", "third")))
    assert fit(folder, tmp_path / "a", "--from", str(other)) == 2
    assert "joint_names" in capsys.readouterr().err
    assert fit(folder, tmp_path / "b", "--only", "lora") == 2
    assert "--from CHECKPOINT" in capsys.readouterr().err


# ---- comparing --------------------------------------------------------------------------


def test_a_better_model_is_found_and_equal_ones_give_no_verdict(folder: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [*SETTINGS, "steps=60", "batch=12", "learning_rate=0.003"]
    assert fit(folder, tmp_path / "out", "--from", str(start), settings=settings) == 0
    better = tmp_path / "out/model.safetensors"
    words = ["--data", str(folder), "--html", str(tmp_path / "page.html"), "--json", str(tmp_path / "found.json")]
    assert command.main([str(start), str(better), *words]) == 0
    assert "B is better" in capsys.readouterr().out
    assert command.main([str(better), str(start), *words]) == 0
    assert "A is better" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["verdict"] == "A is better"
    assert "data:image/png" in (tmp_path / "page.html").read_text()
    same = tmp_path / "same.safetensors"
    save_model(load_model(better)[0], same, {})
    assert command.main([str(better), str(same), *words]) == command.NO_VERDICT
    assert "no verdict" in capsys.readouterr().out


def test_scores_of_an_episode_are_those_of_its_windows(folder: Path, start: Path) -> None:
    """The hand's distance by hand, for one episode; and every number is finite and in its range."""
    model, data = load_model(start)[0], Dataset([folder])
    scores = scores_of(model, data)
    assert len(scores.rank) == len(data.held_out) and ((scores.rank >= 0) & (scores.rank <= 1)).all()
    shard, episode = data.held_out[3]
    arrays = {name: torch.from_numpy(np.array(values[episode])) for name, values in data.shards[shard].items()}
    with torch.no_grad():
        z = model.encode(arrays["images"].permute(0, 3, 1, 2).float() / 127.5 - 1)
        state = model.proprioception(arrays["position"], arrays["reference"])
        off = []
        for begin in (0, 5):
            actions = (arrays["reference"][begin + 1 : begin + 11] - arrays["reference"][begin : begin + 10]) / model.action_scale
            imagined, _ = model.rollout(z[None, begin : begin + 1], state[None, begin : begin + 1], actions[None])
            off.append(100 * (model.read(imagined[0]).hand - arrays["hand"][begin + 1 : begin + 11]).norm(dim=-1))
    np.testing.assert_allclose(scores.curve_cm[3], torch.stack(off).mean(0), rtol=1e-3)


def test_a_difference_needs_episodes_and_an_interval_without_zero() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(3.0, 1.0, 60)
    assert difference(a, a + 0.5).better == "A" and difference(a, a - 0.5).better == "B"
    assert difference(a, a + rng.normal(0.0, 1.0, 60)).better == ""
    assert difference(a[: LEAST_EPISODES - 1], a[: LEAST_EPISODES - 1] + 5.0).better == ""
    with pytest.raises(PlannerError, match="same episodes"):
        difference(a, a[:-1])


@pytest.mark.parametrize("seed", range(3))
def test_equal_models_are_told_apart_in_about_one_of_twenty_comparisons(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wrong = sum(bool(difference(rng.normal(size=40), rng.normal(size=40), k).better) for k in range(60))
    assert wrong <= 10


def test_figures_that_contradict_each_other_give_no_verdict() -> None:
    a, b, none = Difference(1, 0.5, 1.5, "A"), Difference(-1, -1.5, -0.5, "B"), Difference(0, -1, 1, "")
    assert verdict([a, none]) == "A is better" and verdict([b, b]) == "B is better"
    assert verdict([a, b]).startswith("no verdict") and verdict([none]).startswith("no verdict")
