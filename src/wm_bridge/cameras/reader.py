"""The newest picture of something that gives them one after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MS = 1_000_000  # nanoseconds
_LOOK_NS = 100_000_000  # a device is waited for this long, then once more if anybody still wants its pictures
_OLDEST_NS = 1_000_000_000  # a device's note of a picture's time is believed up to this age


class Reader:
    """Reads an OpenCV capture in a thread of its own, so that nobody gets an old picture or waits for a dead camera.

    Args:
        capture: open VideoCapture; released by the thread when it ends.
        now_ns: node time.
        period_s: between two pictures of a file; 0: as they come.
        loop: begin again at the end.
        every: wait until a picture is taken before the next one is read; else the newest one counts.
        device: V4L2: it can be waited for, and notes the steady time at which each picture came.
    """

    def __init__(
        self, capture: Any, now_ns: Callable[[], int], period_s: float = 0.0, loop: bool = False, every: bool = False, device: bool = False
    ) -> None:
        self._capture, self._now_ns = capture, now_ns
        self._period_s, self._loop, self._every, self._device = period_s, loop, every, device
        self._changed = threading.Condition()
        self._kept: tuple[NDArray[np.uint8], int] | None = None
        self._closing = False
        self.ended = False
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float) -> tuple[NDArray[np.uint8], int] | None:
        """The newest picture, each only once, and its stamp (ns); None when none comes in time, or ever again."""
        with self._changed:
            self._changed.wait_for(lambda: self._kept is not None or self.ended, timeout_s)
            taken, self._kept = self._kept, None
            self._changed.notify_all()
            return taken

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread; one that hangs in a dead device releases it whenever it gets out."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        due = time.monotonic()
        try:
            if self._device:
                self._capture.grab()  # begins the stream, with a picture or without: waitAny takes a silent beginning for an error
            while not self._closing and self._grab():
                stamp_ns = self._stamp()
                good, picture = self._capture.retrieve()
                if not good or picture is None:
                    return
                with self._changed:
                    if self._every:
                        self._changed.wait_for(lambda: self._kept is None or self._closing)
                    self._kept = picture, stamp_ns
                    self._changed.notify_all()
                    due = max(due + self._period_s, time.monotonic() - self._period_s)
                    if self._period_s:
                        self._changed.wait_for(lambda: self._closing, due - time.monotonic())
        finally:
            self._capture.release()
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _grab(self) -> bool:
        if self._device:
            return self._wait()
        if self._capture.grab():
            return True
        if not self._loop:
            return False
        import cv2

        self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        return bool(self._capture.grab())

    def _wait(self) -> bool:
        """Grab a device's next picture; a plain ``grab`` would hold a silent device for ten seconds, and nobody could open it again."""
        import cv2

        try:
            while not self._closing:
                if self._capture.waitAny([self._capture], _LOOK_NS)[0]:
                    return True
        except cv2.error:  # unplugged
            pass
        return False

    def _stamp(self) -> int:
        """Node time at which the picture was there."""
        now_ns = self._now_ns()
        if not self._device:
            return now_ns
        import cv2

        age_ns = time.monotonic_ns() - round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * _MS)
        return now_ns - age_ns if 0 <= age_ns < _OLDEST_NS else now_ns
