"""The OpenCV camera and its node on V4L2 devices of a kernel. Run by `v4l2_guest.py`, never by the suite.

vivid is the kernel's own video device of software: it has sizes, rates and raw formats as a webcam, and can be made to
drop its pictures or to disappear. The webcam on a virtual USB cable (`usb_webcam.py`) has what NICO's eyes have: uvcvideo
as its driver, MJPG, an exposure, and a plug. What `v4l2-ctl` says of a device is the witness.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import wait_until
from test_ros_camera import camera as camera_node
from test_ros_camera import pixels
from usb_webcam import AUTOMATIC_LEVEL, MODE, TIME, UsbWebcam

from wm_bridge.cameras.base import CameraError
from wm_bridge.cameras.opencv import OpenCVCamera, OpenCVSettings

DEVICE = Path("/dev/video0")
DRIVER = Path("/sys/bus/platform/drivers/vivid")
RED = 7  # a test pattern


def ctl(*words: str) -> str:
    """What v4l2-ctl answers."""
    return subprocess.run(["v4l2-ctl", "-d", str(DEVICE), *words], check=True, capture_output=True, text=True).stdout


def modprobe(*words: str) -> None:
    """Load a module, or with -r unload it."""
    subprocess.run(["modprobe", "-d", os.environ["WM_KERNEL"], *words], check=True)


@pytest.fixture
def vivid() -> Iterator[Path]:
    """A device that shows red."""
    modprobe("vivid", "node_types=0x1", "num_inputs=1", "input_types=0x0")
    wait_until(DEVICE.exists, 20.0, "the device is there")
    ctl("-c", f"test_pattern={RED},osd_text_mode=2")
    yield DEVICE
    modprobe("-r", "vivid")


@pytest.fixture
def usb() -> Iterator[UsbWebcam]:
    """A USB webcam, plugged in."""
    modprobe("-a", "vhci-hcd", "uvcvideo")
    webcam = UsbWebcam()
    plug(webcam)
    yield webcam
    if DEVICE.exists():
        unplug(webcam)


def plug(webcam: UsbWebcam) -> None:
    webcam.plug()
    wait_until(DEVICE.exists, 60.0, "the kernel knows the webcam")
    wait_until(lambda: not subprocess.run(["v4l2-ctl", "-d", DEVICE, "-D"], capture_output=True).returncode, 60.0, "it can be opened")


def unplug(webcam: UsbWebcam) -> None:
    webcam.unplug()
    wait_until(lambda: not DEVICE.exists(), 30.0, "the kernel has noticed")


def eye(**settings: Any) -> OpenCVCamera:
    return OpenCVCamera(OpenCVSettings(**{"source": DEVICE, "width": 320, "height": 240, "fps": 15.0, "timeout_s": 3.0, "start_s": 10.0, **settings}))


def red(**settings: Any) -> OpenCVCamera:
    return eye(**{"height": 180, "pixel_format": "YUYV", **settings})


def until_it_fails(camera: OpenCVCamera) -> CameraError:
    """Read until there is an error; pictures that were on their way come first."""
    with pytest.raises(CameraError) as error:
        for _ in range(20):
            camera.read()
    return error.value


def until_it_is_back(camera: OpenCVCamera, timeout_s: float) -> float:
    """Close, open and read as the node does, until a picture comes; seconds it took."""
    began = time.monotonic()

    def again() -> bool:
        camera.disconnect()
        try:
            camera.connect()
            return camera.read().image.size > 0
        except CameraError:
            return False

    wait_until(again, timeout_s, "pictures again")
    return time.monotonic() - began


def test_pictures_are_of_the_format_size_rate_and_colours_that_were_asked_for(vivid):
    with red() as camera:
        image = camera.read().image
        told = ctl("--get-fmt-video", "--get-parm")
    assert "320/180" in told and "'YUYV'" in told and "15.000 (15/1)" in told
    assert image.shape == (180, 320, 3) and (np.abs(image.astype(int) - (255, 0, 0)) < 12).all()


def test_stamps_are_in_node_time_never_repeat_and_are_as_even_as_the_device(vivid):
    with red(fps=10.0) as camera:
        camera.read()
        frames = [(camera.read().stamp_ns, time.time_ns()) for _ in range(20)]
    stamps, seen = np.array(frames).T * 1e-9
    assert (np.diff(stamps) > 0.0).all() and abs(np.median(np.diff(stamps)) - 0.1) < 0.01
    assert (seen > stamps).all() and np.median(seen - stamps) < 0.1


@pytest.mark.parametrize("settings, word, remedy", [
    ({"pixel_format": "MJPG"}, "pictures, MJPG was asked for", "--list-formats-ext -d /dev/video0"),
    ({"width": 333, "height": 190}, "expected 333x190 pictures", "set width 320 and height 180"),
    ({"width": 1280, "height": 720, "fps": 30.0}, "12.5 pictures a second of 1280x720, 30 were asked for", "rate_hz to 12.5"),
    ({"exposure_us": 5000.0}, "takes no exposure of 5000 us", "exposure_us 0"),
])  # fmt: skip
def test_what_the_device_cannot_do_is_an_error_with_the_remedy(vivid, settings, word, remedy):
    with pytest.raises(CameraError, match=word) as error:
        red(**settings).connect()
    assert remedy in error.value.remedy
    with red() as camera:
        camera.read()  # nothing holds the device


def test_a_second_program_is_told_to_close_the_first(vivid):
    with red() as first:
        first.read()
        with pytest.raises(CameraError, match="cannot open") as error:
            red().connect()
        assert "close other programs" in error.value.remedy
        first.read()


def test_a_silent_device_is_told_let_go_and_taken_up_again(vivid):
    with red(timeout_s=1.0, start_s=1.0) as camera:
        camera.read()
        ctl("-c", "percentage_of_dropped_buffers=100")
        began = time.monotonic()
        assert "no picture for 1.0 s" in str(until_it_fails(camera))
        for _ in range(3):
            camera.disconnect()
            camera.connect()
            assert "no picture for 1.0 s" in str(until_it_fails(camera))
        assert time.monotonic() - began < 10.0, "OpenCV alone holds a silent device for ten seconds"
        ctl("-c", "percentage_of_dropped_buffers=0")
        assert until_it_is_back(camera, 30.0) < 5.0


def test_a_device_that_disappears_is_told_and_taken_up_again(vivid):
    with red() as camera:
        camera.read()
        (DRIVER / "unbind").write_text("vivid.0")
        assert "unplugged" in until_it_fails(camera).remedy
        camera.disconnect()
        with pytest.raises(CameraError, match="there is no /dev/video0"):
            camera.connect()
        (DRIVER / "bind").write_text("vivid.0")
        until_it_is_back(camera, 30.0)


def test_the_exposure_of_a_usb_webcam_is_what_was_asked_for_and_automatic_again_without(usb):
    with eye(exposure_us=8000.0) as camera:
        levels = [camera.read().image[-1].mean() for _ in range(3)]
        assert "exposure_time_absolute" in (told := ctl("-C", "auto_exposure,exposure_time_absolute")) and "1" in told and "80" in told
    assert (usb.exposure[MODE], usb.exposure[TIME]) == (1, 80) and abs(levels[-1] - 80.0) < 3.0
    with eye() as camera:
        levels = [camera.read().image[-1].mean() for _ in range(3)]
    assert usb.exposure[MODE] == 8 and abs(levels[-1] - AUTOMATIC_LEVEL) < 3.0
    with pytest.raises(CameraError, match="takes no exposure of 600000 us"):
        eye(exposure_us=600_000.0).connect()


def test_a_picture_that_came_broken_is_left_out_and_the_camera_goes_on(usb):
    with eye() as camera:
        camera.read()
        usb.broken = 3
        levels = [camera.read().image[-1].mean() for _ in range(10)]
    assert not usb.broken, "three were sent"
    assert max(abs(level - AUTOMATIC_LEVEL) for level in levels) < 3.0


def test_the_camera_node_gives_pictures_tells_the_unplug_and_goes_on_when_it_is_back(usb, ros_env):
    size = ("width:=320", "height:=240", "rate_hz:=10.0")
    with camera_node(ros_env, "camera_driver:=opencv", f"source:={DEVICE}", *size) as (_, probe):
        wait_until(lambda: probe.count["camera/image_raw"] > 20, 120.0, probe.last)
        image, info = probe.last["camera/image_raw"], probe.last["camera/camera_info"]
        assert (image.width, image.height, image.header.frame_id, info.width) == (320, 240, "camera_optical", 320)
        assert abs(pixels(image)[-1].mean() - AUTOMATIC_LEVEL) < 3.0
        unplug(usb)
        wait_until(lambda: any("unplugged" in s.message or "there is no" in s.message for s in probe.last["/diagnostics"].status), 20.0, "it is told")
        before = probe.count["camera/image_raw"]
        plug(usb)
        wait_until(lambda: probe.count["camera/image_raw"] > before + 20, 60.0, "pictures again")
        assert stamp(probe.last["camera/image_raw"]) > stamp(image)
        wait_until(lambda: all("camera" not in s.name or s.level == b"\0" for s in probe.last["/diagnostics"].status), 30.0, "all is well")


def stamp(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
