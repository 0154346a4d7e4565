"""`./wm play` on a running graph: the arm gets about, and every way of ending it leaves it standing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, wait_until
from ros_probe import SpunNode, use_fast_dds_profile

from wm_bridge.cli.domain import claim_domain_id
from wm_bridge.cli.environment import run_environment
from wm_bridge.ros import qos
from wm_bridge.supervisor import Graph

pytestmark = pytest.mark.slow


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
def lab(tmp_path_factory) -> Iterator[tuple[int, Watcher]]:
    environment = run_environment(ROOT, Path(sys.prefix), os.environ)
    use_fast_dds_profile({**environment, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"})
    settings = {"safety": {"config": str(ROOT / "config" / "safety_no_camera.yaml")}}
    with claim_domain_id() as domain:
        before, os.environ["ROS_DOMAIN_ID"] = os.environ.get("ROS_DOMAIN_ID"), str(domain)
        try:
            with Graph.start("sim", settings, tmp_path_factory.mktemp("run"), ("recorder", "camera", "planner", "goal", "viz"), 90.0):
                watcher = Watcher(domain)
                yield domain, watcher
                watcher.close()
        finally:
            os.environ.pop("ROS_DOMAIN_ID")
            if before is not None:
                os.environ["ROS_DOMAIN_ID"] = before


def begin(domain: int, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "wm_bridge.cli.main", "play", "--domain", str(domain), "--safety-config", str(ROOT / "config" / "safety_no_camera.yaml")]
    environment = {**run_environment(ROOT, Path(sys.prefix), os.environ), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return subprocess.Popen([*command, "--seed", "1", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def moves(watcher: Watcher, program: subprocess.Popen) -> None:
    """Wait until the arm has moved on its way."""
    wait_until(lambda: watcher.postures, 30.0, "joints")
    start = watcher.postures[-1]
    wait_until(lambda: program.poll() is not None or np.abs(watcher.postures[-1] - start).max() > 0.1, 60.0, "the arm moves")
    assert program.poll() is None, program.communicate()[0]


def stands(watcher: Watcher) -> bool:
    return watcher.speed == 0.0


def test_without_a_person_s_leave_nothing_moves(lab) -> None:
    domain, _ = lab
    said, _ = begin(domain, "--minutes", "0.2").communicate(timeout=90)
    assert "the safety node is not enabled" in said and "what to do" in said, said


def test_it_reaches_postures_one_after_the_other_and_then_stands(lab) -> None:
    domain, watcher = lab
    for _ in range(3):  # the safety node may latch because a busy machine let nobody hear the driver
        watcher.postures.clear()
        program = begin(domain, "--minutes", "0.4", "--speed", "1.0", "--enable")
        said, _ = program.communicate(timeout=150)
        if "heartbeat" not in said:
            break
    assert program.returncode == 0, said
    reached = int(re.search(r"(\d+) postures in", said).group(1))
    assert reached >= 4, said
    spread = np.ptp(np.array(watcher.postures), axis=0)
    assert np.count_nonzero(spread > 0.4) >= 5, "all but the last joint go far"
    assert not watcher.latched
    wait_until(lambda: stands(watcher), 10.0, "it stands when time is up")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_arm_stands(lab, number: int) -> None:
    domain, watcher = lab
    program = begin(domain, "--minutes", "5", "--enable")
    moves(watcher, program)
    program.send_signal(number)
    said, _ = program.communicate(timeout=30)
    assert program.returncode == 128 + number and "the arm stands" in said, said
    wait_until(lambda: stands(watcher), 10.0, "standing")


def test_a_stop_of_the_safety_node_ends_it_for_good(lab) -> None:
    domain, watcher = lab
    program = begin(domain, "--minutes", "5", "--enable")
    moves(watcher, program)
    assert watcher.call("safety/stop").success
    said, _ = program.communicate(timeout=30)
    assert program.returncode == 3 and "the safety node is not enabled" in said, said
    assert watcher.call("safety/reset").success
    wait_until(lambda: stands(watcher), 10.0, "and nothing goes on by itself")
