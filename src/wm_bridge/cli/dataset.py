"""`./wm dataset`: recorded bags, or a LeRobot dataset, become training data with a report of their quality.

    ./wm dataset BAG ... --out FOLDER             FOLDER/lerobot (LeRobotDataset v3.0), FOLDER/windows (for ./wm train --data),
                                                  FOLDER/quality.html and quality.json
    ./wm dataset LEROBOT_FOLDER --out FOLDER      FOLDER/windows and the report

What topics are what says --mapping, a YAML file like config/datasets/wm.yaml, which is for bags of this graph.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wm_bridge import resources
from wm_bridge.core.kinematics import Kinematics
from wm_bridge.dataset import quality
from wm_bridge.dataset.convert import BagData, read_bag, sizes_of, splits_of, write_bags, write_stored
from wm_bridge.dataset.lerobot import Info, read_dataset
from wm_bridge.dataset.lerobot_writer import LeRobotWriter
from wm_bridge.dataset.mapping import UNITS, DataMapping, load_mapping
from wm_bridge.dataset.windows import WindowStore
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.robots.spec import RobotSpec
from wm_planner.data import write_shard
from wm_planner.preprocess import square_resize


def main(argv: list[str]) -> int:
    """Run the command; 3 = no sample was good."""
    args = parse(argv)
    try:
        mapping = load_mapping(args.mapping or resources.path("config/datasets/wm.yaml"))
        mapping = dataclasses.replace(mapping, rate_hz=args.rate or mapping.rate_hz)
        spec = robots.load(mapping.robot)
        indices = spec.indices(mapping.group)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(str(error), "see config/datasets/wm.yaml for a whole mapping", 2) from error
    if args.out.exists() and any(args.out.iterdir()):
        raise UserError(f"{args.out} holds something already", "name a new folder with --out", 2)
    try:
        if len(args.inputs) == 1 and (args.inputs[0] / "meta" / "info.json").is_file():
            return from_lerobot(args, mapping, spec, indices)
        return from_bags(args, mapping, spec, indices)
    except (ValueError, OSError) as error:
        raise UserError(str(error), "see ./wm dataset --help", 2) from error


def from_bags(args: argparse.Namespace, mapping: DataMapping, spec: RobotSpec, indices: np.ndarray) -> int:
    """Convert bags; one that cannot be read is told of and left out."""
    names = [spec.joint_names[i] for i in indices]
    bags: list[BagData] = []
    failed: dict[str, str] = {}
    for path in tqdm(args.inputs, unit="bag", desc="reading"):
        try:
            bags.append(read_bag(path, mapping, names))
        except ValueError as error:
            failed[str(path)] = str(error)
            tqdm.write(f"left out: {error}")
    if not bags:
        raise UserError("none of the bags can be used", "the lines above say why")
    splits = splits_of(sum(len(bag.episodes) for bag in bags), args.held_out)
    total = sum(len(episode) for bag in bags for episode in bag.episodes)
    args.out.mkdir(parents=True, exist_ok=True)
    look = quality.Look()
    store = window_store(args, mapping, spec, indices)
    writer = None
    if total and not args.no_lerobot:
        sizes = sizes_of(next(bag for bag in bags if bag.episodes))
        writer = LeRobotWriter(args.out / "lerobot", Info(spec.name, tuple(names), mapping.rate_hz, sizes), args.task)
    with tqdm(total=total, unit="sample", desc="writing") as bar:
        write_bags(bags, splits, lambda picture: square_resize(picture, args.image_size), store, writer, look, bar.update)
    for part in (writer, store):
        if part is not None and total:
            part.close()
    episodes = [episode for bag in bags for episode in bag.episodes]
    samples = quality.of_episodes(
        episodes, look, spec.lower[indices], spec.upper[indices], spec.velocity[indices] / mapping.rate_hz, names, sum((bag.holes for bag in bags), Counter())
    )
    told: dict[str, Any] = {"bags": {}, "failed": failed, "samples": samples, "rate_hz": mapping.rate_hz, "splits": dict(Counter(splits))}
    for bag in bags:
        found = quality.of_streams(bag.streams)
        each = {**samples, "holes": dict(bag.holes), "episodes": len(bag.episodes)}
        told["bags"][str(bag.path)] = found | {"warnings": quality.warnings(found, each, mapping.rate_hz)}
    return finish(args.out, told, look, episodes, store)


def from_lerobot(args: argparse.Namespace, mapping: DataMapping, spec: RobotSpec, indices: np.ndarray) -> int:
    """Windows from somebody's LeRobot dataset."""
    info, episodes = read_dataset(args.inputs[0])
    names = [mapping.joints.rename.get(spec.joint_names[i], spec.joint_names[i]) for i in indices]
    missing = [name for name in names if name not in info.joints]
    if missing:
        raise UserError(f"the dataset has joints {', '.join(info.joints)}, not {', '.join(missing)}", "give a --mapping with joints.rename", 2)
    camera = next(iter(mapping.cameras))
    if camera not in info.cameras:
        raise UserError(f"the dataset has cameras {', '.join(info.cameras) or 'none'}, not {camera}", "give a --mapping whose first camera has one of these names", 2)
    if abs(info.rate_hz - mapping.rate_hz) > 1e-6:
        raise UserError(f"the dataset has {info.rate_hz:g} samples per second, {mapping.rate_hz:g} are wanted", f"give --rate {info.rate_hz:g}", 2)
    args.out.mkdir(parents=True, exist_ok=True)
    store, look = window_store(args, mapping, spec, indices), quality.Look()
    with tqdm(total=sum(len(episode.state) for episode in episodes), unit="sample", desc="writing") as bar:
        order = [info.joints.index(name) for name in names]
        write_stored(info, episodes, order, UNITS[mapping.joints.unit], camera, lambda p: square_resize(p, args.image_size), store, look, bar.update)
    store.close()
    told = {"bags": {}, "failed": {}, "samples": {"episodes": len(episodes), "samples": len(look.level), "holes": {}}, "rate_hz": info.rate_hz}
    return finish(args.out, told, look, [], store)


def window_store(args: argparse.Namespace, mapping: DataMapping, spec: RobotSpec, indices: np.ndarray) -> WindowStore:
    """Where the windows go, with what `./wm train` has to know of the robot."""
    kinematics, whole, tool = Kinematics(spec), spec.home, spec.tools[mapping.group]

    def hand(position: np.ndarray) -> np.ndarray:
        joints = np.tile(whole, (len(position), 1))
        joints[:, indices] = position
        return kinematics.positions(joints, tool)

    meta = {
        "robot": spec.name, "joint_names": [spec.joint_names[i] for i in indices], "lower": spec.lower[indices].tolist(), "upper": spec.upper[indices].tolist(),
        "action_scale": (spec.velocity[indices] / mapping.rate_hz).tolist(), "period_s": 1.0 / mapping.rate_hz, "image_size": args.image_size,
        "from": [str(path) for path in args.inputs],
    }  # fmt: skip
    return WindowStore(lambda number, arrays, found: write_shard(args.out / "windows", number, arrays, found), meta, args.length, hand, tuple(args.objects))


def finish(out: Path, told: dict[str, Any], look: quality.Look, episodes: Sequence[Any], store: WindowStore) -> int:
    """Write the report, and say the main things."""
    told["windows"] = {"pieces": store.pieces, "samples_each": store.length + 1, "episodes_too_short": store.short}
    (out / "quality.json").write_text(json.dumps(told, indent=1))
    samples = told["samples"]
    if samples["samples"]:
        quality.write_page(out / "quality.html", f"Data {out.name}", told, look, episodes)
    for name, bag in told["bags"].items():
        for text in bag["warnings"]:
            print(f"{name}: {text}")
    print(f"{samples['episodes']} episodes, {samples['samples']} samples; {store.pieces} pieces of {store.length + 1} samples for training", end="")
    print(f", {store.short} episodes too short for one (--length)" if store.short else "")
    if not samples["samples"]:
        shutil.rmtree(out / "windows", ignore_errors=True)
        print(f"nothing to learn from; {out / 'quality.json'} has the reasons")
        return 3
    print(f"wrote {out}")
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    """Read and check the arguments."""
    parser = argparse.ArgumentParser(prog="./wm dataset", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", type=Path, nargs="+", metavar="BAG", help="bags (folder, .mcap or .db3), or one LeRobot dataset")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--mapping", type=Path, help="YAML: which topics are what (default config/datasets/wm.yaml)")
    parser.add_argument("--rate", type=float, help="samples per second (default: of the mapping)")
    parser.add_argument("--length", type=int, default=40, help="control periods of a training piece (default 40)")
    parser.add_argument("--image-size", type=int, default=96, help="pixels of the training pictures (default 96)")
    parser.add_argument("--held-out", type=float, default=0.1, help="share of episodes, the last ones, kept for validation (default 0.1)")
    parser.add_argument("--objects", nargs="*", default=["block"], help="objects of the model that the data are for (default block)")
    parser.add_argument("--task", default="move to the goal", help="sentence stored with every episode of the LeRobot dataset")
    parser.add_argument("--no-lerobot", action="store_true", help="windows and report only")
    args = parser.parse_args(argv)
    if args.length < 1 or not 16 <= args.image_size <= 1024 or not 0.0 <= args.held_out < 1.0 or (args.rate is not None and args.rate <= 0):
        raise UserError("--length must be at least 1, --image-size 16 to 1024, --held-out 0 to below 1, --rate above 0", "see ./wm dataset --help", 2)
    return args
