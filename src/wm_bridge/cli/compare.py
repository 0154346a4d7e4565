"""`./wm compare A B`: which of two checkpoints is better, before the new one moves an arm.

    --data FOLDER     the same held-out episodes (./wm dataset: FOLDER/windows): predictions, and where the planner's energy is least
    --closed-loop N   the same N starts and goals in simulation, with the safety filter
    --bags BAG ...    the same recorded goals, planned again

Everything is paired; intervals are 95 %. A verdict is given only where they allow one and no figure speaks against it: exit code
0 = A or B is better, 4 = no verdict. --html writes one page with plots.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from wm_bridge.bench.paired import ClosedLoop, Replays, closed_loop, replays
from wm_bridge.bench.reach import planner_config
from wm_bridge.bench.report import percent
from wm_bridge.cli.compare_page import write_page
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_planner.compare import Difference, Paired, Scores, columns, difference, scores_of, verdict
from wm_planner.data import Dataset
from wm_planner.errors import PlannerError
from wm_planner.weights import load_model, weights_hash

NO_VERDICT = 4
SEED = 3000  # of starts and goals that neither training nor another benchmark used


def main(argv: list[str]) -> int:
    """Run the command."""
    args = parse(argv)
    paths = (args.a, args.b)
    try:
        weights = [weights_hash(path) for path in paths]
        scores, rows = open_loop(args) if args.data else (None, {})
        loop = closed_loop(paths, robots.load(args.robot), planner_config(args), args.closed_loop, args.seed) if args.closed_loop else None
    except (PlannerError, FileNotFoundError) as error:
        raise UserError(str(error), "see ./wm compare --help", 2) from error
    again = replays(paths, weights, args.bags) if args.bags else None
    names = [f"{path} ({found})" for path, found in zip(paths, weights, strict=True)]
    deciding: list[Difference | Paired] = [row for name, row in rows.items() if name.startswith("hand")]
    if loop is not None:
        deciding += [loop.success, loop.end]
    if again is not None and again.off_by is not None:
        deciding.append(again.off_by)
    text = verdict(deciding)
    tables = {
        "Predictions on held-out episodes (smaller is better)": [(name, told(row, *(columns(side)[name].mean() for side in scores))) for name, row in rows.items()] if scores else [],
        "Closed loop in simulation": loop_lines(loop, args) if loop is not None else [],
        "Recorded goals planned again": replay_lines(again) if again is not None else [],
    }
    print(f"A = {names[0]}\nB = {names[1]}")
    for title, lines in tables.items():
        if lines:
            width = max(len(name) for name, _ in lines)
            print("\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in lines)]))
    print(text)
    if args.json:
        args.json.write_text(json.dumps(figures(names, text, rows, scores, loop, again), indent=1))
    if args.html:
        write_page(args.html, f"A = {names[0]}, B = {names[1]}", text, tables, scores, loop, again)
    return NO_VERDICT if text.startswith("no verdict") else 0


def open_loop(args: argparse.Namespace) -> tuple[tuple[Scores, Scores], dict[str, Difference]]:
    """Scores of both, and the differences by figure."""
    data = Dataset(args.data)
    a, b = (scores_of(load_model(path)[0], data, args.seed) for path in (args.a, args.b))
    return (a, b), {name: difference(first, second, args.seed) for (name, first), second in zip(columns(a).items(), columns(b).values(), strict=True)}


def told(row: Difference | Paired, a: float, b: float, scale: float = 1.0) -> str:
    """One line of numbers."""
    return f"A {scale * a:8.4f}  B {scale * b:8.4f}  B-A {scale * row.mean:+.4f} ({scale * row.low:+.4f} to {scale * row.high:+.4f}) {row.better and row.better + ' is better'}".rstrip()


def loop_lines(loop: ClosedLoop, args: argparse.Namespace) -> list[tuple[str, str]]:
    """What the closed loop gave."""
    row = loop.success
    return [
        ("goals", f"{row.trials} of {args.robot}, seed {args.seed}"),
        ("hand held within 3 cm, A", percent(row.a, row.trials)),
        ("hand held within 3 cm, B", percent(row.b, row.trials)),
        ("won by one alone", f"A {row.only_a}, B {row.only_b}; p = {row.p:.3f} (McNemar, exact)"),
        ("rate of B less that of A", f"{100 * row.mean:+.1f} % ({100 * row.low:+.1f} to {100 * row.high:+.1f}) {row.better and row.better + ' is better'}".rstrip()),
        ("end distance, mean, cm", told(loop.end, loop.end_cm["A"].mean(), loop.end_cm["B"].mean())),
    ]


def replay_lines(again: Replays) -> list[tuple[str, str]]:
    """What the replays gave."""
    lines = [("bags", ", ".join(again.bags) or "none could be replayed")]
    lines += [(f"left out: {bag}", why.splitlines()[0]) for bag, why in again.failed.items()]
    if again.off_by is not None:
        lines.append(("1 - cosine to the recorded motion, goals", f"{len(again.off['A'])}: " + told(again.off_by, again.off["A"].mean(), again.off["B"].mean())))
        lines.append(("recorded with", ", ".join(sorted(again.recorded_with)) + ("; one of the two: to agree with itself is no merit, so this decides nothing" if again.own else "")))
    if again.stops:
        lines.append(("plans that would have stopped the arm", f"A {again.stops['A']}, B {again.stops['B']}"))
    return lines


def figures(names: list[str], text: str, rows: dict[str, Difference], scores: tuple[Scores, Scores] | None, loop: ClosedLoop | None, again: Replays | None) -> dict[str, Any]:
    """What --json holds."""

    def row(found: Difference | Paired, a: float, b: float) -> dict[str, Any]:
        return {"a": float(a), "b": float(b), "difference": found.mean, "low": found.low, "high": found.high, "better": found.better}

    result: dict[str, Any] = {"a": names[0], "b": names[1], "verdict": text}
    if scores is not None:
        result |= {"episodes": len(scores[0].rank), "figures": {name: row(found, *(columns(side)[name].mean() for side in scores)) for name, found in rows.items()}}
    if loop is not None:
        success = loop.success
        result["closed_loop"] = {
            "trials": success.trials, "only_a": success.only_a, "only_b": success.only_b, "p": success.p,
            "success": row(success, success.a / success.trials, success.b / success.trials),
            "end_cm": row(loop.end, loop.end_cm["A"].mean(), loop.end_cm["B"].mean()),
        }  # fmt: skip
    if again is not None:
        result["replay"] = {"bags": again.bags, "failed": again.failed, "stops": again.stops, "recorded_with": sorted(again.recorded_with)}
        if again.off_by is not None:
            result["replay"]["off"] = row(again.off_by, again.off["A"].mean(), again.off["B"].mean())
    return result


def parse(argv: list[str]) -> argparse.Namespace:
    """Read and check the arguments."""
    parser = argparse.ArgumentParser(prog="./wm compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="A", help="checkpoint, for example the one in use")
    parser.add_argument("b", type=Path, metavar="B", help="checkpoint, for example the new one")
    parser.add_argument("--data", type=Path, nargs="+", help="folders with held-out episodes (./wm dataset: FOLDER/windows)")
    parser.add_argument("--closed-loop", type=int, default=0, metavar="N", help="starts and goals in simulation")
    parser.add_argument("--robot", default="nico", help="simulated for --closed-loop: name or YAML file (default nico)")
    parser.add_argument("--bags", type=Path, nargs="+", help="recordings that neither was trained on")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--html", type=Path, help="write a page with plots here")
    parser.add_argument("--seed", type=int, default=SEED, help="of starts and goals, of the resampling and of the random actions")
    parser.add_argument("--planner", type=Path, help="YAML with PlannerConfig keys")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override a planner setting")
    args = parser.parse_args(argv)
    if not (args.data or args.closed_loop > 0 or args.bags):
        raise UserError("nothing to compare on", "give --data FOLDER, --closed-loop N or --bags BAG", 2)
    return args
