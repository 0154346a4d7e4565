"""One form for all benchmark results: a table for people, JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wm_bridge.report.about import machine, made
from wm_bridge.report.runs import plain

_KEPT = 1000  # samples of each kind in the JSON form


def wilson(successes: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a success rate (Wilson 1927), both ends in 0..1; (0, 1) for no trials."""
    if count == 0:
        return 0.0, 1.0
    rate = successes / count
    centre = rate + z * z / (2 * count)
    spread = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def percent(successes: int, count: int) -> str:
    """Rate with its interval, for tables."""
    low, high = wilson(successes, count)
    rate = 100 * successes / count if count else math.nan
    return f"{rate:.1f} % ({100 * low:.0f}-{100 * high:.0f}, n={count})"


@dataclass(frozen=True)
class BenchResult:
    """What one benchmark found.

    Attributes:
        bench: its name. seed: of the episodes. weights: hash of the checkpoint, "" for none.
        figures: numbers by name. rows: (what, value) lines of the printed table.
        samples: what the figures were made from, for curves; the name ends with the unit: ``planning call, ms``.
    """

    bench: str
    seed: int
    weights: str
    figures: Mapping[str, float]
    rows: Sequence[tuple[str, str]] = field(default_factory=tuple)
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The documented JSON form."""
        return {
            "kind": "bench",
            "bench": self.bench,
            "seed": self.seed,
            "weights": self.weights,
            "figures": plain(self.figures),
            "rows": [list(row) for row in self.rows],
            "samples": {name: _spread(values) for name, values in self.samples.items()},
            **made({}),
        }

    def show(self, json_path: Path | None = None) -> None:
        """Print the table; write the JSON when asked."""
        width = max((len(name) for name, _ in self.rows), default=10)
        print(f"\n{self.bench}  (seed {self.seed}, weights {self.weights or '-'}, {machine()})")
        for name, value in self.rows:
            print(f"  {name:<{width}}  {value}")
        if json_path:
            json_path.parent.mkdir(parents=True, exist_ok=True)
            json_path.write_text(json.dumps(self.as_json(), indent=1) + "\n")
            print(f"wrote {json_path}")


def _spread(values: Sequence[float]) -> list[float]:
    """Sorted finite values, at most ``_KEPT`` of them, evenly chosen with both ends."""
    ordered = sorted(float(value) for value in values if math.isfinite(value))
    if len(ordered) <= _KEPT:
        return ordered
    return [ordered[round(k * (len(ordered) - 1) / (_KEPT - 1))] for k in range(_KEPT)]
