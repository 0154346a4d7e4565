"""The page of a run that has no curves of its own: how it ended, figures, and how it was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wm_bridge.report.about import made
from wm_bridge.report.page import about_sections
from wm_bridge.report.runs import PAGE, write_report
from wm_bridge.report.sheet import table, write_sheet

Rows = Iterable[tuple[object, object]]


def make(
    folder: Path, kind: str, name: str, outcome: str, figures: Mapping[str, Any], configuration: Mapping[str, Any], parts: Mapping[str, Rows] | None = None
) -> Path:
    """Write report.json and report.html; returns the page.

    Args:
        folder: is made. kind: as `./wm runs` lists it. name: of what was made. figures: numbers by name.
        configuration: arguments and settings. parts: further tables by their heading.
    """
    report = {"kind": kind, "name": name, "outcome": outcome, "figures": dict(figures), **made(configuration)}
    write_report(folder, report)
    shown: dict[str, Rows] = {
        "Figures": ((label, f"{value:.6g}") for label, value in figures.items()),
        **(parts or {}),
        "Run": ((label, report[label]) for label in ("date", "git", "machine") if report[label]),
    }
    tables = (f"<h2>{label}</h2>{table(rows)}" for label, given in shown.items() if (rows := list(given)))
    body = [table([("outcome", outcome)]), *tables, *about_sections(report)]
    write_sheet(folder / PAGE, f"{kind.capitalize()} {name}", [], body)
    return folder / PAGE


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those values that are numbers, nested ones as ``outer.inner``."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": number for inner, number in numbers(value).items()}
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = float(value)
    return found
