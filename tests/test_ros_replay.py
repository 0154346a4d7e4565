"""A run of the real graph, recorded by its recorder, through the filter again: the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from wm_bridge.cli import replay as command
from wm_bridge.errors import UserError
from wm_bridge.replay.recorded import read

pytestmark = pytest.mark.slow


def test_a_recorded_run_of_the_graph_gives_the_same_bits(recorded_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    assert command.main([str(recorded_run), "--safety-only", "--no-run", "--json", str(figures)]) == 0
    assert "the same, bit for bit" in capsys.readouterr().out
    found = json.loads(figures.read_text())
    (session,) = found["sessions"]
    assert found["replay_identical"] == 1 and session["different"] == 0
    assert session["ticks"] >= session["commands"] > 200
    (kept,) = read(recorded_run).sessions.values()
    known = sum(counter <= session["commands"] for counter in kept.sent)
    assert session["compared"] == known > 200, "all that the recorder heard; on a busy machine some are lost on the way"


def test_another_setting_is_reported_with_its_first_tick(recorded_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = yaml.safe_load((ROOT / "config" / "safety.yaml").read_text())
    settings["velocity_scale"] = 0.02  # below the 0.1 rad/s that the arm has reached however busy the machine was
    other = tmp_path / "slow.yaml"
    other.write_text(yaml.safe_dump(settings))
    assert command.main([str(recorded_run), "--safety-only", "--no-run", "--config", str(other)]) == 1
    out = capsys.readouterr().out
    assert "tick " in out
    assert "r_elbow_y: recorded" in out or "the recording lacks this hw/command" in out, "on a busy machine some are lost"


def test_a_bag_that_was_cut_off_is_judged_as_far_as_it_goes(recorded_run: Path, tmp_path: Path) -> None:
    (file,) = recorded_run.glob("*.mcap")
    cut = tmp_path / "cut.mcap"
    shutil.copy(file, cut)
    with cut.open("r+b") as stream:
        stream.truncate(file.stat().st_size * 2 // 3)
    (whole,) = command.replay_safety(recorded_run, read(recorded_run)).reports
    recorded = read(cut)
    (part,) = command.replay_safety(cut, recorded).reports
    assert "cut off" in recorded.notes[0] and part.first is None and 0 < part.commands < whole.commands


def test_a_bag_without_a_journal_or_no_bag_at_all_says_what_to_do(tmp_path: Path) -> None:
    from bag_maker import make_bag

    old = make_bag(tmp_path / "old", 0.5)
    with pytest.raises(UserError, match="holds no safety/journal"):
        command.replay_safety(old, read(old))
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "nowhere")
