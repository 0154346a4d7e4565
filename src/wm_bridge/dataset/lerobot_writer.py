"""Writing a LeRobotDataset v3.0; the format is described in ``lerobot``."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.dataset.lerobot import ACTION, REFERENCE, STATE, VERSION, Info, feature, parquet
from wm_bridge.dataset.moments import Moments
from wm_bridge.dataset.video import EVERY, NAMED, PIXELS, VideoWriter
from wm_bridge.errors import UserError

VIDEO_MB, DATA_MB, CHUNK = 200, 100, 1000
_DATA, _VIDEO = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_SHOWN = 20  # every so many pictures count for the statistics of a camera


@dataclass
class _Table:
    """Where an open parquet file of samples stands."""

    writer: Any = None
    number: int = -1
    size: int = 0


@dataclass
class LeRobotWriter:
    """Writes a dataset into a folder that must not exist; it appears there when ``close`` has ended.

    Attributes:
        root: the folder. info: of the dataset. task: one sentence for all episodes.
    """

    root: Path
    info: Info
    task: str
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _splits: dict[str, list[int]] = field(default_factory=dict)
    _stats: dict[str, Moments] = field(default_factory=dict)
    _videos: dict[str, tuple[VideoWriter, int]] = field(default_factory=dict)
    _table: _Table = field(default_factory=_Table)
    _frames: int = 0

    def __post_init__(self) -> None:
        if self.root.exists():
            raise UserError(f"{self.root} exists already", "name a new folder, or remove that one", 2)
        self._partial = self.root.with_name(f".{self.root.name}.partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)

    def add(self, position: FloatArray, reference: FloatArray, pictures: Iterator[Mapping[str, ImageArray]], split: str) -> None:
        """Append an episode.

        Args:
            position, reference: (T, A) rad. pictures: T of them, of each camera (H, W, 3) uint8 RGB.
            split: train or val; the episodes of a split must follow each other.
        """
        number, length = len(self._rows), len(position)
        action = np.concatenate([reference[1:], reference[-1:]])
        moments = {name: Moments() for name in (STATE, ACTION, REFERENCE, *map(feature, self.info.cameras))}
        for name, rows in ((STATE, position), (ACTION, action), (REFERENCE, reference)):
            moments[name].add(rows)
        row: dict[str, Any] = {"episode_index": number, "tasks": [self.task], "length": length}
        row |= {"dataset_from_index": self._frames, "dataset_to_index": self._frames + length}
        for name in self.info.cameras:
            video, place = self._video(name)
            begin = video.count / self.info.rate_hz
            row |= {f"videos/{feature(name)}/chunk_index": place // CHUNK, f"videos/{feature(name)}/file_index": place % CHUNK}
            row |= {f"videos/{feature(name)}/from_timestamp": begin, f"videos/{feature(name)}/to_timestamp": begin + length / self.info.rate_hz}
        for count, shown in enumerate(pictures):  # noqa: B007
            for name, picture in shown.items():
                self._videos[name][0].add(picture)
                if count % _SHOWN == 0:
                    moments[feature(name)].add(picture[::4, ::4].reshape(-1, 3) / 255.0)
        if count + 1 != length:
            raise ValueError(f"{count + 1} pictures for {length} samples")
        row |= self._write_rows(number, position, action, reference)
        for name, found in moments.items():
            row |= {f"stats/{name}/{kind}": value for kind, value in found.told(name not in (STATE, ACTION, REFERENCE)).items()}
            self._stats.setdefault(name, Moments()).merge(found)
        self._rows.append(row)
        self._splits.setdefault(split, []).append(number)
        self._frames += length

    def close(self) -> None:
        """Finish all files and put the folder in its place."""
        pa, pq = parquet()
        for video, _ in self._videos.values():
            video.close()
        if self._table.writer is not None:
            self._table.writer.close()
        meta = self._partial / "meta"
        (meta / "episodes" / "chunk-000").mkdir(parents=True)
        rows = [row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0} for row in self._rows]
        pq.write_table(pa.Table.from_pylist(rows), meta / "episodes" / "chunk-000" / "file-000.parquet")
        pq.write_table(_tasks(pa, [self.task]), meta / "tasks.parquet")
        stats = {name: found.told(name not in (STATE, ACTION, REFERENCE)) for name, found in self._stats.items()}
        (meta / "stats.json").write_text(json.dumps(stats, indent=1))
        (meta / "info.json").write_text(json.dumps(self._describe(), indent=1))
        self._partial.rename(self.root)

    def _video(self, name: str) -> tuple[VideoWriter, int]:
        """The open video of a camera, and its number; a full one is followed by the next."""
        video, number = self._videos.get(name, (None, -1))
        if video is None or video.path.stat().st_size > VIDEO_MB * 2**20:
            if video is not None:
                video.close()
            number += 1
            path = self._partial / _VIDEO.format(video_key=feature(name), chunk_index=number // CHUNK, file_index=number % CHUNK)
            self._videos[name] = VideoWriter(path, self.info.rate_hz, *self.info.cameras[name]), number
        return self._videos[name]

    def _write_rows(self, number: int, position: FloatArray, action: FloatArray, reference: FloatArray) -> dict[str, int]:
        pa, pq = parquet()
        length = len(position)
        wide = pa.list_(pa.float32(), len(self.info.joints))

        def rows(values: FloatArray) -> Any:
            return pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(values, np.float32).ravel()), type=wide)

        table = pa.table(
            {
                STATE: rows(position), ACTION: rows(action), REFERENCE: rows(reference),
                "timestamp": pa.array((np.arange(length) / self.info.rate_hz).astype(np.float32)),
                "frame_index": pa.array(np.arange(length)), "episode_index": pa.array(np.full(length, number)),
                "index": pa.array(self._frames + np.arange(length)), "task_index": pa.array(np.zeros(length, np.int64)),
            }
        )  # fmt: skip
        at = self._table
        if at.writer is None or at.size > DATA_MB * 2**20:
            if at.writer is not None:
                at.writer.close()
            at.number, at.size = at.number + 1, 0
            path = self._partial / _DATA.format(chunk_index=at.number // CHUNK, file_index=at.number % CHUNK)
            path.parent.mkdir(parents=True, exist_ok=True)
            at.writer = pq.ParquetWriter(path, table.schema)
        at.writer.write_table(table)
        at.size += table.nbytes
        return {"data/chunk_index": at.number // CHUNK, "data/file_index": at.number % CHUNK}

    def _describe(self) -> dict[str, Any]:
        info, names = self.info, [f"{name}.pos" for name in self.info.joints]
        vectors = {key: {"dtype": "float32", "shape": [len(names)], "names": names} for key in (ACTION, STATE, REFERENCE)}
        videos = {
            feature(name): {
                "dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"],
                "info": {
                    "video.height": height, "video.width": width, "video.codec": NAMED, "video.pix_fmt": PIXELS, "video.g": EVERY,
                    "video.is_depth_map": False, "video.fps": _whole(info.rate_hz), "video.channels": 3, "has_audio": False,
                },
            }
            for name, (width, height) in ((name, (w + w % 2, h + h % 2)) for name, (w, h) in info.cameras.items())
        }  # fmt: skip
        plain = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64"}
        return {
            "codebase_version": VERSION, "robot_type": info.robot, "total_episodes": len(self._rows), "total_frames": self._frames,
            "total_tasks": 1, "chunks_size": CHUNK, "data_files_size_in_mb": DATA_MB, "video_files_size_in_mb": VIDEO_MB,
            "fps": _whole(info.rate_hz),
            "splits": {name: f"{numbers[0]}:{numbers[-1] + 1}" for name, numbers in self._splits.items()},
            "data_path": _DATA, "video_path": _VIDEO,
            "features": vectors | videos | {key: {"dtype": kind, "shape": [1], "names": None} for key, kind in plain.items()},
        }  # fmt: skip


def _whole(rate_hz: float) -> int:
    """LeRobot counts whole pictures per second."""
    if not math.isclose(rate_hz, round(rate_hz)):
        raise UserError(f"LeRobot datasets have whole samples per second, not {rate_hz:g}", "choose another rate_hz, or --no-lerobot", 2)
    return round(rate_hz)


def _tasks(pa: Any, tasks: Sequence[str]) -> Any:
    """The table of tasks, its text marked as the index for pandas, as lerobot reads it."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(list(tasks))})
    kinds = (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    columns = [{"name": n, "field_name": n, "pandas_type": kind, "numpy_type": numpy, "metadata": None} for n, kind, numpy in kinds]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
