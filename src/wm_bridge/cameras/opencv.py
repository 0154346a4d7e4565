"""USB cameras (V4L2), video files and network streams through OpenCV."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wm_bridge.cameras.base import Camera, CameraError, CameraInfo, pinhole
from wm_bridge.core.types import Frame


class OpenCVCamera(Camera):
    """A camera device by number or ``/dev/video`` path, a video file, or a stream address.

    Args:
        source: device number, path, or address.
        width, height: wanted size, pixels; anything else from the device is an error.
        fps: wanted rate of a device.
        fovy_deg: vertical field of view of a pinhole that is assumed without calibration.
        frame_id: optical frame.
        now_ns: clock for stamps; the system clock by default.
        loop: start a file again at its end.
        calibration: intrinsics and distortion, of pictures of this size.

    Raises:
        CameraError: the calibration is of another size.
    """

    def __init__(
        self,
        source: int | str | Path,
        width: int = 640,
        height: int = 480,
        fps: float = 30.0,
        fovy_deg: float = 45.0,
        frame_id: str = "camera_optical",
        now_ns: Callable[[], int] = time.time_ns,
        loop: bool = False,
        calibration: CameraInfo | None = None,
    ) -> None:
        super().__init__()
        assumed = CameraInfo(width, height, pinhole(width, height, fovy_deg), frame_id)
        self._info = assumed if calibration is None else dataclasses.replace(calibration, frame_id=frame_id)
        if (self._info.width, self._info.height) != (width, height):
            raise CameraError(
                f"the calibration is of {self._info.width}x{self._info.height} pictures, {width}x{height} are asked for",
                "calibrate with this size, or set width and height to that of the calibration",
            )
        text = str(source)
        self._source: int | str = int(text) if text.isdigit() else text
        self._is_device = isinstance(self._source, int) or text.startswith("/dev/")
        self._fps, self._now_ns, self._loop = fps, now_ns, loop
        self._capture: Any = None

    @property
    def info(self) -> CameraInfo:
        """Size, intrinsics and optical frame."""
        return self._info

    def _open(self) -> None:
        import cv2

        self._require_source()
        capture = cv2.VideoCapture(self._source, cv2.CAP_V4L2 if self._is_device else cv2.CAP_ANY)
        if not capture.isOpened():
            capture.release()
            raise CameraError(f"cannot open camera {self._source!r}", self._remedy())
        if self._is_device:  # MJPG first: raw pictures do not fit through USB 2 at 30 Hz
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._info.width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._info.height)
            capture.set(cv2.CAP_PROP_FPS, self._fps)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        size = (
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        if size != (self._info.width, self._info.height):
            capture.release()
            raise self._wrong_size(*size)
        self._capture = capture

    def _close(self) -> None:
        self._capture.release()
        self._capture = None

    def _read(self) -> Frame:
        import cv2

        good, picture = self._capture.read()
        if not good and self._loop and not self._is_device:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            good, picture = self._capture.read()
        stamp_ns = self._now_ns()
        if not good or picture is None:
            raise CameraError(
                f"camera {self._source!r} gave no picture",
                "check the cable and USB hub, then reconnect"
                if self._is_device
                else "the file has ended; set loop to start it again",
            )
        if picture.shape[:2] != (self._info.height, self._info.width):
            raise self._wrong_size(picture.shape[1], picture.shape[0])
        return Frame(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), stamp_ns, self._info.frame_id)

    def _require_source(self) -> None:
        source = self._source
        path = Path(f"/dev/video{source}" if isinstance(source, int) else source)
        if "://" not in str(source) and not path.exists():
            raise CameraError(f"there is no {path}", self._remedy())

    def _wrong_size(self, width: int, height: int) -> CameraError:
        return CameraError(
            f"expected {self._info.width}x{self._info.height} pictures from {self._source!r}, "
            f"got {width}x{height}",
            f"set width {width} and height {height} in the camera configuration",
        )

    def _remedy(self) -> str:
        if not self._is_device:
            return "check the path or address of the video"
        found = sorted(str(path) for path in Path("/dev").glob("video*"))
        return (
            f"choose one of {found}; close other programs that use it; "
            "add yourself to the group video: sudo usermod -aG video $USER"
            if found
            else "plug the camera in; in a container pass it with --device /dev/video0"
        )
