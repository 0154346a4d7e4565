"""`./wm bench trust`: false alarms of the trust monitor in nominal episodes, and faults that it notices in time.

Held-out episodes: other seeds than those of the calibration. An alarm is a step with a p-value below
the calibration's slow_below; a fault is noticed when there is one from the picture on with which it
began, within the steps of its row. Faults begin at a random picture (`sim/faults.py`); where one needs
a moving arm or joint, at the next one that shows it moving. Episodes that alarm before their fault
begins stay in the count. Played episodes are kept in --state, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wm_bridge import resources
from wm_bridge.bench.reach import add_common_arguments, default_checkpoint, planner_config
from wm_bridge.bench.report import BenchResult, percent, wilson
from wm_bridge.bench.trust_episodes import WITHIN, Episode, Player, collected, simulated_subject
from wm_bridge.core.types import FloatArray
from wm_bridge.sim.faults import FAULTS
from wm_planner.trust.calibration import Calibration, episode_scores, scaled_scores, trust_path
from wm_planner.trust.scores import SCORES, Scorer
from wm_planner.weights import load_model


def judged(episodes: Sequence[Episode], scorer: Scorer, calibration: Calibration) -> list[FloatArray]:
    """(T, K) scaled scores of each episode."""
    raw = [episode_scores(scorer, episode.steps) for episode in episodes]
    return [scaled_scores(scores, calibration.centre, calibration.spread) for scores in raw]


def p_values(scaled: FloatArray, calibration: Calibration) -> FloatArray:
    """(T,) of scaled scores (T, K)."""
    return np.array([calibration.p_value(score) for score in scaled.max(1)])


def noticed_after(p: FloatArray, episode: Episode, within: int, alpha: float) -> int:
    """Steps from the first wrong picture to the first alarm, that one being 1; 0 = not within ``within``."""
    late = np.flatnonzero(p[episode.begun : episode.begun + within] < alpha)
    return int(late[0]) + 1 if len(late) else 0


def main(argv: list[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="wm bench trust", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser, 300, parallel=False, latency=False)
    parser.set_defaults(seed=6000)
    parser.add_argument("--faulty", type=int, default=60, help="episodes with each fault (default 60)")
    parser.add_argument("--calibration", type=Path, help="default: beside the checkpoint")
    parser.add_argument("--state", type=Path, help="played episodes (default: runs/trust)")
    args = parser.parse_args(argv)
    checkpoint = default_checkpoint(args)
    calibration = Calibration.load(args.calibration or trust_path(checkpoint), simulated_subject("nico", checkpoint))
    player, folder = Player("nico", checkpoint, planner_config(args)), args.state or resources.root() / "runs" / "trust"
    nominal = collected(folder, player, [""], args.seed, args.episodes)[""]
    faulty = collected(folder, player, list(FAULTS), args.seed, args.faulty)
    model, _ = load_model(checkpoint)
    scorer = Scorer(model, calibration.usual)
    figures: dict[str, float] = {"episodes": len(nominal), "alpha": calibration.slow_below, "calibration_episodes": len(calibration.maxima)}
    table: list[tuple[str, str]] = []

    begin = time.process_time()
    scaled = judged(nominal, scorer, calibration)
    steps = sum(map(len, scaled))
    figures["score_ms"] = 1e3 * (time.process_time() - begin) / steps
    lowest = np.array([p_values(s, calibration).min() for s in scaled])
    alone = threshold_of_one(scaled)
    for name, alpha in (("false_alarms", calibration.slow_below), ("false_stops", calibration.stop_below)):
        count = int((lowest < alpha).sum())
        figures[name] = count / len(nominal)
        table.append((f"nominal episodes with p < {alpha:g}", percent(count, len(nominal))))
    pushes = np.array([episode.target == "object" for episode in nominal])
    for word, chosen in (("reaching", ~pushes), ("pushing", pushes)):
        table.append((f"... of those {word}", percent(int((lowest[chosen] < calibration.slow_below).sum()), int(chosen.sum()))))
    figures["false_alarm_steps"] = float(np.concatenate([p_values(s, calibration) < calibration.slow_below for s in scaled]).mean())
    table.append(("nominal steps with an alarm", f"{100 * figures['false_alarm_steps']:.2f} % of {steps}"))
    for kind, within in WITHIN.items():
        found = judged(faulty[kind], scorer, calibration)
        after = np.array([noticed_after(p_values(s, calibration), e, within, calibration.slow_below) for s, e in zip(found, faulty[kind], strict=True)])
        name = kind.replace(" ", "_")
        figures[name] = float((after > 0).mean())
        figures[f"{name}_low"] = wilson(int((after > 0).sum()), len(after))[0]
        figures[f"{name}_steps"] = float(np.median(after[after > 0])) if (after > 0).any() else float("nan")
        each = [np.mean([(s[e.begun : e.begun + within, k] > alone[k]).any() for s, e in zip(found, faulty[kind], strict=True)]) for k in range(len(SCORES))]
        words = ", ".join(f"{score} {100 * share:.0f}" for score, share in zip(SCORES, each, strict=True) if share >= 0.005)
        table.append((f"{kind}: noticed within {within} steps", f"{percent(int((after > 0).sum()), len(after))}, median {figures[f'{name}_steps']:.0f}"))
        table.append(("... by one score alone, as many false alarms, %", words or "none"))
    table.append(("time of the scores per plan", f"{figures['score_ms']:.2f} ms of one thread"))
    BenchResult("trust", args.seed, calibration.subject.weights, figures, table).show(args.json)
    return 0


def threshold_of_one(scaled: Sequence[FloatArray], alpha: float = 0.05) -> FloatArray:
    """(K,) what each score by itself exceeds in a share ``alpha`` of these nominal episodes."""
    return np.quantile([s.max(0) for s in scaled], 1.0 - alpha, axis=0)
