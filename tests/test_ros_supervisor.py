"""The supervisor leaves nothing behind, however it ends, and the bag is readable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until

from wm_bridge.errors import UserError
from wm_bridge.supervisor import Graph


def processes_of(marker: str) -> list[int]:
    """Process ids whose command line holds a text."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if marker in line and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def start_supervisor(folder: Path, ros_env: dict[str, str]) -> subprocess.Popen[str]:
    """The graph without camera and planner, as a program of its own."""
    code = (
        "import sys, signal, threading\n"
        "from pathlib import Path\n"
        "from wm_bridge.supervisor import Graph\n"
        f"with Graph.start('sim', run_dir=Path({str(folder)!r}), skip=('camera', 'planner', 'goal', 'viz'), ready_s=120) as graph:\n"
        "    print('ready', flush=True)\n"
        "    signal.sigwait({signal.SIGINT, signal.SIGTERM})\n"
    )
    prefix = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])\n"
    process = subprocess.Popen(
        [sys.executable, "-c", prefix + code], env=ros_env, stdout=subprocess.PIPE, text=True, cwd=folder.parent
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def test_ctrl_c_leaves_no_process_and_a_readable_bag(tmp_path: Path, ros_env: dict[str, str]) -> None:
    from rosbags.highlevel import AnyReader

    folder = tmp_path / "run"
    process = start_supervisor(folder, ros_env)
    assert len(processes_of(str(folder))) >= 3
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert processes_of(str(folder / "logs")) == []
    with AnyReader([folder / "bag"]) as bag:
        counts = {topic: info.msgcount for topic, info in bag.topics.items()}
        assert counts["/joint_states"] > 10 and counts["/safety/verdict"] > 10
        assert counts["/robot_description"] == 1
        times, verdict, velocities = [], None, []
        for connection, stamp, data in bag.messages():
            times.append(stamp)
            if connection.topic == "/safety/verdict":
                verdict = bag.deserialize(data, connection.msgtype)
            if connection.topic == "/hw/command":
                velocities = bag.deserialize(data, connection.msgtype).velocity
    assert times == sorted(times)
    assert verdict is not None and "STOP_REQUEST" in list(verdict.reason_names)  # the last word: stand still
    assert not np.any(velocities)


def test_nodes_die_with_a_killed_supervisor(tmp_path: Path, ros_env: dict[str, str]) -> None:
    folder = tmp_path / "run"
    process = start_supervisor(folder, ros_env)
    process.kill()
    process.wait(10)
    wait_until(lambda: not processes_of(str(folder / "logs")), 15.0, "all nodes gone")


def test_a_foreign_checkpoint_stops_the_start_with_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "foreign.safetensors").write_bytes(b"not a checkpoint")
    heard: list[str] = []
    with pytest.raises(UserError, match="cannot plan with") as caught:
        Graph.start(
            "sim",
            {"planner": {"checkpoint": str(tmp_path / "foreign.safetensors")}},
            tmp_path / "run",
            skip=("camera", "recorder", "viz", "goal"),
            say=heard.append,
        )
    assert "Traceback" not in str(caught.value)
    assert processes_of(str(tmp_path / "run")) == []


def test_an_unwritable_bag_folder_says_what_to_do(tmp_path: Path, ros_env: dict[str, str]) -> None:
    (tmp_path / "bag").mkdir()
    command = [sys.executable, "-m", "wm_bridge.nodes.recorder", "--ros-args", "-p", f"path:={tmp_path / 'bag'}"]
    done = subprocess.run(command, env=ros_env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "cannot record to" in done.stderr and "what to do" in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_parameter_stops_a_node_with_its_range(ros_env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "wm_bridge.nodes.viz", "--ros-args", "-p", "forget_s:=-1.0"]
    done = subprocess.run(command, env=ros_env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "forget_s" in done.stderr and "0.1" in done.stderr and "Traceback" not in done.stderr
