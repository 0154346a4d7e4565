"""A replay for people: a table in the terminal, and one HTML file with curves."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wm_bridge.errors import UserError
from wm_bridge.replay.golden import Comparison
from wm_bridge.replay.run import Replay
from wm_bridge.replay.summary import Row, Summary
from wm_bridge.report.page import about_sections
from wm_bridge.report.sheet import plot, table, write_sheet

_SHOWN = 20  # events


def lines(replay: Replay, summary: Summary) -> list[tuple[str, str]]:
    """What a replay showed, as rows of a table."""
    n = summary.figures
    compared = int(n["plans_compared"])
    rows = [
        ("recorded", f"{n['recorded_s']:.1f} s, {n['goals']:.0f} goals, {n['pictures']:.0f} pictures, {n['recorded_plans']:.0f} plans"),
        ("planned again", f"{n['plans']:.0f} plans from {n['decisions']:.0f} pictures" + _refusals(summary)),
        ("energy along the recorded path", f"{n['energy_first']:.3f} at the first picture, {n['energy_last']:.3f} at the last"),
    ]
    if compared:
        rows.append(("plans against recorded plans", f"{n['plans_the_same']:.0f} of {compared} the same to the bit; difference {n['difference_rad_p50']:.4f} rad median, {n['difference_rad_max']:.4f} rad largest"))
        if n["recorded_cut_by_deadline"]:
            rows.append(("", f"{n['recorded_cut_by_deadline']:.0f} recorded plans were late; each search ends after as many iterations as the recorded one"))
    rows += [
        ("planned against recorded motion", f"cosine {n['cosine_p50']:.2f} median (1 = the same direction)"),
        ("planning call", f"{n['plan_ms_p50']:.0f} ms median, {n['plan_ms_p99']:.0f} ms p99"),
        ("trust", f"least p-value {n['trust_least']:.3f}"),
    ]
    if replay.guarded.reports:
        again = "the same, bit for bit" if not n["safety_different"] else f"{n['safety_different']:.0f} answers differ"
        rows += [
            ("recorded safety filter again", f"{n['safety_ticks']:.0f} ticks: {again}"),
            ("of the new plans", f"{n['safety_changed']:.0f} ticks changed; " + (", ".join(f"{name} in {count}" for name, count in list(summary.reasons.items())[:6]) or "nothing")),
            ("would have stopped the arm", f"{n['would_have_stopped']:.0f} plans (the recorded run stopped in {n['recorded_stops']:.0f})"),
        ]
    rows.append(("speed", f"{n['speed']:.1f} x recorded time; {n['plan_speed']:.2f} x while a goal is pursued"))
    return rows


def text(replay: Replay, summary: Summary) -> str:
    """The table, and what is to be known."""
    rows = lines(replay, summary)
    width = max(len(name) for name, _ in rows)
    told = [f"! {note}" for note in replay.notes]
    return "\n".join([*told, *(f"{name:<{width}}  {value}" for name, value in rows), *(f"  {event}" for event in _events(summary))])


def body(replay: Replay, summary: Summary, comparison: Comparison | None = None) -> list[str]:
    """The parts of the page of a replay, HTML."""
    parts = [table(lines(replay, summary)), plot(_chart(summary), "curves")]
    events = _events(summary)
    parts.append("<h2>Events</h2>" + ("".join(f"<p>{html.escape(event)}</p>" for event in events) or "<p>The safety filter would have stopped no plan that the recorded run did not stop.</p>"))
    if comparison is not None:
        parts.append(f"<h2>Golden file</h2><pre>{html.escape(str(comparison))}</pre>")
    return [*parts, "<h2>Planner</h2>" + table((name, value) for name, value in replay.planner.items())]


def write_html(path: Path, report: Mapping[str, Any], notes: Sequence[str], parts: Sequence[str]) -> None:
    """Write the page of a replay; ``report`` is what its report.json says.

    Raises:
        UserError: it cannot be written.
    """
    facts = table((name, report[name]) for name in ("outcome", "bag", "date", "git", "machine"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sheet(path, f"Replay of {report['name']}", notes, [*parts, f"<h2>Run</h2>{facts}", *about_sections(report)])
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", "name a writable place: --html", 2) from error


def _refusals(summary: Summary) -> str:
    if not summary.refused:
        return ""
    return "; not planned from: " + ", ".join(f"{count}x {why}" for why, count in list(summary.refused.items())[:4])


def _events(summary: Summary) -> list[str]:
    found = [_event(row) for row in summary.rows if row.stops != row.stopped]
    return found[:_SHOWN] + ([f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else [])


def _event(row: Row) -> str:
    what = "would have stopped" if row.stops else "would not have stopped, the recorded run did"
    return f"{row.t_s:.2f} s, goal {row.goal}: {what}: {', '.join(row.reasons)} {row.detail}".rstrip()


def _chart(summary: Summary) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    t = [row.t_s for row in summary.rows]
    shown = (
        (axes[0, 0], "energy of the picture", (("recorded", "recorded_energy", "tab:gray"), ("now", "energy", "tab:orange"))),
        (axes[0, 1], "largest difference of a way point, rad", (("now - recorded", "difference_rad", "tab:red"),)),
        (axes[1, 0], "trust (p-value)", (("recorded", "recorded_trust", "tab:gray"), ("now", "trust", "tab:orange"))),
        (axes[1, 1], "ms", (("picture to trajectory, recorded", "recorded_ms", "tab:gray"), ("planning call, now", "plan_ms", "tab:orange"))),
    )
    for place, label, curves in shown:
        for name, key, colour in curves:
            place.plot(t, [getattr(row, key) for row in summary.rows], ".-", label=name, color=colour, markersize=3, linewidth=1)
        for row in summary.rows:
            if row.stops and not row.stopped:
                place.axvline(row.t_s, color="tab:red", alpha=0.3)
        place.set_ylabel(label)
        place.grid(alpha=0.3)
        place.legend(fontsize=8)
    for place in axes[1]:
        place.set_xlabel("s after the bag's start")
    return figure
