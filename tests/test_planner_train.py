"""Training: resumable to the bit, better than copying, calibrated, and the same on two processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from wm_planner import evaluate as evaluation
from wm_planner import train
from wm_planner.calibrate import calibrate
from wm_planner.config import TrainConfig
from wm_planner.data import Dataset
from wm_planner.preprocess import to_tensor
from wm_planner.testing import small_config, synthetic_dataset
from wm_planner.weights import load_model
from wm_planner.world_model import WorldModel

SHORT = "steps=8 batch=8 horizon=4 log_every=2 checkpoint_every=3 warmup=2 threads=1".split()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_dataset(tmp_path_factory.mktemp("play"), episodes=80)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of the synthetic joints that trains in seconds."""
    small = small_config(("first", "second"))
    monkeypatch.setattr(train, "model_config_for", lambda data, values: small)


def fit(folder: Path, out: Path, *more: str, settings: list[str] = SHORT) -> int:
    return train.main(["--data", str(folder), "--out", str(out), "--device", "cpu", *more, "--set", *settings])


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(folder: Path, tmp_path: Path, tiny: None) -> None:
    assert fit(folder, tmp_path / "whole") == 0
    assert fit(folder, tmp_path / "parts", "--stop-after", "5") == 0
    assert fit(folder, tmp_path / "parts") == 0
    whole, parts = (torch.load(tmp_path / n / "training.pt", weights_only=True) for n in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 8
    for part in ("model", "average"):
        for name, tensor in whole[part].items():
            assert torch.equal(tensor, parts[part][name]), name
    assert (tmp_path / "parts" / "curve.csv").read_text().count("step") == 1


def test_ctrl_c_saves_what_was_learned(
    folder: Path, tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train.Trainer.train_step

    def interrupted(self: train.Trainer, *args: object) -> dict[str, float]:
        if self.step == 4:
            raise KeyboardInterrupt
        return plain(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(train.Trainer, "train_step", interrupted)
    assert fit(folder, tmp_path) == 0
    assert torch.load(tmp_path / "training.pt", weights_only=True)["step"] == 4
    load_model(tmp_path / "model.safetensors")


def test_training_learns_is_calibrated_and_can_be_scored(
    folder: Path, tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*SHORT, "steps=150", "batch=24", "learning_rate=0.003", "log_every=20", "checkpoint_every=1000"]
    assert fit(folder, tmp_path, settings=settings) == 0
    rows = [line.split(",") for line in (tmp_path / "curve.csv").read_text().splitlines()]
    total = [float(row[rows[0].index("total")]) for row in rows[1:]]
    assert total[-1] < 0.7 * total[0]
    model, card = load_model(tmp_path / "model.safetensors")
    assert card["step"] == 150 and card["train"]["batch"] == 24
    data = Dataset([folder])
    scored = evaluation.evaluate(model, data, windows=40)
    figures = scored.figures
    assert figures["error_ratio_h10"] < 0.8
    assert figures["shuffled_action_ratio"] < 0.8
    assert figures["probe_r2_hand"] > 0.5
    assert figures["energy_distance_spearman"] > 0.4
    assert 1 < figures["effective_rank"] <= 16
    assert len(scored.error) == len(scored.copy_last) == 10
    # calibrated by training itself: known pictures pass, an empty and a noisy one do not
    assert torch.isfinite(model.novelty_limit)
    known = to_tensor(np.array(data.shards[0]["images"][0]))
    noise = to_tensor(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))
    assert (model.novelty(known) < model.novelty_limit).all()
    assert (model.novelty(noise) > model.novelty_limit).all()
    assert (model.novelty(torch.full((1, 3, 32, 32), 0.3)) > model.novelty_limit).all()
    words = ["--checkpoint", str(tmp_path / "model.safetensors"), "--data", str(folder), "--windows", "10"]
    assert evaluation.main([*words, "--json", str(tmp_path / "f.json"), "--plot", str(tmp_path / "p.png")]) == 0
    assert "shuffled_action_ratio" in capsys.readouterr().out
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "f.json").is_file()


def test_foreign_data_and_bad_words_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, tmp_path / "out") == 2
    assert "wm collect" in capsys.readouterr().err
    assert fit(folder, tmp_path / "out", settings=["stepz=3"]) == 2
    assert "did you mean 'steps'" in capsys.readouterr().err


def test_calibration_gives_the_same_limits_twice(folder: Path) -> None:
    torch.manual_seed(0)
    model = WorldModel(small_config(("first", "second"))).eval()
    data = Dataset([folder], held_out=0.3)
    limits = []
    for _ in range(2):
        calibrate(model, data)
        limits.append(float(model.novelty_limit))
    assert limits[0] == limits[1] and 0 < limits[0] < float("inf")


def test_probe_and_rank_correlation_have_their_analytic_values() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(400, 5, generator=generator)
    target = z @ torch.randn(5, 2, generator=generator) + 0.3
    assert evaluation.probe(z[:200], target[:200], z[200:], target[200:]) > 0.999
    noise = torch.randn(400, 2, generator=generator)
    assert evaluation.probe(z[:200], noise[:200], z[200:], noise[200:]) < 0.1
    x = torch.tensor([1.0, 2.0, 2.0, 5.0])
    assert evaluation.spearman(x, x.exp()) == pytest.approx(1)
    assert evaluation.spearman(x, -x) == pytest.approx(-1)
    assert evaluation.spearman(x, torch.ones(4)) == 0
    assert evaluation.spectrum(torch.randn(4000, 6, generator=generator))["effective_rank"] == pytest.approx(6, abs=0.1)
    flat = torch.cat([torch.randn(100, 1, generator=generator), torch.zeros(100, 3)], dim=1)
    assert evaluation.spectrum(flat) == {"effective_rank": pytest.approx(1, abs=1e-3), "dead_dimensions": 0.75}


def test_two_processes_train_one_model(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "both.py"
    script.write_text(
        "import os, sys, torch\n"
        "from wm_planner import train\n"
        "from wm_planner.testing import small_config\n"
        "train.model_config_for = lambda data, values: small_config(('first', 'second'))\n"
        "save = torch.distributed.destroy_process_group\n"
        "kept = []\n"
        "init = train.Trainer.__init__\n"
        "train.Trainer.__init__ = lambda self, *a: (init(self, *a), kept.append(self))[0]\n"
        "code = train.main(sys.argv[2:])\n"
        "state = {k: v for k, v in kept[0].model.state_dict().items() if 'running' not in k}\n"
        "torch.save(state, f\"{sys.argv[1]}/rank{os.environ['RANK']}.pt\")\n"
        "sys.exit(code)\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--data", str(folder), "--out", str(tmp_path / "out"), "--device", "cpu", "--set", *SHORT, "steps=4"]
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}", str(script),
         str(tmp_path), *words],
        check=True, timeout=240, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    first, second = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    trained, _ = load_model(tmp_path / "out" / "model.safetensors")
    assert trained.config.joint_names == ("first", "second")


@pytest.mark.parametrize(("precision", "has", "half"), [("auto", True, True), ("auto", False, False), ("fp32", True, False), ("bf16", False, True)])
def test_bfloat16_is_trained_in_where_the_processor_has_it_or_when_asked(monkeypatch, precision, has, half):
    monkeypatch.setattr(train, "has_bfloat16", lambda device: has)
    trainer = train.Trainer(WorldModel(small_config()), TrainConfig(steps=2, precision=precision), torch.device("cpu"))
    assert trainer.bf16 is half
