"""What a person asks of the graph on a command line: launch arguments and `./wm robot` mean the same."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wm_bridge import graph
from wm_bridge.errors import UserError
from wm_bridge.graph import Parameter
from wm_bridge.robots import spec as robot_spec

CAMERAS = ("camera", "camera2")


@dataclass(frozen=True)
class Argument:
    """One argument.

    Attributes:
        help: one line. nodes, parameter: what it sets there; no nodes = nothing but what `plan` says.
        default: as text. flag: true or false.
    """

    help: str
    nodes: tuple[str, ...] = ()
    parameter: str = ""
    default: str = ""
    flag: bool = False


COMMON = {
    "robot": Argument("name in config/robots", ("driver", "safety", *CAMERAS, "planner", "goal", "viz", "recorder", "view"), "robot", "nico"),
    "namespace": Argument("for all nodes of this arm"),
    "tf_prefix": Argument("before the names of all frames; empty: the namespace and a slash, /: none"),
    "checkpoint": Argument("world model; empty: the shipped one", ("planner",), "checkpoint"),
    "bag": Argument("folder of a new bag; empty: record nothing", ("recorder",), "path"),
    "nodes": Argument("nodes of config/graph.yaml that are started on this host, with commas; all: every one", default="all"),
    "view": Argument("port of the page for browsers (docs/view.md), usually 8080; empty: none", ("view",), "port"),
    "cameras": Argument("camera nodes of config/graph.yaml, as camera,camera2; the first is planned from; none: no camera", default="camera"),
}
ROBOT = {
    "robot_driver": Argument("driver; empty: as in the robot's YAML", ("driver",), "robot_driver"),
    "port": Argument("serial devices of the servos, one per cable, or sim; empty: sim in a dry run", ("driver",), "port"),
    "motors": Argument("names in config/motors, or your verified files, one per cable; empty: as in the robot's YAML", ("driver",), "motors"),
    "controller": Argument("of ros2_control; empty: as in the robot's YAML", ("driver",), "controller"),
    "state_topic": Argument("of ros2_control: joint states of the robot's own driver; empty: as in its YAML", ("driver",), "state_topic"),
    "dry_run": Argument("true: everything runs, nothing is sent", ("driver",), "dry_run", "true", flag=True),
    "safety_config": Argument("safety settings; empty: as in the robot's YAML", ("safety", "viz"), "config"),
    "camera_source": Argument("camera device number, path or address", ("camera",), "source", "0"),
    "camera2_source": Argument("the same of camera2", ("camera2",), "source"),
    "camera_extrinsics": Argument("file of ./wm calibrate-camera hand-eye", ("camera",), "extrinsics"),
}
SIM = {
    "realtime_factor": Argument("simulated seconds per second", ("driver", "safety", *CAMERAS, "planner"), "realtime_factor", "1.0"),
    "auto_enable": Argument("enable the safety node by itself (simulation only)", ("safety",), "auto_enable", "false", flag=True),
}
REPLAY = {
    "robot": COMMON["robot"],
    "checkpoint": COMMON["checkpoint"],
    "namespace": Argument("for all nodes and played topics, so that nothing reaches a robot", default="replay"),
    "play": Argument("folder of the bag to play; empty: play it yourself"),
    "rate": Argument("recorded seconds per second", default="1.0"),
}
PROFILES = {"sim": {**COMMON, **SIM}, "robot": {**COMMON, **ROBOT}, "replay": REPLAY}
_NUMBERS = ("realtime_factor",)
_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True)
class Plan:
    """What `graph.load` and `Graph.start` are asked for.

    Attributes:
        overrides: parameters per node. skip: nodes left out. cameras: camera nodes. notes: what is to be told.
        also: optional nodes that are started.
    """

    overrides: dict[str, dict[str, Parameter]]
    skip: tuple[str, ...]
    cameras: tuple[str, ...]
    notes: tuple[str, ...]
    also: tuple[str, ...] = ()


def plan(profile: str, values: Mapping[str, str]) -> Plan:
    """From arguments (name -> text) to the graph; an empty text, or "-", changes nothing.

    Without a bag nothing is recorded. A robot for which no world model ships, and none is given, has neither
    planner nor goals: its driver, safety node and cameras run.

    Raises:
        ValueError: no such robot, or a word that is neither true nor false. UserError: no such node.
    """
    values = {name: "" if text == "-" else text for name, text in values.items()}
    wanted = set(graph.names()) if values.get("nodes", "all") in ("", "all") else set(values["nodes"].split(","))
    also = ("view",) if values.get("view") else ()
    cameras = tuple(name for name in (values.get("cameras") or "camera").split(",") if name and name != "none")
    skip = [name for name in graph.names() if name not in wanted and name not in also]
    for name in wanted - set(graph.names()):
        raise UserError(f"node {name!r} is unknown", f"nodes of config/graph.yaml: {', '.join(graph.names())}", 2)
    if not values.get("bag") and "recorder" not in skip:
        skip.append("recorder")
    notes = []
    robot = values.get("robot") or "nico"
    if "planner" not in skip and not values.get("checkpoint") and not _ships_model(robot):
        skip += [name for name in ("planner", "goal") if name not in skip]
        notes.append(f"no world model ships for {robot}, so there is no planner; with one of yours: checkpoint")
    overrides: dict[str, dict[str, Parameter]] = {}
    for name, argument in PROFILES[profile].items():
        text = values.get(name, "")
        for node in argument.nodes if text else ():
            if node not in skip and (node not in CAMERAS or node in cameras) and (node != "view" or node in also):
                overrides.setdefault(node, {})[argument.parameter] = _convert(name, argument)(text)
    return Plan(overrides, tuple(skip), cameras, tuple(notes), also)


def _convert(name: str, argument: Argument) -> Callable[[str], Parameter]:
    def flag(text: str) -> bool:
        if text not in _FLAGS:  # a word that is not known must not mean "send it to the motors"
            raise ValueError(f"{name} is {text!r}; give true or false")
        return _FLAGS[text]

    return flag if argument.flag else float if name in _NUMBERS else int if name == "view" else str


def _ships_model(robot: str) -> bool:
    """Known without torch, which takes seconds to import."""
    found = importlib.util.find_spec("wm_planner")
    try:
        name = robot_spec.load(robot).name
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    folders = found.submodule_search_locations if found else None
    return any((Path(folder) / "checkpoints" / f"compact_{name}.safetensors").is_file() for folder in folders or ())
