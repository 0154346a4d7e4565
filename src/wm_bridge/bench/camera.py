"""`./wm bench camera`: from a picture's stamp to its arrival at a reader, and the CPU that the camera node takes.

Real processes over Fast DDS; 640x480 colour, one reader. Three cameras: the simulated one (its node draws the
state of the driver that makes the time: the stamp's wall time is when ``/clock`` with that value was written), a
video file through OpenCV (stamped when it was decoded, then converted and published), and a recording of a RealSense
in the SDK's own pipeline (stamps of the device's clock, mapped to node time). Arrival is the moment at which the
middleware of the reader has the whole picture. Exposure and read-out of a real sensor are not in it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wm_bridge.bench.report import BenchResult
from wm_bridge.errors import UserError

MS = 1e-6  # per nanosecond
CASES = ("sim", "opencv", "realsense")
_SIZE = (640, 480)
_LEAST = 30  # pictures
_SETTLE_S = 2.0
_OTHERS = ("recorder", "safety", "planner", "goal", "viz")


@dataclass
class Times:
    """What was seen of one camera.

    Attributes:
        sent_ms: from the stamp to the picture written. arrived_ms: to the reader.
        stamps_ns: of the pictures. cpu_percent: of one core, the camera node.
    """

    sent_ms: list[float] = field(default_factory=list)
    arrived_ms: list[float] = field(default_factory=list)
    stamps_ns: list[int] = field(default_factory=list)
    cpu_percent: float = float("nan")


def make_video(path: Path, pictures: int = 90) -> None:
    """A moving pattern with some noise, as MJPG: what a USB camera sends."""
    import cv2

    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(_SIZE[0]), np.arange(_SIZE[1]))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, _SIZE)
    for number in range(pictures):
        waves = np.stack([128 + 90 * np.sin((x + 5 * number) / 23 + k) * np.cos(y / 31) for k in range(3)], axis=2)
        writer.write(np.clip(waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8))
    writer.release()


def overrides_of(case: str, folder: Path) -> tuple[str, dict[str, dict[str, Any]], tuple[str, ...]]:
    """Profile, node parameters, and nodes that are left out; what the camera plays is made in ``folder``."""
    size = {"width": _SIZE[0], "height": _SIZE[1]}
    if case == "sim":
        return "sim", {"camera": {**size, "rate_hz": 20.0}}, _OTHERS
    if case == "opencv":
        make_video(folder / "clip.avi")
        return "robot", {"camera": {**size, "source": str(folder / "clip.avi"), "rate_hz": 30.0, "loop": True}}, (*_OTHERS, "driver")
    from wm_bridge.cameras.recording import record

    record(folder / "clip.db3", pictures=150, size=_SIZE, wait_s=1.0 / 30.0)  # played at the speed at which it was written
    given = {**size, "camera_driver": "realsense", "playback": str(folder / "clip.db3"), "rate_hz": 30.0}
    return "robot", {"camera": given}, (*_OTHERS, "driver")


def measure(case: str, seconds: float) -> Times:
    """Run the camera node (and the driver of the simulation), and listen.

    Raises:
        UserError: it does not start, or hardly any pictures come.
    """
    from wm_bridge.bench.live import FAST_DDS, CpuMeter
    from wm_bridge.supervisor import Graph

    folder = Path(tempfile.mkdtemp(prefix="wm-camera-"))
    profile, overrides, skip = overrides_of(case, folder)
    print(f"starting the {case} camera", flush=True)
    with Graph.start(profile, overrides, folder / "run", skip, 60.0) as graph:
        for name in FAST_DDS:
            os.environ.setdefault(name, graph.env[name])
        with _Listener(graph.domain, case == "sim") as listener:
            listener.collect(_SETTLE_S)
            listener.times, meter = Times(), CpuMeter(graph)
            with tqdm(total=round(seconds), unit="s") as bar:
                for _ in range(round(seconds)):
                    listener.collect(1.0)
                    graph.check()
                    bar.update()
            listener.times.cpu_percent = meter.percent()["camera"]
            found = listener.times
    if len(found.arrived_ms) < _LEAST:
        raise UserError(f"only {len(found.arrived_ms)} pictures of the {case} camera came in {seconds:.0f} s", f"see the logs in {folder / 'run'}; stop other programs")
    shutil.rmtree(folder, ignore_errors=True)
    return found


class _Listener:
    """A node that takes pictures, and in simulation the clock, a few times a second."""

    def __init__(self, domain: int, simulated: bool) -> None:
        import rclpy
        from rclpy.context import Context

        from wm_bridge.ros.mailbox import Mailbox

        self.times = Times()
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("bench_camera", context=self._context)
        self._clock = Mailbox(self._node, "/clock", 500, raw=True) if simulated else None
        self._pictures = Mailbox(self._node, "camera/image_raw", 20, raw=True)
        self._written: dict[int, int] = {}

    def __enter__(self) -> _Listener:
        return self

    def __exit__(self, *_: object) -> None:
        import rclpy

        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def collect(self, seconds: float) -> None:
        """Take what comes meanwhile."""
        from wm_bridge.ros.mailbox import stamp_of

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.1)
            pictures = [(stamp_of(data), info) for data, info in self._pictures.take()]
            if self._clock is not None:
                self._written |= {stamp_of(data): info["source_timestamp"] for data, info in self._clock.take()}
            for stamp, info in pictures:
                self._note(stamp, info)

    def _note(self, stamp_ns: int, info: Mapping[str, int]) -> None:
        begin = stamp_ns if self._clock is None else self._written.get(stamp_ns)
        if begin is None:
            return
        self.times.stamps_ns.append(stamp_ns)
        self.times.sent_ms.append((info["source_timestamp"] - begin) * MS)
        self.times.arrived_ms.append((info["received_timestamp"] - begin) * MS)


def figures_of(case: str, times: Times) -> tuple[dict[str, float], tuple[str, str]]:
    """Figures and the row of one camera."""
    sent, arrived = np.array(times.sent_ms), np.array(times.arrived_ms)
    hz = 1e9 * (len(arrived) - 1) / (times.stamps_ns[-1] - times.stamps_ns[0])
    p50, p99 = (float(value) for value in np.quantile(arrived, [0.5, 0.99]))
    figures = {
        f"{case}_p50_ms": p50,
        f"{case}_p99_ms": p99,
        f"{case}_written_p50_ms": float(np.median(sent)),
        f"{case}_cpu_percent": times.cpu_percent,
        f"{case}_hz": hz,
        f"{case}_pictures": len(arrived),
    }
    text = f"p50 {p50:5.1f} ms   p99 {p99:5.1f} ms   (written after {np.median(sent):.1f})   CPU {times.cpu_percent:3.0f} % of one core   {hz:.1f} Hz, n = {len(arrived)}"
    return figures, (case, text)


def main(argv: list[str]) -> int:
    """Print one row per camera."""
    parser = argparse.ArgumentParser(prog="wm bench camera", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seconds", type=int, default=20, help="per camera (default 20)")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="some of the cameras")
    args = parser.parse_args(argv)
    if not 2 <= args.seconds <= 3600:
        raise UserError(f"--seconds is {args.seconds}", "give 2 to 3600", 2)
    figures: dict[str, float] = {}
    rows = []
    for case in args.only:
        found, row = figures_of(case, measure(case, args.seconds))
        figures |= found
        rows.append(row)
    print(f"\nstamp to arrival of {_SIZE[0]}x{_SIZE[1]} pictures")
    BenchResult("camera", 0, "", figures, rows).show(args.json)
    return 0
