"""Reading `vjepa2-ac-vitg.pt` and files like it: offline, strictly, and without running what is in them."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wm_planner.errors import PlannerError
from wm_planner.vjepa.layout import clean

BLOCK = 1 << 22
Tick = Callable[[int], object]  # told how many bytes are done


@dataclass(frozen=True)
class Checkpoint:
    """What a published file holds.

    Attributes:
        name: of the file. sha256: of the file. size: bytes.
        parts: tensors by plain name, for each part asked for that the file has.
        others: names of what else is in the file.
    """

    name: str
    sha256: str
    size: int
    parts: dict[str, dict[str, Tensor]]
    others: tuple[str, ...]


def file_sha256(path: Path, tick: Tick = lambda done: None) -> str:
    """Hex sha256 of a file; ``tick`` is told the bytes of each block read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            tick(len(block))
    return digest.hexdigest()


def read(path: Path, parts: tuple[str, ...], tick: Tick = lambda done: None) -> Checkpoint:
    """Open a published file; the tensors stay on disk until they are used.

    Args:
        path: local file. parts: entries that must be in it, for example ("encoder", "predictor").
        tick: for a progress bar over the hash.

    Raises:
        PlannerError: no such file, not a whole checkpoint, or a part is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise PlannerError(f"no file {path}; download the weights and give the path of the .pt file")
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        raise PlannerError(
            f"{path} ({size / 1e6:.1f} MB) is not a whole PyTorch checkpoint: it is truncated, or another kind of file "
            "(a web page saved by the browser?); download it again and compare size and sha256 with the publisher's"
        )
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0][:200]
        raise PlannerError(
            f"{path} cannot be read as weights alone ({reason}); only files that hold tensors and plain values are "
            "opened: download it again, or ask its author for a file without code"
        ) from error
    if not isinstance(content, dict):
        raise PlannerError(f"{path} holds a {type(content).__name__}, expected a dict with {' and '.join(parts)}")
    absent = [part for part in parts if not isinstance(content.get(part), dict)]
    if absent:
        raise PlannerError(
            f"{path} has no {' and no '.join(absent)}; it holds: {', '.join(sorted(map(str, content))[:8]) or 'nothing'}"
        )
    found = {part: clean(content[part], f"{path.name}, {part}") for part in parts}
    others = tuple(sorted(str(key) for key in content if key not in parts))
    return Checkpoint(path.name, file_sha256(path, tick), size, found, others)
