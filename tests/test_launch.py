"""The launch files start exactly the nodes of config/graph.yaml."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from wm_bridge import graph

FILES = {"sim": "sim.launch.py", "robot": "robot.launch.py"}


class Recorded:
    """Stands for any launch action: keeps what it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


class Configuration(Recorded):
    """A launch argument that reads its value from the context."""

    def perform(self, context: Any) -> str:
        return context.launch_configurations[self.args[0]]


@pytest.fixture
def launch_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small ``launch`` where the real one is not installed (it is not on PyPI)."""
    for name, values in {
        "launch": {"LaunchDescription": Recorded},
        "launch.actions": {"DeclareLaunchArgument": Recorded, "OpaqueFunction": Recorded, "Shutdown": Recorded},
        "launch.substitutions": {"LaunchConfiguration": Configuration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": Recorded},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)


def described(root: Path, profile: str) -> Any:
    """What ``generate_launch_description`` of a launch file returns."""
    spec = importlib.util.spec_from_file_location("launch_file", root / "launch" / FILES[profile])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def launched(description: Any, **values: str) -> list[Any]:
    """The actions that follow from the arguments' defaults and ``values``."""
    (actions,) = description.args
    arguments, function = actions[:-1], actions[-1]
    defaults = {argument.args[0]: argument.kwargs["default_value"] for argument in arguments}
    assert set(values) <= set(defaults)
    context = types.SimpleNamespace(launch_configurations={**defaults, **values})
    return function.kwargs["function"](context, *function.kwargs["args"])


@pytest.mark.parametrize("profile", FILES)
def test_launch_starts_the_nodes_of_the_graph(launch_api: None, root: Path, profile: str) -> None:
    nodes = launched(described(root, profile), bag="somewhere")
    entries = graph.load(profile)
    assert [node.kwargs["name"] for node in nodes] == [entry.name for entry in entries]
    for node, entry in zip(nodes, entries, strict=True):
        assert (node.kwargs["package"], node.kwargs["executable"]) == (entry.package, entry.executable)
        assert node.kwargs["respawn"] is entry.respawn
        assert (node.kwargs["on_exit"] is not None) is entry.required
        given = node.kwargs["parameters"][-1]
        assert {name: given[name] for name in entry.parameters if name != "path"} == dict(entry.parameters)


def test_launch_arguments_reach_the_nodes(launch_api: None, root: Path) -> None:
    nodes = launched(described(root, "sim"), realtime_factor="2.5", auto_enable="true", checkpoint="x.safetensors")
    given = {node.kwargs["name"]: node.kwargs["parameters"][-1] for node in nodes}
    assert "recorder" not in given  # no bag asked for
    assert {given[name]["realtime_factor"] for name in ("driver", "safety", "camera", "planner")} == {2.5}
    assert given["safety"]["auto_enable"] is True
    assert given["planner"]["checkpoint"] == "x.safetensors"


def test_cameras_are_chosen_and_configured_by_arguments(launch_api: None, root: Path) -> None:
    nodes = launched(described(root, "robot"), cameras="camera2,camera", camera_source="/dev/v4l/by-id/a", camera2_source="7", camera_extrinsics="x.yaml")
    given = {node.kwargs["name"]: node.kwargs["parameters"][-1] for node in nodes}
    assert (given["camera"]["source"], given["camera2"]["source"], given["camera"]["extrinsics"]) == ("/dev/v4l/by-id/a", "7", "x.yaml")
    assert given["planner"]["image_topic"] == "camera2/image_raw"


def test_rviz_opens_the_shipped_view_only_when_asked(launch_api: None, root: Path) -> None:
    assert all(node.kwargs["package"] != "rviz2" for node in launched(described(root, "sim")))
    rviz = launched(described(root, "sim"), rviz="true")[-1]
    assert rviz.kwargs["package"] == "rviz2"
    assert Path(rviz.kwargs["arguments"][1]) == root / "config" / "rviz" / "wm.rviz"


@pytest.mark.parametrize("profile", FILES)
def test_real_launch_takes_the_description(root: Path, profile: str) -> None:
    pytest.importorskip("launch_ros")
    assert described(root, profile).entities
