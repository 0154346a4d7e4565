"""The parameter reference, from what the nodes declare and what `config/graph.yaml` sets."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import wm_bridge.nodes
from wm_bridge import graph
from wm_bridge.docs.text import code, plain, table
from wm_bridge.ros.params import unit_of


def nodes() -> dict[str, type]:
    """Dataclass of declared parameters of each node's module; every module of a node has one."""
    found = {}
    for module in pkgutil.iter_modules(wm_bridge.nodes.__path__):
        for name, value in vars(importlib.import_module(f"wm_bridge.nodes.{module.name}")).items():
            if name.endswith("Params") and dataclasses.is_dataclass(value) and value not in found.values():
                found[module.name] = value
    return found


def page(root: Path) -> str:
    """The page, with every parameter of every node."""
    lines = [
        "# Parameters",
        "`ros2 param describe /NODE NAME` says the same of a running graph. Parameters are given to a node by "
        "`config/graph.yaml` (column *graph*, by profile), by `NODE.NAME=VALUE` after `python -m wm_bridge.supervisor`, "
        "by the arguments of launch files and `./wm robot`, or by `-p NAME:=VALUE`. All are read-only while the node runs, "
        "but for those that say otherwise. Every node has `use_sim_time` (bool) as well: its clock is `/clock`.",
    ]
    for name, kind in nodes().items():
        lines += [f"## {name}", table(("parameter", "", "type", "default", "graph", "unit", "range"), _rows(root, name, kind))]
    return "\n\n".join(lines) + "\n"


def _rows(root: Path, node: str, kind: type) -> list[tuple[str, ...]]:
    given = _given(root, node)
    return [
        (
            code(field.name), plain(field.metadata["help"]) + ("" if field.metadata["fixed"] else " (may change while it runs)"),
            _type(field.metadata["default"]), code(_shown(field.metadata["default"])), _in_graph(given, field.name), unit_of(field), _range(field),
        )
        for field in dataclasses.fields(kind)
    ]  # fmt: skip


def _type(default: Any) -> str:
    if isinstance(default, list):
        return f"{_type(default[0])} list"
    return {bool: "bool", int: "int", float: "float", str: "text"}[type(default)]


def _shown(default: Any) -> str:
    if default == "":
        return '""'
    if isinstance(default, list):
        return "[" + ", ".join(map(_shown, default)) + "]"
    return "NaN" if isinstance(default, float) and math.isnan(default) else f"{default:g}" if isinstance(default, float) else str(default).lower()


def _range(field: Any) -> str:
    low, high = field.metadata["low"], field.metadata["high"]
    return "" if low is None else f"{low:g} to {high:g}" if isinstance(field.metadata["default"], float) else f"{low} to {high}"


def _in_graph(given: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """What the graph gives this parameter, per profile; one word when all agree."""
    found = {profile: _shown(values[name]) for profile, values in given.items() if name in values}
    if len(set(found.values())) == 1 and len(found) > 1:
        return code(next(iter(found.values())))
    return ", ".join(f"{profile} `{value}`" for profile, value in found.items())


def _given(root: Path, node: str) -> dict[str, dict[str, Any]]:
    """Parameters that each profile of the graph gives a node."""
    given: dict[str, dict[str, Any]] = {}
    for profile in graph.PROFILES:
        for entry in graph.load(profile, also=graph.names()):
            if entry.name == node:
                given[profile] = {}
                for file in entry.parameter_files:
                    given[profile] |= yaml.safe_load((root / file).read_text(encoding="utf-8"))["/**"]["ros__parameters"]
                given[profile] |= entry.parameters
    return given
