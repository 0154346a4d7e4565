"""USB cameras: what is asked of V4L2, unplugged and dead devices, rectified pictures. The device is made of software.

OpenCV's own V4L2 code and the kernel's are missing here: `v4l2_guest.py` tests with them.
"""

from __future__ import annotations

import os
import threading
import time

import cv2
import numpy as np
import pytest
from conftest import wait_until

from wm_bridge.cameras.base import CameraError, CameraInfo, pinhole
from wm_bridge.cameras.opencv import OpenCVCamera, OpenCVSettings
from wm_bridge.cameras.rectify import Rectifier, projected, undistorted
from wm_bridge.core.types import Frame

WIDTH, HEIGHT = 64, 48
FISHEYE = CameraInfo(640, 480, np.array([[214.6, 0, 324.1], [0, 214.0, 203.8], [0, 0, 1]]), "eye", np.array([-0.0194, 0.0231, -0.0321, 0.0107]), "equidistant")
BARREL = CameraInfo(640, 480, pinhole(640, 480, 60.0), "eye", np.array([-0.25, 0.08, 0.001, -0.001, 0.0]))


class Webcam:
    """A V4L2 device as cv2.VideoCapture shows it: it takes what it can do, and notes when each picture came.

    Attributes of the class are the world outside: what is plugged in, what was opened and asked.
    """

    formats: tuple[str, ...] = ("MJPG", "YUYV")
    manual_exposure, longest, fastest = True, 10_000.0, 60.0
    plugged, dead, note_s = True, False, 0.005
    opened: list[tuple[str, int]] = []
    asked: list[tuple[int, float]] = []

    def __init__(self, source: str, backend: int) -> None:
        Webcam.opened.append((source, backend))
        self.released = False
        self.values = {cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*self.formats[-1])}
        self.level = 0

    def isOpened(self) -> bool:
        return Webcam.plugged

    def release(self) -> None:
        self.released = True

    def set(self, what: int, value: float) -> bool:
        Webcam.asked.append((what, value))
        if what == cv2.CAP_PROP_FOURCC and int(value) not in [cv2.VideoWriter.fourcc(*name) for name in self.formats]:
            return False
        if what in (cv2.CAP_PROP_EXPOSURE, cv2.CAP_PROP_AUTO_EXPOSURE) and not self.manual_exposure:
            return False
        self.values[what] = min(value, {cv2.CAP_PROP_FPS: self.fastest, cv2.CAP_PROP_EXPOSURE: self.longest}.get(what, value))
        return True

    def get(self, what: int) -> float:
        if what == cv2.CAP_PROP_POS_MSEC:
            return (time.monotonic() - Webcam.note_s) * 1e3
        return float(self.values.get(what, 0))

    def grab(self) -> bool:
        """As OpenCV's, which waits for a silent device as long as it was told to."""
        until = time.monotonic() + float(os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"])
        while Webcam.dead and time.monotonic() < until:
            time.sleep(0.005)
        return Webcam.plugged and not Webcam.dead

    @staticmethod
    def waitAny(streams: list[Webcam], timeout_ns: int) -> tuple[bool, list[int]]:
        """As OpenCV's: it grabs the picture that came."""
        until = time.monotonic() + timeout_ns * 1e-9
        time.sleep(0.005)
        while Webcam.dead and Webcam.plugged and time.monotonic() < until:
            time.sleep(0.005)
        if not Webcam.plugged:
            raise cv2.error("Error is reported for camera stream")
        streams[0].level += not Webcam.dead
        return not Webcam.dead, []

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((HEIGHT, WIDTH, 3), (0, 0, min(self.level, 255)), np.uint8)


@pytest.fixture(autouse=True)
def webcam(monkeypatch):
    for name, value in {"formats": ("MJPG", "YUYV"), "manual_exposure": True, "longest": 10_000.0, "fastest": 60.0, "plugged": True, "dead": False, "opened": [], "asked": []}.items():
        monkeypatch.setattr(Webcam, name, value)
    return Webcam


@pytest.fixture
def by_id(tmp_path):
    """A link as udev makes them, to a character device that is always there."""
    link = tmp_path / "usb-cam-video-index0"
    link.symlink_to("/dev/null")
    return link


def usb(source, **settings):
    return OpenCVCamera(OpenCVSettings(source, WIDTH, HEIGHT, **settings), open_capture=Webcam)


def test_format_comes_before_size_and_rate_and_the_link_is_followed(by_id, webcam):
    with usb(by_id, pixel_format="YUYV", fps=15.0, exposure_us=8000.0) as camera:
        image = camera.read().image
    assert webcam.opened == [("/dev/null", cv2.CAP_V4L2)]
    names = [what for what, _ in webcam.asked]
    assert names.index(cv2.CAP_PROP_FOURCC) < names.index(cv2.CAP_PROP_FRAME_WIDTH) < names.index(cv2.CAP_PROP_FPS)
    asked = dict(webcam.asked)
    assert asked[cv2.CAP_PROP_FPS] == 15.0 and asked[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"YUYV")
    assert asked[cv2.CAP_PROP_AUTO_EXPOSURE] == 1 and asked[cv2.CAP_PROP_EXPOSURE] == 80, "V4L2 counts in 100 us"
    assert image[0, 0, 0] > 0 and not image[..., 1:].any(), "red comes first"


def test_exposure_is_automatic_unless_it_is_asked_for(by_id, webcam):
    usb(by_id).connect()
    assert dict(webcam.asked)[cv2.CAP_PROP_AUTO_EXPOSURE] == 3 and cv2.CAP_PROP_EXPOSURE not in dict(webcam.asked)


@pytest.mark.parametrize(
    "world, settings, word, remedy",
    [
        ({"formats": ("YUYV",)}, {}, "gives 'YUYV' pictures, MJPG was asked for", "--list-formats-ext"),
        ({"manual_exposure": False}, {"exposure_us": 5000.0}, "takes no exposure", "exposure_us 0"),
        ({"longest": 500.0}, {"exposure_us": 80_000.0}, "takes no exposure of 80000 us", "v4l2-ctl -L"),
        ({"plugged": False}, {}, "cannot open", "path"),
        ({"fastest": 12.5}, {"fps": 30.0}, "gives 12.5 pictures a second of 64x48, 30 were asked for", "rate_hz to 12.5"),
    ],
)
def test_what_the_device_cannot_do_says_what_to_do(by_id, monkeypatch, world, settings, word, remedy):
    for name, value in world.items():
        monkeypatch.setattr(Webcam, name, value)
    with pytest.raises(CameraError, match=word) as error:
        usb(by_id, **settings).connect()
    assert remedy in error.value.remedy


def test_an_unplugged_camera_is_said_and_works_again_when_it_is_back(by_id, monkeypatch):
    camera = usb(by_id)
    with camera:
        camera.read()
        monkeypatch.setattr(Webcam, "plugged", False)
        with pytest.raises(CameraError, match="gives no more pictures") as error:
            for _ in range(3):
                camera.read()
        assert "opened again" in error.value.remedy
        camera.disconnect()
        with pytest.raises(CameraError, match="cannot open"):
            camera.connect()
        monkeypatch.setattr(Webcam, "plugged", True)
        camera.connect()
        assert camera.read().image[0, 0, 0] > 0
    assert len(Webcam.opened) == 3


def test_a_dead_camera_is_told_in_time_and_does_not_hold_up_the_end(by_id, monkeypatch):
    camera = usb(by_id, timeout_s=0.1)
    with camera:
        camera.read()
        monkeypatch.setattr(Webcam, "dead", True)
        began = time.monotonic()
        with pytest.raises(CameraError, match="no picture for 0.1 s"):
            for _ in range(3):
                camera.read()
        thread = camera._reader._thread
        camera.disconnect()
        assert not thread.is_alive(), "it lets go of the silent device: who still holds it could not open it again"
        assert time.monotonic() - began < 2.0


def test_the_first_picture_may_come_late(by_id, monkeypatch):
    monkeypatch.setattr(Webcam, "dead", True)
    with usb(by_id, timeout_s=0.1, start_s=20.0) as camera:
        threading.Timer(0.5, lambda: setattr(Webcam, "dead", False)).start()
        assert camera.read().image[0, 0, 0] > 0
        monkeypatch.setattr(Webcam, "dead", True)
        with pytest.raises(CameraError, match="no picture for 0.1 s"):
            for _ in range(3):
                camera.read()


def test_the_newest_picture_is_given_each_once_with_the_time_that_the_device_noted(by_id, monkeypatch):
    monkeypatch.setattr(Webcam, "note_s", 0.040)
    with usb(by_id) as camera:
        first = camera.read()
        wait_until(lambda: camera._reader._kept is not None and camera._reader._kept[0][0, 0, 2] > first.image[0, 0, 0] + 3, 10.0, "pictures go by")
        second, third = camera.read(), camera.read()
        levels = [int(frame.image[0, 0, 0]) for frame in (first, second, third)]
        assert levels[1] > levels[0] + 3 and levels[2] > levels[1]
        now = time.time_ns()
        assert 35_000_000 < now - third.stamp_ns < 500_000_000, "older than it came, by what the device noted"
    monkeypatch.setattr(Webcam, "note_s", 1e6)
    with usb(by_id) as camera:
        assert abs(time.time_ns() - camera.read().stamp_ns) < 500_000_000, "a note that makes no sense is not used"


def test_a_file_runs_in_real_time_and_its_end_is_told(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for level in range(10):
        writer.write(np.full((HEIGHT, WIDTH, 3), 20 * level, np.uint8))
    writer.release()
    with OpenCVCamera(OpenCVSettings(path, WIDTH, HEIGHT, fps=50.0)) as camera:
        stamps = []
        with pytest.raises(CameraError, match="gives no more") as error:
            while True:
                stamps.append(camera.read().stamp_ns)
    assert "loop" in error.value.remedy
    assert 0.10 < (stamps[-1] - stamps[0]) * 1e-9, "ten pictures at 50 a second take 0.18 s"


# ---- rectified pictures ---------------------------------------------------------------


def dots(info, points):
    """A picture with a white dot wherever the camera sees one of the (N, 3) points."""
    picture = np.zeros((info.height, info.width, 3), np.uint8)
    for u, v in projected(info, points):
        cv2.circle(picture, (round(u * 16), round(v * 16)), 5 * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
    return picture


@pytest.mark.parametrize("info", [FISHEYE, BARREL], ids=["fisheye", "barrel"])
def test_rectified_pictures_are_those_of_a_pinhole(info):
    points = np.array([[x, y, 1.0] for x in (-0.45, 0.0, 0.45) for y in (-0.3, 0.0, 0.3)])
    rectifier = Rectifier(info)
    flat = rectifier.rectify(Frame(dots(info, points), 5, "eye"))
    assert (flat.stamp_ns, flat.frame_id) == (5, "eye") and (rectifier.info.K == info.K).all()
    count, _, _, centres = cv2.connectedComponentsWithStats((flat.image[..., 0] > 127).astype(np.uint8))
    assert count == len(points) + 1
    expected = (points @ np.asarray(rectifier.info.rectified).T)[:, :2]
    gaps = np.linalg.norm(centres[1:, None] - expected[None], axis=2).min(axis=1)
    assert gaps.max() < 0.6
    bent = np.linalg.norm(projected(info, points) - expected, axis=1)
    assert bent.max() > 5.0, "there was a distortion to take out"


@pytest.mark.parametrize("info", [FISHEYE, BARREL], ids=["fisheye", "barrel"])
def test_directions_of_pixels_lead_back_to_the_pixels(info):
    pixels = np.array([[130.0, 90.0], [320.0, 240.0], [560.0, 120.0]])
    rays = np.hstack([undistorted(info, pixels), np.ones((3, 1))])
    np.testing.assert_allclose(projected(info, 2.0 * rays), pixels, atol=0.02)
