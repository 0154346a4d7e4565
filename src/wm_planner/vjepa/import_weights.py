"""`./wm import-weights FILE`: check published V-JEPA weights and convert them to safetensors, offline."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from wm_planner.config import config_from_mapping
from wm_planner.errors import PlannerError
from wm_planner.vjepa import official, pretrained, store
from wm_planner.vjepa.config import PUBLISHED_MODELS, ACConfig, EncoderConfig, Published
from wm_planner.vjepa.layout import check
from wm_planner.vjepa.predictor import ACPredictor
from wm_planner.vjepa.vit import VisionTransformer

PRECISIONS = {"keep": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


def expected_encoder(config: EncoderConfig) -> dict[str, Tensor]:
    """Published names and shapes of an encoder, on the meta device."""
    if config.kind == "vjepa2":
        return pretrained.from_transformers(pretrained.empty_vjepa2(config).state_dict())
    with torch.device("meta"):
        return dict(VisionTransformer(config).state_dict())


def expected_predictor(config: ACConfig) -> dict[str, Tensor]:
    """Published names and shapes of an AC predictor, on the meta device."""
    with torch.device("meta"):
        return dict(ACPredictor(config).state_dict())


def read_published(path: Path, model: Published, quiet: bool = False) -> official.Checkpoint:
    """Open a published file and check that it is what ``model`` says."""
    parts = (model.encoder_key, "predictor") if model.predictor else (model.encoder_key,)
    size = path.stat().st_size if path.is_file() else 0
    with bar(size, "sha256", quiet) as progress:
        found = official.read(path, parts, progress.update)
    check(found.parts[model.encoder_key], expected_encoder(model.encoder), f"{path.name}, {model.encoder_key}")
    if model.predictor:
        check(found.parts["predictor"], expected_predictor(model.predictor), f"{path.name}, predictor")
    return found


def bar(total: int, title: str, quiet: bool) -> Any:
    """A progress bar in bytes."""
    return tqdm(total=total, desc=title, unit="B", unit_scale=True, disable=quiet)


def card(found: official.Checkpoint, name: str, model: Published) -> dict[str, Any]:
    """What was imported, for people and programs."""
    parts = {
        part: {
            "tensors": len(tensors),
            "parameters": sum(t.numel() for t in tensors.values()),
            "dtypes": dict(Counter(str(t.dtype).removeprefix("torch.") for t in tensors.values())),
        }
        for part, tensors in found.parts.items()
    }
    return {
        "model": name,
        "source_file": found.name,
        "source_bytes": found.size,
        "source_sha256": found.sha256,
        "imported": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "parts": parts,
        "not_imported": list(found.others),
        "rotary": model.predictor.rotary if model.predictor else "corrected",
        "licence": "that of the publisher of the weights; this project has none of them",
    }


def convert(
    found: official.Checkpoint, model: Published, out: Path, text: dict[str, Any], dtype: torch.dtype | None, quiet: bool
) -> None:
    """Write the safetensors file."""
    tensors = {store.ENCODER + name: t for name, t in found.parts[model.encoder_key].items()}
    tensors |= {store.PREDICTOR + name: t for name, t in found.parts.get("predictor", {}).items()}
    header = store.Header(model.predictor, dataclasses.asdict(model.encoder), text)
    total = sum(t.numel() * (dtype or t.dtype).itemsize for t in tensors.values())
    with bar(total, "write", quiet) as progress:
        store.write(out, tensors, header, progress.update, dtype)


def with_shape(model: Published, path: Path | None) -> Published:
    """The model with the shape of a YAML or JSON file (keys encoder, predictor), where one is given."""
    if path is None:
        return model
    import yaml

    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise PlannerError(f"{path} cannot be read as YAML ({error}); give keys encoder and predictor") from error
    encoder = config_from_mapping(EncoderConfig, values.get("encoder", {}), f"{path}, encoder")
    predictor = config_from_mapping(ACConfig, values.get("predictor", {}), f"{path}, predictor")
    return Published(model.encoder_key, encoder, predictor if model.predictor else None)


def main(argv: list[str]) -> int:
    """Import one file."""
    parser = argparse.ArgumentParser(prog="wm import-weights", description=__doc__)
    parser.add_argument("file", type=Path, help="the published .pt file, already on this machine")
    parser.add_argument("--model", choices=PUBLISHED_MODELS, default="vjepa2-ac-vitg", help="what the file is")
    parser.add_argument("--out", type=Path, help="file to write (default: runs/weights/MODEL.safetensors)")
    parser.add_argument("--precision", choices=PRECISIONS, default="keep", help="of the written weights (default keep)")
    parser.add_argument("--config", type=Path, help="shape of a model of another size: YAML with keys encoder, predictor")
    parser.add_argument("--check", action="store_true", help="check and print the card, write nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    args = parser.parse_args(argv)
    model = with_shape(PUBLISHED_MODELS[args.model], args.config)
    found = read_published(args.file, model, args.quiet)
    text = card(found, args.model, model)
    print(json.dumps(text, indent=1))
    if args.check:
        return 0
    out: Path = args.out or Path("runs/weights") / f"{args.model}.safetensors"
    convert(found, model, out, text, PRECISIONS[args.precision], args.quiet)
    out.with_suffix(".json").write_text(json.dumps(text, indent=1) + "\n")
    print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB) and {out.with_suffix('.json')}\nsha256 {official.file_sha256(out)}")
    return 0
