"""The second training stage and the snapshots that help the encoder."""

import json

import numpy as np
import pytest
import torch
from wm_planner.data import ARRAYS, Dataset, Snapshots, write_shard
from wm_planner.errors import PlannerError
from wm_planner.refine import RefineConfig, encode_episodes, refine, refine_loss
from wm_planner.testing import small_config, synthetic_dataset
from wm_planner.train import TrainConfig, Trainer
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
    first = float(refine_loss(model, latents, np.random.default_rng(9), SHORT).detach())
    refined = refine(model, latents, SHORT)
    last = float(refine_loss(refined, latents, np.random.default_rng(9), SHORT).detach())
    assert last < 0.8 * first
    for name, value in refined.state_dict().items():
        if name.startswith(("encoder.", "readout_head.")):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(refined.predictor.latent_head.weight, before["predictor.latent_head.weight"])


def test_encoded_latents_are_those_of_the_model(data, model):
    latents = encode_episodes(model, data, data.training[:1])
    shard, episode = data.training[0]
    from wm_planner.preprocess import to_tensor

    with torch.inference_mode():
        alone = model.encode(to_tensor(np.array(data.shards[shard]["images"][episode, 3:4])))
    torch.testing.assert_close(latents.z[0, 3:4], alone, atol=1e-5, rtol=1e-4)
    moved = data.shards[shard]["reference"][episode, 1] - data.shards[shard]["reference"][episode, 0]
    np.testing.assert_allclose(latents.actions[0, 0].numpy(), moved / 0.1, atol=1e-5)


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
