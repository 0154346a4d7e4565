"""`./wm play` on a running graph: the arm gets about, and every way of ending it leaves it standing."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import ROOT, wait_until
from ros_probe import SpunNode, use_fast_dds_profile

from wm_bridge.ros import qos
from wm_bridge.supervisor import Graph

pytestmark = pytest.mark.slow
SAFETY = ROOT / "config" / "safety_no_camera.yaml"


class Watcher(SpunNode):
    """Where the arm was, how fast it is sent, and whether it was stopped."""

    def __init__(self, domain: int) -> None:
        super().__init__(domain, "watcher")
        self.postures: list[np.ndarray] = []
        self.speed = np.nan
        self.latched = False
        for name, callback in (("joint_states", self._joints), ("hw/command", self._command), ("safety/state", self._state)):
            self.node.create_subscription(qos.message_type(name), name, callback, qos.monitor_profile(name))
        self.start()

    def _joints(self, message) -> None:
        self.postures.append(np.array(message.position))

    def _command(self, message) -> None:
        self.speed = float(np.abs(message.velocity).max())

    def _state(self, message) -> None:
        self.latched = bool(message.latched)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Graph, Watcher]]:
    """A simulated arm behind its safety node; without a camera, which play does not need."""
    settings = {"safety": {"config": str(SAFETY)}}
    with Graph.start("sim", settings, tmp_path_factory.mktemp("run"), ("recorder", "camera", "planner", "goal", "viz"), 90.0, say=lambda text: None) as graph:
        use_fast_dds_profile(graph.env)
        watcher = Watcher(graph.domain)
        yield graph, watcher
        watcher.close()


def begin(graph: Graph, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "wm_bridge.cli.main", "play", "--domain", str(graph.domain), "--safety-config", str(SAFETY), "--seed", "1"]
    return subprocess.Popen([*command, *words], env=graph.env, cwd=graph.run_dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def moving(graph: Graph, watcher: Watcher) -> subprocess.Popen:
    """Play under way; a busy machine, on which the safety node does not hear the driver for a moment, gets three tries."""
    for _ in range(3):
        program = begin(graph, "--minutes", "5", "--enable")
        wait_until(lambda: watcher.postures, 30.0, "joints")
        start = watcher.postures[-1]
        wait_until(lambda: program.poll() is not None or np.abs(watcher.postures[-1] - start).max() > 0.1, 60.0, "the arm moves")
        if program.poll() is None:
            return program
        said = program.communicate()[0]
        if "LATCHED" not in said:
            break
    pytest.fail(said)


def stands(watcher: Watcher) -> bool:
    return watcher.speed == 0.0


def test_without_a_person_s_leave_nothing_moves(lab) -> None:
    graph, _ = lab
    said, _ = begin(graph, "--minutes", "0.2").communicate(timeout=90)
    assert "the safety node is not enabled" in said and "what to do" in said, said


def test_it_reaches_postures_one_after_the_other_and_then_stands(lab) -> None:
    graph, watcher = lab
    for _ in range(3):  # on a busy machine the safety node does not hear the driver for a moment, and latches
        watcher.postures.clear()
        shutil.rmtree(graph.run_dir / "runs", ignore_errors=True)
        program = begin(graph, "--minutes", "0.4", "--speed", "1.0", "--enable")
        said, _ = program.communicate(timeout=150)
        if "LATCHED" not in said:
            break
    assert program.returncode == 0, said
    reached = int(re.search(r"(\d+) postures in", said).group(1))
    assert reached >= 4, said
    spread = np.ptp(np.array(watcher.postures), axis=0)
    assert np.count_nonzero(spread > 0.4) >= 5, "all but the last joint go far"
    assert not watcher.latched
    (run,) = (graph.run_dir / "runs").glob("*-play-right_arm")
    assert json.loads((run / "report.json").read_text())["figures"]["postures"] == reached and (run / "report.html").is_file()
    wait_until(lambda: stands(watcher), 10.0, "it stands when time is up")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_arm_stands(lab, number: int) -> None:
    graph, watcher = lab
    program = moving(graph, watcher)
    program.send_signal(number)
    said, _ = program.communicate(timeout=30)
    assert program.returncode == 128 + number and "the arm stands" in said, said
    wait_until(lambda: stands(watcher), 10.0, "standing")


def test_a_stop_of_the_safety_node_ends_it_for_good(lab) -> None:
    graph, watcher = lab
    program = moving(graph, watcher)
    assert watcher.call("safety/stop").success
    said, _ = program.communicate(timeout=30)
    assert program.returncode == 3 and "the safety node is not enabled" in said, said
    assert watcher.call("safety/reset").success
    wait_until(lambda: stands(watcher), 10.0, "and nothing goes on by itself")
