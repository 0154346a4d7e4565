"""Checkpoints: safetensors with the model's shape and history in the header."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wm_planner.config import ModelConfig, config_from_mapping
from wm_planner.errors import PlannerError
from wm_planner.world_model import CALIBRATION, WorldModel

FORMAT = "wm-compact-1"
RETIRED = ("latent_mean", "latent_whitening", "residual_limit")  # calibration of earlier versions


def save_model(model: WorldModel, path: Path, card: dict[str, Any]) -> None:
    """Write weights, shape and ``card`` (how it was made) to one file, atomically."""
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()}
    header = {
        "format": FORMAT,
        "config": json.dumps(dataclasses.asdict(model.config), sort_keys=True),
        "card": json.dumps(card, sort_keys=True),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(save(tensors, metadata=header))  # save_file would let nobody else read it
    partial.replace(path)


def load_model(path: Path) -> tuple[WorldModel, dict[str, Any]]:
    """Read a model strictly; a missing, damaged or foreign file is a clear PlannerError."""
    path = Path(path)
    if not path.is_file():
        raise PlannerError(
            f"no checkpoint at {path}; train one with `./wm train --data FOLDER --out {path.parent}` "
            "or name another with --checkpoint"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise PlannerError(f"{path} is not a readable safetensors file ({error}); copy or train it again") from error
    if header.get("format") != FORMAT:
        raise PlannerError(
            f"{path} holds format {header.get('format', 'unknown')!r}, expected {FORMAT!r}: it is not a compact "
            "world model of this version"
        )
    values = json.loads(header["config"])
    model = WorldModel(config_from_mapping(ModelConfig, values, str(path)))
    tensors = complete(model, tensors)
    expected = model.state_dict()
    wrong = sorted(set(expected) ^ set(tensors)) or sorted(
        name for name in expected if expected[name].shape != tensors[name].shape
    )
    if wrong:
        raise PlannerError(f"{path} does not fit its own configuration; first differing tensors: {', '.join(wrong[:4])}")
    if any(bool(t.isnan().any()) for t in tensors.values()) or any(
        bool(tensors[name].isinf().any()) for name, _ in model.named_parameters()
    ):
        raise PlannerError(f"{path} holds NaN or infinite weights; it must not drive a robot")
    model.load_state_dict(tensors)
    return model.eval(), json.loads(header.get("card", "{}"))


def complete(model: WorldModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a checkpoint made before calibration, as this version names them.

    Calibration that is missing stays as the new model has it, that is, switched off.
    """
    current = model.state_dict()
    kept = {name: tensor for name, tensor in tensors.items() if name not in RETIRED}
    return {name: current[name] for name in CALIBRATION if name not in kept} | kept


def weights_hash(path: Path) -> str:
    """First 12 hex digits of the sha256 of a file, or of all files in a folder: names the weights in reports.

    Raises:
        PlannerError: there is nothing at ``path``.
    """
    path, found = Path(path), hashlib.sha256()
    if not path.exists():
        raise PlannerError(f"no checkpoint at {path}; name one that is there")
    for part in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        with part.open("rb") as file:
            while block := file.read(1 << 22):
                found.update(block)
    return found.hexdigest()[:12]


def shipped_checkpoint(robot: str) -> Path:
    """Path of the compact model that ships for a robot."""
    path = Path(__file__).parent / "checkpoints" / f"compact_{robot}.safetensors"
    if not path.is_file():
        have = sorted(p.name for p in path.parent.glob("*.safetensors")) or ["none"]
        raise PlannerError(f"no checkpoint ships for robot {robot!r} (have: {', '.join(have)}); train one with `./wm train`")
    return path
