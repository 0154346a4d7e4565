"""The launch files start exactly the nodes of config/graph.yaml."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from wm_bridge import arguments, graph
from wm_bridge.errors import UserError

FILES = {"sim": "sim.launch.py", "robot": "robot.launch.py", "replay": "replay.launch.py"}


class Recorded:
    """Stands for any launch action: keeps what it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


class Managed(Recorded):
    """A lifecycle node."""


class Configuration(Recorded):
    """A launch argument that reads its value from the context."""

    def perform(self, context: Any) -> str:
        return context.launch_configurations[self.args[0]]


@pytest.fixture
def launch_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small ``launch`` where the real one is not installed (it is not on PyPI)."""
    for name, values in {
        "launch": {"LaunchDescription": Recorded},
        "launch.actions": dict.fromkeys("DeclareLaunchArgument ExecuteProcess LogInfo OpaqueFunction RegisterEventHandler Shutdown TimerAction".split(), Recorded),
        "launch.event_handlers": {"OnProcessExit": Recorded},
        "launch.substitutions": {"LaunchConfiguration": Configuration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": Recorded, "LifecycleNode": Managed},
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


def groups(description: Any, returncode: int = 0, **values: str) -> list[list[Any]]:
    """What is started at once, then what follows each time that the nodes of the group before are there.

    Args:
        returncode: of the process that waits for them. values: launch arguments; defaults otherwise.
    """
    (actions,) = description.args
    arguments, function = actions[:-1], actions[-1]
    defaults = {argument.args[0]: argument.kwargs["default_value"] for argument in arguments}
    assert set(values) <= set(defaults)
    context = types.SimpleNamespace(launch_configurations={**defaults, **values})
    waiting, found = function.kwargs["function"](context, *function.kwargs.get("args", [])), []
    while waiting:
        found.append([action for action in waiting if "package" in action.kwargs or "reason" in action.kwargs])
        handlers = [action.args[0] for action in waiting if action.args and isinstance(action.args[0], Recorded)]
        for handler in handlers:
            awaited = handler.kwargs["target_action"]
            assert awaited in waiting, "what is waited for is started"
            names = [f"/{node.kwargs['namespace']}/{node.kwargs['name']}".replace("//", "/") for node in found[-1] if node.kwargs["package"] != "rviz2"]
            assert awaited.kwargs["cmd"][4:] == names
        waiting = [action for handler in handlers for action in handler.kwargs["on_exit"](types.SimpleNamespace(returncode=returncode), context)]
    return found


def launched(description: Any, **values: str) -> list[Any]:
    """All nodes, in the order they are started."""
    return [node for group in groups(description, **values) for node in group]


@pytest.mark.parametrize("profile", FILES)
def test_launch_starts_the_nodes_of_the_graph(launch_api: None, root: Path, profile: str) -> None:
    nodes = launched(described(root, profile), **({} if profile == "replay" else {"bag": "somewhere"}))
    entries = [entry for group in graph.stages(graph.load(profile)) for entry in group]
    assert [node.kwargs["name"] for node in nodes] == [entry.name for entry in entries]
    for node, entry in zip(nodes, entries, strict=True):
        assert isinstance(node, Managed) is entry.lifecycle
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


def test_on_a_robot_the_safety_node_comes_first_the_driver_next_and_the_planner_last(launch_api: None, root: Path) -> None:
    names = [[node.kwargs["name"] for node in group] for group in groups(described(root, "robot"))]
    assert names == [["safety"], ["driver"], ["camera", "goal", "viz"], ["planner"]]
    assert len(groups(described(root, "sim"))) == 1
    late = groups(described(root, "robot"), returncode=1)
    assert [node.kwargs["name"] for node in late[0]] == ["safety"] and "did not come up" in late[1][0].kwargs["reason"] and len(late) == 2


def test_on_a_robot_only_cameras_are_started_again(launch_api: None, root: Path) -> None:
    nodes = launched(described(root, "robot"), cameras="camera,camera2", bag="x")
    assert {node.kwargs["name"] for node in nodes if node.kwargs["respawn"]} == {"camera", "camera2"}


def test_dry_run_is_the_default_and_only_false_ends_it(launch_api: None, root: Path) -> None:
    def driver(**values: str) -> dict[str, Any]:
        return next(node for node in launched(described(root, "robot"), **values) if node.kwargs["name"] == "driver").kwargs["parameters"][-1]

    assert driver()["dry_run"] is True and driver()["robot_driver"] == ""
    given = driver(robot="nicol", dry_run="false", port="/dev/a,/dev/b,/dev/c,/dev/d")
    assert (given["dry_run"], given["robot"], given["port"]) == (False, "nicol", "/dev/a,/dev/b,/dev/c,/dev/d")


@pytest.mark.parametrize("word", ["True", "False", "0", "flase"])
def test_a_word_that_is_neither_true_nor_false_never_goes_live(word: str) -> None:
    with pytest.raises(ValueError, match="give true or false"):
        arguments.plan("robot", {"dry_run": word})


def test_a_robot_without_a_world_model_has_no_planner_until_one_is_given(launch_api: None, root: Path) -> None:
    names = [node.kwargs["name"] for node in launched(described(root, "robot"), robot="nicol")]
    assert names == ["safety", "driver", "camera", "viz"]
    assert "planner" in [node.kwargs["name"] for node in launched(described(root, "robot"), robot="nicol", checkpoint="mine.safetensors")]


def test_a_host_starts_only_the_nodes_that_it_is_given(launch_api: None, root: Path) -> None:
    def names(**values: str) -> list[str]:
        return [node.kwargs["name"] for node in launched(described(root, "robot"), **values)]

    assert names(nodes="planner,goal") == ["goal", "planner"]
    assert names(nodes="safety,driver,camera,viz", motors="-") == ["safety", "driver", "camera", "viz"]
    assert "camera" not in names(cameras="none")
    planner = launched(described(root, "robot"), nodes="planner", cameras="camera2")[0].kwargs["parameters"][-1]
    assert planner["image_topic"] == "camera2/image_raw", "the camera runs on the other host"
    with pytest.raises(UserError, match="plannr"):
        names(nodes="plannr")


def test_two_arms_have_topics_and_frames_of_their_own(launch_api: None, root: Path) -> None:
    for side in ("left", "right"):
        for node in launched(described(root, "robot"), namespace=side):
            assert node.kwargs["namespace"] == side
            given = node.kwargs["parameters"][-1]
            assert given.get("tf_prefix") == f"{side}/"
    given = launched(described(root, "robot"), namespace="wm", tf_prefix="/")[0].kwargs["parameters"][-1]
    assert "tf_prefix" not in given


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


def test_rviz_of_an_arm_in_a_namespace_shows_that_arm(launch_api: None, root: Path) -> None:
    (rviz,) = [node for node in launched(described(root, "robot"), rviz="true", namespace="/left/") if node.kwargs["package"] == "rviz2"]
    text = Path(rviz.kwargs["arguments"][1]).read_text()
    assert "Fixed Frame: left/base_link" in text and "Value: /left/goal_pose" in text and "TF Prefix: left\n" in text
    Path(rviz.kwargs["arguments"][1]).unlink()


def test_a_bag_is_played_on_its_clock_into_a_namespace_of_its_own(launch_api: None, root: Path) -> None:
    description = described(root, "replay")
    (actions,) = description.args
    defaults = {argument.args[0]: argument.kwargs["default_value"] for argument in actions[:-1]}
    context = types.SimpleNamespace(launch_configurations={**defaults, "play": "runs/x/bag", "rate": "2.0"})
    *nodes, timer = actions[-1].kwargs["function"](context)
    (process,) = timer.kwargs["actions"]
    command = process.kwargs["cmd"]
    assert command[:5] == ["ros2", "bag", "play", "runs/x/bag", "--clock"] and command[command.index("--rate") + 1] == "2.0"
    assert "/hw/command:=/replay/recorded/hw/command" in command and "/joint_states:=/replay/joint_states" in command
    assert "/clock" not in command and all(node.kwargs["namespace"] == "replay" for node in nodes if "package" in node.kwargs)
    given = {node.kwargs["name"]: node.kwargs["parameters"][-1] for node in nodes if "package" in node.kwargs}
    assert all(parameters["use_sim_time"] for parameters in given.values()) and given["planner"]["command_topic"] == "recorded/hw/command"


@pytest.mark.parametrize("profile", FILES)
def test_real_launch_takes_the_description(root: Path, profile: str) -> None:
    pytest.importorskip("launch_ros")
    assert described(root, profile).entities
