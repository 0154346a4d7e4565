"""An AC predictor of our own, trained end to end on tiny data, then planned with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from wm_planner.data import Dataset
from wm_planner.testing import random_checkpoint, small_config, synthetic_dataset
from wm_planner.vjepa import fit, import_weights, store
from wm_planner.vjepa.config import CORRECTED, ACConfig, EncoderConfig
from wm_planner.vjepa.encoders import load_encoder
from wm_planner.vjepa.energy import Energy
from wm_planner.vjepa.pose import integrate, integrate_joints
from wm_planner.vjepa.predictor import ACPredictor, normalise

from wm_bridge.cli import train_ac
from wm_bridge.errors import UserError
from wm_bridge.report import runs

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The square of the synthetic data, jumping anywhere: the action decides what the next picture is."""
    folder = synthetic_dataset(tmp_path_factory.mktemp("data"), episodes=40, length=6)
    shard = next(folder.glob("shard_*"))
    where = np.random.default_rng(0).uniform(-1, 1, size=(40, 7, 2)).astype(np.float32)
    images = np.full((40, 7, 32, 32, 3), 40, np.uint8)
    for episode, frame in np.ndindex(40, 7):
        row, column = ((where[episode, frame] + 1) / 2 * 16).astype(int)
        images[episode, frame, row : row + 16, column : column + 16] = (230, 120, 30)
    for name, values in {"images": images, "reference": where, "position": where}.items():
        np.save(shard / f"{name}.npy", values)
    return folder


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """A V-JEPA 2.1 encoder of random weights, 2 x 2 patches."""
    shape = EncoderConfig("vjepa2.1", 32, 1, 2, 2.0, 32)
    generator = torch.Generator().manual_seed(0)
    tensors = {store.ENCODER + n: 0.3 * torch.randn(t.shape, generator=generator) for n, t in import_weights.expected_encoder(shape).items()}
    path = tmp_path_factory.mktemp("encoder") / "e.safetensors"
    store.write(path, tensors, store.Header(None, {"kind": "vjepa2.1", "width": 32, "depth": 1, "heads": 2, "mlp_ratio": 2.0, "image_size": 32}, {}))
    return path


def test_training_beats_copying_the_last_frame_and_the_result_plans(tmp_path, data, patches, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "ac.safetensors"
    settings = ["steps=120", "batch=16", "horizon=2", "learning_rate=0.003", "warmup=10"]
    argv = ["--data", str(data), "--encoder", str(patches), "--out", str(out), "--width", "32", "--depth", "2", "--heads", "2", "--set", *settings]
    assert train_ac.main(argv) == 0
    card = store.read_header(out).card
    assert card["held_out_error"] < 0.8 * card["held_out_copy_last"] and "held-out error" in capsys.readouterr().out
    (run,), _ = runs.find([tmp_path / "runs"])
    assert (run.kind, run.name, run.figures["held_out_error"]) == ("training", "ac", card["held_out_error"])
    assert run.configuration["train.batch"] == "16" and run.page is not None
    model, encoder = store.load_predictor(out), load_encoder(patches)
    assert model.config.rotary == CORRECTED and (model.config.grid, model.config.action_dim, model.config.period_s) == (2, 2, 0.1)
    # the action that was taken explains the next picture better than its opposite does
    batch = fit.draw(Dataset([data]), encoder, fit.config_from_mapping(fit.TrainConfig, {"batch": 16, "horizon": 1}), 7, torch.device("cpu"))
    energy, better = Energy(model, 1, integrate_joints), 0
    for latents, actions, states in zip(*batch, strict=True):
        energy.observe(latents[:1], states[:1], latents[1])
        costs = energy(torch.stack([actions, -actions]))
        better += int(costs[0] < costs[1])
    assert better >= 12


def test_the_compact_encoder_can_be_trained_on(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = random_checkpoint(tmp_path / "c.safetensors", config=small_config(("first", "second")))
    argv = ["--data", str(data), "--encoder", str(encoder), "--out", str(tmp_path / "o.safetensors"), "--width", "16", "--depth", "1", "--heads", "2"]
    assert train_ac.main([*argv, "--set", "steps=3", "batch=4", "horizon=3"]) == 0
    assert store.load_predictor(tmp_path / "o.safetensors").config.patches == 1
    with pytest.raises(UserError, match="did you mean 'steps'"):
        train_ac.main([*argv, "--set", "step=3"])
    with pytest.raises(UserError, match="no arm of this robot has the joints"):
        train_ac.main([*argv, "--actions", "end_effector"])


def planar(joints: np.ndarray) -> np.ndarray:
    """A tool that the first joint shifts along x, 0.2 m per rad, and the second turns about z."""
    frames = np.broadcast_to(np.eye(4), (*joints.shape[:-1], 4, 4)).copy()
    frames[..., 0, 3] = 0.2 * joints[..., 0]
    c, s = np.cos(joints[..., 1]), np.sin(joints[..., 1])
    frames[..., :2, :2] = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
    return frames


def test_a_predictor_can_be_told_the_motion_of_the_tool(tmp_path, data):
    encoder = random_checkpoint(tmp_path / "c.safetensors", config=small_config(("first", "second")))
    config = fit.config_from_mapping(fit.TrainConfig, {"batch": 4, "horizon": 3})
    told = [fit.draw(Dataset([data]), load_encoder(encoder), config, 0, torch.device("cpu"), forward=forward) for forward in (None, planar)]
    (_, changes, references), (_, actions, states) = told
    assert actions.shape == (4, 3, 7) and states.shape == (4, 3, 7)
    torch.testing.assert_close(actions[..., 0], 0.2 * changes[..., 0])
    torch.testing.assert_close(actions[..., 5], changes[..., 1])
    torch.testing.assert_close(states[..., [0, 5]], references * torch.tensor([0.2, 1.0]))  # here all is measured as it was sent
    torch.testing.assert_close(integrate(states[:, 0], actions)[:, :-1], states, atol=1e-5, rtol=0)
    out = tmp_path / "o.safetensors"
    args = fit.make_parser().parse_args(["--data", "-", "--encoder", str(encoder), "--out", str(out), "--width", "16", "--depth", "1", "--heads", "2", "--set", "steps=2", "batch=4", "horizon=3"])
    fit.train(args, Dataset([data]), planar)
    assert store.read_header(out).card["actions"] == "end_effector" and store.load_predictor(out).config.action_dim == 7


def test_the_loss_is_zero_for_a_world_that_the_model_predicts():
    torch.manual_seed(0)
    model = ACPredictor(ACConfig(embed_dim=16, width=16, depth=1, heads=2, grid=2, action_dim=2, state_dim=2))
    first, actions, states = normalise(torch.randn(3, 1, 4, 16)), torch.randn(3, 2, 2), torch.randn(3, 2, 2)
    with torch.no_grad():
        second = normalise(model(first, actions[:, :1], states[:, :1]))
        third = normalise(model(torch.cat([first, second], 1), actions, states)[:, -1:])
    taught, imagined = fit.loss(model, torch.cat([first, second, third], 1), actions, states)
    assert taught < 1e-6 and imagined < 1e-6
    wrong = fit.loss(model, torch.cat([first, second, -third], 1), actions, states)
    assert wrong[0] > 0.1 and wrong[1] > 0.1
    wrong[1].backward()
    assert all(p.grad is not None and bool(p.grad.any()) for n, p in model.named_parameters() if "extrinsics" not in n and "qkv.bias" not in n)


def test_joint_references_add_up():
    assert integrate_joints(torch.tensor([1.0, 2.0]), torch.tensor([[0.5, 0.0], [0.5, -1.0]])).tolist() == [[1, 2], [1.5, 2], [2, 1]]
