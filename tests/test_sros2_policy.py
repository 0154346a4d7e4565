"""The SROS2 policy allows what the nodes do, and hw/command to the safety node alone."""

from __future__ import annotations

import ast
import os
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from conftest import ROOT

from wm_bridge import graph
from wm_bridge.ros import qos

POLICY = ROOT / "config" / "sros2" / "policy.xml"
NODES = ("safety", "driver", "camera", "camera2", "planner", "goal", "viz", "view", "recorder")
CAMERAS = ("camera", "camera2")
# Node -> files besides nodes/<name>.py that make its topics.
HELPERS = {"planner": ["ros/plan_output.py", "ros/observe.py"], "goal": ["ros/goal_marker.py"]}
PICTURES = {"planner", "safety", "goal", "view"}  # of the camera that image_topic names
WRITES, READS = {"publisher"}, {"subscribe", "Recent", "Mailbox"}


def enclaves() -> dict[str, ElementTree.Element]:
    root = ElementTree.parse(POLICY).getroot()
    assert root.tag == "policy" and root.get("version") == "0.2.0"
    return {str(item.get("path")): item for item in root.iter("enclave")}


def allowed(enclave: ElementTree.Element, kind: str, what: str) -> set[str]:
    return {
        str(item.text).lstrip("/")
        for group in enclave.iter(kind)
        if group.get(what) == "ALLOW"
        for item in group
    }


def used(node: str) -> tuple[set[str], set[str], set[str]]:
    """Topics written and read, and services offered, as the node's source says."""
    written, read, services = set(), set(), set()
    if node in PICTURES:
        read |= {f"{camera}/{kind}" for camera in CAMERAS for kind in ("image_raw", "image_rect")}
    for file in (f"nodes/{'camera' if node in CAMERAS else node}.py", *HELPERS.get(node, [])):
        for call in ast.walk(ast.parse((ROOT / "src" / "wm_bridge" / file).read_text())):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            texts = [arg.value for arg in call.args[:2] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            for text in texts:
                if name in WRITES:
                    written.add(qos.of_camera(text, node if node in CAMERAS else "camera").lstrip("/"))
                elif name in READS:
                    read.add(text.lstrip("/"))
                elif name == "create_service":
                    services.add(text.lstrip("/"))
    return written, read, services


def test_every_node_of_the_graph_has_an_enclave_with_its_name() -> None:
    found = enclaves()
    names = {entry.name for profile in graph.PROFILES for entry in graph.load(profile, cameras=CAMERAS, also=("view",))}
    assert names == set(NODES)
    for name in (*NODES, "operator"):
        assert [profile.get("node") for profile in found[f"/wm/{name}"].iter("profile")] == [name]
    assert len(found) == len(NODES) + 1


def test_only_the_safety_node_may_write_the_hardware_topic() -> None:
    writers = [path for path, enclave in enclaves().items() if "hw/command" in allowed(enclave, "topics", "publish")]
    assert writers == ["/wm/safety"]
    everything = [path for path, item in enclaves().items() if any("*" in n for n in allowed(item, "topics", "publish"))]
    assert not everything, "a wildcard would allow hw/command as well"
    assert not [item for item in ElementTree.parse(POLICY).iter() if item.tag == "profile" and item.get("ns") != "/"]


@pytest.mark.parametrize("node", [name for name in NODES if name != "recorder"])  # it reads everything, see below
def test_a_node_may_do_what_its_source_does(node: str) -> None:
    enclave = enclaves()[f"/wm/{node}"]
    written, read, services = used(node)
    assert written | read, "found in the source"
    missing = {
        "publish": written - allowed(enclave, "topics", "publish"),
        "subscribe": read - allowed(enclave, "topics", "subscribe"),
        "reply": services - allowed(enclave, "services", "reply"),
    }
    assert not any(missing.values()), missing
    may_write = {row.name.lstrip("/") for row in qos.rows(CAMERAS)} & allowed(enclave, "topics", "publish")
    assert may_write - {"diagnostics"} <= written | {"tf"}, "allows no more topics of the graph than it writes"


def test_the_recorder_and_the_operator_may_read_every_topic() -> None:
    for name in ("recorder", "operator"):
        assert {row.name.lstrip("/") for row in qos.rows(CAMERAS)} <= allowed(enclaves()[f"/wm/{name}"], "topics", "subscribe")


def test_every_topic_of_the_policy_exists() -> None:
    ros = {"parameter_events", "rosout", "planner/transition_event"}
    known = {row.name.lstrip("/") for row in qos.rows(CAMERAS)} | ros
    for enclave in enclaves().values():
        assert allowed(enclave, "topics", "publish") | allowed(enclave, "topics", "subscribe") <= known


def test_governance_lets_nobody_in_without_a_certificate_and_controls_every_topic() -> None:
    root = ElementTree.parse(ROOT / "config" / "sros2" / "governance.xml").getroot()
    values = {item.tag: (item.text or "").strip() for item in root.iter()}
    assert values["allow_unauthenticated_participants"] == "false"
    assert values["enable_join_access_control"] == "true"
    assert [item.text for item in root.iter("topic_expression")] == ["*"]
    assert values["enable_read_access_control"] == values["enable_write_access_control"] == "true"
    assert "NONE" not in (values["rtps_protection_kind"], values["discovery_protection_kind"])


def test_the_enforcing_script_is_a_runnable_shell_script_that_uses_both_files() -> None:
    script = ROOT / "docker" / "sros2" / "enforce.sh"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    text = script.read_text()
    for name in ("config/sros2/policy.xml", "config/sros2/governance.xml", "ROS_SECURITY_STRATEGY=Enforce"):
        assert name in text
