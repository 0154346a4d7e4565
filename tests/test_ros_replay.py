"""A run of the real graph, recorded by its recorder, through the filter again: the same bits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, wait_until
from ros_probe import Probe, probing, use_fast_dds_profile
from shape_msgs.msg import SolidPrimitive
from wm_interfaces.msg import SafetyInterventions
from wm_interfaces.srv import AddObstacle

from wm_bridge.cli import replay as command
from wm_bridge.core.types import Reason, Trajectory
from wm_bridge.errors import UserError
from wm_bridge.ros import convert, qos
from wm_bridge.supervisor import Graph

pytestmark = pytest.mark.slow
ARM = ("r_shoulder_z", "r_shoulder_y", "r_arm_x", "r_elbow_y", "r_wrist_z", "r_wrist_x")


def swing(probe: Probe, amplitude: float) -> None:
    """One plan: the elbow turns by ``amplitude`` within a second."""
    sent = probe.last["hw/command"]
    start = np.array([sent.position[list(sent.name).index(name)] for name in ARM])
    way = amplitude * np.eye(len(ARM))[3]
    positions = start + np.linspace(0.1, 1.0, 10)[:, None] * way
    velocities = np.tile(way, (10, 1))
    velocities[-1] = 0.0
    stamp = convert.from_time(probe.last["camera/image_raw"].header.stamp)
    probe.action.publish(convert.to_trajectory(Trajectory(ARM, tuple(10**8 * k for k in range(1, 11)), positions, velocities, stamp)))


def swing_until(probe: Probe, amplitude: float, done) -> None:
    def swung() -> bool:
        if not probe.last["safety/state"].enabled:
            probe.enable()  # a busy machine may latch it
        probe.fresh("camera/image_raw")
        swing(probe, amplitude)
        return bool(done())

    wait_until(swung, 60.0, "the arm moves")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Driver, camera, safety and recorder; motion, an overdone plan, a thing, a stop, a reset, motion again."""
    folder = tmp_path_factory.mktemp("replay") / "run"
    changed: list[SafetyInterventions] = []
    with Graph.start("sim", {}, folder, skip=("planner", "goal", "viz"), say=lambda text: None, ready_s=120.0) as graph:
        use_fast_dds_profile(graph.env)
        with probing(graph.domain) as probe:
            wait_until(lambda: probe.count["safety/verdict"] and probe.count["camera/image_raw"], 30.0, "first messages")
            probe.node.create_subscription(SafetyInterventions, "safety/interventions", changed.append, qos.profile("safety/interventions"))
            probe.enable()
            swing_until(probe, 0.4, lambda: probe.speed() > 0.1)
            swing_until(probe, -3.0, lambda: any(Reason.VELOCITY_LIMIT & r for message in changed for r in message.reasons))
            request = AddObstacle.Request(name="ball", shape=SolidPrimitive(type=SolidPrimitive.SPHERE, dimensions=[0.05]))
            request.pose.pose.position.x, request.pose.pose.position.z = 0.4, 1.2
            client = probe.node.create_client(AddObstacle, "safety/add_obstacle")
            wait_until(client.service_is_ready, 15.0, "add_obstacle")
            answer = client.call_async(request)
            wait_until(answer.done, 15.0, "the obstacle")
            assert answer.result().success
            assert probe.call("safety/stop").success
            wait_until(lambda: probe.speed() == 0.0, 15.0, "rest")
            probe.enable()
            swing_until(probe, 0.4, lambda: probe.speed() > 0.1)
    for rows in changed:
        joints, count = len(rows.joint_names), len(rows.stamp_ns)
        assert len(rows.before) == len(rows.after) == joints * count
        assert len(rows.distance) == len(rows.margin) == len(rows.mode) == len(rows.reasons) == count
        for k in np.flatnonzero(np.array(rows.reasons) & int(Reason.VELOCITY_LIMIT)):
            assert rows.before[k * joints : (k + 1) * joints] != rows.after[k * joints : (k + 1) * joints]
    yield folder / "bag"


def test_a_recorded_run_of_the_graph_gives_the_same_bits(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    assert command.main([str(bag), "--json", str(figures)]) == 0
    assert "the same, bit for bit" in capsys.readouterr().out
    found = json.loads(figures.read_text())
    (session,) = found["sessions"]
    assert found["replay_identical"] == 1 and session["different"] == 0
    assert session["ticks"] >= session["commands"] > 200
    ((_, kept),) = command.read(bag)[0].items()
    known = sum(counter <= session["commands"] for counter in kept.sent)
    assert session["compared"] == known > 200, "all that the recorder heard; on a busy machine some are lost on the way"


def test_another_setting_is_reported_with_its_first_tick(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = yaml.safe_load((ROOT / "config" / "safety.yaml").read_text())
    settings["velocity_scale"] = 0.02  # below the 0.1 rad/s that the arm has reached however busy the machine was
    other = tmp_path / "slow.yaml"
    other.write_text(yaml.safe_dump(settings))
    assert command.main([str(bag), "--config", str(other)]) == 1
    out = capsys.readouterr().out
    assert "tick " in out
    assert "r_elbow_y: recorded" in out or "the recording lacks this hw/command" in out, "on a busy machine some are lost"


def test_a_bag_that_was_cut_off_is_judged_as_far_as_it_goes(bag: Path, tmp_path: Path) -> None:
    (file,) = bag.glob("*.mcap")
    cut = tmp_path / "cut.mcap"
    shutil.copy(file, cut)
    with cut.open("r+b") as stream:
        stream.truncate(file.stat().st_size * 2 // 3)
    (whole,), _ = command.replay_bag(bag)
    (part,), note = command.replay_bag(cut)
    assert "cut off" in note and part.first is None and 0 < part.commands < whole.commands


def test_a_bag_without_a_journal_or_no_bag_at_all_says_what_to_do(tmp_path: Path) -> None:
    from bag_maker import make_bag

    with pytest.raises(UserError, match="holds no safety/journal"):
        command.replay_bag(make_bag(tmp_path / "old", 0.5))
    with pytest.raises(UserError, match="cannot read"):
        command.replay_bag(tmp_path / "nowhere")
