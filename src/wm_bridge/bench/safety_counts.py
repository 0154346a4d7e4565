"""Long counts of the safety filter, chunk by chunk: what is done is kept, and an interrupted run goes on.

Every chunk has its own random numbers, from the seed and its place, so the sum does not depend on
where a run was interrupted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wm_bridge import resources
from wm_bridge.bench.safety_loop import CoalDistances, SafetyLoop
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.viability import run_random_ticks

PERIODS_S = (0.001, 0.004, 0.01)
_VIABILITY_CHUNK, _LOOP_CHUNK = 10_000_000, 4_000  # ticks
_WALLS_M = (math.inf, 0.1, 0.2)  # room between the arms at home and the walls of the workspace
_LANES = 16, 1000  # random joints of random robots side by side


@dataclass(frozen=True)
class Count:
    """What was found in so many ticks.

    Attributes:
        ticks: done. violations: limits broken, or margins broken at the output or half way to it.
        broken: prepared brakes that break a margin. limited: ticks that changed the request.
        worst: the largest excess over a limit (its unit, or its share), or least room to a margin with
            the sign turned, m. latched: why the filter latched by itself, "" when it never did.
    """

    ticks: int = 0
    violations: int = 0
    broken: int = 0
    limited: int = 0
    worst: float = -math.inf
    latched: str = ""

    def plus(self, other: Count) -> Count:
        """Both together."""
        return Count(
            self.ticks + other.ticks,
            self.violations + other.violations,
            self.broken + other.broken,
            self.limited + other.limited,
            max(self.worst, other.worst),
            self.latched or other.latched,
        )


Chunk = Callable[[np.random.Generator, int, int], Count]  # random numbers, number of the chunk, ticks


def viability(rng: np.random.Generator, number: int, ticks: int) -> Count:
    """Joint ticks of the box alone, against everything a planner could ask for."""
    found = run_random_ticks(rng, ticks, PERIODS_S[number % len(PERIODS_S)], *_LANES)
    return Count(found.ticks, found.violations, worst=max(found.worst))


class ClosedLoop:
    """Ticks of the whole filter: bad messages, things that come and go; coal looks on every tick.

    Args:
        robots: with their settings; each chunk takes the next robot, with one arm or all of them. Two of three
            rounds are inside of walls so near that the arms are held off them.
    """

    def __init__(self, robots: Sequence[tuple[RobotSpec, SafetyConfig]]) -> None:
        self._cases = [
            (spec, config, arms)
            for spec, config in robots
            for arms in dict.fromkeys([tuple(spec.tools)[:1], tuple(spec.tools)])
        ]

    def __call__(self, rng: np.random.Generator, number: int, ticks: int) -> Count:
        """One chunk."""
        spec, config, arms = self._cases[number % len(self._cases)]
        walls = _WALLS_M[number // len(self._cases) % len(_WALLS_M)]
        if walls < math.inf:
            config = dataclasses.replace(config, scene=CoalDistances(spec, config).boxed(spec.home, walls))
        found = SafetyLoop(spec, config, rng, arms).run(ticks, hostile=True)
        return Count(found.ticks, found.breaches, found.broken_certificates, found.limited, -found.least_room_m, found.latched)


def _code() -> str:
    """Hash of what the counts are about: filter, loop, robots and settings."""
    package = Path(__file__).resolve().parents[1]
    files = [Path(__file__), package / "bench" / "safety_loop.py", *(package / "core").glob("*.py"), *(package / "safety").iterdir()]
    for folder, pattern in (("config", "safety*.yaml"), ("config/robots", "*.yaml"), ("urdf", "*.urdf")):
        files += resources.path(folder).glob(pattern)
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


class Ledger:
    """Counts so far in a file; one that was begun with other code, settings or seed is begun anew.

    Args:
        path: of the file; None keeps nothing.
        seed: of everything random.
    """

    def __init__(self, path: Path | None, seed: int) -> None:
        self._path, self._seed = path, seed
        self._head = {"code": _code(), "seed": seed}
        self._kept: dict[str, Any] = {}
        if path is not None and path.is_file():
            kept = json.loads(path.read_text())
            if {key: kept.get(key) for key in self._head} == self._head:
                self._kept = kept["counts"]

    def count(self, name: str, work: Chunk, ticks: int, chunk: int) -> Count:
        """Go on until so many ticks are done, with a progress bar."""
        kept = self._kept.get(f"{name} by {chunk}", {"chunks": 0, "found": {}})
        done, found = int(kept["chunks"]), Count(**kept["found"])
        with tqdm(total=ticks, initial=min(found.ticks, ticks), unit="tick", unit_scale=True, desc=name, mininterval=1.0) as bar:
            while found.ticks < ticks:
                size = min(chunk, ticks - found.ticks)
                key = int.from_bytes(name.encode()[:4], "little")
                part = work(np.random.default_rng([self._seed, key, done]), done, size)
                found, done = found.plus(part), done + 1
                self._kept[f"{name} by {chunk}"] = {"chunks": done, "found": dataclasses.asdict(found)}
                self._write()
                bar.update(min(part.ticks, size))
        return found

    def viability(self, ticks: int) -> Count:
        """Joint ticks of the box."""
        return self.count("viability", viability, ticks, _VIABILITY_CHUNK)

    def closed_loop(self, robots: Sequence[tuple[RobotSpec, SafetyConfig]], ticks: int) -> Count:
        """Ticks of the whole filter."""
        cases = ClosedLoop(robots)
        chunk = min(_LOOP_CHUNK, -(-ticks // len(cases._cases)))
        return self.count("closed loop", cases, ticks, chunk)

    def _write(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps({**self._head, "counts": self._kept}, indent=1) + "\n")
            fresh.replace(self._path)
