"""`./wm bench trust`: false alarms of the trust monitor in nominal episodes, and faults that it notices in time.

For each kind of goal by itself, with the calibration of that kind. Held-out episodes: other seeds than those
of the calibration. An alarm is a step with a p-value below the calibration's slow_below; a fault is noticed
when there is one from the picture on with which it began, within the steps of its row. Faults begin at a
random picture (`sim/faults.py`); where one needs a moving arm or joint, at the next one that shows it moving.
Episodes that alarm before their fault begins stay in the count. Played episodes are kept in --state, and the
same command goes on from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wm_bridge import resources
from wm_bridge.bench.report import BenchResult, percent, wilson
from wm_bridge.bench.trust_episodes import WITHIN, Episode, Player, add_player_arguments, collected, setup_of
from wm_bridge.core.types import FloatArray
from wm_bridge.errors import UserError
from wm_planner.trust.calibration import Calibration, episode_scores, scaled_scores
from wm_planner.trust.scores import SCORES, Scorer
from wm_planner.trust.store import Calibrations, trust_path

Table = list[tuple[str, str]]
Figures = dict[str, float]


def judged(episodes: Sequence[Episode], calibration: Calibration) -> list[FloatArray]:
    """(T, K) scaled scores of each episode."""
    scorer = Scorer(calibration.usual)
    raw = [episode_scores(scorer, episode.steps) for episode in episodes]
    return [scaled_scores(scores, calibration.centre, calibration.spread) for scores in raw]


def p_values(scaled: FloatArray, calibration: Calibration) -> FloatArray:
    """(T,) of scaled scores (T, K)."""
    return np.array([calibration.p_value(score) for score in scaled.max(1)])


def noticed_after(p: FloatArray, episode: Episode, within: int, alpha: float) -> int:
    """Steps from the first wrong picture to the first alarm, that one being 1; 0 = not within ``within``."""
    late = np.flatnonzero(p[episode.begun : episode.begun + within] < alpha)
    return int(late[0]) + 1 if len(late) else 0


def threshold_of_one(scaled: Sequence[FloatArray], alpha: float = 0.05) -> FloatArray:
    """(K,) what each score by itself exceeds in a share ``alpha`` of these nominal episodes."""
    return np.quantile([s.max(0) for s in scaled], 1.0 - alpha, axis=0, method="higher")


def false_alarms(kind: str, nominal: Sequence[FloatArray], calibration: Calibration) -> tuple[Figures, Table]:
    """Of nominal episodes, and by which score."""
    figures: Figures = {f"{kind}_episodes": len(nominal), f"{kind}_calibration_episodes": len(calibration.maxima)}
    table: Table = []
    lowest = np.array([p_values(s, calibration).min() for s in nominal])
    for name, alpha in (("false_alarms", calibration.slow_below), ("false_stops", calibration.stop_below)):
        count = int((lowest < alpha).sum())
        figures[f"{kind}_{name}"] = count / len(nominal)
        table.append((f"{kind}: nominal episodes with p < {alpha:g}", percent(count, len(nominal))))
    steps = np.concatenate([p_values(s, calibration) < calibration.slow_below for s in nominal])
    figures[f"{kind}_false_alarm_steps"] = float(steps.mean())
    table.append((f"{kind}: nominal steps with an alarm", f"{100 * steps.mean():.2f} % of {len(steps)}"))
    return figures, table


def noticed(kind: str, fault: str, faulty: Sequence[Episode], nominal: Sequence[FloatArray], calibration: Calibration) -> tuple[Figures, Table]:
    """How many of the episodes with a fault alarm in time, and by which score."""
    within, alone = WITHIN[fault], threshold_of_one(nominal)
    found = judged(faulty, calibration)
    after = np.array([noticed_after(p_values(s, calibration), e, within, calibration.slow_below) for s, e in zip(found, faulty, strict=True)])
    count, name = int((after > 0).sum()), f"{kind}_{fault.replace(' ', '_')}"
    median = float(np.median(after[after > 0])) if count else float("nan")
    each = [np.mean([(s[e.begun : e.begun + within, k] > alone[k]).any() for s, e in zip(found, faulty, strict=True)]) for k in range(len(SCORES))]
    words = ", ".join(f"{score} {100 * share:.0f}" for score, share in zip(SCORES, each, strict=True) if share >= 0.005)
    table = [
        (f"{kind}, {fault}: noticed within {within} steps", f"{percent(count, len(after))}, median {median:.0f}"),
        ("... by one score alone, as many false alarms, %", words or "none"),
    ]
    return {name: count / len(after), f"{name}_low": wilson(count, len(after))[0], f"{name}_steps": median}, table


def main(argv: list[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="wm bench trust", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_player_arguments(parser)
    parser.add_argument("--episodes", type=int, default=300, help="nominal episodes of each kind (default 300)")
    parser.add_argument("--faulty", type=int, default=60, help="episodes of each kind with each fault (default 60; 0: none)")
    parser.add_argument("--seed", type=int, default=6000, help="of the episodes (the calibration's is another)")
    parser.add_argument("--calibration", type=Path, help="default: beside the checkpoint")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args(argv)
    if args.episodes < 1 or args.faulty < 0:
        raise UserError(f"--episodes {args.episodes} and --faulty {args.faulty} must be at least 1 and 0", "name larger numbers", 2)
    player, folder = Player(args.robot, setup_of(args)), args.state or resources.root() / "runs" / "trust"
    calibrations = Calibrations.load(args.calibration or trust_path(player.checkpoint), player.subject)
    figures: Figures = {}
    table: Table = []
    spent, steps = 0.0, 0
    for kind in args.goals or calibrations.kinds:
        if kind not in calibrations.kinds:
            raise UserError(f"there is no calibration for {kind} goals", f"./wm calibrate-trust --goals {kind}", 2)
        calibration = calibrations.kinds[kind]
        episodes = collected(folder, player, kind, [""], args.seed, args.episodes)[""]
        begin = time.process_time()
        nominal = judged(episodes, calibration)
        spent, steps = spent + time.process_time() - begin, steps + sum(map(len, nominal))
        parts = [false_alarms(kind, nominal, calibration)]
        faulty = collected(folder, player, kind, list(WITHIN) if args.faulty else [], args.seed, args.faulty)
        parts += [noticed(kind, fault, faulty[fault], nominal, calibration) for fault in faulty]
        for more, rows in parts:
            figures |= more
            table += rows
    figures["score_ms"] = 1e3 * spent / steps
    table.append(("time of the scores per plan, without the model's", f"{figures['score_ms']:.2f} ms of one thread"))
    BenchResult("trust", args.seed, player.planner.name, figures, table).show(args.json)
    return 0
