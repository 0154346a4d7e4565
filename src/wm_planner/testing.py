"""Small real inputs for tests: a random checkpoint and a synthetic dataset.

The checkpoint has the official layout with random weights: everything around the model can
be exercised with it, and nothing it plans means anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from wm_planner.config import ModelConfig
from wm_planner.data import write_shard
from wm_planner.weights import save_model
from wm_planner.world_model import WorldModel

NICO_RIGHT_ARM = ("r_shoulder_z", "r_shoulder_y", "r_arm_x", "r_elbow_y", "r_wrist_z", "r_wrist_x")


def small_config(joint_names: Sequence[str] = NICO_RIGHT_ARM, image_size: int = 32) -> ModelConfig:
    """A model that runs in a millisecond."""
    count = len(joint_names)
    return ModelConfig(
        joint_names=tuple(joint_names),
        lower=(-1.0,) * count,
        upper=(1.0,) * count,
        action_scale=(0.1,) * count,
        image_size=image_size,
        latent_dim=16,
        channels=(16, 16, 16),
        keypoints=8,
        width=32,
        depth=2,
        heads=2,
        readout_width=32,
    )


def random_checkpoint(
    path: Path, joint_names: Sequence[str] = NICO_RIGHT_ARM, seed: int = 0, config: ModelConfig | None = None
) -> Path:
    """Write a checkpoint with random weights for ``joint_names``."""
    torch.manual_seed(seed)
    save_model(WorldModel(config or small_config(joint_names)).eval(), Path(path), {"name": "random weights"})
    return Path(path)


def synthetic_dataset(folder: Path, episodes: int = 24, length: int = 16, size: int = 32, seed: int = 0) -> Path:
    """Write a dataset whose pictures show a square that two joints move about."""
    rng = np.random.default_rng(seed)
    steps = rng.uniform(-0.1, 0.1, size=(episodes, length, 2)).cumsum(axis=1)
    reference = np.concatenate([np.zeros((episodes, 1, 2)), steps], axis=1)
    reference = np.clip(reference + rng.uniform(-0.5, 0.5, size=(episodes, 1, 2)), -1, 1).astype(np.float32)
    position = reference.copy()
    position[:, 1:] = 0.5 * (reference[:, 1:] + reference[:, :-1])
    images = np.full((episodes, length + 1, size, size, 3), 40, np.uint8)
    for episode, frame in np.ndindex(episodes, length + 1):
        row, column = ((position[episode, frame] + 1) / 2 * (size - 8)).astype(int)
        images[episode, frame, row : row + 8, column : column + 8] = (230, 120, 30)
    hand = np.concatenate([position * 0.2 + [0.3, -0.2], np.full((*position.shape[:2], 1), 0.8)], axis=-1)
    objects = np.full((episodes, length + 1, 1, 3), np.nan, np.float32)
    meta = {
        "joint_names": ["first", "second"],
        "lower": [-1.0, -1.0],
        "upper": [1.0, 1.0],
        "action_scale": [0.1, 0.1],
        "period_s": 0.1,
        "image_size": size,
        "objects": ["block"],
        "length": length,
        "seed": seed,
    }
    arrays = {
        "images": images,
        "position": position,
        "reference": reference,
        "hand": hand.astype(np.float32),
        "objects": objects,
    }
    write_shard(Path(folder), 0, arrays, meta)
    return Path(folder)
