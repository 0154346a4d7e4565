"""Raw ROS pictures to RGB arrays, the square crop, and a digest to spot frozen cameras."""

from __future__ import annotations

import zlib

import cv2
import numpy as np

from wm_bridge.core.types import ImageArray

# encoding -> (bytes per pixel, OpenCV conversion to RGB or None when already RGB)
_ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    # what usb_cam and v4l2_camera pass on unchanged from a webcam; two pixels share their colour
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
}


def decompress(data: bytes | bytearray | memoryview | ImageArray) -> ImageArray:
    """PNG or JPEG bytes to (H, W, 3) uint8 RGB.

    Raises:
        ValueError: no such picture.
    """
    flat = np.frombuffer(data, np.uint8)
    picture = cv2.imdecode(flat, cv2.IMREAD_COLOR) if flat.size else None
    if picture is None:
        raise ValueError(f"{flat.size} bytes that are no PNG or JPEG picture")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def fit(picture: ImageArray, width: int, height: int) -> tuple[ImageArray, str]:
    """Bring a picture to a camera's size: cut at its sides to the shape, then scaled.

    Returns:
        (height, width, 3) uint8, and what was done to it ("" = nothing).

    Raises:
        ValueError: too small to show anything.
    """
    high, wide = picture.shape[:2]
    if min(high, wide) < 16:
        raise ValueError(f"a picture of {wide}x{high} pixels, expected 16x16 or more")
    done = []
    keep_w, keep_h = min(wide, round(high * width / height)), min(high, round(wide * height / width))
    if (wide - keep_w) > 1 or (high - keep_h) > 1:
        x, y = (wide - keep_w) // 2, (high - keep_h) // 2
        picture = picture[y : y + keep_h, x : x + keep_w]
        done.append(f"cut to {keep_w}x{keep_h}")
    if picture.shape[:2] != (height, width):
        shrinks = picture.shape[0] > height
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC), np.uint8)
        done.append(f"scaled to {width}x{height}")
    return np.ascontiguousarray(picture, np.uint8), ", ".join(done)


def decode(
    data: bytes | bytearray | memoryview | ImageArray,
    height: int,
    width: int,
    encoding: str,
    step: int = 0,
) -> ImageArray:
    """Pixels of a sensor_msgs/Image as RGB.

    Args:
        data: the message's bytes; rows may be padded.
        height, width: pixels.
        encoding: one of rgb8, bgr8, mono8, rgba8, bgra8, yuv422 (or uyvy), yuv422_yuy2 (or yuyv), see sensor_msgs/image_encodings.
        step: bytes per row including padding; 0 means no padding.

    Returns:
        (height, width, 3) uint8 RGB, its own memory.

    Raises:
        ValueError: unknown encoding, or sizes that do not fit together.
    """
    if encoding not in _ENCODINGS:
        raise ValueError(f"image encoding '{encoding}' is not supported; use {list(_ENCODINGS)}")
    depth, conversion = _ENCODINGS[encoding]
    if depth == 2 and width % 2:
        raise ValueError(f"image of {width}x{height} {encoding} needs an even width; check the driver's format")
    step = step or width * depth
    if height <= 0 or width <= 0 or step < width * depth:
        raise ValueError(
            f"image of {width}x{height} {encoding} needs rows of at least {width * depth} bytes, "
            f"got step {step}; check width, height and step"
        )
    flat = np.frombuffer(data, dtype=np.uint8)
    if flat.size < height * step - (step - width * depth) or flat.size > height * step:
        raise ValueError(
            f"image of {width}x{height} {encoding} with step {step} needs {height * step} bytes, "
            f"got {flat.size}; the message is cut or its header is wrong"
        )
    if flat.size < height * step:  # some cameras leave out the padding of the last row
        flat = np.concatenate([flat, np.zeros(height * step - flat.size, dtype=np.uint8)])
    rows = flat.reshape(height, step)[:, : width * depth]
    picture = rows.reshape(height, width) if depth == 1 else rows.reshape(height, width, depth)
    if conversion is None:
        return np.array(picture)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), conversion), dtype=np.uint8)


def centre_square(image: ImageArray) -> ImageArray:
    """The largest centred square of (height, width, ...), as a view."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def resize(image: ImageArray, height: int, width: int) -> ImageArray:
    """The (H, W, 3) picture at another size; area average when it gets smaller."""
    shrinks = height < image.shape[0] or width < image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), dtype=np.uint8)


def digest(image: ImageArray, stride: int = 1) -> int:
    """CRC-32 of every ``stride``-th row and column.

    Equal pictures give equal numbers; with sensor noise two frames of a living camera
    differ. A stride above 1 is faster and looks at fewer pixels.
    """
    return zlib.crc32(np.ascontiguousarray(image[::stride, ::stride]).data)
