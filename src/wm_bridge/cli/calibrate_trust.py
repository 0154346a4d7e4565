"""`./wm calibrate-trust`: what is usual for a robot, its camera and a model, and which scores are not.

From recorded runs of the graph (`--bags`), or from simulated reaching and pushing. Simulated episodes
are kept in --state, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wm_bridge import resources
from wm_bridge.bench.reach import default_checkpoint, planner_config
from wm_bridge.bench.trust_episodes import Player, collected, simulated_subject
from wm_bridge.cli.trust_bags import episodes_of
from wm_bridge.core.subject import robot_subject
from wm_bridge.errors import UserError
from wm_planner.errors import PlannerError
from wm_planner.trust.calibration import Calibration, Episode, Subject, calibrate, trust_path
from wm_planner.weights import load_model, weights_hash


def from_bags(bags: Sequence[Path], checkpoint: Path, robot: str) -> tuple[list[Episode], Subject]:
    """All goals of some bags, and what they hold for.

    Raises:
        UserError: bags of different cameras, or of a simulated and a real robot.
    """
    model, _ = load_model(checkpoint)
    found = [episodes_of(bag, model) for bag in tqdm(bags, unit="bag")]
    kinds = {(one.camera, one.simulated) for one in found}
    if len(kinds) != 1:
        raise UserError(f"the bags show different cameras or robots: {sorted(kinds)}", "calibrate each by itself", 2)
    camera, simulated = kinds.pop()
    return [e for one in found for e in one.episodes], Subject(robot_subject(robot, simulated), camera, weights_hash(checkpoint))


def plot(calibration: Calibration, path: Path) -> None:
    """Histogram of the largest scores of the episodes, and the two thresholds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    maxima = calibration.maxima
    axes.hist(maxima, bins=40, color="0.7")
    for alpha, colour, word in ((calibration.slow_below, "tab:orange", "slow"), (calibration.stop_below, "tab:red", "stop")):
        limit = threshold(maxima, alpha)
        axes.axvline(limit, color=colour, label=f"{word}: p < {alpha:g}, score > {limit:.2f}")
    axes.set_xlabel("largest scaled score of an episode")
    axes.set_ylabel("episodes")
    axes.set_title(f"{calibration.subject.robot}, {calibration.subject.camera}, {len(maxima)} episodes")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def threshold(maxima: np.ndarray, alpha: float) -> float:
    """Scores above this have a p-value below ``alpha``."""
    most = int(np.ceil(alpha * (len(maxima) + 1) - 1e-9)) - 1  # that (1 + number beyond) may be
    return float(maxima[len(maxima) - most])


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="./wm calibrate-trust", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bags", type=Path, nargs="+", help="bags of nominal runs; without: simulated episodes")
    parser.add_argument("--robot", default="nico", help="name in config/robots (default nico)")
    parser.add_argument("--episodes", type=int, default=260, help="simulated episodes (default 260: 208 give p-values)")
    parser.add_argument("--seed", type=int, default=2000, help="of the episodes and of their split")
    parser.add_argument("--alpha", type=float, default=0.05, help="share of nominal episodes in which the arm may become slow")
    parser.add_argument("--stop-alpha", type=float, default=0.01, help="... and in which it may stop")
    parser.add_argument("--checkpoint", type=Path, help="world model (default: the one that ships)")
    parser.add_argument("--planner", type=Path, help="YAML with PlannerConfig keys")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override a planner setting")
    parser.add_argument("--state", type=Path, help="simulated episodes (default: runs/trust)")
    parser.add_argument("--out", type=Path, help="the calibration (default: beside the checkpoint)")
    parser.add_argument("--plot", type=Path, help="also draw the scores of the episodes")
    args = parser.parse_args(argv)
    checkpoint = default_checkpoint(args)
    try:
        model, _ = load_model(checkpoint)
        if args.bags:
            episodes, subject = from_bags(args.bags, checkpoint, args.robot)
            made: dict[str, object] = {"from": f"{len(args.bags)} bags"}
        else:
            player = Player(args.robot, checkpoint, planner_config(args))
            folder = args.state or resources.root() / "runs" / "trust"
            played = collected(folder, player, [""], args.seed, args.episodes)[""]
            episodes, subject = [episode.steps for episode in played], simulated_subject(args.robot, checkpoint)
            made = {"from": "simulation", "seed": args.seed}
        calibration = calibrate(model, episodes, subject, args.seed, args.alpha, args.stop_alpha, made)
    except PlannerError as error:
        raise UserError(str(error), "see ./wm calibrate-trust --help", 2) from error
    out = args.out or trust_path(checkpoint)
    calibration.save(out)
    print(f"{len(episodes)} episodes of {subject.robot}, {subject.camera}, weights {subject.weights}; {len(calibration.maxima)} give p-values")
    for alpha, word in ((args.alpha, "slow"), (args.stop_alpha, "stop")):
        print(f"{word}: p < {alpha:g}, that is a score above {threshold(calibration.maxima, alpha):.2f}")
    print(f"wrote {out}")
    if args.plot:
        plot(calibration, args.plot)
        print(f"wrote {args.plot}")
    return 0
