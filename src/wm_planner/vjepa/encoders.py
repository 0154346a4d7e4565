"""Picture encoders behind one protocol: an AC predictor can be trained, and plan, on any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from wm_planner.config import config_from_mapping
from wm_planner.errors import PlannerError
from wm_planner.preprocess import check_picture
from wm_planner.vjepa import pretrained
from wm_planner.vjepa.config import EncoderConfig
from wm_planner.vjepa.layout import check
from wm_planner.vjepa.predictor import normalise
from wm_planner.vjepa.store import ENCODER, read_header, read_tensors
from wm_planner.vjepa.vit import VisionTransformer
from wm_planner.weights import load_model
from wm_planner.world_model import WorldModel

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, which all of these expect


class FrameEncoder(Protocol):
    """What a picture becomes a latent with.

    Attributes:
        image_size: side of the square picture, pixels. grid: patches per side. embed_dim: D.
    """

    image_size: int
    grid: int
    embed_dim: int

    def __call__(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) colours in 0..1 to layer-normed latents (B, grid * grid, D)."""


class VJepaEncoder(nn.Module):
    """V-JEPA 2 or 2.1. A picture stands for a short clip of itself in V-JEPA 2, as V-JEPA 2-AC was trained."""

    def __init__(self, config: EncoderConfig, tensors: dict[str, Tensor], source: str) -> None:
        super().__init__()
        self.kind = config.kind
        self.image_size, self.grid, self.embed_dim = config.image_size, config.grid, config.width
        self.model = pretrained.vjepa2(config, tensors, source) if self.kind == "vjepa2" else vjepa21(config, tensors, source)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """See ``FrameEncoder``."""
        x = standardise(pictures)
        if self.kind == "vjepa2":
            return normalise(self.model(x[:, None].expand(-1, 2, -1, -1, -1)).last_hidden_state)
        return normalise(self.model(x))


class DinoEncoder(nn.Module):
    """DINOv2 or DINOv3 from a local folder; class and register tokens are dropped."""

    def __init__(self, folder: Path, image_size: int | None = None) -> None:
        super().__init__()
        self.model = pretrained.dino(folder)
        settings: Any = self.model.config
        self.extra = 1 + int(getattr(settings, "num_register_tokens", 0))
        patch, width = int(settings.patch_size), int(settings.hidden_size)
        self.image_size = image_size or 16 * patch
        if self.image_size % patch:
            raise PlannerError(f"image_size {self.image_size} must be a multiple of the patch side {patch}")
        self.grid, self.embed_dim = self.image_size // patch, width

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """See ``FrameEncoder``."""
        tokens: Tensor = self.model(pixel_values=standardise(pictures)).last_hidden_state
        return normalise(tokens[:, self.extra :])


class CompactEncoder(nn.Module):
    """The compact world model's encoder: one token for the whole picture."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.image_size, self.grid, self.embed_dim = model.config.image_size, 1, model.config.latent_dim

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """See ``FrameEncoder``."""
        return normalise(self.model.encode(2 * pictures - 1)[:, None])


def load_encoder(path: Path, image_size: int | None = None) -> FrameEncoder:
    """The encoder at ``path``: an imported V-JEPA file, a DINO folder, or a compact world model.

    Args:
        path: file or folder on this machine. image_size: another picture side, for DINO alone.
    """
    path = Path(path)
    if path.is_dir():
        return DinoEncoder(path, image_size)
    if not path.is_file():
        raise PlannerError(f"no encoder at {path}; give an imported file (`./wm import-weights`), a DINO folder or a checkpoint")
    try:
        header = read_header(path)
    except PlannerError:
        return CompactEncoder(load_model(path)[0])
    if not header.encoder:
        raise PlannerError(f"{path} holds a predictor and no encoder; give the file of its encoder")
    config = config_from_mapping(EncoderConfig, header.encoder, str(path))
    return VJepaEncoder(config, read_tensors(path, ENCODER), f"{path}, encoder")


def vjepa21(config: EncoderConfig, tensors: dict[str, Tensor], source: str) -> VisionTransformer:
    """The V-JEPA 2.1 encoder with published tensors as its float32 weights."""
    with torch.device("meta"):
        model = VisionTransformer(config)
    check(tensors, model.state_dict(), source)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return model.eval().requires_grad_(False)


def standardise(pictures: Tensor) -> Tensor:
    """Colours 0..1 to zero mean and unit deviation of ImageNet's."""
    mean, deviation = (torch.tensor(v, device=pictures.device)[:, None, None] for v in (MEAN, DEVIATION))
    return (pictures - mean) / deviation


def to_pictures(images: NDArray[np.uint8], size: int) -> Tensor:
    """Camera pictures (H, W, 3) or (B, H, W, 3) uint8 to (B, 3, size, size) in 0..1.

    Centre square, then bilinear without smoothing: what the published V-JEPA 2-AC was trained on.
    """
    batch = images[None] if images.ndim == 3 else images
    check_picture(batch[0])
    height, width = batch.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = torch.from_numpy(np.ascontiguousarray(batch[:, top : top + side, left : left + side]))
    colours = square.permute(0, 3, 1, 2).float() / 255
    return functional.interpolate(colours, size=(size, size), mode="bilinear", align_corners=False)
