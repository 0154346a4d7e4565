"""Folders of runs: each holds a report.json and a page. Reads what any version wrote; what is no run is told, not raised."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from wm_bridge.errors import UserError
from wm_bridge.report.about import flat

FOLDERS = (Path("runs"), Path("outputs"))
REPORT, PAGE = "report.json", "report.html"
_LAST = "last"


@dataclass(frozen=True)
class Run:
    """What a run says about itself.

    Attributes:
        kind: demo, bench, training or replay. name: of the bench, the bag ...; "" = none. date: when it was made.
        outcome: in words. figures: the most telling first. configuration, versions: lines by dotted name.
        facts: git, machine, seed, weights, as text.
    """

    folder: Path
    kind: str
    name: str
    date: datetime
    outcome: str
    figures: Mapping[str, float] = field(default_factory=dict)
    configuration: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def page(self) -> Path | None:
        """Its page, when there is one."""
        page = self.folder / PAGE
        return page if page.is_file() else None


def new_folder(*words: str) -> Path:
    """A folder for a run that begins now, ``runs/DATE-TIME-bench-plan``; it is not there yet."""
    path = Path("runs") / "-".join([time.strftime("%Y%m%d-%H%M%S"), *words])
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{path.name.partition('~')[0]}~{number}")
    return path


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write report.json, strict JSON; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REPORT
    path.write_text(json.dumps(plain(report), indent=1) + "\n", encoding="utf-8")
    return path


def plain(value: Any) -> Any:
    """NaN and infinity as null, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def read(folder: Path) -> Run:
    """Read the report.json of a folder.

    Raises:
        ValueError: it is none of a run, and why.
    """
    path = folder / REPORT
    if not path.is_file():
        raise ValueError(f"no {REPORT}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{REPORT} cannot be read: {error}") from error
    if not text.strip():
        raise ValueError(f"{REPORT} is empty: the run goes on, or was ended by force" + f" (./wm demo --report {folder})" * (folder / "bag").exists())
    try:
        report = json.loads(text)
        return _run(folder, report)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{REPORT} is not of a run: {error}") from error


def find(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """All runs in these folders, the newest first; and a line for each folder in them that is none."""
    runs, others = [], []
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if not path.is_dir():
                continue
            try:
                runs.append(read(path))
            except ValueError as error:
                others.append(f"{path}: {error}")
    return sorted(runs, key=lambda run: (run.date, str(run.folder)), reverse=True), others


def pick(runs: Sequence[Run], word: str) -> Run:
    """The run that a word names: a folder, its name or part of it, or ``last``.

    Raises:
        UserError: none, or several.
    """
    folder = Path(word)
    if (folder / REPORT).is_file():
        try:
            return read(folder)
        except ValueError as error:
            raise UserError(f"{folder}: {error}", "./wm runs lists those that can be shown", 2) from error
    if word == _LAST and runs:
        return runs[0]
    found = [run for run in runs if run.folder.name == word] or [run for run in runs if word in run.folder.name]
    if len(found) != 1:
        what = ", ".join(run.folder.name for run in found[:5]) + ", ..." * (len(found) > 5)
        raise UserError(f"{len(found)} runs are called {word!r}" + f": {what}" * bool(found), "./wm runs lists them; `last` is the newest", 2)
    return found[0]


def _run(folder: Path, report: Mapping[str, Any]) -> Run:
    if not isinstance(report, dict):
        raise ValueError(f"expected an object with names, got {type(report).__name__}")
    kind = report.get("kind") or ("bench" if "bench" in report else "demo" if "goals" in report else "")
    if not kind:
        raise ValueError("it has no kind")
    figures, outcome = report.get("figures"), report.get("outcome", "")
    if kind == "demo":
        figures, outcome = _of_demo(report)
    numbers = {name: float(value) for name, value in (figures or {}).items() if isinstance(value, (int, float))}
    known = ("git", "machine", "seed", "weights", "checkpoint_hash", "robot")
    facts = {name: str(report[name]) for name in known if report.get(name) not in (None, "")}
    name = str(report.get("bench", report.get("name", "")))
    date = datetime.strptime(str(report["date"]), "%Y-%m-%dT%H:%M:%S%z")
    return Run(folder, str(kind), name, date, str(outcome), numbers, flat(report.get("configuration")), flat(report.get("versions")), facts)


def _of_demo(report: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Figures and outcome of ``./wm demo``."""
    goals, planning = report.get("goals", []), report.get("planning", {})
    outcome = ", ".join(str(goal.get("outcome", "?")) for goal in goals) or "no goal"
    reached = sum(goal.get("outcome") == "REACHED" for goal in goals)
    figures: dict[str, Any] = {"reached": reached, "goals": len(goals)}
    for name, key, scale in (("true_cm", "true_m", 100.0), ("duration_s", "duration_s", 1.0), ("decoded_cm", "decoded_m", 100.0)):
        values = [goal[key] * scale for goal in goals if goal.get(key) is not None]
        if values:
            figures[name] = sum(values) / len(values)
    figures |= {name: value for name, value in planning.items() if name != "plans"} | {"start_s": report.get("start_s")}
    return figures, f"{outcome}: {report['error']}" if report.get("error") else outcome
