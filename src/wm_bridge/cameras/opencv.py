"""USB cameras (V4L2), video files and network streams through OpenCV."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wm_bridge.cameras.base import Camera, CameraError, CameraInfo, pinhole
from wm_bridge.cameras.reader import Reader
from wm_bridge.core.types import Frame

BY_ID = Path("/dev/v4l/by-id")
_MANUAL, _AUTOMATIC = 1, 3  # exposure_auto of V4L2: manual, aperture priority
_EXPOSURE_US = 100.0  # unit of exposure_time_absolute of V4L2
_SLOWEST = 0.7  # of the rate that was asked for; below, diagnostics would call every picture late
_BUFFERS = 2  # one that is filled and one that is read: with a single one a driver drops every other picture


@dataclass(frozen=True)
class OpenCVSettings:
    """What is asked of the camera.

    Attributes:
        source: device number, device (``/dev/v4l/by-id/...`` stays the same camera), video file, or stream address.
        width, height: pixels; anything else is an error.
        fps: rate of a device, which may give somewhat less, and of a file in real time.
        pixel_format: of a device, four letters as in ``v4l2-ctl --list-formats``: MJPG, YUYV ...; empty: as it is.
        exposure_us: of a device; 0: automatic.
        fovy_deg: vertical field of view of a pinhole that is assumed without calibration.
        frame_id: optical frame.
        calibration: intrinsics and distortion, of pictures of this size.
        loop: begin a file again at its end.
        real_time: a file at ``fps``, its newest picture; False: every picture, as fast as asked.
        timeout_s: no picture for this long is an error. start_s: longer than that for the first one; USB cameras begin slowly.
    """

    source: int | str | Path = 0
    width: int = 640
    height: int = 480
    fps: float = 30.0
    pixel_format: str = "MJPG"  # raw pictures do not fit through USB 2 at 30 Hz
    exposure_us: float = 0.0
    fovy_deg: float = 45.0
    frame_id: str = "camera_optical"
    calibration: CameraInfo | None = None
    loop: bool = False
    real_time: bool = True
    timeout_s: float = 1.0
    start_s: float = 3.0

    def __post_init__(self) -> None:
        if len(self.pixel_format) not in (0, 4):
            raise ValueError(f"pixel_format must have four letters, as MJPG or YUYV, got '{self.pixel_format}'")
        if not (0.0 < self.fps <= 1000.0 and 0.0 <= self.exposure_us <= 1e7 and self.timeout_s > 0.0 and self.start_s > 0.0):
            times = f"{self.timeout_s}, {self.start_s}"
            raise ValueError(f"fps, exposure_us, timeout_s or start_s is out of range: {self.fps}, {self.exposure_us}, {times}")


class OpenCVCamera(Camera):
    """The newest picture of a device, read in a thread of its own; a file goes the same way.

    Args:
        settings: see there.
        now_ns: node time. A device's pictures are stamped with the moment that V4L2 notes for them.
        open_capture: makes what OpenCV calls a VideoCapture from source and backend.

    Raises:
        CameraError: the calibration is of another size.
    """

    def __init__(
        self,
        settings: OpenCVSettings,
        now_ns: Callable[[], int] = time.time_ns,
        open_capture: Callable[[Any, int], Any] | None = None,
    ) -> None:
        super().__init__()
        self._settings, self._now_ns, self._open_capture = settings, now_ns, open_capture
        width, height = settings.width, settings.height
        found = settings.calibration or CameraInfo(width, height, pinhole(width, height, settings.fovy_deg), "")
        self._info = dataclasses.replace(found, frame_id=settings.frame_id)
        if (found.width, found.height) != (width, height):
            raise CameraError(
                f"the calibration is of {found.width}x{found.height} pictures, {width}x{height} are asked for",
                "calibrate with this size, or set width and height to that of the calibration",
            )
        text = str(settings.source)
        self._path = Path(f"/dev/video{text}") if text.isdigit() else Path(text)
        self._is_stream = "://" in text
        self._reader: Reader | None = None
        self._waiting_s = 0.0

    @property
    def info(self) -> CameraInfo:
        """Size, intrinsics and optical frame."""
        return self._info

    def _open(self) -> None:
        import cv2

        if not self._is_stream and not self._path.exists():
            raise CameraError(f"there is no {self._path}", self._remedy())
        is_device = not self._is_stream and (self._path.is_char_device() or self._path.is_relative_to("/dev"))
        # Seconds for which OpenCV holds a device that is silent from the start, ten by default; read once in a process.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")
        source = str(self._settings.source) if self._is_stream else str(self._path.resolve())  # by-id is a link that moves
        capture = (self._open_capture or cv2.VideoCapture)(source, cv2.CAP_V4L2 if is_device else cv2.CAP_ANY)
        try:
            if not capture.isOpened():
                raise CameraError(f"cannot open camera {self._settings.source}", self._remedy())
            if is_device:
                self._configure(capture)
            size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
            if size != (self._info.width, self._info.height):
                raise self._wrong_size(*size)
        except CameraError:
            capture.release()
            raise
        is_file = not is_device and not self._is_stream
        every = is_file and not self._settings.real_time
        period_s = 1.0 / self._settings.fps if is_file and self._settings.real_time else 0.0
        self._waiting_s = max(self._settings.start_s, self._settings.timeout_s)
        self._reader = Reader(capture, self._now_ns, period_s, is_file and self._settings.loop, every, is_device)

    def _configure(self, capture: Any) -> None:
        """Ask the device for format, size, rate and exposure, in the order that V4L2 wants."""
        import cv2

        settings = self._settings
        if settings.pixel_format:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*settings.pixel_format))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height)
        capture.set(cv2.CAP_PROP_FPS, settings.fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, _BUFFERS)
        code = int(capture.get(cv2.CAP_PROP_FOURCC))
        given = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
        if settings.pixel_format and given != settings.pixel_format:
            raise CameraError(
                f"camera {settings.source} gives {given!r} pictures, {settings.pixel_format} was asked for",
                f"set pixel_format to one of v4l2-ctl --list-formats-ext -d {self._path}, or leave it empty",
            )
        rate = capture.get(cv2.CAP_PROP_FPS)
        if 0.0 < rate < _SLOWEST * settings.fps:  # 0: the device does not tell
            raise CameraError(
                f"camera {settings.source} gives {rate:.3g} pictures a second of {settings.width}x{settings.height}, {settings.fps:.3g} were asked for",
                f"set rate_hz to {rate:.3g}, or another size or pixel_format of v4l2-ctl --list-formats-ext -d {self._path}",
            )
        if not settings.exposure_us:
            capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _AUTOMATIC)  # what has no such control is automatic
            return
        asked = max(1, round(settings.exposure_us / _EXPOSURE_US))
        taken = capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL) and capture.set(cv2.CAP_PROP_EXPOSURE, asked)
        if not taken or abs(capture.get(cv2.CAP_PROP_EXPOSURE) / asked - 1.0) > 0.1:  # a driver brings it into the camera's range, silently
            raise CameraError(f"camera {settings.source} takes no exposure of {settings.exposure_us:.0f} us",
                              f"see its range with v4l2-ctl -L -d {self._path}; exposure_us 0 leaves it to the camera")  # fmt: skip

    def _close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _read(self) -> Frame:
        import cv2

        assert self._reader is not None
        taken = self._reader.take(self._waiting_s)
        if taken is None:
            what = "gives no more pictures" if self._reader.ended else f"gave no picture for {self._waiting_s:.1f} s"
            raise CameraError(f"camera {self._settings.source} {what}", self._why_silent())
        self._waiting_s = self._settings.timeout_s
        picture, stamp_ns = taken
        if picture.shape[:2] != (self._info.height, self._info.width):
            raise self._wrong_size(picture.shape[1], picture.shape[0])
        colours = cv2.COLOR_GRAY2RGB if picture.ndim == 2 else cv2.COLOR_BGR2RGB
        return Frame(cv2.cvtColor(picture, colours), stamp_ns, self._info.frame_id)

    def _why_silent(self) -> str:
        if self._path.is_file():
            return "the file has ended; set loop to begin it again"
        if self._is_stream:
            return "check network and address; it is opened again"
        gone = not self._path.exists()
        return ("it is unplugged: plug it in" if gone else "check cable and USB hub") + "; it is opened again by itself"

    def _wrong_size(self, width: int, height: int) -> CameraError:
        return CameraError(
            f"expected {self._info.width}x{self._info.height} pictures from {self._settings.source}, got {width}x{height}",
            f"set width {width} and height {height} in the camera configuration",
        )

    def _remedy(self) -> str:
        if self._is_stream or not (str(self._settings.source).isdigit() or self._path.is_relative_to("/dev")):
            return "check the path or address of the video"
        found = [str(path) for path in sorted(BY_ID.glob("*-video-index0")) or sorted(Path("/dev").glob("video*"))]
        return (
            f"choose one of {', '.join(found)}; close other programs that use it; "
            "add yourself to the group video: sudo usermod -aG video $USER"
            if found
            else "plug the camera in; in a container pass it with --device /dev/video0"
        )
