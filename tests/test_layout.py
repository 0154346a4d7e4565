"""The layout of docs/architecture: which folder may import which, and that all folders are in real use."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

BRIDGE, PLANNER = ROOT / "src" / "wm_bridge", ROOT / "src" / "wm_planner"

# Folder of wm_bridge -> what its files may import of wm_bridge besides their own folder.
# `robots.spec` is a pure value (names, limits, frames), so the layers below robots may read it.
SHARED = {"errors", "resources"}
ALLOWED = {
    "core": {"robots.spec"},
    "safety": {"core", "robots.spec"},
    "sim": {"core", "safety", "robots.spec"},  # closed_loop: the graph in one process, filter included
    "robots": {"core", "sim"},
    "cameras": {"core", "sim", "robots.spec"},
    "calibration": {"core", "sim", "cameras", "robots.spec"},
    "ros": {"core", "bags", "safety", "robots", "cameras", "view.shown"},
    "view": {"core"},
    "bags": {"core"},
    "docs": {"core", "cli", "nodes", "ros", "graph"},
    "dataset": {"core", "bags", "report.sheet"},
    "report": {"core", "bags", "sim", "robots.spec", "cli.terminal"},
    "replay": {"core", "bags", "safety", "robots.spec", "report", "planner_setup"},
    "nodes": {"ros", "core", "bags", "safety", "robots", "cameras", "sim", "view", "graph", "planner_setup"},
}
TORCH = {"nodes/planner.py", "planner_setup.py", "sim/episodes.py", "docs/settings.py"}
# episodes: one function, called by `./wm collect` only; docs: `./wm docs`, never a node
FOLDERS = ("docs", "examples", "src/wm_planner", "src/wm_bridge", "launch", "urdf", "config", "docker", "tests", "ros2_ws/src")


def imports(file: Path) -> Iterator[str]:
    """Dotted names that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write the whole module name, not a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def sources(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert found, f"{folder} holds no Python file"
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_one_way(folder):
    allowed = {folder, *ALLOWED[folder], *SHARED}
    wrong = [
        f"{file.relative_to(BRIDGE)} imports {name}"
        for file in sources(BRIDGE / folder)
        for name in imports(file)
        if name.startswith("wm_bridge.") and not any(f"{name}.".startswith(f"wm_bridge.{good}.") for good in allowed)
    ]
    assert not wrong, f"{folder} may import {sorted(allowed)} only"


def test_every_folder_of_the_bridge_has_a_place_in_the_order():
    packages = {path.parent.name for path in BRIDGE.glob("*/__init__.py")}
    assert packages - {"cli", "bench"} == set(ALLOWED)


def test_the_planner_library_knows_neither_ros_nor_cameras_nor_the_bridge():
    wrong = [(file.name, name) for file in sources(PLANNER) for name in imports(file) if name.split(".")[0] in {"rclpy", "cv2", "wm_bridge"}]
    assert not wrong


def test_only_ros_nodes_and_commands_know_ros():
    def is_ros(name: str) -> bool:
        package = name.split(".")[0]
        return package in {"rclpy", "wm_interfaces", "std_srvs", "builtin_interfaces", "ament_index_python"} or package.endswith("_msgs")

    wrong = [
        (str(file.relative_to(BRIDGE)), name)
        for file in sources(BRIDGE)
        if file.relative_to(BRIDGE).parts[0] not in {"ros", "nodes", "cli", "bench"}
        for name in imports(file)
        if is_ros(name)
    ]
    assert not wrong


def test_only_the_planner_node_and_commands_load_torch():
    wrong = [
        (str(file.relative_to(BRIDGE)), name)
        for file in sources(BRIDGE)
        if file.relative_to(BRIDGE).parts[0] not in {"cli", "bench"} and str(file.relative_to(BRIDGE)) not in TORCH
        for name in imports(file)
        if name.split(".")[0] in {"torch", "wm_planner"}
    ]
    assert not wrong


def test_the_node_on_the_road_to_the_hardware_starts_without_torch(ros_env):
    code = "import sys, wm_bridge.nodes.safety, wm_bridge.nodes.driver, wm_bridge.nodes.camera; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ros_env, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_fixed_folder_is_in_real_use(folder):
    real = [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.stat().st_size > 0 and "__pycache__" not in path.parts]
    assert real, f"{folder} is missing or holds no file"


def test_symlinks_are_relative_and_lead_into_the_checkout():
    links = [path for path in (ROOT / "ros2_ws" / "src").glob("*/*") if path.is_symlink()]
    assert {"wm_planner/wm_planner", "wm_bridge/wm_bridge", "wm_bringup/launch"} <= {str(link.relative_to(ROOT / "ros2_ws/src")) for link in links}
    for link in links:
        target = os.readlink(link)
        assert not os.path.isabs(target), f"{link} must be relative"
        assert link.resolve(strict=True).is_relative_to(ROOT), f"{link} leads out of the checkout"


def test_nothing_in_the_package_names_a_machine():
    wrong = [
        str(file.relative_to(ROOT))
        for folder in ("src", "config", "launch", "requirements", "docker")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in {".py", ".yaml", ".xml", ".txt", ".sh", ".yml", ""} and file.is_file()
        if any(word in file.read_text(errors="ignore") for word in ("/home/", "/work/", "index-url", "find-links"))
    ]
    assert not wrong
