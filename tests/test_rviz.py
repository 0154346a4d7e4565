"""What RViz and Foxglove are shown: whole arrays of markers, views that name what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ROOT
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import Marker
from wm_interfaces.msg import SafetyInterventions

from wm_bridge import rviz_view
from wm_bridge.core.kinematics import Kinematics
from wm_bridge.core.types import Reason, SafetyMode
from wm_bridge.nodes.viz import _zones
from wm_bridge.robots import spec as robots
from wm_bridge.ros import qos
from wm_bridge.ros.markers import Rejected, landscape_markers, plan_markers, safety_markers
from wm_bridge.ros.rejected import Rejections
from wm_bridge.safety.config import SafetyConfig

SPEC = robots.load("nico")
S = 1_000_000_000


def drawn(rejected: Rejected | None = None) -> dict[str, Marker]:
    zones = _zones(SPEC, SafetyConfig.load(SPEC.safety_path()))
    array = safety_markers(zones, "LIMITED", "SELF_DISTANCE", rejected, 7 * S, "base_link")
    keys = [(marker.ns, marker.id) for marker in array.markers]
    assert len(set(keys)) == len(keys) and {marker.header.frame_id for marker in array.markers} == {"base_link"}
    return {marker.ns: marker for marker in array.markers}


def test_the_zones_are_those_of_the_safety_settings() -> None:
    scene, found = SafetyConfig.load(SPEC.safety_path()).scene, drawn()
    table = found["keep_out"]
    middle, size = (np.array([getattr(part, axis) for axis in "xyz"]) for part in (table.pose.position, table.scale))
    assert np.allclose(middle - size / 2, scene.table_lower) and np.allclose(middle + size / 2, scene.table_upper)
    corners = np.array([[p.x, p.y, p.z] for p in found["limits"].points])
    assert np.allclose(corners.min(axis=0), scene.workspace_lower) and np.allclose(corners.max(axis=0), scene.workspace_upper)
    assert len(corners) == 24, "twelve edges"


def test_what_was_rejected_is_an_arrow_and_every_array_says_whether_there_is_one() -> None:
    assert {drawn()[name].action for name in ("rejected", "rejected_why")} == {Marker.DELETE}
    found = drawn(Rejected(np.array([0.3, -0.2, 0.7]), np.array([0.3, -0.2, 0.6]), "HOLD", "TABLE_DISTANCE"))
    arrow = found["rejected"]
    assert (arrow.type, arrow.action, [p.z for p in arrow.points]) == (Marker.ARROW, Marker.ADD, [0.7, 0.6])
    assert found["rejected_why"].text == "TABLE_DISTANCE"


def intervention(before: np.ndarray, after: np.ndarray, stamp_ns: int) -> SafetyInterventions:
    """Two ticks, the second of which changed nothing."""
    names = list(SPEC.joint_names)
    return SafetyInterventions(
        joint_names=names, stamp_ns=[stamp_ns, stamp_ns + 1], mode=[int(SafetyMode.HOLD)] * 2, reasons=[int(Reason.TABLE_DISTANCE)] * 2,
        before=[*before, *after], after=[*after, *after], distance=[0.01] * 2, margin=[0.02] * 2,
    )  # fmt: skip


def test_the_arrow_leads_from_where_the_tool_is_brought_to_where_the_plan_leads() -> None:
    kinematics, arm = Kinematics(SPEC), SPEC.indices("right_arm")
    after = SPEC.home.copy()
    before, aim = after.copy(), after.copy()
    before[arm[3]] -= 0.01
    aim[arm[3]] -= 0.4
    rejections = Rejections(SPEC, "right_arm")
    tool = SPEC.tools["right_arm"]
    alone = rejections.of(intervention(before, after, 5 * S))
    assert alone is not None and np.allclose(alone.begin, kinematics.positions(after, tool)) and np.allclose(alone.end, kinematics.positions(before, tool))
    assert (alone.mode, alone.text) == ("HOLD", "TABLE_DISTANCE")
    plan = JointTrajectory(joint_names=[SPEC.joint_names[k] for k in arm], points=[JointTrajectoryPoint(positions=list(aim[arm]))])
    plan.header.stamp.sec = 5
    rejections.plan(plan)
    planned, later = rejections.of(intervention(before, after, 5 * S + 10)), rejections.of(intervention(before, after, 7 * S))
    assert planned is not None and np.allclose(planned.end, kinematics.positions(aim, tool))
    assert later is not None and np.allclose(later.end, alone.end), "an older plan is not what was rejected"


def test_what_was_not_changed_or_makes_no_sense_has_no_arrow() -> None:
    rejections = Rejections(SPEC, "")
    assert rejections.of(SafetyInterventions()) is None and rejections.of(intervention(SPEC.home, SPEC.home, S)) is None
    moved = SPEC.home + 0.1
    cut, other = intervention(moved, SPEC.home, S), intervention(moved, SPEC.home, S)
    cut.after = cut.after[:-1]
    other.joint_names[0] = "no_such_joint"
    nan = intervention(np.full(len(SPEC.home), np.nan), SPEC.home, S)
    assert [rejections.of(message) for message in (cut, other, nan)] == [None, None, None]
    with pytest.raises(ValueError, match="no arm 'tail'"):
        Rejections(SPEC, "tail")


# Views --------------------------------------------------------------------------------------------


def test_the_view_names_every_kind_of_marker_that_is_drawn() -> None:
    hands, energies = np.zeros((3, 4, 3)), np.arange(3.0)
    plan = plan_markers(hands, energies, np.zeros(3), "text", 0, "base_link").markers
    kinds = {"wm/plan": {m.ns for m in plan}, "safety/markers": set(drawn()), "wm/landscape": {m.ns for m in landscape_markers(hands[0], np.arange(4.0), 0, "base_link").markers}}
    assert [m.type for m in plan if m.ns == "elites"] == [Marker.LINE_LIST], "one list of lines for the whole fan"
    view = yaml.safe_load((ROOT / rviz_view.SHIPPED).read_text())
    shown = {display["Topic"]["Value"]: set(display["Namespaces"]) for group in view["Visualization Manager"]["Displays"] for display in group.get("Displays", []) if "Namespaces" in display}
    assert shown == kinds
    tools = {tool["Topic"]["Value"]: tool["Topic"] for tool in view["Visualization Manager"]["Tools"] if "Topic" in tool}
    assert set(tools) == {"goal_pose", "clicked_point"}
    (marker,) = [d for g in view["Visualization Manager"]["Displays"] for d in g.get("Displays", []) if "InteractiveMarkers" in d["Class"]]
    assert qos.topic(f"{marker['Interactive Markers Namespace']}/update").writer == "goal"


def test_the_view_of_two_arms_is_made_from_that_of_one() -> None:
    text = (ROOT / "config" / "rviz" / "wm_two_arms.rviz").read_text()
    assert text == rviz_view.view_of({"left": "left/", "right": "right/"}), "make it again, see src/wm_bridge/rviz_view.py"
    view = yaml.safe_load(text)["Visualization Manager"]
    assert view["Global Options"]["Fixed Frame"] == "left/base_link"
    topics = re.findall(r"(?:Value|Namespace): (/\S+/\S+)", text)
    for arm in ("left", "right"):
        assert f"/{arm}/goal_pose" in topics and f"/{arm}/goal/marker" in topics and f"/{arm}/safety/markers" in topics
    assert not re.search(r"Value: [a-z]+/", text), "every topic belongs to an arm"


def test_the_foxglove_layout_names_what_a_bag_holds() -> None:
    layout = json.loads((ROOT / "config" / "foxglove" / "wm.json").read_text())

    def leaves(tree: Any) -> Iterator[str]:
        yield from [tree] if isinstance(tree, str) else [*leaves(tree["first"]), *leaves(tree["second"])]

    assert sorted(leaves(layout["layout"])) == sorted(layout["configById"])
    paths = set(re.findall(r'"(/[\w/]+(?:\.[\w.\[\]:]+)?)"', json.dumps(layout)))
    assert len(paths) > 15
    for path in paths:
        name, _, fields = path.partition(".")
        row = qos.topic(name if name == "/diagnostics" else name.lstrip("/"))
        assert row.recorded, name
        kind = qos.message_class(row.type)
        for field in filter(None, fields.replace("[:]", "").split(".")):
            assert field in kind.get_fields_and_field_types(), path
