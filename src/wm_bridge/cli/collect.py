"""`./wm collect`: simulated play, in parallel, as a dataset for `./wm train`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import signal
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wm_bridge.core.roam import Visits
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.sim.episodes import CollectConfig, choose_player, record_episode, record_snapshot
from wm_bridge.sim.play import ARM
from wm_bridge.sim.world import SimWorld
from wm_planner.data import write_shard


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="wm collect", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="dataset folder; existing shards are kept")
    parser.add_argument("--robot", default="nico", help="name or YAML file of the robot")
    parser.add_argument("--episodes", type=int, default=2000, help="episodes in total (default 2000)")
    parser.add_argument("--shard", type=int, default=50, help="episodes per shard (default 50)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image-size", type=int, default=96, help="side of the stored pictures (default 96)")
    parser.add_argument("--length", type=int, default=40, help="control periods per episode (default 40)")
    parser.add_argument("--roam", type=float, default=0.0, help="share of episodes that roam as `./wm play` does (the others: 1)")
    parser.add_argument("--push", type=float, default=0.0, help="share of episodes that push the block")
    parser.add_argument("--demonstrations", action="store_true",
                        help="only episodes in which a demonstrator pushes the block to a place")  # fmt: skip
    parser.add_argument("--blind", action="store_true",
                        help="demonstrations without pictures, for the object skill alone: several times as fast")  # fmt: skip
    parser.add_argument("--nominal", type=float, default=CollectConfig.nominal_share,
                        help="share of episodes without domain randomisation (default %(default)s)")  # fmt: skip
    parser.add_argument("--snapshots", action="store_true",
                        help="single pictures of independent poses instead of episodes (for the encoder)")  # fmt: skip
    args = parser.parse_args(argv)
    if args.blind and not args.demonstrations:
        parser.error("--blind is for --demonstrations: everything else is learned from pictures")
    return args


def collect_shard(job: tuple[int, argparse.Namespace]) -> tuple[int, int]:
    """Collect one shard in its own world; returns its index and episode count."""
    index, args = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spec = robots.load(args.robot)
    world = SimWorld(spec)
    arm = spec.indices(ARM)
    scale = spec.velocity[arm] * 0.1
    config = CollectConfig(length=args.length, image_size=args.image_size, push=args.push, roam=args.roam, nominal_share=args.nominal)
    if args.demonstrations:
        config = dataclasses.replace(
            config, goal_directed=0.0, smooth_random=0.0, push=0.0, demonstrate=1.0, blind=args.blind
        )
    episodes, visits = [], Visits()
    for number in range(args.shard):
        rng = np.random.default_rng(np.random.SeedSequence([args.seed, index, number]))
        if args.snapshots:
            episodes.append(record_snapshot(world, rng, config))
        else:
            episodes.append(record_episode(world, choose_player(world, rng, scale, config, visits), rng, config))
    world.close()
    arrays = {name: np.stack([episode[name] for episode in episodes]) for name in episodes[0]}
    meta = {
        "robot": spec.name,
        "joint_names": [spec.joint_names[i] for i in arm],
        "lower": spec.lower[arm].tolist(),
        "upper": spec.upper[arm].tolist(),
        "action_scale": scale.tolist(),
        "period_s": config.period_s,
        "image_size": config.image_size,
        "objects": ["block"],
        "length": 0 if args.snapshots else config.length,
        "push": config.push,
        "roam": config.roam,
        "demonstrations": config.demonstrate > 0,
        "blind": config.blind,
        "nominal_share": config.nominal_share,
        "seed": args.seed,
        "collected": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    write_shard(args.out, index, arrays, meta)
    return index, len(episodes)


def main(argv: list[str]) -> int:
    """Collect what is missing of the requested episodes."""
    args = parse(argv)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / ".writable").write_text("")
        (args.out / ".writable").unlink()
    except OSError as error:
        raise UserError(f"cannot write to {args.out}: {error.strerror}", "name a writable folder with --out") from error
    shards = -(-args.episodes // args.shard)
    todo = [(i, args) for i in range(shards) if not (args.out / f"shard_{i:04d}" / "meta.json").is_file()]
    if not todo:
        print(f"{args.out} already holds {shards} shards")
        return 0
    bar = tqdm(total=len(todo) * args.shard, unit="episode", smoothing=0.05)
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(args.workers, len(todo)), maxtasksperchild=8) as pool:
        try:
            for _, count in pool.imap_unordered(collect_shard, todo):
                bar.update(count)
        except KeyboardInterrupt:
            pool.terminate()
            bar.close()
            print("stopped; whole shards are kept, the same command goes on", file=sys.stderr)
            return 130
    bar.close()
    done = json.loads((args.out / "shard_0000" / "meta.json").read_text())
    print(f"{args.out}: {shards * args.shard} episodes of {done['length']} steps at {done['image_size']} px")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
