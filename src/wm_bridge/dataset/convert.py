"""Bags or a LeRobot dataset to training data: the way of every sample from file to file."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.dataset import quality
from wm_bridge.dataset.lerobot import Info, StoredEpisode
from wm_bridge.dataset.lerobot_writer import LeRobotWriter
from wm_bridge.dataset.mapping import DataMapping
from wm_bridge.dataset.streams import Streams, pictures, pixels, read_streams
from wm_bridge.dataset.sync import Episode, episodes_of
from wm_bridge.dataset.windows import WindowStore

Small = Callable[[ImageArray], ImageArray]
_AHEAD = 24  # pictures that are being decoded
_DECODERS = 4  # threads, at most


@dataclass(frozen=True)
class BagData:
    """A bag that has been read, without its pixels."""

    path: Path
    streams: Streams
    episodes: tuple[Episode, ...]
    holes: Counter[str]


def read_bag(path: Path, mapping: DataMapping, names: Sequence[str]) -> BagData:
    """First pass: what samples a bag gives. Raises as ``read_streams``."""
    streams, holes = read_streams(path, mapping, names), Counter[str]()
    found = [episode for part in streams.parts for episode in episodes_of(part, mapping.rate_hz, mapping.policy, holes)]
    return BagData(path, streams, tuple(found), holes)


def sizes_of(data: BagData) -> dict[str, tuple[int, int]]:
    """(width, height) of each camera's first picture."""
    first = {name: pixels(next(pictures(data.path, topic, [0]))[1]) for name, topic in data.streams.topics.items()}
    return {name: (picture.shape[1], picture.shape[0]) for name, picture in first.items()}


def write_bags(
    bags: Sequence[BagData], splits: Sequence[str], small: Small, store: WindowStore | None, writer: LeRobotWriter | None, look: quality.Look, tick: Callable[[], None]
) -> None:
    """Second pass: the pictures of all samples, into the windows and the LeRobot dataset.

    Args:
        splits: training or held_out, of all episodes of all bags in order.
        small: picture of any size to that of the model. tick: called after each sample.

    Raises:
        ValueError: a picture that cannot be decoded, or changes its size.
    """
    total = sum(len(episode) for bag in bags for episode in bag.episodes)
    step, count, number = max(1, total // 48), 0, 0
    with _decoders() as pool:
        for bag in bags:
            first = next(iter(bag.streams.topics))
            streams = {
                name: _decoded(pool, pictures(bag.path, topic, np.concatenate([e.pictures[name] for e in bag.episodes]).tolist() if bag.episodes else []), small if name == first else None)
                for name, topic in bag.streams.topics.items()
            }
            for episode in bag.episodes:
                kept: list[ImageArray] = []
                look.begin()

                def shown(length: int = len(episode), kept: list[ImageArray] = kept, streams: Mapping[str, Iterator[tuple[ImageArray, ImageArray | None]]] = streams) -> Iterator[dict[str, ImageArray]]:
                    nonlocal count
                    for _ in range(length):
                        sample = {name: next(stream) for name, stream in streams.items()}
                        kept.append(next(little for _, little in sample.values() if little is not None))
                        look.add(kept[-1], count % step == 0)
                        count += 1
                        tick()
                        yield {name: picture for name, (picture, _) in sample.items()}

                if writer is not None:
                    writer.add(episode.position, episode.reference, shown(), {"training": "train", "held_out": "val"}[splits[number]])
                else:
                    deque(shown(), maxlen=0)
                if store is not None:
                    store.add(np.stack(kept), episode.position, episode.reference, splits[number])
                number += 1


def stored_reference(episode: StoredEpisode) -> FloatArray:
    """(T, A) what had been commanded at each sample; of another's dataset: the action before, at first the state."""
    if episode.reference is not None:
        return episode.reference
    return np.concatenate([episode.state[:1], episode.action[:-1]])


def write_stored(
    info: Info, episodes: Iterable[StoredEpisode], order: Sequence[int], scale: float, camera: str, small: Small, store: WindowStore, look: quality.Look, tick: Callable[[], None]
) -> None:
    """Windows from a LeRobot dataset.

    Args:
        order: (A,) columns of state and action that are the wanted joints. scale: to rad.
    """
    for episode in episodes:
        look.begin()
        kept = []
        with closing(episode.pictures(camera)) as shown:  # type: ignore[type-var]
            for picture in shown:
                kept.append(small(picture))
                look.add(kept[-1], len(look.level) % 40 == 0)
                tick()
        columns = list(order)
        store.add(np.stack(kept), episode.state[:, columns] * scale, stored_reference(episode)[:, columns] * scale, "training" if episode.split == "train" else "held_out")


def splits_of(count: int, held_out: float) -> list[str]:
    """The last episodes are held out: what is recorded later is what a model will meet."""
    last = min(count - 1, max(1, round(held_out * count))) if held_out > 0.0 and count > 1 else 0
    return ["training"] * (count - last) + ["held_out"] * last


@contextmanager
def _decoders() -> Iterator[ThreadPoolExecutor]:
    """Threads that decode, each with one of OpenCV: several of those wait for each other, as each video has a thread as well."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(min(_DECODERS, os.cpu_count() or 1)) as pool:
            yield pool
    finally:
        cv2.setNumThreads(threads)


def _decoded(pool: ThreadPoolExecutor, messages: Iterator[tuple[int, Any]], small: Small | None) -> Iterator[tuple[ImageArray, ImageArray | None]]:
    """Pictures in order, also at the model's size where ``small`` is given; some are made ahead in other threads (OpenCV and numpy
    work beside Python)."""

    def both(message: Any) -> tuple[ImageArray, ImageArray | None]:
        picture = pixels(message)
        return picture, None if small is None else small(picture)

    waiting: deque[Future[tuple[ImageArray, ImageArray | None]]] = deque()
    for _, message in messages:
        waiting.append(pool.submit(both, message))
        if len(waiting) > _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
