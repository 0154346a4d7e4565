"""Episodes for the trust monitor: nominal ones and ones with a fault, and what each planning step saw in them."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wm_bridge.bench.push import draw_push
from wm_bridge.bench.reach import draw_task
from wm_bridge.core.plan_step import PlanStep
from wm_bridge.core.subject import camera_subject, robot_subject
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.planner_setup import EquippedPlanner, PlannerSetup
from wm_bridge.robots import spec as robots
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.sim.closed_loop import LoopSettings, run_episode
from wm_bridge.sim.faults import FAULTS, FaultyWorld
from wm_bridge.sim.play import scatter_block
from wm_planner.train import overrides_from
from wm_planner.trust.glimpse import Glimpse
from wm_planner.trust.kinds import KINDS, PUSH, kind_of
from wm_planner.trust.store import Subject

FIRST = 15  # a fault begins with one of so many first pictures, or as soon after as it can
WITHIN = {
    "covered camera": 2, "moved camera": 2, "frozen frame": 2, "stuck joint": 10, "weak joint": 10, "large object": 10
}  # steps from there on in which a fault has to be noticed; the episode ends then
CHUNK = 10  # episodes of a file
KEPT = {
    "thumbnail": np.float16, "same": bool, "position": np.float32, "reference": np.float32, "periods": int,
    "missed": np.float32, "decoded": np.float32, "failed": bool,
}  # of each step, in the order of ``Glimpse``
VIEW = ("front", 320, 240)


@dataclass(frozen=True)
class Episode:
    """What a monitor could see. ``begun``: step with which the fault began, -1 = none."""

    number: int
    begun: int
    steps: tuple[Glimpse, ...]


class Player:
    """Plays episodes in one simulated world with one planner.

    Attributes:
        kinds: of goals that the planner takes. key: names its weights and settings. subject: what a calibration of
            its episodes holds for.
    """

    def __init__(self, robot: str, setup: PlannerSetup) -> None:
        self.world = FaultyWorld(robots.load(robot))
        equipped = EquippedPlanner(setup, self.world.spec)
        self.planner, self.checkpoint = equipped.planner, equipped.checkpoint
        self.safety = SafetyConfig.load(self.world.spec.safety_path())
        self.kinds = tuple(kind_of(target) for target in self.planner.targets)
        settings = json.dumps(dataclasses.asdict(self.planner.config), sort_keys=True)
        self.key = f"{self.planner.name}_{hashlib.sha256(settings.encode()).hexdigest()[:6]}"
        self.subject = simulated_subject(robot, self.planner.name)

    def play(self, kind: str, fault: str, seed: int, number: int) -> Episode:
        """One episode; with a fault that finds no moment to begin, another draw.

        Args:
            kind: of the goal. fault: of `sim.faults.FAULTS`; "" = nominal.
        """
        tag = 1 + list(FAULTS).index(fault) if fault else 0
        for attempt in range(100):
            rng = np.random.default_rng(np.random.SeedSequence([seed, tag, number, attempt]))
            episode = self._try(kind, fault, number, rng)
            if episode is not None:
                return episode
        raise RuntimeError(f"no episode in which {fault!r} could begin in 100 draws")

    def _try(self, kind: str, fault: str, number: int, rng: np.random.Generator) -> Episode | None:
        world, planner = self.world, self.planner
        world.nominal()
        goal = self._place_push(rng) if kind == PUSH else self._place_reach(rng)
        planner.search.generator.manual_seed(number)
        log: list[Glimpse] = []
        planner.watch.log = log
        world.schedule(fault, int(rng.integers(FIRST)), rng)

        def go_on(step: PlanStep) -> bool:
            return step.outcome is None and (world.begun < 0 or len(log) < world.begun + WITHIN[fault])

        target = "object" if kind == PUSH else "hand"
        run_episode(world, planner, goal, rng, self.safety, LoopSettings(), target=target, go_on=go_on)
        if fault and not 0 <= world.begun < len(log):
            return None
        return Episode(number, world.begun, tuple(log))

    def _place_reach(self, rng: np.random.Generator) -> ImageArray:
        """Start pose, block in every other episode; returns the goal picture."""
        world = self.world
        task = draw_task(world, rng)
        world.reset(task.goal, objects={})
        if rng.uniform() < 0.5:
            scatter_block(world, rng)
        block = tuple(world.object_pose("block"))
        world.step(0.3)
        picture = world.render(*VIEW)
        world.reset(task.start, objects={"block": block} if block[0] > -5 else {})
        return picture

    def _place_push(self, rng: np.random.Generator) -> ImageArray:
        start, block, goal = draw_push(self.world, rng)
        self.world.reset(start, objects={"block": goal})
        picture = self.world.render(*VIEW)
        self.world.reset(start, objects={"block": block})
        return picture


def simulated_subject(robot: str, weights: str) -> Subject:
    """What calibrations of these episodes hold for."""
    camera, width, height = VIEW
    return Subject(robot_subject(robot, True), camera_subject(f"{camera}_optical", width, height), weights)


def add_player_arguments(parser: argparse.ArgumentParser) -> None:
    """What a player is made of, and where its episodes lie; see ``player_of``."""
    parser.add_argument("--robot", default="nico", help="name in config/robots (default nico)")
    parser.add_argument("--goals", nargs="+", choices=KINDS, help="kinds of goals (default: all that the planner takes)")
    parser.add_argument("--checkpoint", default="", help="world model, compact or V-JEPA 2-AC (default: the one that ships)")
    parser.add_argument("--encoder", default="", help="V-JEPA 2-AC: file or folder of the encoder, where the checkpoint holds none")
    parser.add_argument("--device", default="cpu", help="V-JEPA 2-AC: where it runs, as in cuda:1 (default cpu)")
    parser.add_argument("--planner", default="", help="YAML with PlannerConfig keys")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override a planner setting")
    parser.add_argument("--state", type=Path, help="played episodes (default: runs/trust)")


def setup_of(args: argparse.Namespace) -> PlannerSetup:
    """The planner that the arguments name."""
    return PlannerSetup(args.checkpoint, args.encoder, args.planner, device=args.device, changes=overrides_from(args.set))


def collected(folder: Path, player: Player, kind: str, faults: Sequence[str], seed: int, count: int) -> dict[str, list[Episode]]:
    """``count`` episodes of each fault ("" = none); those that lie in ``folder`` are read, the others played and kept there."""
    found: dict[str, list[Episode]] = {fault: [] for fault in faults}
    with tqdm(total=len(faults) * count, unit="episode") as bar:
        for fault in faults:
            for first in range(0, count, CHUNK):
                path = folder / f"{player.key}_{seed}_{kind}_{(fault or 'nominal').replace(' ', '_')}_{first:05d}.npz"
                bar.set_description(f"{kind}, {fault or 'nominal'}")
                if not path.is_file():
                    save(path, [player.play(kind, fault, seed, n) for n in _ticked(range(first, first + CHUNK), bar)])
                else:
                    bar.update(CHUNK)
                found[fault] += load(path)
    return {fault: episodes[:count] for fault, episodes in found.items()}


def _ticked(numbers: range, bar: tqdm) -> Iterator[int]:
    for number in numbers:
        yield number
        bar.update()


def save(path: Path, episodes: Sequence[Episode]) -> None:
    """Write episodes to one file, atomically."""
    steps = [step for episode in episodes for step in episode.steps]
    arrays: dict[str, FloatArray] = {name: np.array([getattr(step, name) for step in steps], kind) for name, kind in KEPT.items()}
    arrays |= {"number": np.array([e.number for e in episodes]), "begun": np.array([e.begun for e in episodes])}
    arrays["length"] = np.array([len(e.steps) for e in episodes])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def load(path: Path) -> list[Episode]:
    """Read episodes."""
    with np.load(path) as file:
        arrays = dict(file)
    steps = [
        Glimpse(seen.astype(np.float32), bool(same), position, reference, int(periods), missed, decoded, bool(failed))
        for seen, same, position, reference, periods, missed, decoded, failed in zip(*(arrays[name] for name in KEPT), strict=True)
    ]
    ends = np.cumsum(arrays["length"])
    return [
        Episode(int(arrays["number"][i]), int(arrays["begun"][i]), tuple(steps[end - arrays["length"][i] : end])) for i, end in enumerate(ends)
    ]
