"""Episodes for the trust monitor: nominal ones and ones with a fault, and what each planning step saw in them."""

from __future__ import annotations

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
from wm_bridge.robots import spec as robots
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.sim.closed_loop import LoopSettings, run_episode
from wm_bridge.sim.faults import FAULTS, FaultyWorld
from wm_bridge.sim.play import scatter_block
from wm_planner.config import PlannerConfig
from wm_planner.mpc import Planner
from wm_planner.trust.calibration import Subject
from wm_planner.trust.glimpse import Glimpse
from wm_planner.weights import weights_hash

PUSH_EVERY = 8  # every so many episodes the goal is to push the block
FIRST = 15  # a fault begins with one of so many first pictures, or as soon after as it can
WITHIN = {
    "covered camera": 2, "moved camera": 2, "frozen frame": 2, "stuck joint": 10, "weak joint": 10, "large object": 10
}  # steps from there on in which a fault has to be noticed; the episode ends then
CHUNK = 10  # episodes of a file
VIEW = ("front", 320, 240)


@dataclass(frozen=True)
class Episode:
    """What a monitor could see. ``begun``: step with which the fault began, -1 = none. ``target``: hand or object."""

    number: int
    begun: int
    target: str
    steps: tuple[Glimpse, ...]


class Player:
    """Plays episodes in one world with one planner. ``key``: names its weights and settings."""

    def __init__(self, robot: str, checkpoint: Path, config: PlannerConfig) -> None:
        self.world = FaultyWorld(robots.load(robot))
        self.planner = Planner.load(checkpoint, config)
        self.safety = SafetyConfig.load(self.world.spec.safety_path())
        self.planner.intrusion = Clearance(self.world.spec, self.safety, self.planner.joint_names)

        settings = json.dumps(dataclasses.asdict(config), sort_keys=True)
        self.key = f"{weights_hash(checkpoint)}_{hashlib.sha256(settings.encode()).hexdigest()[:6]}"

    def play(self, kind: str, seed: int, number: int) -> Episode:
        """One episode; with a fault that finds no moment to begin, another draw.

        Args:
            kind: of `sim.faults.FAULTS`; "" = nominal.
        """
        tag = 1 + list(FAULTS).index(kind) if kind else 0
        for attempt in range(100):
            rng = np.random.default_rng(np.random.SeedSequence([seed, tag, number, attempt]))
            episode = self._try(kind, number, rng)
            if episode is not None:
                return episode
        raise RuntimeError(f"no episode in which {kind!r} could begin in 100 draws")

    def _try(self, kind: str, number: int, rng: np.random.Generator) -> Episode | None:
        world, planner = self.world, self.planner
        world.nominal()
        target = "object" if number % PUSH_EVERY == PUSH_EVERY - 1 else "hand"
        goal = self._place_push(rng) if target == "object" else self._place_reach(rng)
        planner.search.generator.manual_seed(number)
        log: list[Glimpse] = []
        planner.watch.log = log
        world.schedule(kind, int(rng.integers(FIRST)), rng)

        def go_on(step: PlanStep) -> bool:
            return step.outcome is None and (world.begun < 0 or len(log) < world.begun + WITHIN[kind])

        run_episode(world, planner, goal, rng, self.safety, LoopSettings(), target=target, go_on=go_on)
        if kind and not 0 <= world.begun < len(log):
            return None
        return Episode(number, world.begun, target, tuple(log))

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


def simulated_subject(robot: str, checkpoint: Path) -> Subject:
    """What a calibration of these episodes holds for."""
    camera, width, height = VIEW
    return Subject(robot_subject(robot, True), camera_subject(f"{camera}_optical", width, height), weights_hash(checkpoint))


def collected(
    folder: Path, player: Player, kinds: Sequence[str], seed: int, count: int
) -> dict[str, list[Episode]]:
    """``count`` episodes of each kind; those that lie in ``folder`` are read, the others played and kept there."""
    found: dict[str, list[Episode]] = {kind: [] for kind in kinds}
    with tqdm(total=len(kinds) * count, unit="episode") as bar:
        for kind in kinds:
            for first in range(0, count, CHUNK):
                path = folder / f"{player.key}_{seed}_{(kind or 'nominal').replace(' ', '_')}_{first:05d}.npz"
                bar.set_description(kind or "nominal")
                if not path.is_file():
                    save(path, [player.play(kind, seed, n) for n in _ticked(range(first, first + CHUNK), bar)])
                else:
                    bar.update(CHUNK)
                found[kind] += load(path)
    return {kind: episodes[:count] for kind, episodes in found.items()}


def _ticked(numbers: range, bar: tqdm) -> Iterator[int]:
    for number in numbers:
        yield number
        bar.update()


def save(path: Path, episodes: Sequence[Episode]) -> None:
    """Write episodes to one file, atomically."""
    steps = [step for episode in episodes for step in episode.steps]
    arrays: dict[str, FloatArray] = {
        "thumbnail": np.array([s.thumbnail for s in steps], np.float16),
        "z": np.array([s.z for s in steps]),
        "position": np.array([s.position for s in steps]),
        "reference": np.array([s.reference for s in steps]),
        "same": np.array([s.same for s in steps]),
        "periods": np.array([s.periods for s in steps]),
        "number": np.array([e.number for e in episodes]),
        "begun": np.array([e.begun for e in episodes]),
        "target": np.array([e.target for e in episodes]),
        "length": np.array([len(e.steps) for e in episodes]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def load(path: Path) -> list[Episode]:
    """Read episodes."""
    with np.load(path) as file:
        arrays = dict(file)
    ends = np.cumsum(arrays["length"])
    episodes = []
    for i, end in enumerate(ends):
        steps = tuple(
            Glimpse(
                arrays["thumbnail"][k].astype(np.float32), bool(arrays["same"][k]), arrays["z"][k],
                arrays["position"][k], arrays["reference"][k], int(arrays["periods"][k]),
            )
            for k in range(end - arrays["length"][i], end)
        )  # fmt: skip
        episodes.append(Episode(int(arrays["number"][i]), int(arrays["begun"][i]), str(arrays["target"][i]), steps))
    return episodes
