"""The environment variables that every process of the graph runs with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# Search paths that a sourced ROS 2 fills; its entries must not shadow the wheels.
_SEARCH_PATHS = ("PYTHONPATH", "LD_LIBRARY_PATH", "PATH", "CMAKE_PREFIX_PATH", "PKG_CONFIG_PATH")
_ROS_NAMES = ("ROS_DISTRO", "ROS_VERSION", "ROS_PYTHON_VERSION", "RMW_IMPLEMENTATION", "AMENT_PREFIX_PATH", "COLCON_PREFIX_PATH")


def wants_native_ros(environ: Mapping[str, str]) -> bool:
    """True when the user asked for the ROS 2 of this machine (WM_ROS=native) instead of the wheels."""
    return environ.get("WM_ROS", "") == "native"


def venv_folder(root: Path, environ: Mapping[str, str]) -> Path:
    """The virtual environment: one beside the wheels' for a native ROS 2, so both can be kept."""
    return root / (".venv-native" if wants_native_ros(environ) else ".venv")


def run_environment(root: Path, venv: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which commands and nodes run.

    What the user has set stays: discovery range, domain, thread counts, Fast DDS profiles.

    Args:
        root: the checkout.
        venv: the virtual environment, already set up.
        environ: the environment of the caller.
    """
    native = wants_native_ros(environ)
    env = dict(environ) if native else without_native_ros(environ)
    env.pop("PYTHONHOME", None)
    env["VIRTUAL_ENV"] = str(venv)
    env["PATH"] = _prepend(venv / "bin", env.get("PATH", os.defpath))
    if not native:
        env["AMENT_PREFIX_PATH"] = str(venv)
        # The wheels' libraries. Without these two every Python start executes itself once more to set them.
        folders = [venv / "lib", *sorted(venv.glob("lib/python3.*/site-packages/ros_*.libs"))]
        for folder in reversed(folders):
            env["LD_LIBRARY_PATH"] = _prepend(folder, env.get("LD_LIBRARY_PATH", ""))
        env["_ROS_WHEELS_BOOTSTRAP_COMPLETE"] = "1"
    profile = str(root / "config" / "fastdds.xml")
    env.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", profile)  # Jazzy
    env.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", profile)  # Kilted and later
    env.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    # Several processes share the cores: small matrices gain nothing from a thread per core.
    env.setdefault("OMP_NUM_THREADS", str(min(4, len(os.sched_getaffinity(0)))))
    env.setdefault("OPENBLAS_NUM_THREADS", "1")
    return env


def without_native_ros(environ: Mapping[str, str]) -> dict[str, str]:
    """A copy of `environ` with every trace of a sourced ROS 2 taken out.

    The prefixes come from AMENT_PREFIX_PATH and COLCON_PREFIX_PATH; entries of the search paths
    that lie inside one of them are dropped. ROS_DOMAIN_ID and the like stay: they are the user's.
    """
    prefixes = [
        Path(entry)
        for name in ("AMENT_PREFIX_PATH", "COLCON_PREFIX_PATH")
        for entry in environ.get(name, "").split(os.pathsep)
        if entry
    ]
    env = {name: value for name, value in environ.items() if name not in _ROS_NAMES}
    for name in _SEARCH_PATHS:
        if name not in env:
            continue
        entries = env[name].split(os.pathsep)
        kept = [entry for entry in entries if not any(Path(entry).is_relative_to(prefix) for prefix in prefixes)]
        if any(kept):
            env[name] = os.pathsep.join(kept)
        else:
            del env[name]
    return env


def _prepend(folder: Path, path: str) -> str:
    entries = [entry for entry in path.split(os.pathsep) if entry and entry != str(folder)]
    return os.pathsep.join([str(folder), *entries])
