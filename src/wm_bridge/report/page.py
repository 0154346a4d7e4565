"""report.html: one file with everything in it; only a large video lies beside it."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wm_bridge.report.about import flat
from wm_bridge.report.recording import Recording
from wm_bridge.report.sheet import photo, plot, table, write_sheet
from wm_bridge.report.summary import Curve

S = 1_000_000_000
_LARGEST_VIDEO = 8_000_000  # bytes that are put into the page
_FACTS = ("date", "git", "machine", "seed", "checkpoint", "checkpoint_hash", "start_s", "realtime_factor", "robot")


def write(path: Path, report: Mapping[str, Any], recording: Recording, goals: Sequence[Curve], video: Path | None) -> None:
    """Write the page of a run.

    Args:
        report: what is in report.json. video: shown when it is there, by its name.
    """
    notes = [text for text in (report.get("error"), report.get("bag_note")) if text]
    outcomes = [f"goal {k}: {entry.get('outcome', 'not known')}" for k, entry in enumerate(report.get("goals", []), 1)]
    times = report.get("planning", {})
    summary = ", ".join(outcomes) or "no goal was sent"
    if times.get("plans"):
        summary += f". {times['plans']} plans, {times['plan_ms_p50']:.0f} ms median, {times['plan_ms_p99']:.0f} ms p99"
    links = ['<a href="report.json">report.json</a>', "<code>bag/</code> (mcap)"]
    if video is not None and video.is_file():
        links.insert(0, f'<a href="{html.escape(video.name)}">{html.escape(video.name)}</a>')
    body = [
        f"<p>{html.escape(summary)}</p>",
        _film(video),
        *(_goal(number, report, recording, goal) for number, goal in enumerate(goals)),
        f"<h2>What the safety node did</h2>{_interventions(report.get('interventions', []))}",
        "<p>Ticks of 10 ms while the safety node was enabled. STALE_COMMAND outside of goals is the normal hold between two goals.</p>",
        f"<h2>Run</h2>{table((name, report[name]) for name in _FACTS if report.get(name) is not None)}",
        *about_sections(report),
        f"<p>{' · '.join(links)}</p>",
    ]
    write_sheet(path, f"Run {path.parent.name}", notes, body)


def about_sections(report: Mapping[str, Any]) -> list[str]:
    """Configuration and versions of a report as folded parts of a page."""
    shown = (("Configuration", flat(report.get("configuration"))), ("Versions", flat(report.get("versions"))))
    return [f"<details><summary>{name}</summary>{table(rows.items())}</details>" for name, rows in shown if rows]


def _film(video: Path | None) -> str:
    """The video in the page, so that the file can be passed on alone."""
    if video is None or not video.is_file() or video.stat().st_size > _LARGEST_VIDEO:
        return ""
    return f'<video controls muted width="640" src="data:video/webm;base64,{base64.b64encode(video.read_bytes()).decode()}"></video>'


def _goal(number: int, report: Mapping[str, Any], recording: Recording, goal: Curve) -> str:
    """Start, goal and end picture and the curves of one goal."""
    entries = report.get("goals", [])
    entry = entries[number] if number < len(entries) else {}
    shown = (("start", recording.picture_at(goal.begin_ns)), ("goal", recording.goals[number][1]), ("end", recording.picture_at(goal.end_ns)))
    figures = "".join(
        f"<figure>{photo(picture, name)}<figcaption>{name}</figcaption></figure>"
        for name, picture in shown
        if picture is not None
    )
    rows = [
        ("outcome", f"{entry.get('outcome', 'not known')}: {entry.get('message', '')}"),
        ("duration", _unit(entry.get("duration_s"), "s")),
        ("distance, decoded by the model", _unit(entry.get("decoded_m"), "cm", 100)),
        ("distance, true (for scoring only)", _unit(entry.get("true_m"), "cm", 100)),
        ("distance at the start, true", _unit(entry.get("true_start_m"), "cm", 100)),
    ]
    curves = plot(chart(goal), "curves") if goal.t.size else "<p>No plans.</p>"
    return f"<h2>Goal {number + 1}</h2>{figures}{table(rows)}{curves}"


def chart(goal: Curve) -> Any:
    """Energy and distance against time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(goal.t, goal.energy, color="tab:orange")
    left.set(xlabel="s after the goal", ylabel="energy (current frame)")
    right.plot(goal.t, goal.decoded_m * 100, label="decoded by the model")
    if goal.truth_m.size:
        right.plot(goal.truth_t, goal.truth_m * 100, label="true (scoring only)", color="tab:green")
    right.set(xlabel="s after the goal", ylabel="hand to goal, cm")
    right.set_ylim(bottom=0)
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def _interventions(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>Nothing was changed or refused.</p>"
    head = "<tr><th>reason</th><th>ticks</th><th>during goals</th><th>first at</th><th>worst mode</th><th>largest change</th></tr>"
    body = "".join(
        f"<tr><td>{html.escape(row['reason'])}</td><td>{row['ticks']}</td><td>{row['ticks_during_goals']}</td>"
        f"<td>{row['first_s']:.2f} s</td><td>{html.escape(row['worst_mode'])}</td><td>{row['largest_change_rad']:.4f} rad</td></tr>"
        for row in rows
    )
    return f"<table>{head}{body}</table>"


def _unit(value: Any, unit: str, scale: float = 1.0) -> str:
    good = isinstance(value, (int, float)) and math.isfinite(value)
    return f"{value * scale:.1f} {unit}" if good else "not known"
