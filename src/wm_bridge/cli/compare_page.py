"""The page of `./wm compare`: all that was measured, with plots, in one file."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_bridge.bench.paired import ClosedLoop, Replays
from wm_bridge.report.sheet import plot, table, write_sheet
from wm_planner.compare import OFFSETS, Scores

_COLOURS = {"A": "tab:blue", "B": "tab:orange"}
Tables = Mapping[str, Sequence[tuple[str, str]]]


def write_page(path: Path, title: str, text: str, tables: Tables, scores: tuple[Scores, Scores] | None, loop: ClosedLoop | None, again: Replays | None) -> None:
    """Write the page: the verdict, then each part with its table and plots."""
    plots = [
        plot(_open_loop(dict(zip("AB", scores, strict=True))), "errors over the horizon, energy landscape") if scores else "",
        plot(_closed_loop(loop), "end distances") if loop is not None else "",
        plot(_replays(again), "energies along the recorded path") if again is not None and again.bags else "",
    ]
    body = [f"<p>{html.escape(title)}</p>"]
    for (name, rows), picture in zip(tables.items(), plots, strict=True):
        if rows:
            body.append(f"<h2>{html.escape(name)}</h2>{table(rows)}{picture}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sheet(path, "Comparison of two checkpoints", [text], body)


def _figure(columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 3.4), layout="constrained")
    return figure, figure.subplots(1, columns)


def _band(axes: Any, x: NDArray[np.float64], rows: NDArray[np.float64], name: str) -> None:
    """Mean over episodes (E, K) with its 95 % interval."""
    mean, spread = rows.mean(0), 1.96 * rows.std(0) / np.sqrt(len(rows))
    axes.plot(x, mean, label=name, color=_COLOURS[name])
    axes.fill_between(x, mean - spread, mean + spread, alpha=0.2, color=_COLOURS[name])


def _open_loop(scores: Mapping[str, Scores]) -> Any:
    figure, (hand, ratio, energy) = _figure(3)
    for name, side in scores.items():
        steps = np.arange(1.0, side.curve_cm.shape[1] + 1)
        _band(hand, steps, side.curve_cm, name)
        _band(ratio, steps, side.curve_ratio, name)
        _band(energy, OFFSETS, side.landscape, name)
    hand.set(xlabel="steps ahead", ylabel="hand predicted to true, cm")
    ratio.set(xlabel="steps ahead", ylabel="latent error / that of no change")
    ratio.axhline(1.0, color="gray", lw=0.6)
    energy.set(xlabel="off the recorded action, share of the box", ylabel="energy above its least")
    energy.axvline(0.0, color="gray", lw=0.6)
    hand.legend()
    return figure


def _closed_loop(loop: ClosedLoop) -> Any:
    figure, (each, all_) = _figure(2)
    a, b = loop.end_cm["A"], loop.end_cm["B"]
    each.loglog(a, b, "o", markersize=4, alpha=0.6)
    span = [0.8 * min(a.min(), b.min()), 1.25 * max(a.max(), b.max())]
    each.plot(span, span, color="gray", lw=0.6)
    for line in (each.axhline, each.axvline):
        line(3.0, color="gray", lw=0.6, ls="--")
    each.set(xlabel="A: largest distance in the last 0.5 s, cm", ylabel="B, cm")
    for name, ends in loop.end_cm.items():
        all_.step(np.sort(ends), np.arange(1, len(ends) + 1) / len(ends), where="post", label=name, color=_COLOURS[name])
    all_.set(xscale="log", xlabel="distance, cm", ylabel="share of goals that end nearer")
    all_.axvline(3.0, color="gray", lw=0.6, ls="--")
    all_.legend()
    return figure


def _replays(again: Replays) -> Any:
    figure, (energy, off) = _figure(2)
    for name, bags in again.rows.items():
        for number, rows in enumerate(bags):
            energy.plot([row.t_s for row in rows], [row.energy for row in rows], ".-", markersize=2, lw=0.8, color=_COLOURS[name], label=name if number == 0 else None)
    energy.set(xlabel="s after the bag's start", ylabel="energy along the recorded path")
    energy.legend()
    for name, values in again.off.items():
        off.plot(np.arange(1, len(values) + 1), values, "o", color=_COLOURS[name], label=name)
    off.set(xlabel="goal", ylabel="1 - cosine to the recorded motion")
    return figure
