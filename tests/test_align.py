"""Joints at the time of a picture, and raw pictures to RGB."""

import numpy as np
import pytest

from wm_bridge.core.align import JointHistory
from wm_bridge.core.images import centre_square, decode, digest, resize
from wm_bridge.core.types import JointState

MS = 1_000_000


def state(stamp_ms, value=None, names=("a", "b")):
    value = stamp_ms * 1e-3 if value is None else value
    array = np.full(len(names), value)
    return JointState(names, array, 2 * array, -array, round(stamp_ms * MS))


def filled(*stamps):
    history = JointHistory(max_age_ns=500 * MS, max_gap_ns=50 * MS)
    for stamp in stamps:
        assert history.push(state(stamp))
    return history


def test_between_two_states_the_joints_are_linear():
    joints = filled(100, 110, 120).at(113 * MS)
    assert joints.stamp_ns == 113 * MS
    np.testing.assert_allclose(joints.position, 0.113)
    np.testing.assert_allclose(joints.velocity, 0.226)
    np.testing.assert_allclose(joints.effort, -0.113)


def test_at_a_stamp_the_state_itself_comes_back():
    history = filled(100, 110)
    for stamp in (100, 110):
        np.testing.assert_array_equal(history.at(stamp * MS).position, state(stamp).position)


@pytest.mark.parametrize("stamp", [99, 121])
def test_nothing_is_extrapolated(stamp):
    assert filled(100, 110, 120).at(stamp * MS) is None


def test_a_gap_is_not_bridged():
    assert filled(100, 200).at(150 * MS) is None


def test_an_empty_history_has_nothing():
    assert JointHistory().at(0) is None


def test_states_too_old_are_forgotten():
    history = filled(*range(100, 700, 10))
    assert history.at(150 * MS) is None
    assert history.at(250 * MS) is not None


def test_bad_states_are_dropped():
    history = filled(100)
    assert not history.push(state(110, np.nan))
    assert not history.push(state(100))
    assert not history.push(state(90))
    assert not history.push(state(110, names=("b", "a")))
    assert history.push(state(110))


def test_a_simulator_reset_starts_a_new_history():
    history = filled(5000)
    assert history.push(state(10))
    assert history.at(5000 * MS) is None


RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize(
    "encoding, pixels",
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, np.full((5, 7), 9, np.uint8)])),
        ("bgra8", np.dstack([RGB[..., ::-1], np.full((5, 7), 9, np.uint8)])),
    ],
)
def test_every_colour_encoding_becomes_rgb(encoding, pixels, padding):
    rows = pixels.reshape(5, -1)
    step = rows.shape[1] + padding
    data = np.pad(rows, ((0, 0), (0, padding))).tobytes()
    np.testing.assert_array_equal(decode(data, 5, 7, encoding, step), RGB)
    np.testing.assert_array_equal(decode(data[: len(data) - padding], 5, 7, encoding, step), RGB)


@pytest.mark.parametrize("encoding, order", [("yuv422", "UYVY"), ("uyvy", "UYVY"), ("yuv422_yuy2", "YUYV"), ("yuyv", "YUYV")])
def test_the_raw_format_of_webcams_becomes_rgb(encoding, order):
    """Colours of BT.601 in studio range, two pixels at a time: red, red, blue, blue."""
    red, blue = {"Y": 82, "U": 90, "V": 240}, {"Y": 41, "U": 240, "V": 110}
    row = bytes(colour[letter] for colour in (red, blue) for letter in order) + b"pad"
    found = decode(3 * row, 3, 4, encoding, len(row)).astype(int)
    assert np.abs(found - [[[255, 0, 0]] * 2 + [[0, 0, 255]] * 2]).max() <= 3, found
    with pytest.raises(ValueError, match="even width"):
        decode(bytes(6), 1, 3, encoding)


def test_grey_becomes_rgb():
    grey = RGB[..., 0]
    out = decode(grey.tobytes(), 5, 7, "mono8")
    np.testing.assert_array_equal(out, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(
    "data, height, width, encoding, step, word",
    [
        (bytes(105), 5, 7, "bayer_rggb8", 0, "not supported"),
        (bytes(104), 5, 7, "rgb8", 0, "needs 105 bytes"),
        (bytes(106), 5, 7, "rgb8", 0, "needs 105 bytes"),
        (bytes(105), 5, 7, "rgb8", 20, "at least 21"),
        (b"", 0, 7, "rgb8", 0, "at least"),
    ],
)
def test_broken_pictures_say_what_is_wrong(data, height, width, encoding, step, word):
    with pytest.raises(ValueError, match=word):
        decode(data, height, width, encoding, step)


def test_the_decoded_picture_is_its_own_memory():
    data = bytearray(RGB.tobytes())
    out = decode(data, 5, 7, "rgb8")
    data[0] ^= 255
    np.testing.assert_array_equal(out, RGB)


def test_centre_square_is_the_middle():
    np.testing.assert_array_equal(centre_square(RGB), RGB[:, 1:6])
    np.testing.assert_array_equal(centre_square(RGB.transpose(1, 0, 2)), RGB.transpose(1, 0, 2)[1:6])


def test_resize_keeps_a_plain_colour():
    plain = np.full((48, 48, 3), 77, np.uint8)
    assert (resize(plain, 20, 30) == 77).all() and resize(plain, 20, 30).shape == (20, 30, 3)


def test_digest_tells_pictures_apart_and_frozen_ones_not():
    other = RGB.copy()
    other[2, 2, 1] ^= 1
    assert digest(RGB) == digest(RGB.copy()) != digest(other)
