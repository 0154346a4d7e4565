"""Encoders through Hugging Face `transformers`, an optional dependency: V-JEPA 2 and DINO. Never online."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wm_planner.errors import PlannerError
from wm_planner.vjepa.config import EncoderConfig
from wm_planner.vjepa.layout import check

INSTALL = ".venv/bin/python -m pip install -r requirements/vjepa.txt -c requirements/constraints.txt"
DINO_TYPES = ("dinov2", "dinov2_with_registers", "dinov3_vit")
ENDS = {"patch_embed.proj": "embeddings.patch_embeddings.proj", "norm": "layernorm"}


def transformers() -> Any:
    """The package, told to stay offline; a PlannerError with the command that installs it where it is missing."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers as package
    except ImportError as error:
        raise PlannerError(f"this encoder needs the package transformers ({error}); install it with: {INSTALL}") from error
    return package


def to_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published V-JEPA 2 encoder tensors by the names of `transformers`: query, key and value are three there."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, kind = name.rsplit(".", 1)
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
        if block is None:
            renamed[f"{ENDS.get(stem, stem)}.{kind}"] = tensor
            continue
        number, inner = block.groups()
        if inner == "attn.qkv":
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"layer.{number}.attention.{part}.{kind}"] = rows
        else:
            renamed[f"layer.{number}.{inner.replace('attn.', 'attention.')}.{kind}"] = tensor
    return renamed


def from_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of ``to_transformers``."""
    back = {after: before for before, after in ENDS.items()}
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, kind = name.rsplit(".", 1)
        block = re.fullmatch(r"layer\.(\d+)\.(.+)", stem)
        if block is None:
            renamed[f"{back.get(stem, stem)}.{kind}"] = tensor
            continue
        number, inner = block.groups()
        if inner == "attention.query":
            parts = [tensors[f"layer.{number}.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            renamed[f"blocks.{number}.attn.qkv.{kind}"] = torch.cat(parts)
        elif inner not in ("attention.key", "attention.value"):
            renamed[f"blocks.{number}.{inner.replace('attention.', 'attn.')}.{kind}"] = tensor
    return renamed


def empty_vjepa2(config: EncoderConfig) -> nn.Module:
    """A VJEPA2Model's encoder of this shape without weights (on the meta device)."""
    package = transformers()
    settings = package.VJEPA2Config(
        patch_size=config.patch,
        crop_size=config.image_size,
        hidden_size=config.width,
        num_attention_heads=config.heads,
        num_hidden_layers=config.depth,
        mlp_ratio=config.hidden / config.width + 1e-9,  # the package rounds the hidden width down
    )
    with torch.device("meta"):
        encoder: nn.Module = package.VJEPA2Model(settings).encoder
    return encoder.eval()


def vjepa2(config: EncoderConfig, tensors: Mapping[str, Tensor], source: str) -> nn.Module:
    """VJEPA2Model's encoder with published tensors as its float32 weights; names and shapes must fit exactly."""
    model = empty_vjepa2(config)
    check(tensors, from_transformers(model.state_dict()), source)
    model.load_state_dict({name: t.float() for name, t in to_transformers(tensors).items()}, assign=True)
    return model.requires_grad_(False)


def dino(folder: Path) -> nn.Module:
    """A DINOv2 or DINOv3 vision transformer from a local folder (config.json, model.safetensors)."""
    package = transformers()
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise PlannerError(f"no config.json in {folder}; download the model's folder and give its path")
    try:
        model = package.AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise PlannerError(f"{folder} cannot be loaded ({str(error).splitlines()[0][:200]}); download it again") from error
    if model.config.model_type not in DINO_TYPES:
        raise PlannerError(f"{folder} holds a {model.config.model_type}, expected one of {', '.join(DINO_TYPES)}")
    encoder: nn.Module = model.eval().requires_grad_(False)
    return encoder
