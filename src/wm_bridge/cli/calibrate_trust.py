"""`./wm calibrate-trust`: what is usual for a robot, its camera and a model, and which scores are not.

From recorded runs of the graph (`--bags`), or from simulated goals. Each kind of goal has a calibration of
its own in the file; kinds that are not made now stay as they are in it. Simulated episodes are kept in
--state, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wm_bridge import resources
from wm_bridge.bench.trust_episodes import Player, add_player_arguments, collected, setup_of
from wm_bridge.cli.trust_bags import episodes_of
from wm_bridge.core.subject import robot_subject
from wm_bridge.errors import UserError
from wm_bridge.planner_setup import EquippedPlanner
from wm_bridge.robots import spec as robots
from wm_planner.errors import PlannerError
from wm_planner.trust.calibration import Calibration, Episode, calibrate
from wm_planner.trust.kinds import KINDS
from wm_planner.trust.store import Calibrations, Subject, trust_path

Found = dict[str, list[Episode]]  # by the kind of goal


def from_bags(bags: Sequence[Path], equipped: EquippedPlanner, robot: str) -> tuple[Found, Subject]:
    """All goals of some bags by their kind, and what they hold for.

    Raises:
        UserError: bags of different cameras, or of a simulated and a real robot.
    """
    found = [episodes_of(bag, equipped.planner) for bag in tqdm(bags, unit="bag")]
    seen = {(one.camera, one.simulated) for one in found}
    if len(seen) != 1:
        raise UserError(f"the bags show different cameras or robots: {sorted(seen)}", "calibrate each by itself", 2)
    camera, simulated = seen.pop()
    episodes: Found = {}
    for one in found:
        for kind, steps in one.episodes:
            episodes.setdefault(kind, []).append(steps)
    return episodes, Subject(robot_subject(robot, simulated), camera, equipped.planner.name)


def from_simulation(player: Player, args: argparse.Namespace) -> tuple[Found, Subject]:
    """Nominal episodes of each kind that is asked for, and what they hold for."""
    kinds = args.goals or player.kinds
    unable = [kind for kind in kinds if kind not in player.kinds]
    if unable:
        raise UserError(f"this planner takes no {' or '.join(unable)} goals", f"--goals: {', '.join(player.kinds)}", 2)
    folder = args.state or resources.root() / "runs" / "trust"
    episodes: Found = {}
    for kind in kinds:
        episodes[kind] = [one.steps for one in collected(folder, player, kind, [""], args.seed, args.episodes)[""]]
    return episodes, player.subject


def kept(path: Path, subject: Subject) -> dict[str, Calibration]:
    """What a file holds already for this subject."""
    try:
        return dict(Calibrations.load(path, subject).kinds)
    except PlannerError:
        return {}


def plot(calibrations: Calibrations, path: Path) -> None:
    """Histograms of the largest scores of the episodes, and the two thresholds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(calibrations.kinds)
    figure = Figure(figsize=(7, 1 + 3 * count), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (kind, one) in enumerate(calibrations.kinds.items(), 1):
        axes = figure.add_subplot(count, 1, place)
        axes.hist(one.maxima, bins=40, color="0.7")
        for alpha, colour, word in ((one.slow_below, "tab:orange", "slow"), (one.stop_below, "tab:red", "stop")):
            limit = threshold(one.maxima, alpha)
            axes.axvline(limit, color=colour, label=f"{word}: p < {alpha:g}, score > {limit:.2f}")
        axes.set_xlabel("largest scaled score of an episode")
        axes.set_ylabel("episodes")
        axes.set_title(f"{kind}: {calibrations.subject.robot}, {calibrations.subject.camera}, {len(one.maxima)} episodes")
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def threshold(maxima: np.ndarray, alpha: float) -> float:
    """Scores above this have a p-value below ``alpha``."""
    most = int(np.ceil(alpha * (len(maxima) + 1) - 1e-9)) - 1  # that (1 + number beyond) may be
    return float(maxima[len(maxima) - most])


def calibrated(episodes: Mapping[str, Sequence[Episode]], made: Mapping[str, object], args: argparse.Namespace) -> dict[str, Calibration]:
    """A calibration for each kind with enough episodes; the others are told.

    Raises:
        PlannerError: no kind has enough.
    """
    found: dict[str, Calibration] = {}
    problem = PlannerError("there are no episodes of the asked kinds of goals")
    for kind in sorted(episodes, key=KINDS.index):
        try:
            found[kind] = calibrate(episodes[kind], args.seed, args.alpha, args.stop_alpha, dict(made))
        except PlannerError as error:
            problem = error
            print(f"{kind}: no calibration from {len(episodes[kind])} episodes: {error}")
    if not found:
        raise problem
    return found


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="./wm calibrate-trust", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_player_arguments(parser)
    parser.add_argument("--bags", type=Path, nargs="+", help="bags of nominal runs; without: simulated episodes")
    parser.add_argument("--episodes", type=int, default=500, help="simulated episodes of each kind (default 500: 300 give p-values)")
    parser.add_argument("--seed", type=int, default=2000, help="of the episodes and of their split")
    parser.add_argument("--alpha", type=float, default=0.05, help="share of nominal episodes in which the arm may become slow")
    parser.add_argument("--stop-alpha", type=float, default=0.01, help="... and in which it may stop")
    parser.add_argument("--out", type=Path, help="the calibrations (default: beside the checkpoint)")
    parser.add_argument("--plot", type=Path, help="also draw the scores of the episodes")
    args = parser.parse_args(argv)
    made: dict[str, object]
    try:
        if args.bags:
            equipped = EquippedPlanner(setup_of(args), robots.load(args.robot))
            episodes, subject = from_bags(args.bags, equipped, args.robot)
            episodes = {kind: steps for kind, steps in episodes.items() if kind in (args.goals or KINDS)}
            made, checkpoint = {"from": f"{len(args.bags)} bags"}, equipped.checkpoint
        else:
            player = Player(args.robot, setup_of(args))
            episodes, subject = from_simulation(player, args)
            made, checkpoint = {"from": "simulation", "seed": args.seed}, player.checkpoint
        new = calibrated(episodes, made, args)
    except PlannerError as error:
        raise UserError(str(error), "see ./wm calibrate-trust --help", 2) from error
    out = args.out or trust_path(checkpoint)
    old = kept(out, subject)
    calibrations = Calibrations(subject, old | new)
    calibrations.save(out)
    print(f"{subject.robot}, {subject.camera}, weights {subject.weights}")
    for kind, one in calibrations.kinds.items():
        limits = ", ".join(f"{word} at p < {a:g}, a score above {threshold(one.maxima, a):.2f}" for a, word in ((one.slow_below, "slow"), (one.stop_below, "stop")))
        print(f"{kind}: {len(one.maxima)} episodes give p-values; {limits}{'' if kind in new else ' (as it was)'}")
    print(f"wrote {out}")
    if args.plot:
        plot(calibrations, args.plot)
        print(f"wrote {args.plot}")
    return 0
