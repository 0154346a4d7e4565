"""The steps that make the virtual environment, and the stamp that lets the next start skip them.

Every step has a key: a hash of all it depends on (pins, interface files, Python, the folder).
The stamp file in the environment holds the key of every finished step, so an interrupted set-up
goes on where it stopped, and a changed message file rebuilds the interfaces and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wm_bridge.cli import environment, system_packages, venv_trim
from wm_bridge.cli.progress import Progress
from wm_bridge.errors import UserError

STAMP = "wm-stamp.json"
COMPILED = ("safety/compiled", "core/inverse", "core/jit")  # of src/wm_bridge
EXTRAS = ("vjepa.txt", "data.txt", "docs.txt")  # of requirements/: packages that some commands need, and the tests
INTERFACES = (Path("ros2_ws/venv_only/tf2_msgs"), Path("ros2_ws/src/wm_interfaces"))


@dataclass(frozen=True)
class Step:
    """One part of the set-up.

    Attributes:
        name: key in the stamp file.
        title: what the progress line says.
        key: hash of everything the result depends on.
        run: does it; may be repeated after an interruption.
    """

    name: str
    title: str
    key: str
    run: Callable[[Progress], None]


def steps(root: Path, venv: Path, dev: bool, native: bool, extra: str = "") -> list[Step]:
    """All steps in order.

    Args:
        root: the checkout.
        venv: the virtual environment.
        dev: also what the tests need.
        native: ROS 2 comes from the system; no wheels, no interfaces to build.
        extra: requirements file of the command that is to run; "" = none.
    """
    pins = root / "requirements"
    place = _digest([], _python_version(venv), str(root), str(native))
    base = _digest([pins / "base.txt", pins / "constraints.txt"], place)
    ros = _digest([pins / "ros-jazzy.txt"], base)
    made = [
        Step("system", "system packages", place, lambda progress: system_packages.ensure(progress.run)),
        Step("venv", "virtual environment", place, lambda progress: _make_venv(venv, native, progress)),
        Step("base", "Python packages (torch, MuJoCo, OpenCV ...)", base, lambda progress: _pip(root, venv, "base.txt", progress)),
    ]
    if not native:
        made.append(Step("ros", "ROS 2 Jazzy from wheels", ros, lambda progress: _install_ros(root, venv, progress)))
        for package in INTERFACES:
            made.append(
                Step(package.name, f"{package.name}, built", _digest(_files(root / package), ros), _builder(root, venv, package))
            )
    made.append(Step("trim", "unused files removed", _digest([], ros, repr(venv_trim.UNUSED)), lambda _: venv_trim.trim(venv)))
    made.append(Step("project", "this project", place, lambda _: _link_project(root, venv)))
    sources = [root / "src" / "wm_bridge" / f"{name}.py" for name in COMPILED]
    made.append(Step("compiled", "distances and kinematics, compiled", _digest(sources, base), lambda progress: _compile(venv, progress)))
    for name in EXTRAS if dev else (extra,) if extra else ():
        title = f"packages of {name}"
        made.append(Step(name, title, _digest([pins / name], base), lambda progress, name=name: _pip(root, venv, name, progress)))  # type: ignore[misc]
    if dev:
        made.append(Step("dev", "test tools", _digest([pins / "dev.txt"], base), lambda progress: _pip(root, venv, "dev.txt", progress)))
    if dev and os.environ.get("WM_BROWSER"):
        made.append(Step("browser", "Chromium, for tests of the browser view", place, lambda progress: system_packages.add_browser(progress.run)))
    return made


def pending(wanted: list[Step], venv: Path) -> list[Step]:
    """The steps whose result is missing or outdated; all of them when the environment itself is."""
    stamp = read_stamp(venv)
    stale = [step for step in wanted if stamp.get(step.name) != step.key]
    return wanted if any(step.name == "venv" for step in stale) else stale


def perform(todo: list[Step], venv: Path, log: Path) -> None:
    """Run the steps in order and note each finished one in the stamp."""
    progress = Progress(len(todo), log)
    finished: dict[str, str] = {} if any(step.name == "venv" for step in todo) else read_stamp(venv)
    for step in todo:
        with progress.step(step.title):
            step.run(progress)
        finished[step.name] = step.key
        if (venv / "pyvenv.cfg").is_file():
            _write_stamp(venv, finished)


def read_stamp(venv: Path) -> dict[str, str]:
    """Keys of the finished steps; empty when there is no stamp or it cannot be read."""
    try:
        stamp = json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _write_stamp(venv: Path, keys: dict[str, str]) -> None:
    fresh = venv / f"{STAMP}.new"
    fresh.write_text(json.dumps(keys, indent=1))
    fresh.replace(venv / STAMP)


def _make_venv(venv: Path, native: bool, progress: Progress) -> None:
    """Make the environment, or keep one that is whole and was made in this place."""
    (venv / STAMP).unlink(missing_ok=True)
    if _is_whole(venv):
        return
    options = ["--system-site-packages"] if native else []
    python = getattr(sys, "_base_executable", sys.executable)  # not that of an environment we may clear
    progress.run([python, "-m", "venv", "--clear", *options, str(venv)], _clean(native))


def _is_whole(venv: Path) -> bool:
    """True when the environment's Python starts, has pip, and its scripts name this folder (it was not moved)."""
    python, script = venv / "bin" / "python", venv / "bin" / "activate"
    if not python.exists() or not script.is_file() or str(venv) not in script.read_text():
        return False
    return subprocess.run([python, "-I", "-c", "import pip"], capture_output=True).returncode == 0


def _python_version(venv: Path) -> str:
    """Version of the environment's Python while that still exists, else of the one that would make it.

    So it does not matter which Python a later `./wm` happens to be started with.
    """
    try:
        lines = (venv / "pyvenv.cfg").read_text().splitlines()
        versions = [line.partition("=")[2].strip() for line in lines if line.startswith("version =")]
    except OSError:
        versions = []
    if versions and (venv / "bin" / "python").exists():
        return versions[0]
    return ".".join(map(str, sys.version_info[:3]))


def _pip(root: Path, venv: Path, pins: str, progress: Progress) -> None:
    folder = root / "requirements"
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    command += [word for name in pins.split() for word in ("-r", str(folder / name))] + ["-c", str(folder / "constraints.txt")]
    progress.run(command, _clean(environment.wants_native_ros(os.environ)))
    venv_trim.trim(venv)


def _install_ros(root: Path, venv: Path, progress: Progress) -> None:
    _pip(root, venv, "ros-jazzy.txt", progress)
    _mend_cmake_exports(venv)


def _mend_cmake_exports(venv: Path) -> None:
    """The wheels' cmake files name the include folders of the machine that built them: name ours."""
    query = "import numpy, sysconfig; print(sysconfig.get_paths()['include']); print(numpy.get_include())"
    answer = subprocess.run([venv / "bin" / "python", "-c", query], capture_output=True, text=True, check=True)
    python_include, numpy_include = answer.stdout.splitlines()
    for export in venv.glob("share/*/cmake/*Export*.cmake"):
        text = export.read_text()
        mended = re.sub(r'/opt/python/[^;"]*/numpy/[^;"]*include', lambda _: numpy_include, text)
        mended = re.sub(r'/opt/python/[^;"]*/include/python[0-9.]+', lambda _: python_include, mended)
        if mended != text:
            export.write_text(mended)


def _builder(root: Path, venv: Path, package: Path) -> Callable[[Progress], None]:
    """Build one interface package into the environment, as colcon would on the robot."""

    def build(progress: Progress) -> None:
        env = environment.run_environment(root, venv, _clean(native=False))
        env["CMAKE_PREFIX_PATH"] = str(venv)
        python, folder = str(venv / "bin" / "python"), str(root / "build" / package.name)
        cmake = str(venv / "bin" / "cmake")
        configure = [cmake, "--fresh", "-S", str(root / package), "-B", folder, "-G", "Ninja", "-DBUILD_TESTING=OFF"]
        configure += [f"-DCMAKE_INSTALL_PREFIX={venv}", f"-DPython3_EXECUTABLE={python}", "-Wno-dev"]
        progress.run(configure, env)
        progress.run([cmake, "--build", folder, "--target", "install"], env)

    return build


def _link_project(root: Path, venv: Path) -> None:
    """Make our packages importable from the checkout: an edited file counts at the next start."""
    folders = list(venv.glob("lib/python3.*/site-packages"))
    if len(folders) != 1:
        raise UserError(f"wm: expected one site-packages folder in {venv}, found {len(folders)}", f"remove {venv} and start ./wm again")
    (folders[0] / "wm_robot.pth").write_text(f"{root / 'src'}\n")


def _compile(venv: Path, progress: Progress) -> None:
    """Fill numba's cache beside the source: what the import compiles, a node that starts would have to wait for."""
    progress.run([str(venv / "bin" / "python"), "-c", "import wm_bridge.safety.compiled, wm_bridge.core.inverse"], _clean(native=True))


def _clean(native: bool) -> dict[str, str]:
    """The caller's environment without what could lead pip or cmake to another Python or ROS."""
    env = dict(os.environ) if native else environment.without_native_ros(os.environ)
    for name in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PIP_TARGET", "PIP_USER", "PIP_PREFIX"):
        env.pop(name, None)
    return env


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(files: list[Path], *words: str) -> str:
    """Hash of words, and of names and contents of files."""
    digest = hashlib.sha256("\0".join(words).encode())
    for file in files:
        digest.update(b"\0" + file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
