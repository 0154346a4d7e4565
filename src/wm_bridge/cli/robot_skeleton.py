"""From a robot's URDF to the files that describe it here: own URDF with simple shapes, limits, safety settings."""

from __future__ import annotations

import dataclasses
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pinocchio
import yaml

from wm_bridge.core.types import FloatArray
from wm_bridge.errors import UserError
from wm_bridge.robots.urdf_check import problems
from wm_bridge.robots.urdf_shapes import simplify
from wm_bridge.safety.shapes import collision_geometry, cover

_TURNS = ("revolute", "continuous")
_POSTURES = 2000  # random ones, for the reach and for links that always touch
_ROOM_M = 0.05
_HALF_TURN = 3.14
_MOST_TURN = 4.0 * math.pi  # a wider range is more likely a mistake than an arm
_FASTEST = 1.0  # rad/s
_CLOSE_M = 0.01  # self_margin_m of config/safety.yaml


@dataclass(frozen=True)
class Skeleton:
    """Text of the files, and what only the user can know.

    Attributes:
        name: of the robot. urdf, robot, safety: content of urdf/NAME.urdf, config/robots/NAME.yaml, config/safety_NAME.yaml.
        notes: what was assumed, and what is left to fill in.
    """

    name: str
    urdf: str
    robot: str
    safety: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Joint:
    name: str
    lower: float
    upper: float
    velocity: float
    effort: float


def describe(source: Path, name: str, packages: Sequence[Path] = (), tool: str = "", seed: int = 0) -> Skeleton:
    """Read a URDF and write what can be known from it.

    Meshes become the smallest capsules around them. Joints that are no rotations (gripper slides), and those that mimic
    others, are fixed at zero: the filter then keeps their shapes where they are.

    Args:
        packages: folders in which ``package://`` addresses are looked for. tool: its frame; empty: the last link.
        seed: of the postures that the reach is measured with.

    Raises:
        UserError: not a URDF, one that is no tree of links, no turning joints, or a mesh that cannot be read.
    """
    tree = _parse(source)
    _check(source, tree)
    notes: list[str] = []
    root = tree.getroot()
    assert root is not None
    _fix_others(root, notes)
    meshes = simplify(source, root, packages, notes)
    turning = [element for element in root.findall("joint") if element.get("type") in _TURNS]
    joints = [_joint(element, notes) for element in sorted(turning, key=_depths(root))]
    if not joints:
        raise UserError(f"{source.name} has no revolute or continuous joints", "give the URDF of an arm", 2)
    if root.find("link/collision") is None:
        raise UserError(f"{source.name} has no collision shapes: nothing could keep the arm from itself", "add boxes, cylinders or meshes as <collision>", 2)
    ET.indent(tree)
    text = ET.tostring(root, encoding="unicode")
    base, last = _ends(root)
    tool = tool or last
    if tool not in {link.get("name") for link in root.findall("link")}:
        raise UserError(f"{source.name} has no link {tool!r} for the tool", f"links: {[link.get('name') for link in root.findall('link')]}", 2)
    try:
        model = pinocchio.buildModelFromXML(text)
        geometry = collision_geometry(model, text, source.name)
    except ValueError as error:
        raise UserError(f"the URDF parser stopped: {error}", f"mend what it names above; check_urdf {source.name} may tell more", 2) from error
    reach, touching = _explore(model, geometry, tool, joints, seed)
    notes.append(f"shapes: {meshes} meshes became capsules; compare them with the robot in RViz (collision enabled)")
    fast = [joint.name for joint in joints if joint.velocity > _FASTEST]
    if fast:
        joints = [dataclasses.replace(joint, velocity=min(joint.velocity, _FASTEST)) for joint in joints]
        notes.append(f"{', '.join(fast)}: limited to {_FASTEST:g} rad/s until you raise it; URDFs often hold placeholders")
    notes.append("accelerations and jerks are a guess (5 rad/s^2, 100 rad/s^3): take the maker's, or lower")
    notes.append("home is the middle of each joint's range: choose a rest pose from which the arm can safely start")
    notes.append("workspace is the box that the arm can reach; table: false. Enter the true table and make the box smaller")
    if touching:
        notes.append(f"self_ignore holds {len(touching)} pairs that were near each other in every posture tried: check each")
    return Skeleton(name, text + "\n", _robot_yaml(name, base, tool, joints, reach), _safety_yaml(name, reach, touching), tuple(notes))


def _parse(source: Path) -> ET.ElementTree:
    if source.suffix == ".xacro":
        raise _xacro(source)
    try:
        tree = ET.parse(source)
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}", "check the path", 2) from error
    except ET.ParseError as error:
        raise UserError(f"{source.name} is not XML: {error}", "give a URDF file", 2) from error
    if tree.getroot() is None or tree.getroot().tag != "robot":  # type: ignore[union-attr]
        raise UserError(f"{source.name} is not a URDF: it does not begin with <robot>", "give a URDF file", 2)
    return tree


def _check(source: Path, tree: ET.ElementTree) -> None:
    root = tree.getroot()
    assert root is not None
    everything = [text for element in root.iter() for text in (element.tag, *element.attrib.values())]
    if any("www.ros.org/wiki/xacro" in text or "${" in text or "$(" in text for text in everything):
        raise _xacro(source)
    if wrong := list(problems(root)):
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise UserError(f"{source.name}: {'; '.join(wrong[:3])}{more}", "mend the URDF, or make it anew of its xacro", 2)


def _xacro(source: Path) -> UserError:
    return UserError(f"{source.name} is a xacro file", f"make a URDF of it: ros2 run xacro xacro {source.name} > {source.stem.partition('.')[0]}_made.urdf", 2)


def _fix_others(root: ET.Element, notes: list[str]) -> None:
    for joint in root.findall("joint"):
        kind, mimic = joint.get("type"), joint.find("mimic")
        if kind == "fixed" or (kind in _TURNS and mimic is None):
            continue
        joint.set("type", "fixed")
        for tag in ("axis", "limit", "mimic", "dynamics", "safety_controller", "calibration"):
            for child in joint.findall(tag):
                joint.remove(child)
        why = f"mimics {mimic.get('joint')}" if mimic is not None else f"is {kind}"
        notes.append(f"joint {joint.get('name')} {why}: fixed at zero; enlarge the shapes behind it if it moves")


def _joint(element: ET.Element, notes: list[str]) -> _Joint:
    name, limit = element.get("name", ""), element.find("limit")
    values = {key: float(limit.get(key, "nan")) if limit is not None else math.nan for key in ("lower", "upper", "velocity", "effort")}
    bounded = math.isfinite(values["lower"]) and math.isfinite(values["upper"]) and values["upper"] > values["lower"]
    if element.get("type") == "continuous" or not bounded:
        values |= {"lower": -_HALF_TURN, "upper": _HALF_TURN}
        notes.append(f"joint {name} has no limits: -{_HALF_TURN} .. {_HALF_TURN} rad are assumed")
        element.set("type", "revolute")
    elif values["upper"] - values["lower"] > _MOST_TURN:
        notes.append(f"joint {name} turns from {values['lower']:g} to {values['upper']:g} rad: more than two turns; are these degrees?")
    for key, guess in (("velocity", 1.0), ("effort", 10.0)):
        if not 0.0 < values[key] < math.inf:
            values[key] = guess
            notes.append(f"joint {name} has no {key} limit: {guess} is assumed")
    limit = limit if limit is not None else ET.SubElement(element, "limit")
    for key, value in values.items():
        limit.set(key, f"{value:g}")
    return _Joint(name, **values)


def _depths(root: ET.Element) -> Callable[[ET.Element], int]:
    """How far from the root the link lies that a joint moves; of a link itself, where it lies."""
    parent = {j.find("child").get("link"): j.find("parent").get("link") for j in root.findall("joint")}  # type: ignore[union-attr]

    def depth(element: ET.Element) -> int:
        at = element.get("name") if element.tag == "link" else element.find("child").get("link")  # type: ignore[union-attr]
        count = 0
        while (at := parent.get(at)) is not None:
            count += 1
        return count

    return depth


def _ends(root: ET.Element) -> tuple[str, str]:
    """Root link, and the link at the end of the longest chain."""
    links, depth = root.findall("link"), _depths(root)
    return min(links, key=depth).get("name", ""), max(links, key=depth).get("name", "")


def _explore(
    model: pinocchio.Model, geometry: pinocchio.GeometryModel, tool: str, joints: Sequence[_Joint], seed: int
) -> tuple[FloatArray, list[tuple[str, str]]]:
    """Where all shapes and the tool get, (2, 2, 3) m: corners for shapes, corners for the tool; pairs that are always near."""
    data, frame = model.createData(), model.getFrameId(tool)
    rng = np.random.default_rng(seed)
    order = [model.idx_qs[model.getJointId(joint.name)] for joint in joints]
    lower, upper = np.array([j.lower for j in joints]), np.array([j.upper for j in joints])
    spheres = [cover(item.geometry, item.name) for item in geometry.geometryObjects]
    names = [model.frames[item.parentFrame].name for item in geometry.geometryObjects]
    always = _apart(model, geometry)
    low, high = np.full((2, 3), np.inf), np.full((2, 3), -np.inf)
    for _ in range(_POSTURES):
        q = pinocchio.neutral(model)
        q[order] = rng.uniform(lower, upper)
        pinocchio.framesForwardKinematics(model, data, q)
        points = [np.array([data.oMf[frame].translation])]
        ends = []
        for item, (_, _, segment, radius) in zip(geometry.geometryObjects, spheres, strict=True):
            T = data.oMi[item.parentJoint] * item.placement
            here = segment @ T.rotation.T + T.translation
            ends.append((here, radius))
            points.append(np.concatenate([here - radius, here + radius]))
        low = np.minimum(low, [np.concatenate(points).min(0), points[0][0]])
        high = np.maximum(high, [np.concatenate(points).max(0), points[0][0]])
        always = [(a, b) for a, b in always if _gap(ends[a], ends[b]) < _CLOSE_M]
    touching = {(min(names[a], names[b]), max(names[a], names[b])) for a, b in always}
    return np.stack([low, high]), sorted(touching)


def _apart(model: pinocchio.Model, geometry: pinocchio.GeometryModel) -> list[tuple[int, int]]:
    """Pairs of shapes that the filter would watch: on links more than two joints apart."""

    def carriers(joint: int) -> set[int]:
        found = set()
        while joint:
            found.add(joint)
            joint = model.parents[joint]
        return found

    items = geometry.geometryObjects
    return [
        (a, b)
        for a in range(len(items))
        for b in range(a + 1, len(items))
        if len(carriers(items[a].parentJoint) ^ carriers(items[b].parentJoint)) > 2
    ]


def _gap(first: tuple[FloatArray, float], second: tuple[FloatArray, float]) -> float:
    """Distance of two capsules, m (never larger than it is by more than their sampling allows)."""
    share = np.linspace(0.0, 1.0, 9)[:, None]
    a, b = (ends[0] + share * (ends[1] - ends[0]) for ends, _ in (first, second))
    return float(np.linalg.norm(a[:, None] - b[None], axis=-1).min()) - first[1] - second[1]


def _robot_yaml(name: str, base: str, tool: str, joints: Sequence[_Joint], reach: FloatArray) -> str:
    rows = "\n".join(
        f"  {_word(j.name)}: {{limits: [{j.lower:g}, {j.upper:g}], home: {(j.lower + j.upper) / 2:g}, velocity: {j.velocity:g}, effort: {j.effort:g}}}"
        for j in joints
    )
    lower, upper = reach[0, 1] - _ROOM_M, reach[1, 1] + _ROOM_M
    return f"""# {name}, written by `./wm new-robot`. Order below is the joint order of every array.
# limits: [lower, upper] rad. velocity rad/s, acceleration rad/s^2, jerk rad/s^3, effort N m.
name: {name}
urdf: urdf/{name}.urdf
safety: config/safety_{name}.yaml
base_frame: {_word(base)}
control_rate_hz: 100.0

defaults: {{acceleration: 5.0, jerk: 100.0}}  # fill in: the maker's figures, or lower

joints:
{rows}

groups:
  arm: {_flow([j.name for j in joints])}

# Frame at the grasp point of each arm.
tools: {{arm: {_word(tool)}}}

# Where the tool may be sent, base frame, metres.
workspaces:
  arm: {{lower: {_flow(lower.round(2).tolist())}, upper: {_flow(upper.round(2).tolist())}}}
"""


def _safety_yaml(name: str, reach: FloatArray, touching: Sequence[tuple[str, str]]) -> str:
    lower, upper = reach[0, 0] - _ROOM_M, reach[1, 0] + _ROOM_M
    return f"""# Safety settings of config/robots/{name}.yaml: those of safety.yaml but for the surroundings.
extends: safety.yaml

scene:
  table: false                       # fill in: true, with the corners below
  table_lower: [-0.5, -0.5, -0.3]
  table_upper: [0.5, 0.5, -0.01]
  workspace_lower: {_flow(lower.round(2).tolist())}   # fill in: every point of every link stays inside
  workspace_upper: {_flow(upper.round(2).tolist())}
  self_ignore: {_flow([list(pair) for pair in touching])}   # pairs that may touch: check each
"""


def _flow(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()


def _word(name: str) -> str:
    """A name as YAML reads it back: `on` and `1` are no names without quotes."""
    return _flow([name])[1:-1]
