"""Writes RealSense recordings in the SDK's own format, from a camera made of software: for tests and benchmarks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEIGHT, FPS = 64, 48, 30
FOCAL, CENTRE = 60.0, (31.5, 23.5)
COEFFICIENTS = (0.01, -0.02, 0.001, 0.002, 0.0)
BASELINE_M = 0.05  # the depth sensor lies so far to the left of the colour sensor


def colour_of(number: int) -> int:
    """Grey level of the picture with this number."""
    return 10 * number % 250


def record(path: Path, pictures: int = 20, depth_m: float | None = None, size: tuple[int, int] = (WIDTH, HEIGHT), wait_s: float = 0.004) -> None:
    """``pictures`` of flat grey, numbered from 1, 1/30 s apart, and a wall at ``depth_m``.

    Args:
        size: pixels. wait_s: between two: the recorder writes in a thread of its own and drops what it cannot keep up with.
    """
    import pyrealsense2 as rs

    device = rs.software_device()
    streams = [_stream(rs, device, "Color", rs.stream.color, rs.format.rgb8, 3, size)]
    if depth_m is not None:
        streams.append(_stream(rs, device, "Depth", rs.stream.depth, rs.format.z16, 2, size))
        streams[1][0].add_read_only_option(rs.option.depth_units, 0.001)
        to_colour = rs.extrinsics()
        to_colour.rotation, to_colour.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [BASELINE_M, 0, 0]
        streams[1][1].register_extrinsics_to(streams[0][1], to_colour)
    device.create_matcher(rs.matchers.default)
    recorder, queue, kept = rs.recorder(str(path), device), rs.frame_queue(4 * pictures), []
    for sensor, profile, _ in streams:
        sensor.open(profile)
        sensor.start(queue)
    begin = time.monotonic()
    for number in range(1, pictures + 1):
        for sensor, profile, depth in streams:
            level = np.full((size[1], size[0], 3), colour_of(number), np.uint8)
            pixels = level if depth == 3 else np.full((size[1], size[0]), round(1e3 * (depth_m or 0.0)), np.uint16)
            frame = rs.software_video_frame()
            frame.pixels, frame.stride, frame.bpp = pixels, size[0] * depth, depth
            frame.timestamp, frame.domain = 5e6 + number * 1e3 / FPS, rs.timestamp_domain.hardware_clock
            frame.frame_number, frame.profile = number, profile.as_video_stream_profile()
            if depth == 2:
                frame.depth_units = 0.001
            sensor.on_video_frame(frame)
            kept.append(pixels)  # the SDK reads them later
        time.sleep(max(begin + number * wait_s - time.monotonic(), 0.002))
    for sensor, _, _ in streams:
        sensor.stop()
        sensor.close()
    del recorder


def _stream(rs: Any, device: Any, name: str, kind: Any, form: Any, depth: int, size: tuple[int, int]) -> tuple[Any, Any, int]:
    sensor = device.add_sensor(name)
    video = rs.video_stream()
    video.type, video.uid, video.fmt, video.bpp = kind, depth, form, depth
    video.width, video.height, video.fps = *size, FPS
    made = rs.intrinsics()
    made.width, made.height, made.fx, made.fy = *size, FOCAL, FOCAL
    made.ppx, made.ppy = CENTRE
    made.model, made.coeffs = rs.distortion.brown_conrady, list(COEFFICIENTS)
    video.intrinsics = made
    return sensor, sensor.add_video_stream(video), depth
