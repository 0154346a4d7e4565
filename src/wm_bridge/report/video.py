"""The run as a film: camera, goal, and curves of energy and distance, side by side."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge.core.images import decompress
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.report.recording import Recording
from wm_bridge.report.summary import Curve

S = 1_000_000_000
PANEL = (320, 240)  # width, height of each of the three
CAPTION = 24
RATE_HZ = 15.0
PAUSE_MS = 2500  # at the end of a moving picture
SIZE = (3 * PANEL[0], PANEL[1] + CAPTION)

_PAPER, _INK, _GRID = (250, 250, 250), (40, 40, 40), (215, 215, 215)
_ENERGY, _DECODED, _TRUTH = (200, 110, 20), (40, 90, 220), (60, 160, 60)  # RGB


def frame_times(recording: Recording, goals: Sequence[Curve], lead_s: float = 0.5, tail_s: float = 1.5) -> list[int]:
    """Stamps of the film's frames, ns: from just before the first goal to just after the last."""
    if not recording.frames:
        return []
    first, last = recording.frames[0][0], recording.frames[-1][0]
    if goals:
        first = max(first, goals[0].begin_ns - round(lead_s * S))
        last = min(last, goals[-1].end_ns + round(tail_s * S))
    count = max(1, math.ceil((last - first) * RATE_HZ / S))
    return [first + round(k * S / RATE_HZ) for k in range(count)]


def write(path: Path, recording: Recording, goals: Sequence[Curve]) -> int:
    """Write a VP8 WebM; returns the number of frames.

    Raises:
        ValueError: the recording holds no pictures. OSError: OpenCV cannot write the file.
    """
    import cv2

    times = frame_times(recording, goals)
    if not times:
        raise ValueError("no camera pictures in the bag, so no video")
    with _quiet():  # OpenCV complains about a tag and then takes the right one
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), RATE_HZ, SIZE)
    if not writer.isOpened():
        raise OSError(f"OpenCV cannot write {path} (VP8 in WebM)")
    try:
        for frame in frames(recording, goals, times):
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
    return len(times)


def animate(path: Path, recording: Recording, goals: Sequence[Curve]) -> int:
    """Write every second frame of the film as a moving picture that pages show (.webp or .gif); returns the number of frames.

    It ends with a pause, and begins again.

    Raises:
        ValueError: no pictures, or another kind of file. OSError: OpenCV cannot write it.
    """
    import cv2

    if path.suffix not in (".webp", ".gif"):
        raise ValueError(f"a moving picture is a .webp or .gif file, not {path.name}")
    times = frame_times(recording, goals)[::2]
    if not times:
        raise ValueError("no camera pictures in the bag")
    film = cv2.Animation()
    film.frames = [cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) for frame in frames(recording, goals, times)]
    film.durations = np.array([round(2e3 / RATE_HZ)] * (len(times) - 1) + [PAUSE_MS])
    if not cv2.imwriteanimation(str(path), film, [cv2.IMWRITE_WEBP_QUALITY, 70]):
        raise OSError(f"OpenCV cannot write {path}")
    return len(times)


def frames(recording: Recording, goals: Sequence[Curve], times: Sequence[int]) -> Iterator[ImageArray]:
    """The film at these stamps, ns, ascending: (H, W, 3) RGB each."""
    shown, index, camera = -1, 0, np.zeros((PANEL[1], PANEL[0], 3), np.uint8)
    for now in times:
        while index + 1 < len(recording.frames) and recording.frames[index + 1][0] <= now:
            index += 1
        if index != shown:
            camera, shown = fit(decompress(recording.frames[index][1])), index
        yield compose(recording, goals, now, camera)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what C code prints to standard error."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def compose(recording: Recording, goals: Sequence[Curve], now_ns: int, camera: ImageArray) -> ImageArray:
    """One frame of the film, (H, W, 3) RGB."""
    import cv2

    width, height = PANEL
    canvas = np.full((SIZE[1], SIZE[0], 3), _PAPER, np.uint8)
    canvas[CAPTION:, :width] = camera
    begun = [k for k, goal in enumerate(goals) if goal.begin_ns <= now_ns]
    number = begun[-1] if begun else None
    goal = None if number is None else goals[number]
    if number is not None and goal is not None:
        canvas[CAPTION:, width : 2 * width] = fit(recording.goals[number][1])
        canvas[CAPTION:, 2 * width :] = plot(goal, (now_ns - goal.begin_ns) / S)
    safety = next((row.mode for row in reversed(recording.safety) if row.stamp_ns <= now_ns), "-")
    time_s = 0.0 if goal is None else (now_ns - goal.begin_ns) / S
    texts = (f"camera   {time_s:5.1f} s   safety {safety}", "goal picture", "energy and distance to the goal")
    for place, text in enumerate(texts):
        cv2.putText(canvas, text, (place * width + 8, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
    return canvas


def plot(goal: Curve, until_s: float) -> ImageArray:
    """Two small diagrams, drawn up to ``until_s``: energy above, distances below."""
    import cv2

    width, height = PANEL
    panel = np.full((height, width, 3), _PAPER, np.uint8)
    span = max(goal.t.max(initial=0.0), 1.0)
    half = height // 2
    _diagram(panel[:half], span, until_s, "energy", [(goal.t, goal.energy, _ENERGY)])
    lines = [(goal.truth_t, goal.truth_m * 100, _TRUTH), (goal.t, goal.decoded_m * 100, _DECODED)]
    _diagram(panel[half:], span, until_s, "cm", lines)
    for place, (text, colour) in enumerate((("decoded", _DECODED), ("true (scoring only)", _TRUTH))):
        if place == 0 or goal.truth_m.size:
            cv2.putText(panel, text, (110 + 70 * place, half + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.35, colour, 1, cv2.LINE_AA)
    return panel


def _diagram(panel: ImageArray, span: float, until_s: float, name: str, lines: Sequence[tuple[FloatArray, FloatArray, Any]]) -> None:
    """Axes and lines into ``panel`` (a view); values that are not finite are left out."""
    import cv2

    height, width = panel.shape[:2]
    left, right, top, bottom = 44, width - 8, 16, height - 10
    finite = [values[np.isfinite(values)] for _, values, _ in lines]
    most = max((values.max() for values in finite if values.size), default=1.0)
    least = min(0.0, min((values.min() for values in finite if values.size), default=0.0))
    most = most if most > least else least + 1.0
    cv2.rectangle(panel, (left, top), (right, bottom), _GRID, 1)
    for value, y in ((most, top + 4), (least, bottom)):
        cv2.putText(panel, f"{value:.3g}", (2, y), cv2.FONT_HERSHEY_SIMPLEX, 0.33, _INK, 1, cv2.LINE_AA)
    cv2.putText(panel, name, (left, top - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.35, _INK, 1, cv2.LINE_AA)
    for t, values, colour in lines:
        keep = np.isfinite(values) & (t <= until_s) & (t >= 0)
        if not keep.any():
            continue
        x = left + t[keep] / span * (right - left)
        y = bottom - (values[keep] - least) / (most - least) * (bottom - top)
        points = np.stack([np.minimum(x, right), y], axis=1).round().astype(np.int32)
        cv2.polylines(panel, [points], False, colour, 1, cv2.LINE_AA)
        cv2.circle(panel, tuple(int(v) for v in points[-1]), 3, colour, -1, cv2.LINE_AA)


def fit(picture: ImageArray) -> ImageArray:
    """The picture in a panel: whole, centred, grey beside it."""
    import cv2

    width, height = PANEL
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    panel = np.full((height, width, 3), 128, np.uint8)
    x, y = (width - size[0]) // 2, (height - size[1]) // 2
    panel[y : y + size[1], x : x + size[0]] = small
    return panel
