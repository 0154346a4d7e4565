"""RealSense: recordings in the SDK's own format, played through the driver's ordinary pipeline."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from wm_bridge.cameras import recording
from wm_bridge.cameras.base import CameraError
from wm_bridge.cameras.realsense import RealSenseCamera, RealSenseSettings
from wm_bridge.cameras.recording import BASELINE_M, CENTRE, COEFFICIENTS, FOCAL, HEIGHT, WIDTH
from wm_bridge.cameras.stamps import DRIFT, ClockMap

MS = 1_000_000
FLAT = {"width": WIDTH, "height": HEIGHT, "real_time": False, "timeout_s": 0.5}


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    path = tmp_path_factory.mktemp("realsense") / "colour.db3"
    recording.record(path)
    return path


@pytest.fixture(scope="module")
def wall(tmp_path_factory):
    path = tmp_path_factory.mktemp("realsense") / "wall.db3"
    recording.record(path, depth_m=1.0)
    return path


def all_of(camera):
    frames = []
    with pytest.raises(CameraError, match="no new picture") as end:
        while True:
            frames.append(camera.read())
    assert "set loop" in end.value.remedy
    return frames


def test_every_recorded_picture_comes_once_and_in_order_with_the_camera_s_spacing(colour):
    now = itertools.count(7_000 * MS, 5 * MS)
    with RealSenseCamera(RealSenseSettings(**FLAT, playback=colour, frame_id="eye"), lambda: next(now)) as camera:
        frames = all_of(camera)
    levels = [int(frame.image[0, 0, 0]) for frame in frames]
    numbers = [level // 10 for level in levels]
    assert numbers == sorted(set(numbers)) and len(numbers) >= 15, "the recorder may drop some, the driver none"
    assert all((frame.image == level).all() and frame.image.shape == (HEIGHT, WIDTH, 3) for frame, level in zip(frames, levels, strict=True))
    assert {frame.frame_id for frame in frames} == {"eye"}
    # pictures come faster than they were taken, so the smallest delay is always the newest: stamps are arrivals
    assert [frame.stamp_ns for frame in frames] == [7_000 * MS + 5 * MS * k for k in range(len(frames))]


def test_intrinsics_and_distortion_are_those_of_the_recording(colour):
    camera = RealSenseCamera(RealSenseSettings(**FLAT, playback=colour))
    with pytest.raises(CameraError, match="connect"):
        _ = camera.info
    with camera:
        info = camera.info
    assert (info.width, info.height, info.model) == (WIDTH, HEIGHT, "plumb_bob")
    np.testing.assert_allclose(info.K, [[FOCAL, 0, CENTRE[0]], [0, FOCAL, CENTRE[1]], [0, 0, 1]])
    np.testing.assert_allclose(info.D, COEFFICIENTS, rtol=1e-6)
    assert camera.info == info, "still known after disconnecting"


def test_depth_is_seen_from_the_colour_camera(wall):
    with RealSenseCamera(RealSenseSettings(**FLAT, playback=wall, depth=True, frame_id="eye")) as camera:
        pairs = []
        with pytest.raises(CameraError):
            while True:
                pairs.append((camera.read(), camera.depth))
    assert len(pairs) >= 15
    depths = [depth for _, depth in pairs if depth is not None]
    assert len(depths) >= 10
    for frame, depth in pairs:
        if depth is not None:
            assert depth.stamp_ns == frame.stamp_ns and depth.frame_id == "eye" and depth.depth.shape == (HEIGHT, WIDTH)
    seen = depths[0].depth > 0
    assert set(np.unique(depths[0].depth[seen])) == {1000}
    # what the depth sensor sees lies FOCAL * BASELINE / 1 m = 3 pixels further right in the colour picture
    columns = np.flatnonzero(seen[HEIGHT // 2])
    assert abs(int(columns.min()) - FOCAL * BASELINE_M) <= 2 and columns.max() == WIDTH - 1


def test_a_recording_begins_again_when_asked_and_stamps_go_on(colour):
    now = itertools.count(0, 40 * MS)
    with RealSenseCamera(RealSenseSettings(**FLAT, playback=colour, loop=True), lambda: next(now)) as camera:
        frames = [camera.read() for _ in range(45)]
    levels = [int(frame.image[0, 0, 0]) for frame in frames]
    assert sum(later < earlier for earlier, later in itertools.pairwise(levels)) >= 2
    stamps = [frame.stamp_ns for frame in frames]
    assert all(later > earlier for earlier, later in itertools.pairwise(stamps))


def test_played_in_real_time_the_newest_picture_is_given(colour):
    with RealSenseCamera(RealSenseSettings(**{**FLAT, "real_time": True}, playback=colour)) as camera:
        first = camera.read()
        import time

        time.sleep(0.3)  # nine pictures go by
        second = camera.read()
    assert int(second.image[0, 0, 0]) - int(first.image[0, 0, 0]) >= 50


@pytest.mark.parametrize(
    "change, word, remedy",
    [
        ({"playback": "missing.db3"}, "no recording", "path"),
        ({"width": 32}, "does not start", "width, height and rate"),
        ({"depth": True}, "does not start", "depth only if"),
        ({"playback": None}, "0 RealSense cameras", "plug it"),
        ({"playback": None, "serial": "123"}, "serial number 123", "connected are: none"),
    ],
)
def test_what_cannot_be_opened_says_why_and_what_to_do(colour, tmp_path, change, word, remedy):
    change = dict(change)
    playback = change.pop("playback", colour)
    path = tmp_path / playback if isinstance(playback, str) else playback
    with pytest.raises(CameraError, match=word) as error:
        RealSenseCamera(RealSenseSettings(**{**FLAT, **change}, playback=path)).connect()
    assert remedy in error.value.remedy


def test_a_damaged_recording_is_an_error(tmp_path):
    path = tmp_path / "broken.db3"
    path.write_bytes(b"not a recording")
    with pytest.raises(CameraError, match="does not start"):
        RealSenseCamera(RealSenseSettings(**FLAT, playback=path)).connect()


def test_a_missing_library_gives_the_remedy(colour, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(CameraError, match="does not load") as error:
        RealSenseCamera(RealSenseSettings(**FLAT, playback=colour)).connect()
    assert "libusb" in error.value.remedy


# ---- stamps ---------------------------------------------------------------------------


def test_stamps_keep_the_camera_s_spacing_whatever_the_transport_adds():
    rng, clocks = np.random.default_rng(0), ClockMap()
    taken = np.arange(900) * 33_333_333 + 10**15
    delay = 4 * MS + rng.exponential(3 * MS, len(taken)).astype(np.int64)
    device = taken - 999 * 10**9  # another zero
    stamps = np.array([clocks.node_time(int(t), int(a)) for t, a in zip(device, taken + delay, strict=True)])
    late = stamps - taken
    assert (stamps <= taken + delay).all() and (late >= 4 * MS).all()
    assert late[100:].max() < 5.5 * MS, "the jitter of the arrivals, 3 ms on average, is gone"
    assert np.diff(stamps)[100:].min() > 32 * MS


@pytest.mark.parametrize("share", [-100e-6, 100e-6])
def test_stamps_follow_a_clock_that_drifts(share):
    assert abs(share) < DRIFT
    clocks = ClockMap()
    taken = np.arange(3000) * 33_333_333
    device = np.round(taken * (1.0 + share)).astype(np.int64)
    late = [clocks.node_time(int(d), int(t) + 2 * MS) - int(t) for d, t in zip(device, taken, strict=True)]
    assert min(late) >= 2 * MS - 1000 and max(late) <= 2 * MS + 1000


def test_a_clock_that_begins_anew_is_taken_as_it_is():
    clocks = ClockMap()
    assert clocks.node_time(100 * MS, 1000 * MS) == 1000 * MS
    assert clocks.node_time(133 * MS, 1040 * MS) == 1033 * MS + round(33 * MS * DRIFT)
    assert clocks.node_time(0, 1100 * MS) == 1100 * MS, "the camera started again"
    assert clocks.node_time(33 * MS, 5 * MS) == 5 * MS, "the node's clock did"
    assert clocks.node_time(66 * MS, 5000 * MS) == 5000 * MS, "a recording that was held"
