"""The page of a training: curves of the losses and of the held-out figures, settings, lineage."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wm_bridge.report.about import made
from wm_bridge.report.page import about_sections
from wm_bridge.report.runs import PAGE, write_report
from wm_bridge.report.sheet import plot, table, write_sheet

Columns = Mapping[str, list[float]]


def make(folder: Path, arguments: list[str]) -> Path | None:
    """Write report.json and report.html of what ``./wm train --out FOLDER`` left there; None when there is nothing yet.

    Args:
        arguments: of the command.
    """
    curve, held_out = columns(folder / "curve.csv"), columns(folder / "validation.csv")
    card = read_card(folder / "model.safetensors")
    if not curve and not card:
        return None
    settings = card.get("train", {})
    done, wanted = int(card.get("step") or (curve.get("step") or [0])[-1]), settings.get("steps")
    last = {name: values[-1] for name, values in held_out.items() if name != "step"}
    report = {
        "kind": "training",
        "name": folder.name,
        "outcome": f"step {done}" + (f" of {wanted}" if wanted else ""),
        "figures": {**(card.get("validation") or last), "step": done, "episodes": card.get("episodes", math.nan)},
        "parent": card.get("parent"),
        "data": card.get("data_digest"),
        **made({"arguments": " ".join(arguments), "train": settings}),
    }
    write_report(folder, report)
    page = folder / PAGE
    body = [
        f"<p>{report['outcome']}, {card.get('episodes', 'not known how many')} episodes</p>",
        *(plot(_chart(data), name) for name, data in (("losses", curve), ("held-out figures", held_out)) if data),
        "<h2>Held out</h2>" + table((name, f"{value:.5g}") for name, value in report["figures"].items()),
        "<h2>Run</h2>" + table((name, report[name]) for name in ("date", "git", "machine", "parent", "data") if report[name]),
        *about_sections(report),
    ]
    write_sheet(page, f"Training {folder.name}", [], body)
    return page


def columns(path: Path) -> dict[str, list[float]]:
    """The columns of a CSV file of numbers; empty when it is not there; a last line that is cut off is left out."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if all(row.values()) and None not in row]
    return {name: [float(row[name]) for row in rows] for name in rows[0]} if rows else {}


def read_card(path: Path) -> dict[str, Any]:
    """What a checkpoint says about its training; empty when it is not there."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return dict(json.loads((file.metadata() or {}).get("card", "{}")))
    except (OSError, SafetensorError, ValueError):
        return {}


def _chart(data: Columns) -> Any:
    """Every column against the step, in small axes of its own."""
    from matplotlib.figure import Figure

    names = [name for name in data if name not in ("step", "seconds")]
    height = math.ceil(len(names) / 3)
    figure = Figure(figsize=(9.6, 2.0 * height), dpi=90, layout="constrained")
    for axes, name in zip(figure.subplots(height, 3, squeeze=False).flat, names, strict=False):
        axes.plot(data["step"], data[name])
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
    return figure
