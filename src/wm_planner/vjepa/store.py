"""Imported and trained models on disk: safetensors with shape and history in the header, written as a stream."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wm_planner.config import config_from_mapping
from wm_planner.errors import PlannerError
from wm_planner.vjepa.config import ACConfig
from wm_planner.vjepa.layout import check
from wm_planner.vjepa.predictor import ACPredictor

FORMAT = "wm-vjepa-1"
NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
PREDICTOR, ENCODER = "predictor.", "encoder."


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    Attributes:
        predictor: shape of the AC predictor, None when the file holds an encoder alone.
        encoder: settings of the encoder, empty when the file holds a predictor alone.
        card: how it was made.
    """

    predictor: ACConfig | None
    encoder: dict[str, Any]
    card: dict[str, Any]


def write(
    path: Path,
    tensors: Mapping[str, Tensor],
    header: Header,
    tick: Callable[[int], object] = lambda done: None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write one safetensors file, tensor by tensor, under a temporary name until it is whole.

    Args:
        tensors: by name, with "encoder." or "predictor." in front. header: goes into the metadata.
        tick: told the bytes of each tensor written. dtype: of the written weights; None keeps theirs.
    """
    metadata = {
        "format": FORMAT,
        "predictor": json.dumps(dataclasses.asdict(header.predictor) if header.predictor else None, sort_keys=True),
        "encoder": json.dumps(header.encoder, sort_keys=True),
        "card": json.dumps(header.card, sort_keys=True),
    }
    table: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name, tensor in tensors.items():
        kind = dtype or tensor.dtype
        if kind not in NAMES:
            raise PlannerError(f"{name} holds {kind}, expected one of {', '.join(map(str, NAMES))}")
        size = tensor.numel() * kind.itemsize
        table[name] = {"dtype": NAMES[kind], "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            data = tensor.detach().to("cpu", dtype or tensor.dtype).contiguous().flatten().view(torch.uint8).numpy()
            file.write(data.data)
            tick(data.nbytes)
    partial.replace(path)


def read_header(path: Path) -> Header:
    """Shape and history of a file, without its weights."""
    with opened(path) as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise PlannerError(
            f"{path} holds format {metadata.get('format', 'unknown')!r}, expected {FORMAT!r}; "
            "import published weights with `./wm import-weights FILE`"
        )
    shape = json.loads(metadata["predictor"])
    predictor = config_from_mapping(ACConfig, shape, str(path)) if shape else None
    return Header(predictor, json.loads(metadata["encoder"]), json.loads(metadata["card"]))


def is_imported(path: Path) -> bool:
    """True for a file of this format, False for any other safetensors file."""
    with opened(path) as file:
        return bool((file.metadata() or {}).get("format") == FORMAT)


def read_tensors(path: Path, prefix: str) -> dict[str, Tensor]:
    """Tensors whose name begins with ``prefix``, which is taken off."""
    with opened(path) as file:
        return {name[len(prefix) :]: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def load_predictor(path: Path) -> ACPredictor:
    """The AC predictor of an imported or trained file, in float32, checked strictly."""
    header = read_header(path)
    if header.predictor is None:
        raise PlannerError(f"{path} holds an encoder and no predictor; give a file that was imported or trained with one")
    return build_predictor(header.predictor, read_tensors(path, PREDICTOR), f"{path}, predictor")


def build_predictor(config: ACConfig, tensors: Mapping[str, Tensor], source: str) -> ACPredictor:
    """A predictor with these tensors as its float32 weights; names and shapes must fit exactly."""
    with torch.device("meta"):
        model = ACPredictor(config)
    check(tensors, model.state_dict(), source)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return model.eval().requires_grad_(False)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """`safe_open` whose errors say what to do."""
    if not Path(path).is_file():
        raise PlannerError(f"no file {path}; import published weights with `./wm import-weights FILE`")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise PlannerError(f"{path} is not a readable safetensors file ({error}); import it again") from error
