"""Differences from a golden file: none where there is none, and the first one in words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from wm_bridge.core.types import Reason, SafetyMode, Trajectory
from wm_bridge.errors import UserError
from wm_bridge.replay import golden, page
from wm_bridge.replay.guarding import Guarded, Judged
from wm_bridge.replay.planning import Decision
from wm_bridge.replay.recorded import Picture, Recorded
from wm_bridge.replay.run import Replay
from wm_bridge.replay.summary import summarise

S = 10**9


def made(shift: float = 0.0, count: int = 3, trust: float = float("nan"), mode: SafetyMode = SafetyMode.NORMAL, seed: int = 0) -> Replay:
    """A replay of ``count`` plans; the second one's first way point is moved by ``shift`` rad."""
    decisions, judged = [], {}
    for k in range(count):
        positions = np.full((2, 2), 0.1 * k)
        positions[0, 1] += shift * (k == 1)
        stamp = S + k * S // 10
        path = Trajectory(("elbow", "wrist"), (S // 10, S // 5), positions, np.zeros((2, 2)), stamp)
        decisions.append(Decision(1, stamp, stamp, "", "far", {"energy": 1.0, "trust": trust}, "", path, {"step": 0.1}))
        judged[stamp] = Judged(Reason.NONE, (mode,), Reason.NONE, ("elbow", "wrist"), ((0.0, 0.1),), 0, "", (SafetyMode.NORMAL,))
    recorded = Recorded(pictures=[Picture(S, S, "", b"", None)], begin_ns=S, end_ns=2 * S)
    return Replay(Path("bag"), recorded, tuple(decisions), Guarded((), judged), {"weights": "w", "search": {"seed": seed}}, 0.1, 0.0, 0.1, 0.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    golden.write(tmp_path / "a.golden", made())
    return tmp_path / "a.golden"


def test_the_same_replay_is_the_same_also_where_a_number_is_not_known(file: Path) -> None:
    comparison = golden.compare(file, made())
    assert comparison.same and comparison.decisions == 6 and "6 decisions, all as" in str(comparison)
    assert all(json.loads(line) for line in file.read_text().splitlines()), "one object per line"


def test_the_first_difference_names_plan_field_joint_and_amount(file: Path) -> None:
    text = str(golden.compare(file, made(shift=0.002)))
    assert "1 of 6 decisions differ" in text
    assert "first: plan of goal 1 on the picture of 1.100 s" in text
    assert "positions[0][wrist]: golden 0.1, now 0.102" in text and "(+0.002)" in text


def test_a_tolerance_lets_numbers_differ_but_no_words(file: Path) -> None:
    assert golden.compare(file, made(shift=0.002), tolerance=0.01).same
    stopped = golden.compare(file, made(mode=SafetyMode.BRAKE), tolerance=0.01)
    assert stopped.different == 3 and 'modes[0]: golden "NORMAL", now "BRAKE"' in str(stopped)


def test_a_decision_more_or_less_and_other_settings_are_told(file: Path) -> None:
    assert "none in the golden file" in str(golden.compare(file, made(count=4)))
    assert "decision: none now" in str(golden.compare(file, made(count=2)))
    other = golden.compare(file, made(seed=1))
    assert other.same and "planner search.seed: golden 0, now 1" in str(other)


def test_a_golden_file_of_another_bag_none_or_a_damaged_one_is_refused(file: Path, tmp_path: Path) -> None:
    longer = made()
    longer = dataclasses.replace(longer, recorded=dataclasses.replace(longer.recorded, end_ns=3 * S))
    with pytest.raises(UserError, match="another bag"):
        golden.compare(file, longer)
    with pytest.raises(UserError, match="no golden file"):
        golden.compare(tmp_path / "nothing", made())
    file.write_text('{"kind": "something"}')
    with pytest.raises(UserError, match="cannot be read"):
        golden.compare(file, made())


def test_the_page_and_the_table_name_what_would_have_stopped(tmp_path: Path) -> None:
    replay = made(mode=SafetyMode.BRAKE)
    summary = summarise(replay)
    assert summary.figures["would_have_stopped"] == 3
    assert "0.00 s, goal 1: would have stopped" in page.text(replay, summary)
    report = {"name": "bag", "outcome": "", "bag": "", "date": "", "git": "", "machine": "", "configuration": {"planner": replay.planner}}
    page.write_html(tmp_path / "page.html", report, [], page.body(replay, summary))
    text = (tmp_path / "page.html").read_text()
    assert "Replay of bag" in text and "data:image/png" in text and "would have stopped" in text
