"""Episodes of any length as the fixed-length pieces that training reads at random (`wm_planner.data`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.types import FloatArray, ImageArray

Write = Callable[[int, dict[str, NDArray[Any]], dict[str, Any]], object]


@dataclass
class WindowStore:
    """Collects pieces of ``length`` + 1 samples and writes them as shards.

    Pieces follow each other with one common sample; the last of an episode ends with it. An
    episode that is shorter than a piece gives none.

    Attributes:
        write: (number, arrays, meta) of a shard. meta: common to all shards.
        hand: (T, A) joints -> (T, 3) m. objects: names; where they are is not known (NaN).
    """

    write: Write
    meta: Mapping[str, Any]
    length: int
    hand: Callable[[FloatArray], FloatArray]
    objects: tuple[str, ...] = ()
    per_shard: int = 50
    short: int = 0
    pieces: int = 0
    _waiting: dict[str, list[dict[str, NDArray[Any]]]] = field(default_factory=dict)
    _shards: int = 0

    def add(self, small: ImageArray, position: FloatArray, reference: FloatArray, split: str) -> None:
        """Take an episode: small (T, S, S, 3) uint8, position and reference (T, A) rad; ``split`` training or held_out."""
        span = self.length + 1
        if len(position) < span:
            self.short += 1
            return
        hand = self.hand(position)
        last = len(position) - span
        for begin in sorted({*range(0, last + 1, self.length), last}):
            part = slice(begin, begin + span)
            piece = {"images": small[part], "position": position[part], "reference": reference[part], "hand": hand[part]}
            piece["objects"] = np.full((span, len(self.objects), 3), np.nan)
            self._waiting.setdefault(split, []).append({name: np.asarray(a, np.uint8 if name == "images" else np.float32) for name, a in piece.items()})
            self.pieces += 1
        if len(self._waiting[split]) >= self.per_shard:
            self._flush(split)

    def close(self) -> None:
        """Write what is left."""
        for split in list(self._waiting):
            self._flush(split)

    def _flush(self, split: str) -> None:
        pieces = self._waiting.pop(split, [])
        if pieces:
            arrays = {name: np.stack([piece[name] for piece in pieces]) for name in pieces[0]}
            self.write(self._shards, arrays, {**self.meta, "length": self.length, "objects": list(self.objects), "split": split})
            self._shards += 1
