"""Pictures to and from mp4 files, through PyAV (requirements/data.txt)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wm_bridge.core.types import ImageArray
from wm_bridge.errors import UserError

CODEC, NAMED, PIXELS = "libx264", "h264", "yuv420p"
EVERY = 4  # a key frame every so many pictures: a random one costs at most so many decodings
_AHEAD = 8  # pictures that wait for their encoding
_OPTIONS = {"preset": "ultrafast", "crf": "20", "threads": "1"}  # it has a thread of its own; several of libx264's wait for each other


def pyav() -> Any:
    """The package av.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(f"videos need the package av ({error})", "start it as ./wm dataset, which installs requirements/data.txt") from error
    return av


class VideoWriter:
    """Appends pictures of one size to a file; ``count`` are in it."""

    def __init__(self, path: Path, rate_hz: float, width: int, height: int) -> None:
        av = pyav()
        self._av, self.size, self.count, self.path = av, (width, height), 0, path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = av.open(str(path), "w", format="mp4")
        rate = Fraction(rate_hz).limit_denominator(1000)
        self._stream = self._file.add_stream(CODEC, rate=rate, options=_OPTIONS | {"g": str(EVERY)})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width + width % 2, height + height % 2, PIXELS
        self._stream.time_base = 1 / rate
        self._pool, self._waiting = ThreadPoolExecutor(1), deque[Future[None]]()

    def add(self, picture: ImageArray) -> None:
        """Append (H, W, 3) uint8 RGB, encoded in a thread; an odd size gets a repeated last row or column, as yuv420p needs.

        Raises:
            ValueError: another size than the first.
        """
        if (picture.shape[1], picture.shape[0]) != self.size:
            raise ValueError(f"a picture of {picture.shape[1]}x{picture.shape[0]} in a video of {self.size[0]}x{self.size[1]}")
        self._waiting.append(self._pool.submit(self._encode, picture, self.count))
        self.count += 1
        if len(self._waiting) > _AHEAD:
            self._waiting.popleft().result()

    def _encode(self, picture: ImageArray, number: int) -> None:
        if self.size[0] % 2 or self.size[1] % 2:
            picture = np.pad(picture, ((0, self.size[1] % 2), (0, self.size[0] % 2), (0, 0)), mode="edge")
        planes = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)  # as BT.601 video, in half the time that libswscale takes
        frame = self._av.VideoFrame.from_ndarray(planes, format=PIXELS)
        frame.pts = number
        for packet in self._stream.encode(frame):
            self._file.mux(packet)

    def close(self) -> None:
        """Write what is left and the file's index."""
        for waiting in self._waiting:
            waiting.result()
        self._pool.shutdown()
        for packet in self._stream.encode():
            self._file.mux(packet)
        self._file.close()


def read_video(path: Path, begin_s: float, count: int, rate_hz: float) -> Iterator[ImageArray]:
    """``count`` pictures (H, W, 3) uint8 RGB from the one at ``begin_s`` on.

    Raises:
        ValueError: the file cannot be read, or ends before.
    """
    av = pyav()
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            stream.thread_type = "AUTO"
            file.seek(max(0, round(begin_s / stream.time_base)), stream=stream)
            earliest, given = begin_s - 0.5 / rate_hz, 0
            for frame in file.decode(stream):
                if given == count:
                    return
                if frame.time is not None and frame.time >= earliest:
                    yield frame.to_ndarray(format="rgb24")
                    given += 1
    except (av.FFmpegError, IndexError, OSError) as error:
        raise ValueError(f"{path} is no video that can be read: {error}") from error
    if given < count:
        raise ValueError(f"{path} ends after {given} of {count} pictures from {begin_s:.2f} s on")
