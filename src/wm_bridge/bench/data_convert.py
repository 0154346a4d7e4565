"""Bags to training data, measured: how fast, how well picture and joints belong together, how fast they are read at random."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path

import numpy as np

from wm_bridge.bench import data_known
from wm_bridge.cli import dataset as command
from wm_bridge.robots import spec as robots
from wm_planner.data import Dataset, write_shard

ENCODINGS = {"jpeg": "JPEG", "png": "PNG", "rgb8": "not compressed"}
SIZES = (64, 96, 128)  # pixels of training pictures
_BATCH, _BATCHES = 64, 40


def convert(folder: Path, encoding: str, duration_s: float, seed: int) -> dict[str, float]:
    """Convert a bag with known truth.

    Returns:
        speed: recorded seconds per second. sync_ms_p50, sync_ms_p99: of the joints of a sample against the moment at
        which its picture was taken. samples: how many. megabytes: of the bag.
    """
    bag = folder / f"bag_{encoding}"
    known = data_known.write_bag(bag, robots.load("nico"), "right_arm", duration_s, encoding, seed)
    out = folder / f"data_{encoding}"
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        command.main([str(bag), "--out", str(out)])
    spent = time.perf_counter() - begin
    late: list[float] = []
    for shard in Dataset([out / "windows"]).shards:
        for images, position in zip(shard["images"], shard["position"], strict=True):
            late += list(known.late_s(np.array(position, float), known.taken_s[data_known.numbers_of(np.array(images))]))
    off = 1e3 * np.abs(late)
    return {
        "speed": duration_s / spent,
        "sync_ms_p50": float(np.median(off)),
        "sync_ms_p99": float(np.quantile(off, 0.99)),
        "samples": float(len(off)),
        "megabytes": sum(file.stat().st_size for file in bag.iterdir()) / 2**20,
    }


def loader(folder: Path, size: int, seed: int, episodes: int = 200, length: int = 40) -> float:
    """Random training windows per second from memory-mapped files of pictures with ``size`` pixels (three pictures each)."""
    rng = np.random.default_rng(seed)
    part = folder / f"random_{size}"
    shape = (50, length + 1)
    meta = {"joint_names": ["a"] * 6, "period_s": 0.1, "image_size": size, "objects": ["block"], "length": length}
    for number in range(episodes // 50):
        arrays = {name: rng.normal(size=(*shape, width)).astype(np.float32) for name, width in (("position", 6), ("reference", 6), ("hand", 3))}
        arrays |= {"objects": np.zeros((*shape, 1, 3), np.float32), "images": rng.integers(0, 256, (*shape, size, size, 3), np.uint8)}
        write_shard(part, number, arrays, meta)
    data = Dataset([part])
    begin = time.perf_counter()
    for _ in range(_BATCHES):
        data.windows(rng, _BATCH, context=1, horizon=10, targets=2, brightness=0.1)
    return _BATCH * _BATCHES / (time.perf_counter() - begin)


def measure(folder: Path, duration_s: float, seed: int) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Figures and rows of the table."""
    found = {encoding: convert(folder, encoding, duration_s, seed) for encoding in ENCODINGS}
    speeds = {size: loader(folder, size, seed) for size in SIZES}
    figures = {"convert_speed": found["jpeg"]["speed"], "loader_samples_s": min(speeds.values())}
    figures["sync_p99_ms"] = max(row["sync_ms_p99"] for row in found.values())
    figures |= {f"convert_speed_{name}": row["speed"] for name, row in found.items()} | {f"loader_samples_s_{size}": speed for size, speed in speeds.items()}
    rows = [
        (f"converting {data_known.SIZE[0]}x{data_known.SIZE[1]} at {data_known.PICTURE_HZ:.0f} Hz, {name}", f"{found[key]['speed']:.1f} x recorded time ({duration_s:.0f} s, {found[key]['megabytes']:.0f} MB)")
        for key, name in ENCODINGS.items()
    ]
    worst = max(found.values(), key=lambda row: row["sync_ms_p99"])
    rows.append(("joints against the moment of the picture", f"{worst['sync_ms_p50']:.2f} ms median, {worst['sync_ms_p99']:.2f} ms p99 of {worst['samples']:.0f} samples"))
    rows.append(("random windows read, 1 thread", ", ".join(f"{speed:.0f}/s of {size} px" for size, speed in speeds.items())))
    return figures, rows
