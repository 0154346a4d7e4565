"""Every example runs, as a program of its own."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT

EXAMPLES = {path.name for path in (ROOT / "examples").glob("*.py")}


def run(name: str, *arguments: str, env: dict[str, str], cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=timeout)


def test_every_example_is_tested_and_explains_itself() -> None:
    tested = Path(__file__).read_text()
    assert EXAMPLES and all(f'"{name}"' in tested for name in EXAMPLES)
    for name in EXAMPLES:
        assert f"examples/{name}" in (ROOT / "examples" / name).read_text().split('"""')[1], "say how to start it"


def test_the_loop_in_one_process_plans_and_prints_both_distances(ros_env: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from wm_planner.testing import random_checkpoint

    checkpoint = random_checkpoint(tmp_path / "random.safetensors")
    done = run("01_plan_in_process.py", "--checkpoint", str(checkpoint), "--duration", "1", env=ros_env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0.0 s   true distance" in done.stdout and "end       true distance" in done.stdout
    assert "10 plans" in done.stdout


def test_the_safety_filter_keeps_the_limits_whatever_is_sent(ros_env: dict[str, str], tmp_path: Path) -> None:
    done = run("02_safety_filter.py", env=ros_env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "plan refused: NONFINITE" in done.stdout and "BRAKE NONFINITE" in done.stdout
    assert "fastest joint: 100 % of its limit; inside the joint limits: True" in done.stdout


def test_sending_a_goal_without_a_graph_or_a_picture_says_what_is_missing(ros_env: dict[str, str], tmp_path: Path) -> None:
    picture = tmp_path / "goal.png"
    cv2.imwrite(str(picture), np.zeros((240, 320, 3), np.uint8))
    done = run("03_send_goal.py", str(picture), env=ros_env, cwd=tmp_path)
    assert done.returncode == 1 and "no planner in this ROS domain" in done.stdout, done.stderr
    done = run("03_send_goal.py", str(tmp_path / "nothing.png"), env=ros_env, cwd=tmp_path)
    assert done.returncode != 0 and "does not exist" in done.stderr


@pytest.mark.slow
def test_a_recorded_run_is_a_regression_test(recorded_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script, file = ROOT / "examples" / "04_replay_regression.py", tmp_path / "run.golden"
    monkeypatch.setattr(sys, "argv", [str(script), str(recorded_run), str(file), "--checkpoint", str(recorded_run.parents[1] / "random.safetensors")])
    runpy.run_path(str(script), run_name="__main__")  # in this process, which has torch already
    out = capsys.readouterr().out
    assert f"wrote {file}" in out and f"decisions as in {file}" in out
