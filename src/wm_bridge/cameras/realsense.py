"""Intel RealSense cameras, and recordings of them, through librealsense."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge.cameras.base import Camera, CameraError, CameraInfo
from wm_bridge.cameras.stamps import ClockMap
from wm_bridge.core.types import DepthImage, Frame

_MS = 1_000_000  # nanoseconds
# distortion of librealsense -> of sensor_msgs/CameraInfo; the inverse model has no name there
_MODELS = {"none": "plumb_bob", "brown_conrady": "plumb_bob", "modified_brown_conrady": "plumb_bob", "kannala_brandt4": "equidistant"}


@dataclass(frozen=True)
class RealSenseSettings:
    """What is asked of the camera.

    Attributes:
        serial: of the camera; empty: the only one.
        width, height, fps: colour stream, pixels and 1/s.
        depth: also the depth, aligned with the colour picture.
        exposure_us: of the colour sensor; 0 leaves it to the camera.
        playback: a recording (.db3) instead of a camera. loop: begin it again at its end.
        real_time: play at the recorded speed and give the newest picture; False: every picture, as fast as asked.
        timeout_s: no picture for this long is an error.
        frame_id: optical frame of the colour picture.
    """

    serial: str = ""
    width: int = 640
    height: int = 480
    fps: int = 30
    depth: bool = False
    exposure_us: float = 0.0
    playback: Path | None = None
    loop: bool = False
    real_time: bool = True
    timeout_s: float = 1.0
    frame_id: str = "camera_color_optical_frame"


class RealSenseCamera(Camera):
    """Colour, and aligned depth when asked for; stamps of the camera's clock, mapped to node time.

    Args:
        settings: see there.
        now_ns: node time.
    """

    def __init__(self, settings: RealSenseSettings, now_ns: Callable[[], int] = time.time_ns) -> None:
        super().__init__()
        self._settings, self._now_ns = settings, now_ns
        self._rs: Any = None
        self._pipeline: Any = None
        self._align: Any = None
        self._info: CameraInfo | None = None
        self._clock = ClockMap()
        self._number = -1
        self._held: Any = None
        self._depth: DepthImage | None = None

    @property
    def info(self) -> CameraInfo:
        """As the camera tells it; a CameraError before it was connected once."""
        if self._info is None:
            raise CameraError("a RealSense tells its intrinsics when it is connected", "call connect() first")
        return self._info

    @property
    def depth(self) -> DepthImage | None:
        """Depth of the last picture; None when it had none."""
        return self._depth

    def _open(self) -> None:
        settings = self._settings
        rs = self._rs = _library()
        config = rs.config()
        if settings.playback is not None:
            if not settings.playback.is_file():
                raise CameraError(f"there is no recording {settings.playback}", "check the path; recordings of this SDK end in .db3")
            config.enable_device_from_file(str(settings.playback), settings.loop)
        else:
            config.enable_device(self._serial(rs))
        config.enable_stream(rs.stream.color, settings.width, settings.height, rs.format.rgb8, settings.fps)
        if settings.depth:
            config.enable_stream(rs.stream.depth)
        pipeline = rs.pipeline()
        try:
            profile = pipeline.start(config)
        except RuntimeError as error:
            raise CameraError(f"the RealSense does not start: {error}", self._offer(rs)) from error
        device = profile.get_device()
        if settings.playback is not None:
            device.as_playback().set_real_time(settings.real_time)
        elif settings.exposure_us:
            sensor = device.first_color_sensor()
            sensor.set_option(rs.option.enable_auto_exposure, 0)
            sensor.set_option(rs.option.exposure, settings.exposure_us)
        stream = profile.get_stream(rs.stream.color).as_video_stream_profile()
        self._info = _info_of(stream.get_intrinsics(), settings.frame_id)
        self._align = rs.align(rs.stream.color) if settings.depth else None
        self._pipeline, self._clock, self._number, self._held = pipeline, ClockMap(), -1, None

    def _close(self) -> None:
        pipeline, self._pipeline, self._held, self._depth = self._pipeline, None, None, None
        try:
            pipeline.stop()
        except RuntimeError:  # unplugged: there is nothing to stop any more
            pass

    def _read(self) -> Frame:
        frames, arrival_ns = self._newest()
        colour = frames.get_color_frame()
        again = colour.get_frame_number() < self._number
        self._number = colour.get_frame_number()
        device_ns = round(colour.get_timestamp() * _MS)
        if again:
            self._clock = ClockMap()  # the recording began anew
        stamp_ns = self._clock.node_time(device_ns, arrival_ns)
        self._depth = self._depth_of(frames, stamp_ns)
        return Frame(np.array(colour.get_data(), dtype=np.uint8), stamp_ns, self._settings.frame_id)

    def _newest(self) -> tuple[Any, int]:
        """The newest frames with a colour picture not given before, and when they were here.

        The SDK hands out a colour picture with the depth that it has by then, and once more with the
        depth of its own time, so half a period is waited for that.
        """
        found, arrival_ns = None, 0
        end = time.monotonic() + self._settings.timeout_s
        while True:
            whole = found is not None and self._whole(found)
            frames = self._next(0.0 if whole else end - time.monotonic())
            if frames is None:
                if found is not None:
                    return found, arrival_ns
                raise CameraError(f"no new picture from the RealSense for {self._settings.timeout_s:.1f} s", self._remedy())
            number = _number(frames)
            if number in (None, self._number):
                continue
            if found is None or number != _number(found):
                if found is not None and not self._settings.real_time:
                    self._held = frames
                    return found, arrival_ns
                arrival_ns, end = self._now_ns(), time.monotonic() + 0.5 / self._settings.fps
            found = frames
            if not self._settings.real_time and self._whole(found):
                return found, arrival_ns

    def _next(self, wait_s: float) -> Any:
        """Frames that came, or come within this time; None when none do."""
        held, self._held = self._held, None
        if held is not None:
            return held
        try:
            if wait_s <= 0.0:
                frames = self._pipeline.poll_for_frames()
                return frames if frames.size() else None
            good, frames = self._pipeline.try_wait_for_frames(max(1, round(wait_s * 1e3)))
        except RuntimeError as error:
            raise CameraError(f"the RealSense gives no more pictures: {error}", self._remedy()) from error
        return frames if good else None

    def _whole(self, frames: Any) -> bool:
        """Nothing is missing: depth is not asked for, or was taken within half a period of the picture."""
        if self._align is None:
            return True
        colour, depth = frames.get_color_frame(), frames.get_depth_frame()
        return bool(depth) and abs(depth.get_timestamp() - colour.get_timestamp()) <= 500.0 / self._settings.fps

    def _depth_of(self, frames: Any, stamp_ns: int) -> DepthImage | None:
        """Depth seen from the colour camera; None without one of the picture's time."""
        if self._align is None or not self._whole(frames):
            return None
        aligned = self._align.process(frames).get_depth_frame()
        raw = np.array(aligned.get_data(), dtype=np.float32) * np.float32(1e3 * aligned.get_units())
        return DepthImage(np.minimum(np.rint(raw), 65535).astype(np.uint16), stamp_ns, self._settings.frame_id)

    def _serial(self, rs: Any) -> str:
        found = [device.get_info(rs.camera_info.serial_number) for device in rs.context().query_devices()]
        wanted = self._settings.serial
        if wanted in found:
            return wanted
        if wanted:
            raise CameraError(f"there is no RealSense with the serial number {wanted}", f"connected are: {', '.join(found) or 'none'}")
        if len(found) != 1:
            raise CameraError(
                f"{len(found)} RealSense cameras are connected" + (f": {', '.join(found)}" if found else ""),
                "name one with the parameter serial" if found else "plug it into a USB 3 port; install the udev rules of librealsense; ./wm doctor",
            )
        return str(found[0])

    def _offer(self, rs: Any) -> str:
        """Sizes and rates that the connected camera has."""
        if self._settings.playback is not None:
            return "choose the width, height and rate of the recording, and depth only if it holds depth"
        offers = set()
        for device in rs.context().query_devices():
            for sensor in device.query_sensors():
                for stream in sensor.get_stream_profiles():
                    if stream.stream_type() == rs.stream.color:
                        video = stream.as_video_stream_profile()
                        offers.add((video.width(), video.height(), video.fps()))
        listed = ", ".join(f"{w}x{h} at {fps}" for w, h, fps in sorted(offers))
        return f"close other programs that use it; it offers {listed or 'nothing: unplug it and plug it in again'}"

    def _remedy(self) -> str:
        if self._settings.playback is not None:
            return "the recording has ended; set loop to begin it again"
        return "check cable and USB port; it is opened again at the next picture"


def _number(frames: Any) -> int | None:
    """Of the colour picture; None without one."""
    colour = frames.get_color_frame()
    return colour.get_frame_number() if colour else None


def _library() -> Any:
    try:
        import pyrealsense2 as rs
    except ImportError as error:
        raise CameraError(f"pyrealsense2 does not load: {error}", "sudo apt-get install -y libusb-1.0-0, then ./wm doctor") from error
    return rs


def _info_of(intrinsics: Any, frame_id: str) -> CameraInfo:
    i = intrinsics
    K = np.array([[i.fx, 0.0, i.ppx], [0.0, i.fy, i.ppy], [0.0, 0.0, 1.0]])
    name, coefficients = i.model.name, np.array(i.coeffs, dtype=float)
    if name not in _MODELS and coefficients.any():
        raise CameraError(
            f"the camera reports distortion '{name}', which sensor_msgs/CameraInfo cannot express",
            f"choose a colour profile that is one of {', '.join(sorted(_MODELS))}",
        )
    model = _MODELS.get(name, "plumb_bob")
    return CameraInfo(i.width, i.height, K, frame_id, coefficients[: 4 if model == "equidistant" else 5], model)
