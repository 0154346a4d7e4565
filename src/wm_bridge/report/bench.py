"""The page of a benchmark: its table, how its samples are spread, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wm_bridge.report.page import about_sections
from wm_bridge.report.sheet import plot, table, write_sheet

_FACTS = ("date", "git", "machine", "seed", "weights", "took_s")


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        report: as ``BenchResult.as_json`` gives it.
    """
    body = [table(report.get("rows", []))]
    by_unit: dict[str, dict[str, list[float]]] = {}
    for name, values in report.get("samples", {}).items():
        if values:
            by_unit.setdefault(name.rpartition(", ")[2], {})[name] = values
    body += [plot(_distributions(samples), f"spread, {unit}") for unit, samples in by_unit.items()]
    body += [
        f"<h2>Figures</h2>{table((name, 'none' if value is None else f'{value:.6g}') for name, value in report['figures'].items())}",
        f"<h2>Run</h2>{table((name, report[name]) for name in _FACTS if report.get(name) not in (None, ''))}",
        *about_sections(report),
    ]
    write_sheet(path, f"wm bench {report['bench']}", [], body)


def _distributions(samples: Mapping[str, Sequence[float]]) -> Any:
    """A figure with the share of values below each value, one curve per name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, values in samples.items():
        ordered = sorted(values)
        axes.step(ordered, [100.0 * (k + 1) / len(ordered) for k in range(len(ordered))], where="post", label=name)
    axes.set(ylabel="% of the values below", ylim=(0, 100))
    axes.legend()
    axes.grid(alpha=0.3)
    return figure
