"""`./wm bench reach --trust`: what it costs that the safety filter heeds the planner's trust."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from wm_bridge.bench.reach import count
from wm_bridge.bench.report import percent
from wm_bridge.bench.trust_episodes import simulated_subject
from wm_bridge.safety.config import SafetyConfig
from wm_planner.mpc import Planner
from wm_planner.trust.kinds import REACH
from wm_planner.trust.store import Calibrations, trust_path
from wm_planner.weights import weights_hash

Row = dict[str, float]


def calibrations_of(checkpoint: Path) -> Calibrations:
    """Trust calibrations beside a checkpoint, of the simulated robot."""
    return Calibrations.load(trust_path(checkpoint), simulated_subject("nico", weights_hash(checkpoint)))


def heed_trust(planner: Planner, checkpoint: Path, safety: SafetyConfig) -> SafetyConfig:
    """Let a planner judge its steps; gives settings of a safety filter that listens."""
    planner.watch.use(calibrations_of(checkpoint))
    return dataclasses.replace(safety, trust=dataclasses.replace(safety.trust, enabled=True))


def trust_table(checkpoint: Path, plain: list[Row], heeded: list[Row]) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """The same episodes without and with a safety filter that heeds trust."""
    slow_below = calibrations_of(checkpoint).kinds[REACH].slow_below
    figures: dict[str, float] = {"episodes": len(plain)}
    table: list[tuple[str, str]] = []
    for name, rows in (("without", plain), ("with", heeded)):
        for goal in ("3cm", "5cm"):
            figures[f"{name}_{goal}"] = count(rows, f"held_{goal}") / len(rows)
            table.append((f"{name} trust: held < {goal[0]} cm", percent(count(rows, f"held_{goal}"), len(rows))))
        figures[f"{name}_reached_s"] = float(np.nanmedian([row["reached_s"] for row in rows]))
        table.append((f"{name} trust: REACHED after, median", f"{figures[f'{name}_reached_s']:.2f} s ({count(rows, 'reached')} times)"))
    lost, won = (sum(bool(a["held_3cm"]) > bool(b["held_3cm"]) for a, b in zip(*pair, strict=True)) for pair in ((plain, heeded), (heeded, plain)))
    late = [b["reached_s"] - a["reached_s"] for a, b in zip(plain, heeded, strict=True) if a["reached"] and b["reached"]]
    alarms = sum(row["least_trust"] < slow_below for row in heeded)
    figures |= {"lost": lost, "won": won, "later_s": float(np.mean(late)) if late else float("nan"), "alarms": alarms / len(heeded)}
    table += [
        ("3 cm lost with trust, won with trust", f"{lost}, {won} of {len(plain)}"),
        ("REACHED later with trust, mean", f"{figures['later_s']:.2f} s"),
        (f"episodes with p < {slow_below:g}", percent(alarms, len(heeded))),
    ]
    return figures, table
