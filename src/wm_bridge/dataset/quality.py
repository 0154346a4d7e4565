"""How good recorded data are: rates, gaps, jitter, holes, saturation, still and badly exposed pictures; numbers and a page."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.dataset.streams import S, Stamps, Streams
from wm_bridge.dataset.sync import Episode
from wm_bridge.report.sheet import photo, plot, table, write_sheet

STILL_LEVELS, MOVED_RAD = 0.3, 0.03  # a picture that changed less while a joint moved more is still
DARK, BRIGHT = 8, 247  # levels of 255
NEAR_LIMIT = 0.01  # share of a joint's range
_SHEET, _SHEET_PX = 24, 128


@dataclass
class Look:
    """What the pictures of the first camera told: (T,) mean level, share dark or bright, change since the last one; a few to show."""

    level: list[float] = field(default_factory=list)
    clipped: list[float] = field(default_factory=list)
    change: list[float] = field(default_factory=list)
    shown: list[ImageArray] = field(default_factory=list)
    _last: NDArray[np.int16] | None = None

    def begin(self) -> None:
        """A new episode: its first picture has none before it."""
        self._last = None

    def add(self, small: ImageArray, show: bool) -> None:
        """Take a small picture (S, S, 3)."""
        levels = small.astype(np.int16)
        self.level.append(float(levels.mean()))
        self.clipped.append(float(((levels <= DARK) | (levels >= BRIGHT)).mean()))
        self.change.append(float("nan") if self._last is None else float(np.abs(levels - self._last).mean()))
        self._last = levels
        if show:
            self.shown.append(small)


def rates(stamps: Stamps) -> dict[str, float]:
    """Messages, rate (Hz, of the median spacing), 99 % quantile and largest spacing (s), standard deviation about the median (ms)."""
    if len(stamps) < 2:
        return {"messages": len(stamps)}
    apart = np.diff(stamps) / S
    median = float(np.median(apart))
    return {
        "messages": len(stamps), "rate_hz": 1.0 / median, "jitter_ms": 1e3 * float(np.sqrt(np.median((apart - median) ** 2))),
        "gap_p99_s": float(np.quantile(apart, 0.99)), "gap_max_s": float(apart.max()),
    }  # fmt: skip


def of_streams(streams: Streams) -> dict[str, Any]:
    """What a bag's streams look like, over all its parts."""
    found: dict[str, Any] = {"parts": len(streams.parts), "note": streams.note, "left_out": dict(streams.left_out), "streams": {}}
    for part in streams.parts[:1]:
        every = {f"camera {name}": stamps for name, (stamps, _) in part.cameras.items()} | {"joints": part.joints[0]}
        if part.commands is not None:
            every["commands"] = part.commands[0]
        found["streams"] = {name: rates(stamps) for name, stamps in every.items()}
    return found


def of_episodes(
    episodes: Sequence[Episode], look: Look, lower: FloatArray, upper: FloatArray, box: FloatArray, names: Sequence[str], holes: Counter[str]
) -> dict[str, Any]:
    """What the samples look like.

    Args:
        lower, upper: (A,) rad limits. box: (A,) rad, the largest change per sample that the model's actions have.
    """
    if not episodes:
        return {"episodes": 0, "samples": 0, "holes": dict(holes)}
    position = np.concatenate([e.position for e in episodes])
    steps = np.concatenate([np.diff(e.reference, axis=0) for e in episodes])
    moved = np.concatenate([np.append(0.0, np.abs(np.diff(e.position, axis=0)).max(1)) for e in episodes])
    offset = np.abs(np.concatenate([e.offset_ns for e in episodes], axis=1)).ravel() / 1e6
    change, level, clipped = (np.array(values) for values in (look.change, look.level, look.clipped))
    near = NEAR_LIMIT * (upper - lower)
    at_limit = ((position < lower + near) | (position > upper - near)).mean(0)
    beyond = (np.abs(steps) > box * 1.001).mean(0) if len(steps) else np.zeros(len(names))
    seen = ~np.isnan(change)
    return {
        "episodes": len(episodes), "samples": len(position), "holes": dict(holes),
        "samples_per_episode": [int(np.min([len(e) for e in episodes])), float(np.median([len(e) for e in episodes])), int(np.max([len(e) for e in episodes]))],
        "sync_ms": {"p50": float(np.median(offset)), "p99": float(np.quantile(offset, 0.99)), "max": float(offset.max())},
        "at_joint_limit": {name: float(share) for name, share in zip(names, at_limit, strict=True) if share > 0},
        "beyond_action_box": {name: float(share) for name, share in zip(names, beyond, strict=True) if share > 0},
        "standing": float((moved < 1e-3).mean()),
        "still_while_moving": float(((change < STILL_LEVELS) & (moved > MOVED_RAD))[seen].mean()) if seen.any() else 0.0,
        "brightness": {"p5": float(np.quantile(level, 0.05)), "median": float(np.median(level)), "p95": float(np.quantile(level, 0.95))},
        "clipped_pixels": {"mean": float(clipped.mean()), "max": float(clipped.max())},
    }  # fmt: skip


def warnings(bag: Mapping[str, Any], samples: Mapping[str, Any], rate_hz: float) -> list[str]:
    """What a person should look at, one sentence each."""
    found = [str(bag["note"])] if bag["note"] else []
    found += [f"{count} messages not used: {why}" for why, count in bag["left_out"].items()]
    if bag["parts"] > 1:
        found.append(f"the clock was set back {bag['parts'] - 1} times; each part is data of its own")
    for name, stream in bag["streams"].items():
        if stream.get("rate_hz", rate_hz) < 0.95 * rate_hz:
            found.append(f"{name} come at {stream['rate_hz']:.1f} Hz, slower than {rate_hz:g} samples per second: give --rate {max(1, int(stream['rate_hz'] + 0.02))}")
        if stream.get("gap_max_s", 0.0) > 2.0 / rate_hz:
            found.append(f"{name}: nothing for up to {stream['gap_max_s']:.2f} s")
    found += [f"{count} sampling times left out: {why}" for why, count in samples["holes"].items() if count]
    if not samples["episodes"]:
        return [*found, "no episode is left"]
    if samples["still_while_moving"] > 0.01:
        found.append(f"{100 * samples['still_while_moving']:.0f} % of the pictures do not change while the arm moves: is the camera frozen, or does it not see the arm?")
    if samples["standing"] > 0.5:
        found.append(f"the arm stands in {100 * samples['standing']:.0f} % of the samples: a model learns little there")
    if samples["clipped_pixels"]["mean"] > 0.25:
        found.append(f"{100 * samples['clipped_pixels']['mean']:.0f} % of the picture is black or white: set the exposure")
    for name, share in samples["at_joint_limit"].items():
        if share > 0.05:
            found.append(f"{name} is at its limit in {100 * share:.0f} % of the samples")
    for name, share in samples["beyond_action_box"].items():
        if share > 0.02:
            found.append(f"{name} is commanded faster than the action box in {100 * share:.0f} % of the samples: sample faster, or widen the box")
    return found


def contact_sheet(look: Look) -> ImageArray:
    """A grid of pictures over the whole data."""
    import cv2

    chosen = [look.shown[int(i)] for i in np.linspace(0, len(look.shown) - 1, min(_SHEET, len(look.shown)))]
    tiles = [np.asarray(cv2.resize(picture, (_SHEET_PX, _SHEET_PX), interpolation=cv2.INTER_NEAREST), np.uint8) for picture in chosen]
    across = 8
    while len(tiles) % across:
        tiles.append(np.full_like(tiles[0], 255))
    return np.concatenate([np.concatenate(tiles[k : k + across], axis=1) for k in range(0, len(tiles), across)])


def write_page(path: Path, title: str, quality: Mapping[str, Any], look: Look, episodes: Sequence[Episode]) -> None:
    """One page with pictures, plots and all numbers."""
    parts: list[str] = []
    for name, bag in quality["bags"].items():
        parts.append(f"<h2>{html.escape(name)}</h2>")
        parts += [f'<p class="note">{html.escape(text)}</p>' for text in bag["warnings"]]
        parts.append(table((stream, ", ".join(f"{key} {value:.4g}" for key, value in rows.items())) for stream, rows in bag["streams"].items()))
    if look.shown:
        parts.append(f"<h2>Pictures</h2>{photo(contact_sheet(look), 'pictures')}")
    if episodes:  # a LeRobot dataset does not tell when its pictures were taken
        parts.append(f"<h2>Over the samples</h2>{plot(_plots(look, episodes), 'plots')}")
    parts.append("<h2>Samples</h2>" + table((key, value) for key, value in quality["samples"].items()))
    write_sheet(path, title, (), parts)


def _plots(look: Look, episodes: Sequence[Episode]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.5))
    axes = figure.subplots(2, 2)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.1, top=0.97, hspace=0.32)  # a layout that is computed takes longer than all else
    offset = np.concatenate([e.offset_ns[0] for e in episodes]) / 1e6
    axes[0, 0].hist(offset, bins=60)
    axes[0, 0].set(xlabel="picture after its sampling time, ms", ylabel="samples")
    spacing = np.concatenate([np.diff(e.stamps) for e in episodes]) / 1e6
    axes[0, 1].hist(spacing, bins=60)
    axes[0, 1].set(xlabel="between two samples, ms")
    axes[1, 0].plot(look.level, label="mean level")
    axes[1, 0].plot(255 * np.array(look.clipped), label="clipped pixels x 255")
    axes[1, 0].legend()
    axes[1, 0].set(xlabel="sample")
    for episode in episodes[:50]:
        axes[1, 1].plot(np.abs(episode.reference - episode.position).max(1), lw=0.6)
    axes[1, 1].set(xlabel="sample of an episode", ylabel="largest lag behind the command, rad")
    return figure
