"""Datasets of play: fixed-length episodes in memory-mapped arrays, and training windows.

A dataset is a folder of shards. A shard holds E episodes of L + 1 frames:

    images.npy     (E, L+1, S, S, 3) uint8   network-size pictures; not in a blind dataset
    position.npy   (E, L+1, A) float32       measured joints, rad
    reference.npy  (E, L+1, A) float32       commanded references, rad
    hand.npy       (E, L+1, 3) float32       hand position by forward kinematics, m, base frame
    objects.npy    (E, L+1, O, 3) float32    object positions, m; NaN where unknown
    advice.npy     (E, L, A) float32         demonstrations only: what a teacher would do at each frame, rad; NaN: no idea
    goal.npy       (E, 2) float32            demonstrations only: where it brings the first object, m
    meta.json      joint_names, period_s, image_size, objects, how it was collected; split: training or
                   held_out, when all episodes of the shard belong there

The action at frame t is ``reference[t + 1] - reference[t]``. A shard is written under a
temporary name and renamed when whole, so an interrupted collection leaves no half shard.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.errors import PlannerError

LABELS = ("position", "reference", "hand", "objects")
ARRAYS = ("images", *LABELS)
TAUGHT = ("advice", "goal")


@dataclass(frozen=True)
class Batch:
    """B windows; C context frames, K target frames, F = C + K pictures each.

    pictures (B, F, S, S, 3) uint8; gain (B, 1 or 3) brightness factors; position, reference
    (B, C+H, A) rad of every frame; actions (B, C-1+H, A) rad; target_step (B, K) steps after
    the last context frame, increasing; *_at: truth at the F encoded frames.
    """

    pictures: Tensor
    gain: Tensor
    position: Tensor
    reference: Tensor
    actions: Tensor
    target_step: Tensor
    position_at: Tensor
    hand_at: Tensor
    objects_at: Tensor


class Dataset:
    """All shards of one or more folders, split into training and held-out episodes.

    ``pictures`` False reads the labels alone, also of shards that hold no pictures.
    """

    def __init__(self, folders: Sequence[Path], held_out: float = 0.05, pictures: bool = True) -> None:
        paths = sorted(p for folder in folders for p in Path(folder).glob("shard_*") if (p / "meta.json").is_file())
        if not paths:
            names = ", ".join(str(f) for f in folders)
            raise PlannerError(f"no dataset shards in {names}; make some with `./wm collect --out FOLDER`")
        self.meta: dict[str, Any] = json.loads((paths[0] / "meta.json").read_text())
        self.shards: list[dict[str, NDArray[Any]]] = []
        splits: list[str] = []
        for path in paths:
            meta = json.loads((path / "meta.json").read_text())
            for key in ("joint_names", "period_s", "image_size", "objects", "length"):
                if meta.get(key) != self.meta[key]:
                    raise PlannerError(
                        f"{path}: {key} is {meta.get(key)}, other shards have {self.meta[key]}; "
                        "train on shards of one collection setting"
                    )
            splits.append(str(meta.get("split", "")))
            if splits[-1] not in ("", "training", "held_out"):
                raise PlannerError(f"{path}: split is {splits[-1]!r}; training or held_out expected")
            if pictures and not (path / "images.npy").is_file() and meta.get("blind"):
                raise PlannerError(f"{path} was collected --blind: it holds no pictures and can only teach the object skill")
            try:
                arrays = (ARRAYS if pictures else LABELS) + tuple(name for name in TAUGHT if (path / f"{name}.npy").is_file())
                self.shards.append({name: np.load(path / f"{name}.npy", mmap_mode="r") for name in arrays})
            except (OSError, ValueError) as error:
                raise PlannerError(f"{path} is damaged ({error}); delete it and collect again") from error
        if len({frozenset(shard) for shard in self.shards}) > 1:
            raise PlannerError("some shards are demonstrations, others are not; name only demonstrations there")
        self.length = int(self.meta["length"])
        index = [(s, e) for s, shard in enumerate(self.shards) for e in range(len(shard["position"]))]
        every = max(2, round(1 / held_out)) if held_out > 0 else len(index) + 1
        drawn = {pair: "held_out" if i % every == every - 1 else "training" for i, pair in enumerate(index)}
        where = {pair: splits[pair[0]] or drawn[pair] for pair in index}
        self.held_out = [pair for pair in index if where[pair] == "held_out"]
        self.training = [pair for pair in index if where[pair] == "training"]

    def __len__(self) -> int:
        return len(self.training) + len(self.held_out)

    def digest(self) -> str:
        """First 12 hex digits of a hash of settings and joints: names the data in the lineage of a model."""
        found = hashlib.sha256(json.dumps(self.meta, sort_keys=True).encode())
        for shard in self.shards:
            found.update(np.ascontiguousarray(shard["position"]).tobytes())
        return found.hexdigest()[:12]

    def windows(
        self,
        rng: np.random.Generator,
        count: int,
        *,
        context: int,
        horizon: int,
        targets: int,
        brightness: float = 0.0,
        held_out: bool = False,
        target_steps: Sequence[int] | None = None,
    ) -> Batch:
        """Draw ``count`` random windows.

        The last target is ``horizon`` steps ahead or nearer, the others lie before it;
        ``target_steps`` fixes them instead.
        """
        span = context + horizon
        if span > self.length + 1:
            raise PlannerError(f"context + horizon = {span} frames, but episodes have {self.length + 1}")
        episodes = self.held_out if held_out else self.training
        if not episodes:
            raise PlannerError("the dataset has no held-out episodes; collect more than 20 episodes")
        k = len(target_steps) if target_steps is not None else min(targets, horizon)
        columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("pic", "pos", "ref", "step", "qa", "hand", "obj")}
        for choice in rng.integers(len(episodes), size=count):
            shard_index, episode = episodes[int(choice)]
            shard = self.shards[shard_index]
            start = int(rng.integers(self.length + 2 - span))
            steps = (
                np.asarray(target_steps)
                if target_steps is not None
                else np.sort(rng.choice(np.arange(1, horizon + 1), size=k, replace=False))
            )
            frames = np.concatenate([np.arange(context), context - 1 + steps]) + start
            columns["pic"].append(shard["images"][episode, frames])
            columns["pos"].append(shard["position"][episode, start : start + span])
            columns["ref"].append(shard["reference"][episode, start : start + span])
            columns["step"].append(steps)
            columns["qa"].append(shard["position"][episode, frames])
            columns["hand"].append(shard["hand"][episode, frames])
            columns["obj"].append(shard["objects"][episode, frames])
        stacked = {name: torch.from_numpy(np.stack(values)) for name, values in columns.items()}
        gain = np.exp(rng.normal(0.0, brightness, size=(count, 1)) + rng.normal(0.0, brightness / 4, size=(count, 3)))
        return Batch(
            pictures=stacked["pic"],
            gain=torch.from_numpy(gain.astype(np.float32)),
            position=stacked["pos"],
            reference=stacked["ref"],
            actions=stacked["ref"][:, 1:] - stacked["ref"][:, :-1],
            target_step=stacked["step"].long(),
            position_at=stacked["qa"],
            hand_at=stacked["hand"],
            objects_at=stacked["obj"],
        )


class Snapshots:
    """Single labelled pictures (shards with ``length`` 0): many more poses and looks per picture."""

    def __init__(self, folders: Sequence[Path], like: dict[str, Any]) -> None:
        paths = sorted(p for folder in folders for p in Path(folder).glob("shard_*") if (p / "meta.json").is_file())
        if not paths:
            names = ", ".join(str(f) for f in folders)
            raise PlannerError(f"no snapshot shards in {names}; make some with `./wm collect --snapshots`")
        for path in paths:
            meta = json.loads((path / "meta.json").read_text())
            for key in ("joint_names", "image_size", "objects"):
                if meta.get(key) != like[key]:
                    raise PlannerError(f"{path}: {key} is {meta.get(key)}, the episodes have {like[key]}")
        self.shards = [{name: np.load(p / f"{name}.npy", mmap_mode="r") for name in ARRAYS} for p in paths]

    def __len__(self) -> int:
        return sum(len(shard["position"]) for shard in self.shards)

    @functools.cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of them in memory."""
        return {name: np.concatenate([shard[name][:, 0] for shard in self.shards]) for name in ARRAYS}

    def draw(self, rng: np.random.Generator, count: int) -> dict[str, Tensor]:
        """``count`` random ones: images (N, S, S, 3), position (N, A), hand (N, 3), objects (N, O, 3)."""
        chosen = rng.integers(len(self), size=count)
        return {name: torch.from_numpy(values[chosen]) for name, values in self.arrays.items()}


def write_shard(folder: Path, index: int, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> Path:
    """Write one whole shard; see the module docstring for the arrays."""
    missing = [name for name in (LABELS if meta.get("blind") else ARRAYS) if name not in arrays]
    if missing:
        raise PlannerError(f"a shard needs the arrays {', '.join(ARRAYS)}; missing: {', '.join(missing)}")
    final = folder / f"shard_{index:04d}"
    partial = folder / f".partial_{index:04d}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, values in arrays.items():
        np.save(partial / f"{name}.npy", values)
    (partial / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True))
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    return final
