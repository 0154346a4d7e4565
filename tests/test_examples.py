"""Every example runs."""

from __future__ import annotations

import math
import re
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT

EXAMPLES = {path.name for path in (ROOT / "examples").glob("*.py")}


def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, *arguments: str) -> str:
    """What an example prints; run in this process, which has its packages already."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("torch")
    from wm_planner.testing import random_checkpoint

    return str(random_checkpoint(tmp_path_factory.mktemp("weights") / "random.safetensors"))


def test_every_example_is_tested_and_explains_itself() -> None:
    tested = Path(__file__).read_text()
    assert EXAMPLES and all(f'"{name}"' in tested for name in EXAMPLES)
    for name in EXAMPLES:
        assert f"examples/{name}" in (ROOT / "examples" / name).read_text().split('"""')[1], "say how to start it"


def test_the_loop_in_one_process_plans_and_prints_both_distances(checkpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = here(monkeypatch, capsys, "01_plan_in_process.py", "--checkpoint", checkpoint, "--duration", "1")
    assert "0.0 s   true distance" in out and "end       true distance" in out and "10 plans" in out


def test_the_safety_filter_keeps_the_limits_whatever_is_sent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = here(monkeypatch, capsys, "02_safety_filter.py")
    assert "plan refused: NONFINITE" in out and "BRAKE NONFINITE" in out
    assert "fastest joint: 100 % of its limit; inside the joint limits: True" in out


def test_a_policy_is_asked_once_per_plan_and_cannot_make_it_worse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = here(monkeypatch, capsys, "05_own_policy.py", "--seed", "1")
    alone, guided = (float(energy) for energy in re.findall(r"now, ([\d.]+) for the plan", out))
    assert guided < alone and "the policy was asked 1 time;" in out


def test_a_robot_that_nobody_described_is_kept_from_its_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = here(monkeypatch, capsys, "06_own_robot.py")
    shoulder, elbow = map(float, re.findall(r"held at \[([\d.]+), ([\d.]+)\]", out)[0])
    hand_z = 0.3 + 0.3 * math.cos(shoulder) + 0.2 * math.cos(shoulder + elbow)
    assert "TABLE_DISTANCE" in out and "reset; call enable to move | enabled" in out and 0.0 < hand_z < 0.05


def run(name: str, *arguments: str, env: dict[str, str], cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=timeout)


def test_sending_a_goal_without_a_graph_or_a_picture_says_what_is_missing(ros_env: dict[str, str], tmp_path: Path) -> None:
    picture = tmp_path / "goal.png"
    cv2.imwrite(str(picture), np.zeros((240, 320, 3), np.uint8))
    done = run("03_send_goal.py", str(picture), env=ros_env, cwd=tmp_path)
    assert done.returncode == 1 and "no planner in this ROS domain" in done.stdout, done.stderr
    done = run("03_send_goal.py", str(tmp_path / "nothing.png"), env=ros_env, cwd=tmp_path)
    assert done.returncode != 0 and "does not exist" in done.stderr


@pytest.mark.slow
def test_a_recorded_run_is_a_regression_test(recorded_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.golden"
    out = here(monkeypatch, capsys, "04_replay_regression.py", str(recorded_run), str(file), "--checkpoint", str(recorded_run.parents[1] / "random.safetensors"))
    assert f"wrote {file}" in out and f"decisions as in {file}" in out
