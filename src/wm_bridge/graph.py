"""The one description of the running graph (``config/graph.yaml``). Knows no ROS."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from wm_bridge import resources
from wm_bridge.core.settings import read_yaml
from wm_bridge.errors import UserError

PROFILES = ("sim", "robot", "replay")
_NODE_KEYS = (
    "package executable profiles optional required respawn lifecycle after parameter_files parameters".split()
)
_CAMERA = "camera_node"
_PLAN_FROM = ("planner", "safety", "goal", "view")
_FRAMED = ("driver_node", "safety_node", _CAMERA, "planner_node", "goal_node", "viz_node")  # know tf_prefix
Parameter = bool | int | float | str | list[Any]


@dataclass(frozen=True)
class NodeEntry:
    """One node of one profile.

    Attributes:
        name: of the node.
        package, executable: for ``ros2 run`` and launch; ``<module>_node``, its module is ``wm_bridge.nodes.<module>``.
        required: its end ends the graph. respawn: started again when it dies.
        lifecycle: managed (configures and activates itself when ``autostart``).
        after: nodes that have to be there before it is started.
        namespace: of the whole graph, without slashes around it; "" = none.
        parameter_files: paths relative to the repository root, earlier ones are overridden.
        parameters: override the files.
    """

    name: str
    package: str
    executable: str
    required: bool = False
    respawn: bool = False
    lifecycle: bool = False
    after: tuple[str, ...] = ()
    namespace: str = ""
    parameter_files: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """Fully qualified name, as ROS tools show it."""
        return f"/{self.namespace}/{self.name}" if self.namespace else f"/{self.name}"

    @property
    def module(self) -> str:
        """Python module with the node's ``main``."""
        return f"{self.package}.nodes.{self.executable.removesuffix('_node')}"

    @property
    def is_camera(self) -> bool:
        """True for camera nodes, of which there may be several."""
        return self.executable == _CAMERA


def load(
    profile: str = "sim",
    overrides: Mapping[str, Mapping[str, Parameter]] | None = None,
    skip: Iterable[str] = (),
    path: Path | None = None,
    cameras: Sequence[str] = ("camera",),
    namespace: str = "",
    tf_prefix: str = "",
    also: Iterable[str] = (),
) -> tuple[NodeEntry, ...]:
    """Return the nodes of a profile: `stages` says how they are started, the last one is stopped first.

    Args:
        profile: ``sim``, ``robot`` or ``replay`` (a recording is played to the graph).
        overrides: parameters per node name; they win.
        skip: names of nodes to leave out.
        path: another graph file.
        cameras: camera nodes that are started, the one that is planned from first; the others are left out.
        namespace: of all nodes, so that two arms share a ROS domain.
        tf_prefix: before the names of all frames; "" = the namespace and a slash, "/" = none.
        also: names of optional nodes to start as well; all others of them are left out.

    Raises:
        UserError: unknown profile, node or key (names the nearest one), or a bad value.
    """
    _known(profile, PROFILES, "profile")
    path = path or resources.path("config/graph.yaml")
    data = _read(path)
    if not isinstance(data, dict):
        raise UserError(f"{path.name} holds no mapping", "restore it: git checkout -- config", 2)
    for key in data:
        _known(key, ("common", "nodes"), f"{path.name}: key")
    common = data.get("common", {})
    for key in common:
        _known(key, PROFILES, f"{path.name}: common: profile")
    nodes = data.get("nodes", {})
    for name in (*(overrides or {}), *skip, *also):
        _known(name, nodes, "node")
    entries = []
    for name, values in nodes.items():
        entry, profiles = _entry(name, values, profile, common.get(profile, {}))
        left_out = name in tuple(skip) or (values.get("optional", False) and name not in tuple(also))
        if profile in profiles and not left_out and (name in cameras or not entry.is_camera):
            more = {**_seen(name, cameras), **_placed(entry, namespace, tf_prefix), **(overrides or {}).get(name, {})}
            entries.append(replace(entry, parameters={**entry.parameters, **more}, namespace=namespace.strip("/")))
    _check_cameras(cameras, nodes)
    return tuple(entries)


def names(path: Path | None = None) -> tuple[str, ...]:
    """All nodes of the description, whatever profile starts them."""
    path = path or resources.path("config/graph.yaml")
    return tuple(_read(path)["nodes"])


def _read(path: Path) -> Any:
    try:
        return read_yaml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}", "correct it, or restore it: git checkout -- config", 2) from error


def stages(entries: Sequence[NodeEntry]) -> list[tuple[NodeEntry, ...]]:
    """Nodes that are started together; each group when all of the one before are there.

    Raises:
        UserError: nodes that wait for each other.
    """
    waiting, found, there = list(entries), [], set[str]()
    present = {entry.name for entry in entries}
    while waiting:
        ready = tuple(entry for entry in waiting if set(entry.after) & present <= there)
        if not ready:
            raise UserError(f"graph.yaml: {[entry.name for entry in waiting]} wait for each other", "correct `after`", 2)
        found.append(ready)
        there |= {entry.name for entry in ready}
        waiting = [entry for entry in waiting if entry not in ready]
    return found


def parameter_file(entry: NodeEntry) -> str:
    """Return the text of a ROS parameter file with the node's own parameters."""
    return str(yaml.safe_dump({"/**": {"ros__parameters": dict(entry.parameters)}}, sort_keys=True))


def _entry(
    name: str, values: Mapping[str, Any], profile: str, common: Mapping[str, Parameter]
) -> tuple[NodeEntry, tuple[str, ...]]:
    where = f"graph.yaml: node {name}"
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected keys, got {values!r}", f"known are {list(_NODE_KEYS)}", 2)
    for key in values:
        _known(key, _NODE_KEYS, f"{where}: key")
    missing = [key for key in ("package", "executable", "profiles") if key not in values]
    if missing:
        raise UserError(f"{where}: {missing} missing", "add them as for the other nodes", 2)
    for found in values["profiles"]:
        _known(found, PROFILES, f"{where}: profile")
    respawn = values.get("respawn", False)
    for found in respawn if isinstance(respawn, list) else ():
        _known(found, PROFILES, f"{where}: respawn: profile")
    after = values.get("after", {})
    for key in after:
        _known(key, PROFILES, f"{where}: after: profile")
    for flag in ("optional", "required", "lifecycle", *(() if isinstance(respawn, list) else ("respawn",))):
        if not isinstance(values.get(flag, False), bool):
            raise UserError(f"{where}: {flag} is {values[flag]!r}", "give true or false", 2)
    parameters = values.get("parameters", {})
    for key in parameters:
        _known(key, ("all", *PROFILES), f"{where}: parameters: profile")
    entry = NodeEntry(
        name=name,
        package=values["package"],
        executable=values["executable"],
        required=values.get("required", False),
        respawn=profile in respawn if isinstance(respawn, list) else respawn,
        lifecycle=values.get("lifecycle", False),
        after=tuple(after.get(profile, ())),
        parameter_files=tuple(values.get("parameter_files", ())),
        parameters={**common, **parameters.get("all", {}), **parameters.get(profile, {})},
    )
    return entry, tuple(values["profiles"])


def _seen(node: str, cameras: Sequence[str]) -> dict[str, Parameter]:
    """What a node has to know of cameras that are not the usual one."""
    if node == "recorder" and tuple(cameras) != ("camera",):
        return {"cameras": list(cameras)}
    if node in _PLAN_FROM and cameras and cameras[0] != "camera":
        return {"image_topic": f"{cameras[0]}/image_raw"}
    return {}


def _placed(entry: NodeEntry, namespace: str, tf_prefix: str) -> dict[str, Parameter]:
    """Frames of two arms in one domain must differ as their topics do."""
    prefix = frame_prefix(namespace, tf_prefix)
    return {"tf_prefix": prefix} if prefix and entry.executable in _FRAMED else {}


def frame_prefix(namespace: str, tf_prefix: str) -> str:
    """What stands before the names of frames; see `load`."""
    return (tf_prefix or (f"{namespace.strip('/')}/" if namespace else "")).lstrip("/")


def _check_cameras(cameras: Sequence[str], nodes: Mapping[str, Any]) -> None:
    known = [name for name, values in nodes.items() if values["executable"] == _CAMERA]
    for name in cameras if known else ():
        _known(name, known, "camera")
    if len(set(cameras)) != len(cameras):
        raise UserError(f"cameras {list(cameras)} names one twice", "name each once", 2)


def _known(name: object, names: Iterable[str], what: str) -> None:
    names = list(names)
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)
        nearest = near[0] if near else names[0]
        raise UserError(f"{what} {name!r} is unknown", f"did you mean {nearest!r}? known: {names}", 2)
