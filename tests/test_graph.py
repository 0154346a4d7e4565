"""The graph description and the supervisor's handling of processes."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest
import yaml

from wm_bridge import graph
from wm_bridge.errors import UserError


def test_every_node_of_the_graph_is_a_module_of_ours() -> None:
    for profile in graph.PROFILES:
        entries = graph.load(profile, cameras=("camera", "camera2"))
        hardware = set() if profile == "replay" else {"driver", "camera2", "recorder"}
        assert {"safety", "camera", "planner", "goal"} | hardware <= {entry.name for entry in entries}
        assert profile != "replay" or "driver" not in {entry.name for entry in entries}, "a played bag moves nothing"
        for entry in entries:
            assert importlib.util.find_spec(entry.module) is not None, entry.module
            assert entry.executable == f"{entry.module.rpartition('.')[2]}_node"


def test_the_recorder_sees_both_ends_and_the_arm_is_stopped_after_the_planner() -> None:
    names = [entry.name for entry in graph.load("sim")]
    assert names[:3] == ["recorder", "driver", "safety"]  # stopped in the reverse order


def test_driver_and_safety_end_the_graph_when_they_end() -> None:
    entries = graph.load("sim")
    assert {entry.name for entry in entries if entry.required} == {"driver", "safety"}
    assert not any(entry.respawn for entry in entries if entry.name in ("driver", "safety"))


def test_the_robot_profile_has_nothing_of_the_simulation() -> None:
    for entry in graph.load("robot"):
        assert entry.parameters["use_sim_time"] is False
        assert not entry.parameters.get("auto_enable", False)
        assert entry.parameters.get("robot_driver") != "mujoco"
        assert entry.parameters.get("camera_driver") != "mujoco"


def test_cameras_that_are_not_named_stay_out_and_the_first_one_is_planned_from() -> None:
    usual = {entry.name: entry for entry in graph.load("robot")}
    assert "camera2" not in usual and not any("image_topic" in entry.parameters or "cameras" in entry.parameters for entry in usual.values())
    both = {entry.name: entry.parameters for entry in graph.load("sim", cameras=("camera2", "camera"))}
    assert {"camera", "camera2"} <= set(both) and both["recorder"]["cameras"] == ["camera2", "camera"]
    assert {both[name]["image_topic"] for name in ("planner", "safety", "goal")} == {"camera2/image_raw"}
    only = {entry.name for entry in graph.load("sim", cameras=("camera2",))}
    assert "camera2" in only and "camera" not in only
    mine = graph.load("sim", {"planner": {"image_topic": "camera/image_rect"}}, cameras=("camera2", "camera"))
    assert [entry.parameters["image_topic"] for entry in mine if entry.name == "planner"] == ["camera/image_rect"]


@pytest.mark.parametrize(("cameras", "word"), [(("camera3",), "did you mean"), (("safety",), "did you mean"), (("camera", "camera"), "twice")])
def test_cameras_that_are_unknown_or_named_twice_are_errors(cameras: tuple[str, ...], word: str) -> None:
    with pytest.raises(UserError, match=word):
        graph.load("sim", cameras=cameras)


def test_a_robot_comes_up_in_order_and_the_simulation_at_once() -> None:
    groups = [[entry.name for entry in group] for group in graph.stages(graph.load("robot"))]
    assert groups[0] == ["recorder", "safety"] and groups[1] == ["driver"] and groups[-1] == ["planner"]
    assert len(graph.stages(graph.load("sim"))) == 1
    without = [[entry.name for entry in group] for group in graph.stages(graph.load("robot", skip=("recorder", "driver")))]
    assert without[0] == ["safety", "camera", "goal", "viz"], "nobody waits for a node that is left out"


def test_nodes_that_wait_for_each_other_are_an_error(tmp_path: Path) -> None:
    data = yaml.safe_load((Path(__file__).parents[1] / "config/graph.yaml").read_text())
    data["nodes"]["safety"]["after"] = {"robot": ["driver"]}
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(UserError, match="wait for each other"):
        graph.stages(graph.load("robot", path=tmp_path / "graph.yaml"))


def test_a_namespace_is_in_full_names_and_frames() -> None:
    nodes = {entry.name: entry for entry in graph.load("robot", namespace="/left/")}
    assert nodes["driver"].full_name == "/left/driver" and nodes["driver"].parameters["tf_prefix"] == "left/"
    assert nodes["goal"].parameters["tf_prefix"] == "left/" and "tf_prefix" not in nodes["recorder"].parameters
    assert graph.load("robot")[0].full_name == "/recorder"
    other = {entry.name: entry for entry in graph.load("robot", namespace="left", tf_prefix="l_")}
    assert other["camera"].parameters["tf_prefix"] == "l_"


def test_overrides_win_and_skip_leaves_out() -> None:
    entries = graph.load("sim", {"driver": {"realtime_factor": 3.0}}, skip=("viz",))
    by_name = {entry.name: entry for entry in entries}
    assert by_name["driver"].parameters["realtime_factor"] == 3.0
    assert "viz" not in by_name


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("nodez: {}", "nodes"),
        ("nodes: {driver: {package: p, executable: e, profiles: [sim], requird: true}}", "required"),
        ("nodes: {driver: {package: p, executable: e, profiles: [simm]}}", "sim"),
        ("nodes: {driver: {package: p, executable: e, profiles: [sim], parameters: {robott: {}}}}", "robot"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, text: str, nearest: str) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"did you mean '{nearest}'"):
        graph.load("sim", path=file)


def test_unknown_profile_node_and_missing_key_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'sim'"):
        graph.load("simm")
    with pytest.raises(UserError, match="'planner'"):
        graph.load("sim", {"plannr": {}})
    file = tmp_path / "graph.yaml"
    file.write_text("nodes: {driver: {package: p, profiles: [sim]}}", encoding="utf-8")
    with pytest.raises(UserError, match="executable"):
        graph.load("sim", path=file)


def test_parameter_file_is_a_ros_parameter_file() -> None:
    entry = graph.load("sim")[1]
    data = yaml.safe_load(graph.parameter_file(entry))
    assert data["/**"]["ros__parameters"] == dict(entry.parameters)


def test_planner_parameters_are_known_to_the_planner(root: Path) -> None:
    import dataclasses

    from wm_bridge.nodes.planner import PlannerParams

    values = yaml.safe_load((root / "config" / "planner.yaml").read_text(encoding="utf-8"))
    known = {field.name for field in dataclasses.fields(PlannerParams)}
    assert set(values["/**"]["ros__parameters"]) <= known


def test_graph_parameters_are_known_to_their_nodes() -> None:
    import dataclasses

    for profile in graph.PROFILES:
        for entry in graph.load(profile, cameras=("camera2", "camera")):
            module = importlib.import_module(entry.module)
            kind = getattr(module, f"{entry.module.rpartition('.')[2].capitalize()}Params")
            known = {field.name for field in dataclasses.fields(kind)} | {"use_sim_time"}
            assert set(entry.parameters) <= known, entry.name
