"""`./wm compare A B --data FOLDER`: which of two checkpoints predicts better on the same held-out episodes.

Figures per episode, paired; the 95 % interval of the difference is a bootstrap over episodes. A verdict is given only
where the intervals allow one: exit code 0 = A or B is better, 4 = no verdict.
"""

from __future__ import annotations

import argparse
import html
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wm_bridge.errors import UserError
from wm_bridge.report.page import table
from wm_bridge.report.sheet import figure_uri, write_sheet
from wm_planner.compare import Difference, Scores, difference, scores_of, verdict
from wm_planner.data import Dataset
from wm_planner.errors import PlannerError
from wm_planner.weights import load_model, weights_hash

NO_VERDICT = 4


def columns(scores: Scores) -> dict[str, NDArray[np.float64]]:
    """Per figure, a value of each episode; smaller is better."""
    found = {f"hand, {h} steps ahead, cm": values for h, values in scores.hand_cm.items()}
    found |= {f"latent error / no change, {h} steps": values for h, values in scores.error_ratio.items()}
    return found | {"rank of the recorded action": scores.rank}


def page(path: Path, title: str, a: Scores, b: Scores, rows: Mapping[str, Difference], text: str) -> None:
    """Curves over the horizon and the differences of the episodes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, scores in (("A", a), ("B", b)):
        mean, spread = scores.curve_cm.mean(0), scores.curve_cm.std(0) / np.sqrt(len(scores.curve_cm))
        steps = np.arange(1, len(mean) + 1)
        left.plot(steps, mean, label=name)
        left.fill_between(steps, mean - 1.96 * spread, mean + 1.96 * spread, alpha=0.2)
    left.set(xlabel="steps ahead", ylabel="hand, cm")
    left.legend()
    last = max(a.hand_cm)
    right.hist(b.hand_cm[last] - a.hand_cm[last], bins=30)
    right.axvline(0.0, color="black")
    right.set(xlabel=f"hand after {last} steps, B less A, cm", ylabel="episodes")
    told = table((name, f"{d.mean:+.4f} ({d.low:+.4f} to {d.high:+.4f}) {d.better and d.better + ' is better'}") for name, d in rows.items())
    write_sheet(path, title, [f"<p class=note>{html.escape(text)}</p>", f'<img src="{figure_uri(figure)}" alt="curves">', "<h2>B less A, per episode</h2>", told])


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="./wm compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="A", help="checkpoint, for example the one in use")
    parser.add_argument("b", type=Path, metavar="B", help="checkpoint, for example the new one")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with held-out episodes (./wm dataset: FOLDER/windows)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--html", type=Path, help="write a page with plots here")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling and of the random actions")
    args = parser.parse_args(argv)
    try:
        data = Dataset(args.data)
        models = [load_model(path)[0] for path in (args.a, args.b)]
        a, b = (scores_of(model, data, args.seed) for model in models)
        rows = {name: difference(first, second, args.seed) for (name, first), second in zip(columns(a).items(), columns(b).values(), strict=True)}
    except PlannerError as error:
        raise UserError(str(error), "see ./wm compare --help", 2) from error
    names = {"A": f"{args.a} ({weights_hash(args.a)})", "B": f"{args.b} ({weights_hash(args.b)})"}
    text = verdict([row for name, row in rows.items() if name.startswith("hand")])
    print(f"A = {names['A']}\nB = {names['B']}\n{len(data.held_out)} held-out episodes; smaller is better")
    for (name, row), first, second in zip(rows.items(), columns(a).values(), columns(b).values(), strict=True):
        print(f"  {name:<36} A {first.mean():8.4f}  B {second.mean():8.4f}  B-A {row.mean:+.4f} ({row.low:+.4f} to {row.high:+.4f}) {row.better and row.better + ' is better'}")
    print(f"by the hand's distance: {text}")
    if args.json:
        figures = {name: {"a": float(first.mean()), "b": float(second.mean()), "difference": row.mean, "low": row.low, "high": row.high, "better": row.better}
                   for (name, row), first, second in zip(rows.items(), columns(a).values(), columns(b).values(), strict=True)}  # fmt: skip
        args.json.write_text(json.dumps({"a": names["A"], "b": names["B"], "episodes": len(data.held_out), "verdict": text, "figures": figures}, indent=1))
    if args.html:
        page(args.html, "Comparison", a, b, rows, f"{text}. A = {names['A']}, B = {names['B']}, {len(data.held_out)} held-out episodes.")
    return NO_VERDICT if text.startswith("no verdict") else 0
