"""The public V-JEPA 2-AC source, imported from where the user has it; this repository holds none of it."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wm_bridge.errors import UserError
from wm_planner.vjepa.config import ACConfig
from wm_planner.vjepa.predictor import ACPredictor

STAND_INS = {"timm": (), "timm.models": (), "timm.models.layers": ("drop_path",), "einops": ("rearrange", "repeat")}
PIXELS = 16  # of a patch side
OBTAIN = "clone github.com/facebookresearch/vjepa2 and give its folder with --reference DIR"


class Reference:
    """The public predictor with our weights, and the public planner around it.

    Args:
        folder: checkout of the public repository.
        model: our predictor; its weights are loaded strictly into the public one.

    Raises:
        UserError: the folder is not that repository, or cannot be imported.
    """

    def __init__(self, folder: Path, model: ACPredictor) -> None:
        self.config = model.config
        with importable(folder):
            try:
                build = importlib.import_module("src.models.ac_predictor").vit_ac_predictor
                self.planner = importlib.import_module("notebooks.utils.world_model_wrapper").WorldModel
                self.move = importlib.import_module("notebooks.utils.mpc_utils").compute_new_pose
            except (ImportError, AttributeError) as error:
                raise UserError(f"{folder} cannot be imported as the public V-JEPA 2 source: {error}", OBTAIN) from error
        self.model = build(**arguments(model.config)).eval().requires_grad_(False)
        self.model.load_state_dict(model.state_dict())

    def roll(self, latents: Tensor, actions: Tensor, pose: Tensor) -> Tensor:
        """(S, H, N, D) frames imagined one after the other, as the public planner does it.

        Args:
            latents: (1, N, D) the present. actions: (S, H, 7). pose: (7,).
        """
        count = len(actions)
        frames, poses = latents.expand(count, 1, -1, -1), pose.expand(count, 1, -1)
        for step in range(actions.shape[1]):
            out = self.model(frames.flatten(1, 2), actions[:, : step + 1], poses)[:, -self.config.patches :]
            after = torch.nn.functional.layer_norm(out, (out.shape[-1],))
            frames = torch.cat([frames, after[:, None]], dim=1)
            poses = torch.cat([poses, self.move(poses[:, -1:], actions[:, step : step + 1])], dim=1)
        return frames[:, 1:]

    def plan(self, latents: Tensor, pose: Tensor, goal: Tensor, settings: dict[str, Any], seed: int) -> Tensor:
        """(H, 7) result of the public cross-entropy search; ``settings`` are its `mpc_args`."""
        torch.manual_seed(seed)
        wrapped = self.planner(None, self.model, self.config.patches, None, mpc_args=settings, device="cpu")
        found: Tensor = wrapped.infer_next_action(latents[None], pose[None, None], goal[None, None])
        return found


def arguments(config: ACConfig) -> dict[str, Any]:
    """Our shape in the public constructor's words."""
    return {
        "img_size": (config.grid * PIXELS, config.grid * PIXELS),
        "patch_size": PIXELS,
        "num_frames": 64,
        "tubelet_size": 2,
        "embed_dim": config.embed_dim,
        "predictor_embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "action_embed_dim": config.action_dim,
    }


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """The folder on the search path, and stand-ins for what it imports and planning never calls.

    timm's stochastic depth does nothing in evaluation; einops serves another way of cutting patches.
    """
    if not (folder / "src" / "models" / "ac_predictor.py").is_file():
        raise UserError(f"{folder} is not the public V-JEPA 2 repository: no src/models/ac_predictor.py", OBTAIN)
    added = [name for name in STAND_INS if name not in sys.modules]
    for name in added:
        sys.modules[name] = types.ModuleType(name)
        for function in STAND_INS[name]:
            setattr(sys.modules[name], function, lambda x, *_: x)
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))
        for name in added:
            del sys.modules[name]
