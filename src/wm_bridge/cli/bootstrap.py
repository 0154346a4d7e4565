"""`./wm` from a bare checkout: make the environment if needed, then go on inside it.

Imports the standard library only. A second start costs a few file reads.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wm_bridge.cli import commands, environment, venv_setup
from wm_bridge.cli.terminal import guarded
from wm_bridge.errors import UserError

OLDEST, NEWEST = (3, 10), (3, 12)  # for which every pin has a wheel
LOCK = ".wm.lock"


def main(argv: list[str]) -> int:
    """Run `./wm` with these arguments; returns the exit code when it does not become another process."""
    return guarded(lambda: _start(Path(__file__).resolve().parents[3], argv))


def prepare(root: Path, dev: bool, extra: str = "") -> Path:
    """Bring the virtual environment up to date and return its folder.

    Two set-ups at once take turns; the second then finds the work done.

    Raises:
        UserError: when the folder is not writable, a package is missing or a step fails.
    """
    venv = environment.venv_folder(root, os.environ)
    wanted = venv_setup.steps(root, venv, dev, environment.wants_native_ros(os.environ), extra)
    if not venv_setup.pending(wanted, venv):
        return venv
    with _lock(root):
        todo = venv_setup.pending(wanted, venv)
        if todo:
            first = len(todo) == len(wanted)
            _say(f"setting up {venv.name} ({'the first start: a few minutes' if first else f'{len(todo)} of {len(wanted)} steps'})")
            venv_setup.perform(todo, venv, root / "build" / "setup.log")
    return venv


def _start(root: Path, argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(commands.usage())
        return 0 if argv else 2
    command = commands.find(argv[0])
    _supported_python(argv)
    if environment.wants_native_ros(os.environ):
        _require_native_ros()
    venv = prepare(root, argv[0] == "test", command.needs)
    python = str(venv / "bin" / "python")
    # -P keeps the caller's folder off the import path: a types.py there would shadow Python's own.
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []
    os.execve(python, [python, *safe_path, "-m", "wm_bridge.cli.main", *argv], environment.run_environment(root, venv, os.environ))


def _supported_python(argv: list[str]) -> None:
    """Go on with another Python of this machine when the current one has no wheels."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        other = shutil.which(f"python3.{minor}")
        if other and os.access(other, os.X_OK) and not os.environ.get("WM_OTHER_PYTHON"):
            script = str(Path(__file__).resolve().parents[3] / "wm")
            os.execve(other, [other, script, *argv], {**os.environ, "WM_OTHER_PYTHON": "1"})
    have, want = ".".join(map(str, sys.version_info[:2])), "3.10 to 3.12"
    raise UserError(f"wm: Python {want} is needed, this is {have}", "install python3.12 and python3.12-venv, then start ./wm again", exit_code=2)


def _require_native_ros() -> None:
    if not os.environ.get("ROS_DISTRO"):
        raise UserError("wm: WM_ROS=native, but no ROS 2 is sourced", "source /opt/ros/<distro>/setup.bash, or unset WM_ROS", exit_code=2)
    if not any((Path(prefix) / "share" / "wm_interfaces").is_dir() for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        raise UserError(
            f"wm: WM_ROS=native, but wm_interfaces is not built for ROS {os.environ['ROS_DISTRO']}",
            "cd ros2_ws && colcon build && source install/setup.bash",
            exit_code=2,
        )


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Hold the set-up lock of this checkout; the kernel frees it when the process ends in any way."""
    try:
        file = (root / LOCK).open("a")
    except OSError as error:
        raise UserError(
            f"wm: the folder {root} is not writable ({error.strerror}), and .venv has to be made in it",
            f"clone into a folder of your own, or: sudo chown -R $USER '{root}'",
            exit_code=2,
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another ./wm sets up this folder: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)
