"""`./wm runs`: what was run here, the newest first; `./wm runs show X`, `./wm runs compare A B`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wm_bridge.errors import UserError
from wm_bridge.report.runs import FOLDERS, Run, find, pick, plain

_SHOWN = 3  # figures in the list
_DULL = ("goals", "episodes", "calls")


def main(argv: list[str]) -> int:
    """Run the command."""
    args = _parse(argv)
    wanted = {"list": 0, "show": 1, "compare": 2}[args.what]
    if len(args.names) != wanted:
        raise UserError(f"./wm runs {args.what} takes {wanted} names, got {len(args.names)}", "./wm runs --help", 2)
    runs, others = find(args.folder or FOLDERS)
    chosen = [pick(runs, name) for name in args.names]
    if args.json:
        print(json.dumps(plain(_data(args.what, chosen or runs)), indent=1))
        return 0
    if args.what == "list":
        _list(runs, others, args.all)
    elif args.what == "show":
        _show(chosen[0])
    else:
        _compare(*chosen)
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./wm runs", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("list", "show", "compare"), default="list", help="(default: list)")
    parser.add_argument("names", nargs="*", metavar="RUN", help="folder, its name or part of it, or `last`")
    parser.add_argument("--folder", type=Path, action="append", metavar="DIR", help="where runs lie (default: runs and outputs)")
    parser.add_argument("--all", action="store_true", help="list more than the newest 30")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser.parse_args(argv)


def _list(runs: list[Run], others: list[str], everything: bool) -> None:
    shown = runs if everything else runs[:30]
    rows = [(f"{run.date.astimezone():%Y-%m-%d %H:%M}", f"{run.kind} {run.name}".strip(), str(run.folder), _short(run), run.facts.get("git", "")) for run in shown]
    if not rows:
        print("no run yet; ./wm demo, ./wm bench, ./wm train and ./wm replay leave some")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
    if len(runs) > len(shown):
        print(f"and {len(runs) - len(shown)} older ones: --all")
    for line in others:
        print(f"! {line}")


def _show(run: Run) -> None:
    print(f"{run.folder}  {run.kind} {run.name}".rstrip() + f"  {run.date.astimezone():%Y-%m-%d %H:%M:%S}")
    if run.outcome:
        print(run.outcome)
    for title, lines in (("", run.facts), ("figures", {k: _number(v) for k, v in run.figures.items()}), ("configuration", run.configuration), ("versions", run.versions)):
        if lines:
            width = max(map(len, lines))
            print("\n".join([title] * bool(title) + [f"  {name:<{width}}  {text}" for name, text in lines.items()]))
    kept = sorted(path.name + "/" * path.is_dir() for path in run.folder.iterdir())
    print(f"kept     {', '.join(kept)}")
    if run.page is not None:
        print(f"page     {run.page.resolve().as_uri()}")


def _compare(a: Run, b: Run) -> None:
    print(f"A = {a.folder}  {a.kind} {a.name}  {a.outcome}\nB = {b.folder}  {b.kind} {b.name}  {b.outcome}")
    names = [*a.figures, *(name for name in b.figures if name not in a.figures)]
    if names:
        width = max(map(len, names))
        print(f"  {'figure':<{width}}  {'A':>11}  {'B':>11}  {'B - A':>11}")
    for name in names:
        first, second = a.figures.get(name), b.figures.get(name)
        change = "" if first is None or second is None else f"{second - first:+.5g}"
        print(f"  {name:<{width}}  {_number(first):>11}  {_number(second):>11}  {change:>11}".rstrip())
    for title, one, other in _parts(a, b):
        lines = differences(one, other)
        if lines:
            print(f"{title} differs:")
            for name, (first, second) in lines.items():
                print(f"  {name}: {first} -> {second}")
        elif one and other:
            print(f"{title}: the same")
        elif one or other:
            print(f"{title}: {'A' if not one else 'B'} does not say")


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Lines that differ, by name; "none" where one side has no such line. Empty when a side says nothing at all."""
    if not a or not b:
        return {}
    return {name: (a.get(name, "none"), b.get(name, "none")) for name in {**a, **b} if a.get(name) != b.get(name)}


def _parts(a: Run, b: Run) -> tuple[tuple[str, Mapping[str, str], Mapping[str, str]], ...]:
    return (("run", a.facts, b.facts), ("configuration", a.configuration, b.configuration), ("versions", a.versions, b.versions))


def _short(run: Run) -> str:
    told = [f"{name} {_number(value)}" for name, value in run.figures.items() if name not in _DULL and (run.kind != "demo" or name != "reached")]
    return "; ".join(filter(None, [run.outcome.splitlines()[0] if run.outcome else "", ", ".join(told[:_SHOWN])]))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < 1e4 or value % 1 else f"{value:.0f}"


def _data(what: str, runs: list[Run]) -> Any:
    if what == "compare":
        a, b = runs
        return {"a": _fields(a), "b": _fields(b), "differences": {title: differences(one, other) for title, one, other in _parts(a, b)}}
    found = [_fields(run) for run in runs]
    return found if what == "list" else found[0]


def _fields(run: Run) -> dict[str, Any]:
    return {
        "folder": run.folder, "kind": run.kind, "name": run.name, "date": run.date.isoformat(), "outcome": run.outcome, "page": run.page,
        **run.facts, "figures": run.figures, "configuration": run.configuration, "versions": run.versions,
    }  # fmt: skip
