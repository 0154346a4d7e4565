"""`./wm bench startup`: seconds from a command to the moving arm, and the size of .venv.

Starts ``./wm demo`` as a user does and listens in its ROS domain. The clock runs from before
the process is started until ``joint_states`` differ by more than 0.01 rad from where they were
when ``hw/command`` first had a velocity (placing the arm at its start is not motion). Then the demo
gets Ctrl-C, and has to end by itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge import resources
from wm_bridge.bench.report import BenchResult
from wm_bridge.cli.domain import claim_domain_id
from wm_bridge.cli.environment import run_environment, without_native_ros
from wm_bridge.errors import UserError

_MOVED_RAD = 0.01
_MOVING_RAD_S = 0.02
_END_S = 60.0
_MB = 1e6


def disk_mb(folder: Path) -> float:
    """Size on disk as ``du`` counts it, MB of 10^6 bytes; a file with several names counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for base, _, files in os.walk(folder):
        for path in (base, *(os.path.join(base, name) for name in files)):
            status = os.lstat(path)
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total / _MB


class MotionWatch:
    """Notes when the arm begins to move; fed with ``hw/command`` and ``joint_states``.

    Attributes:
        at: steady clock, s; None before.
    """

    def __init__(self) -> None:
        self.at: float | None = None
        self._joints: np.ndarray | None = None
        self._begin: np.ndarray | None = None

    def on_command(self, message: Any) -> None:
        """Remember where the joints are when the first command with a velocity is sent."""
        if self._begin is None and np.abs(message.velocity).max(initial=0.0) > _MOVING_RAD_S:
            self._begin = self._joints

    def on_joints(self, message: Any) -> None:
        """Compare with that place."""
        self._joints = np.array(message.position)
        if self.at is None and self._begin is not None and np.abs(self._joints - self._begin).max() > _MOVED_RAD:
            self.at = time.monotonic()


def user_environment(environ: Mapping[str, str], venv: Path) -> dict[str, str]:
    """``environ`` as it was before ``./wm`` put its virtual environment into it."""
    env = without_native_ros(environ)
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"):
        env.pop(name, None)
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        if env.get(name) == str(resources.root() / "config" / "fastdds.xml"):
            del env[name]
    for name in ("PATH", "LD_LIBRARY_PATH"):
        kept = [entry for entry in env.get(name, "").split(os.pathsep) if entry and not Path(entry).is_relative_to(venv)]
        env.pop(name, None)
        if kept:
            env[name] = os.pathsep.join(kept)
    return env


@contextmanager
def watching(domain: int) -> Iterator[tuple[MotionWatch, Any]]:
    """A node in a ROS domain that watches for motion; gives the watch and a function that spins it."""
    import rclpy
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from wm_bridge.ros import qos

    context = Context()
    rclpy.init(context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("startup_watch", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    watch = MotionWatch()
    for name, callback in (("hw/command", watch.on_command), ("joint_states", watch.on_joints)):
        node.create_subscription(qos.message_type(name), name, callback, qos.monitor_profile(name))
    try:
        yield watch, lambda: executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def time_to_motion(root: Path, arguments: list[str], limit_s: float, show: bool = False) -> float:
    """Start ``./wm demo`` in a checkout; return the seconds until the arm moves, then stop it.

    Args:
        root: the checkout. arguments: of the demo. limit_s: longest time to wait.
        show: let the demo's progress through to the terminal.

    Raises:
        UserError: the demo ended before, nothing moved in time, or it does not end on Ctrl-C.
    """
    with claim_domain_id() as domain, tempfile.TemporaryDirectory(prefix="wm-startup-") as folder:
        env = {**user_environment(os.environ, Path(sys.prefix)), "ROS_DOMAIN_ID": str(domain)}
        os.environ.update(
            {k: v for k, v in run_environment(resources.root(), Path(sys.prefix), os.environ).items() if k.startswith(("FAST", "ROS_AUTOMATIC"))}
        )
        log = Path(folder) / "demo.log"
        command = [str(root / "wm"), "demo", "--no-video", "--out", str(Path(folder) / "run"), *arguments]
        with watching(domain) as (watch, spin), log.open("wb") as output:
            began = time.monotonic()
            demo = subprocess.Popen(
                command, env=env, cwd=root, stdin=subprocess.DEVNULL, start_new_session=True,
                stdout=output, stderr=None if show else subprocess.STDOUT,
            )  # fmt: skip
            try:
                while watch.at is None:
                    spin()
                    if demo.poll() is not None:
                        raise UserError(f"./wm demo ended with code {demo.returncode} before the arm moved:\n{_tail(log)}", "see its message above; ./wm doctor")
                    if time.monotonic() - began > limit_s:
                        raise UserError(f"the arm did not move within {limit_s:.0f} s:\n{_tail(log)}", "stop other programs, or allow more: --limit SECONDS")
                return watch.at - began
            finally:
                _end(demo)


def _end(demo: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, and SIGKILL when that does not help."""
    if demo.poll() is None:
        demo.send_signal(signal.SIGINT)
        try:
            demo.wait(_END_S)
        except subprocess.TimeoutExpired:
            demo.kill()
            demo.wait()
            print(f"./wm demo did not end within {_END_S:.0f} s of Ctrl-C and was killed", file=sys.stderr, flush=True)


def _tail(log: Path) -> str:
    return "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-8:])


def fresh_start(limit_s: float, arguments: list[str]) -> tuple[float, float]:
    """Clone this checkout's last commit, set it up and start the demo; returns (s, MB of its .venv).

    Raises:
        UserError: no clone, or as ``time_to_motion``.
    """
    folder = Path(tempfile.mkdtemp(prefix="wm-fresh-"))
    try:
        clone = folder / "clone"
        began = time.monotonic()
        done = subprocess.run(
            ["git", "clone", "-q", "--no-hardlinks", str(resources.root()), str(clone)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(f"git clone of {resources.root()} failed: {done.stderr.strip()}", "run it in a git checkout", 2)
        cloned_s = time.monotonic() - began
        return cloned_s + time_to_motion(clone, arguments, limit_s, show=True), disk_mb(clone / ".venv")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(argv: list[str]) -> int:
    """Print the start times."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="wm bench startup", description=summary)
    parser.add_argument("--repeats", type=int, default=3, help="second starts; the median counts (default 3)")
    parser.add_argument("--fresh", action="store_true", help="also a fresh clone with an own .venv: minutes")
    parser.add_argument("--limit", type=float, default=120.0, help="longest second start, s (default 120; fresh: 20 times that)")
    parser.add_argument("--seed", type=int, default=1000, help="of the demo's start and goal")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--checkpoint", type=Path, help="world model (default: the one that ships)")
    args = parser.parse_args(argv)
    if args.repeats < 1 or not args.limit > 0.0:
        raise UserError(f"--repeats is {args.repeats}, --limit {args.limit}", "give at least 1, and a time above 0", 2)
    if args.fresh and args.checkpoint:
        raise UserError("--fresh with --checkpoint", "leave one out: a fresh clone starts with the shipped checkpoint", 2)
    from wm_bridge.bench.live import checkpoint_file
    from wm_planner.weights import weights_hash

    checkpoint = checkpoint_file(args.checkpoint)
    arguments = ["--seed", str(args.seed)]
    named = [*arguments, "--checkpoint", str(checkpoint)] if args.checkpoint else arguments
    times = []
    for number in range(args.repeats):
        times.append(time_to_motion(resources.root(), named, args.limit))
        print(f"start {number + 1} of {args.repeats}: {times[-1]:.1f} s", flush=True)
    figures = {"second_start_s": float(np.median(times)), "second_start_max_s": max(times), "venv_mb": disk_mb(Path(sys.prefix))}
    table = [
        ("second start to the moving arm", f"{figures['second_start_s']:.1f} s (median of {len(times)}; {min(times):.1f} to {max(times):.1f})"),
        (".venv on disk", f"{figures['venv_mb']:.0f} MB"),
    ]
    if args.fresh:
        figures["first_start_s"], figures["fresh_venv_mb"] = fresh_start(20 * args.limit, arguments)
        table.append(("fresh clone to the moving arm", f"{figures['first_start_s']:.0f} s, .venv {figures['fresh_venv_mb']:.0f} MB"))
    BenchResult("startup", args.seed, weights_hash(checkpoint), figures, table).show(args.json)
    return 0
