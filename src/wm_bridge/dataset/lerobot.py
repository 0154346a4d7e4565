"""LeRobotDataset v3.0 on disk, without the lerobot package: what the files are, and reading them.

    meta/info.json                                sizes, rate, features, splits
    meta/stats.json                               min, max, mean, std, count per feature
    meta/tasks.parquet                            task text -> task_index
    meta/episodes/chunk-000/file-000.parquet      one row per episode: length, where its rows and pictures lie
    data/chunk-000/file-000.parquet               one row per sample, a row group per episode
    videos/<camera>/chunk-000/file-000.mp4        pictures of many episodes, one after the other

``action`` of a sample is what is commanded until the next one (absolute, rad); ``observation.reference``, which
other tools may ignore, is what had been commanded when the picture was taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.dataset.video import read_video
from wm_bridge.errors import UserError

VERSION = "v3.0"
STATE, ACTION, REFERENCE = "observation.state", "action", "observation.reference"
IMAGES = "observation.images."


def parquet() -> tuple[Any, Any]:
    """The packages pyarrow and pyarrow.parquet.

    Raises:
        UserError: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"datasets need the package pyarrow ({error})", "start it as ./wm dataset, which installs requirements/data.txt") from error
    return pyarrow, pyarrow.parquet


@dataclass(frozen=True)
class Info:
    """What a dataset holds. ``cameras``: name -> (width, height)."""

    robot: str
    joints: tuple[str, ...]
    rate_hz: float
    cameras: Mapping[str, tuple[int, int]]


def feature(camera: str) -> str:
    """Name of a camera's feature."""
    return camera if camera.startswith("observation.") else f"{IMAGES}{camera}"


@dataclass(frozen=True)
class StoredEpisode:
    """An episode of a dataset: (T, A) ``state`` and ``action`` as stored, ``reference`` where there is one; its split.

    ``videos``: per camera, the file and the time of the first picture in it, s.
    """

    state: FloatArray
    action: FloatArray
    reference: FloatArray | None
    split: str
    videos: Mapping[str, tuple[Path, float]]
    rate_hz: float

    def pictures(self, camera: str) -> Iterator[ImageArray]:
        """All pictures of a camera, (H, W, 3) uint8 RGB each."""
        path, begin_s = self.videos[camera]
        return read_video(path, begin_s, len(self.state), self.rate_hz)


def read_dataset(root: Path) -> tuple[Info, list[StoredEpisode]]:
    """A LeRobotDataset v3.0 from a folder, ours or another's.

    Raises:
        ValueError: it is none, another version, or damaged; says what was expected.
    """
    _, pq = parquet()
    try:
        info = json.loads((root / "meta" / "info.json").read_text(encoding="utf-8"))
        if info.get("codebase_version") != VERSION:
            raise ValueError(f"{root} is a LeRobot dataset {info.get('codebase_version')}; {VERSION} can be read: convert it with lerobot's own tool")
        features = info["features"]
        names = tuple(str(name).removesuffix(".pos") for name in _flat(features[STATE]["names"]))
        cameras = {key.removeprefix(IMAGES): _size(entry["shape"]) for key, entry in features.items() if entry["dtype"] == "video"}
        rows = [row for path in sorted(root.glob("meta/episodes/*/*.parquet")) for row in pq.read_table(path).to_pylist()]
        rows.sort(key=lambda row: row["episode_index"])
        tables = {path: pq.read_table(path) for path in sorted(root.glob("data/*/*.parquet"))}
        episodes = [_stored(root, info, row, tables, tuple(cameras)) for row in rows]
        return Info(str(info.get("robot_type") or ""), names, float(info["fps"]), cameras), episodes
    except (OSError, KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
        raise ValueError(f"{root} is no LeRobot dataset {VERSION} that can be read: {error!r}") from error


def _stored(root: Path, info: Mapping[str, Any], row: Mapping[str, Any], tables: Mapping[Path, Any], cameras: Sequence[str]) -> StoredEpisode:
    path = root / info["data_path"].format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
    table = tables[path]
    place = np.flatnonzero(table.column("episode_index").to_numpy() == row["episode_index"])
    if len(place) != row["length"]:
        raise ValueError(f"{path}: episode {row['episode_index']} has {len(place)} rows, {row['length']} expected; the dataset is damaged")
    part = table.slice(int(place[0]), len(place))

    def column(name: str) -> FloatArray:
        return np.array(part.column(name).to_pylist(), float).reshape(len(place), -1)

    videos = {
        name: (
            root / info["video_path"].format(video_key=feature(name), chunk_index=row[f"videos/{feature(name)}/chunk_index"], file_index=row[f"videos/{feature(name)}/file_index"]),
            float(row[f"videos/{feature(name)}/from_timestamp"]),
        )
        for name in cameras
    }  # fmt: skip
    split = "train"
    for name, span in info.get("splits", {}).items():
        first, _, last = str(span).partition(":")
        if int(first or 0) <= row["episode_index"] < int(last or 1 << 62):
            split = name
    reference = column(REFERENCE) if REFERENCE in table.column_names else None
    return StoredEpisode(column(STATE), column(ACTION), reference, split, videos, float(info["fps"]))


def _flat(names: Any) -> list[str]:
    """Names of a feature: a list, or a group of lists."""
    return [one for group in names.values() for one in group] if isinstance(names, Mapping) else list(names)


def _size(shape: Sequence[int]) -> tuple[int, int]:
    """(width, height) of a feature of (height, width, 3), or of (3, height, width) as some write."""
    height, width = shape[:2] if shape[-1] == 3 else shape[1:]
    return int(width), int(height)
