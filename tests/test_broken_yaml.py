"""Files and values that are not YAML end in what to do, whatever command reads them, never in a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from wm_bridge import graph, resources, supervisor
from wm_bridge.cli.main import main
from wm_bridge.errors import UserError
from wm_bridge.robots.dynamixel import motors, verify
from wm_planner.weights import shipped_checkpoint

WRONG = "[1, 2"
COMMANDS = {
    "robot": "robot --out {out} safety.rate_hz=[1",
    "robot, its file": "robot --robot {file} --out {out}",
    "replay": "replay {folder} --set samples=[1",
    "replay, safety": "replay {folder} --config {file}",
    "goal": "goal --yaml {file}",
    "dataset": "dataset {folder} --mapping {file} --out {out}",
    "train": "train --data {folder} --out {out} --set steps=[1",
    "train, its file": "train --data {folder} --out {out} --config {file}",
    "bench plan": "bench plan --no-run --set samples=[1",
    "bench reach": "bench reach --no-run --set samples=[1",
    "bench trust": "bench trust --no-run --set samples=[1",
    "eval": "eval --checkpoint {checkpoint} --planner {file} --data {folder}",
    "verify-joints": "verify-joints --port none --motors {file}",
    "bus-sim": "bus-sim --motors {file}",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_is_not_yaml_and_what_to_do(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(WRONG)
    words = COMMANDS[name].format(file=file, folder=tmp_path, out=tmp_path / "out", checkpoint=shipped_checkpoint("nico")).split()
    assert main(words) in (1, 2)
    told = "".join(capsys.readouterr())
    assert "Traceback" not in told and ("broken.yaml" in told or "=[1" in told)
    assert "expected ',' or ']'" in told, "what is wrong, and where"
    assert "what to do: " in told or "; put a value" in told or "; correct it" in told


def test_the_supervisor_by_itself_says_so_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert supervisor.main(["sim", "safety.rate_hz=[1"]) == 2
    assert "safety.rate_hz=[1 is not YAML" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"[1, 2", b"\xff\xfe"])
def test_a_graph_that_is_not_yaml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "graph.yaml").write_bytes(content)
    for read in (lambda: graph.load("sim", path=tmp_path / "graph.yaml"), lambda: graph.names(tmp_path / "graph.yaml"), lambda: graph.names(tmp_path / "none")):
        with pytest.raises(UserError, match="correct it, or restore it"):
            read()


def test_a_motors_file_that_was_damaged_is_not_written_over(tmp_path: Path) -> None:
    source, out = resources.path("config/motors/nico_rh4d.yaml"), tmp_path / "mine.yaml"
    confirmed = motors.load(source).joints[0]
    verify.write(source, out, confirmed)
    assert motors.load(out).joints[0].joint == confirmed.joint
    out.write_text(WRONG)
    with pytest.raises(UserError, match="mine.yaml"):
        verify.write(source, out, confirmed)
    assert out.read_text() == WRONG
