"""Libraries and tools that pip cannot bring: found, installed where allowed, else named exactly."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wm_bridge.errors import UserError

_INSTALL = ["apt-get", "install", "-y", "--no-install-recommends"]


@dataclass(frozen=True)
class Requirement:
    """One thing the system must have.

    Attributes:
        name: what is looked for.
        needed_by: who fails without it.
        present: tells whether it is here.
        packages: Debian and Ubuntu packages that bring it.
    """

    name: str
    needed_by: str
    present: Callable[[], bool]
    packages: tuple[str, ...]


def requirements() -> list[Requirement]:
    """All system requirements, for the Python that runs this."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return [
        Requirement("C++ compiler", "the ROS interfaces", lambda: bool(shutil.which("g++") and shutil.which("gcc")), ("g++",)),
        Requirement("Python.h", "the ROS interfaces", headers.is_file, (f"python{version}-dev",)),
        Requirement("ensurepip", "the virtual environment", lambda: _has_module("ensurepip"), (f"python{version}-venv",)),
        Requirement(
            "EGL or OSMesa",
            "MuJoCo pictures without a screen",
            lambda: _loads("libEGL.so.1") or _loads("libOSMesa.so.8") or _loads("libOSMesa.so.6"),
            ("libegl1", "libgl1-mesa-dri"),
        ),
        Requirement("libGL.so.1", "OpenCV", lambda: _loads("libGL.so.1"), ("libgl1",)),
        Requirement("libgthread-2.0.so.0", "OpenCV", lambda: _loads("libgthread-2.0.so.0"), ("libglib2.0-0",)),
        Requirement("libusb-1.0.so.0", "RealSense cameras", lambda: _loads("libusb-1.0.so.0"), ("libusb-1.0-0",)),
    ]


def missing() -> list[Requirement]:
    """The requirements that are not met."""
    return [requirement for requirement in requirements() if not requirement.present()]


def browser() -> str | None:
    """Path of a Chromium of this system, which tests drive; None when there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def add_browser(run: Callable[[list[str], dict[str, str]], None]) -> None:
    """Install Chromium where that is allowed; where it is not, or fails, tests that need it say so.

    Args:
        run: as of ``ensure``.
    """
    prefix = None if browser() else _privilege()
    if prefix is None:
        return
    try:
        _install(run, prefix, ["chromium"])
    except UserError:
        pass  # no such package here, or no network: nothing but those tests needs it


def ensure(run: Callable[[list[str], dict[str, str]], None]) -> None:
    """Install what is missing when allowed to (root, or sudo without a password).

    Args:
        run: runs one command with an environment; raises `UserError` when it fails.

    Raises:
        UserError: with the exact command, when it may not install or something is still missing.
    """
    lacking = missing()
    if not lacking:
        return
    packages = sorted({package for requirement in lacking for package in requirement.packages})
    command = [*_INSTALL, *packages]
    prefix = _privilege()
    if prefix is None:
        raise _lacks(lacking, f"sudo {' '.join(command)}")
    try:
        _install(run, prefix, packages)
    except UserError as error:
        raise _lacks(lacking, " ".join([*prefix, *command])) from error
    lacking = missing()
    if lacking:
        raise _lacks(lacking, f"install what brings {', '.join(item.name for item in lacking)}")


def _install(run: Callable[[list[str], dict[str, str]], None], prefix: list[str], packages: list[str]) -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run([*prefix, "apt-get", "update", "-qq"], environ)
    run([*prefix, *_INSTALL, *packages], environ)


def _lacks(lacking: list[Requirement], remedy: str) -> UserError:
    names = ", ".join(f"{item.name} (for {item.needed_by})" for item in lacking)
    return UserError(f"wm: this system lacks {names}", f"{remedy} ; then start ./wm again", exit_code=2)


def _privilege() -> list[str] | None:
    """What to put before apt-get: nothing for root, sudo where it asks no password, None where neither works."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    return None


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
