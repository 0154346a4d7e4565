"""`./wm bench finetune`: how much of its success a checkpoint has on a changed robot before another camera, and after
fine-tuning on 50, 200 and 500 episodes of it.

The forearm is 10 % longer, all links have other colours, the camera stands 30 cm away (`sim/changed.py`). Episodes
are play as `./wm play` moves a real arm, some of it coloured noise, without randomisation: a laboratory has one camera. Reaching is that of
`./wm bench reach`. Episodes, trainings and results are kept in --state, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from wm_bridge import resources
from wm_bridge.bench.reach import Job, add_common_arguments, count, default_checkpoint, planner_config, play_with
from wm_bridge.bench.report import BenchResult, percent, wilson
from wm_bridge.bench.resume import Finished, settings_key
from wm_bridge.core.effector import give_kinematics
from wm_bridge.core.roam import Visits
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.sim.changed import changed_robot, changed_scene
from wm_bridge.sim.closed_loop import LoopSettings
from wm_bridge.sim.config import SceneConfig
from wm_bridge.sim.episodes import CollectConfig, choose_player, record_episode
from wm_bridge.sim.play import ARM
from wm_bridge.sim.world import SimWorld
from wm_planner import train
from wm_planner.config import PlannerConfig
from wm_planner.data import write_shard
from wm_planner.mpc import Planner
from wm_planner.weights import load_model, weights_hash

PART = 10  # episodes of a folder; a set of n episodes is the first n / PART of them
_COLLECT_SEED = 77_000


def collect(folder: Path, count: int, spec: RobotSpec, scene: SceneConfig, like: Path, length: int) -> list[Path]:
    """Folders with ``count`` episodes of play of a robot; those that are there stay."""
    model, _ = load_model(like)
    shape, arm = model.config, spec.indices(ARM)
    parts = [folder / f"part_{k:03d}" for k in range(-(-count // PART))]
    todo = [(k, part) for k, part in enumerate(parts) if not (part / "shard_0000" / "meta.json").is_file()]
    if todo:
        world = SimWorld(spec, scene)
        scale = np.array(shape.action_scale)
        config = CollectConfig(length=length, image_size=shape.image_size, nominal_share=1.0, goal_directed=0.0, roam=0.8, smooth_random=0.2)
        meta = {
            "robot": spec.name, "joint_names": list(shape.joint_names), "lower": spec.lower[arm].tolist(), "upper": spec.upper[arm].tolist(),
            "action_scale": scale.tolist(), "period_s": shape.period_s, "image_size": shape.image_size, "objects": list(shape.objects), "length": length,
        }  # fmt: skip
        with tqdm(total=len(todo) * PART, unit="episode", desc="play") as bar:
            for k, part in todo:
                episodes, visits = [], been(parts[:k])
                for number in range(PART):
                    rng = np.random.default_rng(np.random.SeedSequence([_COLLECT_SEED, k, number]))
                    episodes.append(record_episode(world, choose_player(world, rng, scale, config, visits), rng, config))
                    bar.update()
                arrays = {name: np.stack([episode[name] for episode in episodes]) for name in episodes[0]}
                held_out = k % 10 == 4  # whole folders: a tenth of 50 episodes is one
                write_shard(part, 0, arrays, {**meta, "split": "held_out" if held_out else "training"})
        world.close()
    return parts


def been(parts: list[Path]) -> Visits:
    """Where the hand was in the episodes of some folders."""
    visits = Visits()
    for part in parts:
        visits.add(np.load(part / "shard_0000" / "hand.npy").reshape(-1, 3))
    return visits


def tuned(out: Path, start: Path, parts: list[Path], words: list[str], settings: list[str]) -> tuple[Path, float]:
    """The checkpoint fine-tuned on some folders, and the seconds that took; trained when it is not there."""
    note = out / "seconds.json"
    if not note.is_file():
        begin, before = time.monotonic(), float(json.loads((out / "spent.json").read_text())) if (out / "spent.json").is_file() else 0.0
        config = str(resources.path("config/finetune_compact.yaml"))
        code = train.main(["--from", str(start), "--data", *map(str, parts), "--out", str(out), "--config", config, *words, *(["--set", *settings] if settings else [])])
        spent = before + time.monotonic() - begin
        (out / "spent.json").write_text(json.dumps(spent))
        state = torch.load(out / "training.pt", weights_only=True) if code == 0 else None
        if state is None or (state["step"] < state["train_config"]["steps"] and state["patience"]["waited"] < state["train_config"]["patience"]):
            raise UserError("fine-tuning was stopped", "the same command goes on from there")
        note.write_text(json.dumps(spent))
    return out / "model.safetensors", float(json.loads(note.read_text()))


def reached(row: str, checkpoint: Path, spec: RobotSpec, scene: SceneConfig, args: argparse.Namespace, config: PlannerConfig, loop: LoopSettings, state: Path) -> tuple[int, int]:
    """Successes and episodes of reaching with a checkpoint on a robot."""
    finished = Finished(state / f"{row}.jsonl", settings_key(checkpoint, args.seed, config, loop))
    todo = [n for n in range(args.episodes) if finished.get(row, n) is None]
    if todo:
        world, planner = SimWorld(spec, scene), Planner.load(checkpoint, config)
        planner.intrusion = Clearance(spec, SafetyConfig.load(spec.safety_path()), planner.joint_names)
        give_kinematics(planner, spec)
        for number in tqdm(todo, unit="episode", desc=row):
            finished.add(row, number, dict(play_with(world, planner, Job("planner", "none", args.seed, number, checkpoint, config, loop))))
        world.close()
    rows = finished.rows(row, args.episodes)
    return count(rows, "held_3cm"), len(rows)


def main(argv: list[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="wm bench finetune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser, 100, parallel=False)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 200, 500], help="episodes to fine-tune on (default 50 200 500)")
    parser.add_argument("--only", default="full", choices=train.PARTS, help="part of the weights that may change (default full)")
    parser.add_argument("--train-set", nargs="*", default=[], metavar="KEY=VALUE", help="override a setting of config/finetune_compact.yaml")
    parser.add_argument("--length", type=int, default=80, help="control periods of a play episode (default 80: as long as one of reaching)")
    parser.add_argument("--duration", type=float, default=LoopSettings.duration_s, help="of a reaching episode, s")
    parser.add_argument("--state", type=Path, help="episodes, trainings and results (default runs/finetune)")
    args = parser.parse_args(argv)
    if args.episodes < 1 or min(args.sizes) < 5 * PART:
        raise UserError(f"--episodes {args.episodes}, --sizes {args.sizes}", f"at least 1 episode, and {5 * PART} to fine-tune on: every tenth is held out", 2)
    state = args.state or resources.root() / "runs" / "finetune"
    start, config, usual = default_checkpoint(args), planner_config(args), robots.load("nico")
    loop = dataclasses.replace(LoopSettings(latency_ms=args.latency_ms), duration_s=args.duration)
    spec, scene = changed_robot(usual, state), changed_scene()
    rows = {}
    figures: dict[str, float] = {"episodes": args.episodes}
    table: list[tuple[str, str]] = []
    for size in sorted(args.sizes):
        parts = collect(state / f"play_{args.length}", size, spec, scene, start, args.length)
        path, seconds = tuned(state / f"{args.only}_{size}", start, parts, ["--only", args.only], args.train_set)
        rows[str(size)] = (path, spec, scene)
        figures[f"train_s_{size}"] = seconds
    rows |= {"before": (start, spec, scene), "original": (start, usual, SceneConfig())}
    for row, (path, robot, place) in rows.items():
        good, total = reached(f"{args.only}_{row}" if row.isdigit() else row, path, robot, place, args, config, loop, state)
        figures["original" if row == "original" else f"success_{row}"] = good / total
        low, high = wilson(good, total)
        figures |= {f"{row}_low": low, f"{row}_high": high}
        words = {"original": "original robot, checkpoint as it was", "before": "changed robot, checkpoint as it was"}
        table.append((words.get(row, f"changed robot, after {row} episodes"), percent(good, total)))
        if row.isdigit():
            table.append((f"    time of the fine-tuning on {row}", f"{figures[f'train_s_{row}'] / 60:.1f} minutes"))
    table.insert(0, ("hand held within 3 cm", f"{args.only}, n = {args.episodes}"))
    BenchResult("finetune", args.seed, weights_hash(start), figures, table).show(args.json)
    return 0
