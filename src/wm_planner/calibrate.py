"""Calibration of a trained model: which pictures it knows. What is usual at run time: ``trust``.

Called at the end of a training, or for any checkpoint by
`python -m wm_planner.calibrate --checkpoint IN --data FOLDER --out OUT`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wm_planner.data import Dataset
from wm_planner.errors import PlannerError
from wm_planner.preprocess import to_tensor
from wm_planner.weights import load_model, save_model
from wm_planner.world_model import SCENE_DIM, WorldModel

FIT_PICTURES, LIMIT_EPISODES, PER_EPISODE = 1500, 200, 12


@torch.no_grad()
def calibrate(model: WorldModel, data: Dataset, seed: int = 0) -> None:
    """Set the model's calibration buffers; takes some seconds.

    * ``scene_basis``: principal components of training pictures (see ``WorldModel.novelty``).
    * ``novelty_limit``: 1.1 times the 99.9th percentile of the score on held-out pictures.

    The limit stays infinite (switched off) when there are no held-out episodes.
    """
    device = model.joint_centre.device
    rng = np.random.default_rng(seed)
    count = min(len(data.training), FIT_PICTURES // PER_EPISODE)
    chosen = rng.choice(len(data.training), size=count, replace=False)
    scenes, _ = model.scene(pictures(data, [data.training[i] for i in chosen], rng).to(device))
    components = torch.linalg.svd(scenes.float(), full_matrices=False).Vh[:SCENE_DIM].T
    model.scene_basis.zero_()
    model.scene_basis[:, : components.shape[1]] = components
    model.novelty_limit.fill_(math.inf)
    held_out = data.held_out[:LIMIT_EPISODES]
    if not held_out:
        return
    novelty = model.novelty(pictures(data, held_out, rng).to(device))
    model.novelty_limit.fill_(1.1 * float(novelty.quantile(0.999)))


def pictures(data: Dataset, episodes: Sequence[tuple[int, int]], rng: np.random.Generator) -> Tensor:
    """(B, 3, S, S) normalised random frames, at most ``PER_EPISODE`` of each episode."""
    drawn = []
    for shard, episode in episodes:
        frames = rng.choice(data.length + 1, size=min(PER_EPISODE, data.length + 1), replace=False)
        drawn.append(data.shards[shard]["images"][episode, np.sort(frames)])
    return to_tensor(np.concatenate(drawn))


def main(argv: list[str]) -> int:
    """Calibrate a checkpoint and write it anew."""
    parser = argparse.ArgumentParser(prog="python -m wm_planner.calibrate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="model to calibrate")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="dataset folders it was trained on")
    parser.add_argument("--out", type=Path, required=True, help="calibrated checkpoint")
    args = parser.parse_args(argv)
    try:
        model, card = load_model(args.checkpoint)
        calibrate(model, Dataset(args.data))
    except PlannerError as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2
    save_model(model, args.out, card)
    print(f"novelty limit {float(model.novelty_limit):.3f}: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
