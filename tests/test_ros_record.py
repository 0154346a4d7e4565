"""`./wm record` beside a graph that is not ours: everything is recorded, a kill loses nothing, and what cannot be is refused."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until
from rclpy.qos import DurabilityPolicy, QoSPresetProfiles, QoSProfile
from ros_probe import SpunNode, use_fast_dds_profile
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from wm_bridge.bags.reader import opened
from wm_bridge.report import runs

pytestmark = pytest.mark.slow


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "wm_bridge.cli.main", "record", *arguments]


@pytest.fixture
def foreign(ros_env: dict[str, str]) -> Iterator[SpunNode]:
    """An arm of somebody else: joint states and pictures as sensor data, a description that is latched."""
    use_fast_dds_profile(ros_env)
    spun = SpunNode(int(ros_env["ROS_DOMAIN_ID"]), "foreign")
    node = spun.node
    joints = node.create_publisher(JointState, "/left/joint_states", QoSPresetProfiles.SENSOR_DATA.value)
    pictures = node.create_publisher(Image, "/wrist/image_raw", QoSPresetProfiles.SENSOR_DATA.value)
    latched = node.create_publisher(String, "/left/description", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    latched.publish(String(data="an arm"))

    def say() -> None:
        joints.publish(JointState(name=["elbow"], position=[time.time()]))
        pictures.publish(Image(height=2, width=2, encoding="rgb8", step=6, data=bytes(range(12))))

    node.create_timer(0.02, say)
    spun.start()
    yield spun
    spun.close()


def heard(bag: Path) -> dict[str, list[object]]:
    """Messages by topic, as far as the bag can be read."""
    found: dict[str, list[object]] = {}
    try:
        with opened(bag) as (reader, _):
            for c, _, data in reader.messages():
                found.setdefault(c.topic, []).append(reader.deserialize(data, c.msgtype))
    except (ValueError, OSError):
        pass  # not begun yet
    return found


def test_a_foreign_graph_is_recorded_and_a_kill_loses_nothing(foreign: SpunNode, ros_env: dict[str, str], tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    process = subprocess.Popen(command("--out", str(bag), "--wait", "30", "--quiet", "--operator", "me"), env=ros_env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: len(heard(bag).get("/left/joint_states", [])) > 20, 60.0, "joint states in the bag")
        assert foreign.call("record/take_over").success
        wait_until(lambda: "/record/mark" in heard(bag), 20.0, "the mark in the bag")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    found = heard(bag)
    assert [message.data for message in found["/record/mark"]] == ["take_over"]  # type: ignore[attr-defined]
    assert [message.data for message in found["/left/description"]] == ["an arm"]  # type: ignore[attr-defined]
    assert '"operator": "me"' in found["/record/info"][0].data  # type: ignore[attr-defined]
    assert found["/wrist/image_raw/compressed"], "without loss, as PNG"
    stamps = [message.position[0] for message in found["/left/joint_states"]]  # type: ignore[attr-defined]
    assert max(b - a for a, b in zip(stamps, stamps[1:], strict=False)) < 2.0 and stamps == sorted(stamps)


def test_without_a_graph_or_with_an_existing_folder_nothing_is_recorded(ros_env: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(command("--out", str(tmp_path / "bag"), "--wait", "0.5"), env=ros_env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "nothing to record: no topic in ROS domain" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "bag").exists()
    done = subprocess.run(command("--out", str(tmp_path)), env=ros_env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "exists already" in done.stderr


def test_a_recording_leaves_a_page_with_what_came_and_what_was_marked(foreign: SpunNode, ros_env: dict[str, str], tmp_path: Path) -> None:
    words = command("--out", str(tmp_path / "bag"), "--wait", "30", "--quiet", "--note", "at noon")
    with subprocess.Popen(words, env=ros_env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path) as process:
        wait_until(lambda: len(heard(tmp_path / "bag").get("/left/joint_states", [])) > 5, 60.0, "joint states in the bag")
        assert foreign.call("record/success").success
        wait_until(lambda: "/record/mark" in heard(tmp_path / "bag"), 20.0, "the mark in the bag")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    (run,), _ = runs.find([tmp_path / "runs"])
    assert (run.kind, run.name, run.figures["marks_success"]) == ("recording", "bag", 1.0) and run.outcome.startswith("whole")
    assert run.figures["messages"] > 5 and run.figures["bag_mb"] > 0.001 and run.configuration["arguments.note"] == "at noon"
    assert run.page is not None and str(run.page.relative_to(tmp_path)) in said


def test_it_ends_in_time_with_threads_of_libraries_and_in_a_shell_s_background(foreign: SpunNode, ros_env: dict[str, str], tmp_path: Path) -> None:
    environment = {**ros_env, "OPENBLAS_NUM_THREADS": "4"}  # threads that were there before the node, with no signal blocked

    def background() -> None:  # what a shell without job control does to `program &`
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    words = command("--out", str(tmp_path / "bag"), "--wait", "30", "--quiet", "--duration", "1")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path, preexec_fn=background)  # noqa: PLW1509
    assert done.returncode == 0 and "messages" in done.stdout, done.stdout + done.stderr
    with subprocess.Popen(command("--out", str(tmp_path / "more"), "--wait", "30", "--quiet"), env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        wait_until(lambda: len(heard(tmp_path / "more").get("/left/joint_states", [])) > 5, 60.0, "joint states in the bag")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "messages" in said, said
