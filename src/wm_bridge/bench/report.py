"""One form for all benchmark results: a table for people, JSON for programs."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from wm_bridge.resources import git_revision as git_revision


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


def machine() -> str:
    """Processor and core count."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores"


@dataclass(frozen=True)
class BenchResult:
    """What one benchmark found.

    Attributes:
        bench: its name. seed: of the episodes. weights: hash of the checkpoint, "" for none.
        figures: numbers by name. rows: (what, value) lines of the printed table.
    """

    bench: str
    seed: int
    weights: str
    figures: Mapping[str, float]
    rows: Sequence[tuple[str, str]] = field(default_factory=tuple)

    def as_json(self) -> dict[str, Any]:
        """The documented JSON form."""
        return {
            "bench": self.bench,
            "git": git_revision(),
            "seed": self.seed,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": machine(),
            "weights": self.weights,
            "figures": {k: (None if isinstance(v, float) and math.isnan(v) else v) for k, v in self.figures.items()},
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
