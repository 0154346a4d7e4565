"""What leaves the checkout is whole: the ROS packages through colcon, the wheel and the sdist through pip."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

import wm_bridge
from wm_bridge.cli.environment import run_environment

WORKSPACE = ROOT / "ros2_ws" / "src"
BUILD_TYPES = {"wm_interfaces": "ament_cmake", "wm_planner": "ament_python", "wm_bridge": "ament_python", "wm_bringup": "ament_python"}
NODES = ("camera", "driver", "planner", "safety", "goal", "viz", "recorder", "view")
SITE = Path("lib") / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
pytestmark = pytest.mark.timeout(960)  # the build takes a minute and a half on two free cores


def shipped(folder: str) -> set[str]:
    """Files of a top-level folder that an installation must hold, relative to the checkout."""
    found = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert found, f"{folder} is empty"
    return found


def environ() -> dict[str, str]:
    return {**run_environment(ROOT, Path(sys.prefix), os.environ), "CMAKE_PREFIX_PATH": sys.prefix, "PYTHONDONTWRITEBYTECODE": ""}


def run(*command: str | Path, cwd: Path, timeout: float = 600, **env: str) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=cwd, env={**environ(), **env}, timeout=timeout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


# --- package.xml -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILD_TYPES)
def test_package_xml_is_valid_and_of_its_build_type(name):
    from catkin_pkg.package import parse_package

    warnings: list[str] = []
    package = parse_package(str(WORKSPACE / name / "package.xml"), warnings=warnings)
    assert (package.name, package.package_format, package.licenses, warnings) == (name, 3, ["Apache-2.0"], [])
    assert package.get_build_type() == BUILD_TYPES[name]
    assert package.version == wm_bridge.__version__
    assert f'version = "{package.version}"' in (ROOT / "pyproject.toml").read_text()


def test_every_ros_package_that_the_nodes_import_is_declared():
    from catkin_pkg.package import parse_package

    declared = {depend.name for depend in parse_package(str(WORKSPACE / "wm_bridge" / "package.xml")).exec_depends}
    used = set()
    for file in (ROOT / "src" / "wm_bridge").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            used |= {module.split(".")[0] for module in modules}
    ros = {name for name in used if name.endswith(("_msgs", "_srvs", "_interfaces")) or name in {"rclpy", "ament_index_python"}}
    assert ros and ros <= declared, f"add to ros2_ws/src/wm_bridge/package.xml: {sorted(ros - declared)}"


def test_every_declared_node_has_a_main():
    for node in NODES:
        tree = ast.parse((ROOT / "src" / "wm_bridge" / "nodes" / f"{node}.py").read_text())
        assert "main" in {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}, node


# --- colcon ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The install folder of a real `colcon build` of the whole workspace."""
    place = tmp_path_factory.mktemp("colcon")
    python = f"-DPython3_EXECUTABLE={sys.executable}"
    bases = ["--base-paths", WORKSPACE, "--build-base", place / "build", "--install-base", place / "install"]
    cmake = ["--cmake-args", "-G", "Ninja", "-DBUILD_TESTING=OFF", "-DCMAKE_CXX_FLAGS=-O0", "-DCMAKE_C_FLAGS=-O0", python]
    run(sys.executable, "-m", "colcon", "--log-base", place / "log", "build", *bases, *cmake, cwd=place, timeout=900)
    return place / "install"


def test_colcon_knows_every_package_by_its_ros_type(tmp_path):
    listing = run(sys.executable, "-m", "colcon", "--log-base", tmp_path / "log", "list", "--base-paths", ROOT / "ros2_ws", cwd=tmp_path)
    assert {line.split("\t")[0]: line.split("\t")[2] for line in listing.splitlines()} == {
        name: f"(ros.{kind})" for name, kind in BUILD_TYPES.items()
    }, "tf2_msgs in particular must stay hidden from colcon"


@pytest.mark.slow
def test_colcon_build_installs_every_node(installed):
    folder = installed / "wm_bridge" / "lib" / "wm_bridge"
    assert {path.name for path in folder.iterdir() if os.access(path, os.X_OK)} == {f"{node}_node" for node in NODES}
    for package in BUILD_TYPES:
        assert (installed / package / "share/ament_index/resource_index/packages" / package).is_file()


@pytest.mark.slow
def test_colcon_build_installs_launch_urdf_and_config(installed):
    share = installed / "wm_bringup" / "share" / "wm_bringup"
    have = {str(path.relative_to(share)) for path in share.rglob("*")}
    assert shipped("launch") | shipped("urdf") | shipped("config") <= have


@pytest.mark.slow
def test_colcon_build_installs_the_checkpoints(installed):
    folder = installed / "wm_planner" / SITE / "wm_planner"
    assert shipped("src/wm_planner/checkpoints") <= {f"src/wm_planner/{path.relative_to(folder)}" for path in folder.rglob("*")}


@pytest.mark.slow
def test_code_from_colcon_finds_its_data(installed, tmp_path):
    where = run(sys.executable, "-c", FIND_DATA, cwd=tmp_path, PYTHONPATH=str(installed / "wm_bridge" / SITE)).split("\n")
    assert where[:2] == [str(installed / "wm_bridge" / SITE / "wm_bridge"), str(installed / "wm_bridge" / "share" / "wm_bridge")]


@pytest.mark.slow
def test_interfaces_from_colcon_import(installed, tmp_path):
    prefix = installed / "wm_interfaces"
    code = "import wm_interfaces; from wm_interfaces.action import ReachGoal; ReachGoal.Goal(); import sys; print(wm_interfaces.__file__)"
    path = os.pathsep.join([str(prefix / "lib"), environ()["LD_LIBRARY_PATH"]])
    file = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(prefix / SITE), LD_LIBRARY_PATH=path)
    assert Path(file.strip()).is_relative_to(prefix)


FIND_DATA = """
import pathlib, wm_bridge
from wm_bridge import resources
print(pathlib.Path(wm_bridge.__file__).parent)
print(resources.root())
print(resources.path("config/fastdds.xml"))
"""


# --- wheel and sdist ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """Folder with the sdist and the wheel that is built from it, made from a copy of the checkout."""
    place = tmp_path_factory.mktemp("dist")
    copy = place / "checkout"
    ignored = shutil.ignore_patterns(".git", ".venv*", "build", "runs", "data", "outputs", "__pycache__", "*.egg-info", "install", "log")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place / "out", copy, cwd=place)
    return place / "out"


@pytest.fixture(scope="module")
def wheel_names(dist) -> set[str]:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


def test_the_wheel_holds_all_code_and_the_checkpoints(wheel_names):
    assert any(name.endswith(".safetensors") for name in wheel_names)
    wanted = shipped("src/wm_planner/checkpoints") | {f"src/{package}/py.typed" for package in ("wm_planner", "wm_bridge")}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "src").rglob("*.py")}
    assert {name.removeprefix("src/") for name in wanted} <= wheel_names


def test_the_wheel_holds_robot_description_and_config(wheel_names):
    data = {name.partition(".data/data/share/wm_bridge/")[2] for name in wheel_names}
    lacking = (shipped("config") | shipped("urdf")) - data
    assert not lacking, f"add to [tool.setuptools.data-files] in pyproject.toml: {sorted(lacking)}"


def test_neither_wheel_nor_sdist_holds_tests(dist, wheel_names):
    with tarfile.open(next(dist.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "LICENSE", "requirements/base.txt"} <= names
    assert not [name for name in names | wheel_names if name.startswith("tests") or "/test_" in name and "cli/test_suite" not in name]


def test_the_installed_wheel_runs_and_finds_its_data(dist, tmp_path):
    wheel = next(dist.glob("*.whl"))
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--prefix", tmp_path, wheel, cwd=tmp_path)
    where = run(sys.executable, "-c", FIND_DATA, cwd=tmp_path, PYTHONPATH=str(tmp_path / SITE)).split("\n")
    assert where[:2] == [str(tmp_path / SITE / "wm_bridge"), str(tmp_path / "share" / "wm_bridge")]
    assert "doctor" in run(tmp_path / "bin" / "wm", "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path / SITE))


def test_the_wheel_asks_for_exactly_the_pins(dist):
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("METADATA"))).decode()
    asked = {line.partition(": ")[2] for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line}
    lines = [line.strip() for line in (ROOT / "requirements" / "base.txt").read_text().splitlines()]
    pins = {line for line in lines if line and not line.startswith("#")}
    assert {entry.replace(" ", "") for entry in asked} == {pin.replace(" ", "") for pin in pins}
    assert all("==" in pin for pin in pins)
