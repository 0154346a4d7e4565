"""Where and with what a run was made: machine, versions, configuration; the same for every kind of run."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from wm_bridge.resources import git_revision

_PACKAGES = (
    "wm-robot", "torch", "numpy", "scipy", "mujoco", "opencv-python", "pin", "quadprog", "numba", "safetensors", "transformers",
    "rosbags", "viser", "ros-jazzy-rclpy", "ros-rclpy", "ros-rmw-fastrtps-cpp",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Python, the system, and those packages that are installed."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.release()} {platform.machine()}"}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Processor and core count."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores"


def made(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What every report.json says besides its figures: date, git, machine, configuration, versions."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"date": now, "git": git_revision(), "machine": machine(), "configuration": dict(configuration), "versions": versions()}


def flat(values: object, name: str = "") -> dict[str, str]:
    """Nested settings as lines: ``planner.samples`` -> ``48``; lists are one text each."""
    if not isinstance(values, Mapping):
        return {name: str(values)} if name else {}
    return {key: text for part, value in values.items() for key, text in flat(value, f"{name}.{part}".lstrip(".")).items()}
