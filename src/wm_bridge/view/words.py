"""What the view says in words: Markdown for its panels."""

from __future__ import annotations

import math

from wm_bridge.view.shown import Intervention, NodeHealth, Shown

_LEVELS = ("fine", "**warning**", "**ERROR**")
_ROWS = 6


def state_text(shown: Shown) -> str:
    """Mode of the safety node and why, or that it is not heard."""
    safety = shown.safety
    if safety is None:
        return "## no safety node\nnothing came on `safety/state` yet"
    if safety.silent:
        return f"## SILENT\nno word from the safety node for {safety.age_s:.0f} s; it was {safety.mode}"
    lines = [f"## {safety.mode}", "enabled" if safety.enabled else "**not enabled**"]
    if safety.reasons:
        lines.append(", ".join(safety.reasons))
    if safety.detail:
        lines.append(plain(safety.detail))
    return "\n\n".join(lines)


def numbers_text(shown: Shown) -> str:
    """Distances, trust and latencies."""
    safety, numbers = shown.safety, shown.numbers
    rows = []
    if numbers is not None:
        old = f" ({numbers.age_s:.0f} s ago)" if numbers.age_s > 2.0 else ""
        rows += [
            ("energy", f"{numbers.energy:.3f}{old}"),
            ("to the goal", _number(numbers.distance_m * 100.0, "cm", 1)),
            ("trust", f"{_number(numbers.trust, '', 2)} {numbers.trust_state} {numbers.trust_cause}".strip()),
            ("plan", _number(numbers.plan_ms, "ms", 0)),
        ]
    if safety is not None:
        rows += [
            ("picture to command", _number(safety.source_age_ms, "ms", 0)),
            ("safety tick", _number(safety.filter_us, "us", 0)),
            ("joint to its limit", _number(safety.margin_rad, "rad", 2)),
            ("interventions", f"{safety.interventions} ticks"),
        ]
    return _table(("", ""), rows) if rows else "no plan yet"


def interventions_text(found: tuple[Intervention, ...]) -> str:
    """What the safety node changed or refused last, the newest first."""
    if not found:
        return "no interventions seen"
    rows = [
        (
            item.mode,
            ", ".join(item.reasons) or "-",
            str(item.ticks),
            f"{item.joint} {item.change_rad:.3f} rad" if item.change_rad > 0.0 else "-",
            "-" if math.isnan(item.distance_m) else f"{item.distance_m * 100:.1f} of {item.margin_m * 100:.1f} cm",
        )
        for item in reversed(found[-_ROWS:])
    ]
    return _table(("mode", "reasons", "ticks", "changed", "distance"), rows)


def nodes_text(found: tuple[NodeHealth, ...]) -> str:
    """A row per node: how it is, and its rates."""
    if not found:
        return "nothing came on `/diagnostics` yet"
    rows = []
    for node in sorted(found, key=lambda item: item.name):
        state = _LEVELS[min(max(node.level, 0), 2)] if node.age_s < 5.0 else f"**silent for {node.age_s:.0f} s**"
        rates = ", ".join(f"{name} {value:g} Hz" for name, value in node.rates.items())
        rows.append((node.name, state, plain(node.message), rates or "-"))
    return _table(("node", "", "says", "rates"), rows)


def plain(text: str) -> str:
    """A text of others, without what Markdown or HTML would make of it."""
    for mark in "\\`*_[]<>|#!":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return " ".join(text.split())


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _number(value: float, unit: str, digits: int) -> str:
    return "-" if not math.isfinite(value) else f"{value:.{digits}f} {unit}".strip()
