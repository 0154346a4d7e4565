"""`./wm goal` and `./wm view` before they meet a graph: arguments, lists of goals, which graph is meant."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from wm_bridge.cli import goal, view
from wm_bridge.cli.domain import find_domain, running_domains
from wm_bridge.errors import UserError


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), np.full((240, 320, 3), 90, np.uint8))
    return file


def asked(*words: str) -> tuple[goal.SubGoal, ...]:
    return goal.sub_goals(goal.parse(list(words)))


def test_each_kind_of_goal_becomes_the_words_of_the_demo(picture: Path) -> None:
    words = [
        (["--joints", "r_elbow_y=-0.8"], "joints:r_elbow_y=-0.8"),
        (["--pose=0.3,-0.2,0.8"], "pose:0.3,-0.2,0.8"),
        (["--bag", "/b", "--time", "4.5"], "bag:/b@4.5"),
        (["--bag", "/b", "--topic", "t"], "bag:/b@0.0@t"),
        (["--image", str(picture), str(picture)], f"{picture},{picture}"),
        (["--capture"], ""),
    ]
    for given, expected in words:
        (found,) = asked(*given, "--timeout", "7", "--tolerance", "0.03", "--target", "block")
        assert found == goal.SubGoal(expected, "", "block", 7.0, 0.03)


def test_a_list_has_goals_in_words_and_with_settings_of_their_own(tmp_path: Path, picture: Path) -> None:
    file = tmp_path / "goals.yaml"
    file.write_text("- a.png\n- {goal: 'pose:0.3,-0.2,0.8', timeout_s: 5, tolerance_m: 0.02}\n- {goal: a.png, mask: a.png, target: block}\n- bag:runs/b@3\n")
    first, second, third, last = asked("--yaml", str(file), "--timeout", "9")
    assert first == goal.SubGoal(str(picture), timeout_s=9.0)
    assert second == goal.SubGoal("pose:0.3,-0.2,0.8", timeout_s=5.0, tolerance_m=0.02)
    assert (third.mask, third.target) == (str(picture), "block")
    assert last.goal == f"bag:{tmp_path}/runs/b@3"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no list"),
        ("goal: a", "holds no list"),
        ("- {goals: a}", "entry 1 is no goal"),
        ("- 3", "entry 1 is no goal"),
        ("- {goal: 'pose:0.3,-0.2,0.8', timeout: 3}", "key 'timeout' is unknown.*did you mean 'timeout_s'"),
        ("- {goal: 'pose:0.3,-0.2,0.8', timeout_s: soon}", "soon"),
        ("- pose:1,2", "expected 3 numbers"),
        ("- pose:0.3,-0.2,0.8\n- none.png", "none.png does not exist"),
        ("- [", "cannot be read"),
    ],
)
def test_a_list_that_is_wrong_anywhere_is_refused_before_the_arm_moves(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "goals.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=problem.split(".*")[0]) as caught:
        asked("--yaml", str(file))
    assert problem.split(".*")[-1] in str(caught.value)


def test_one_kind_of_goal_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--pose=0.3,-0.2,0.8", "--joints", "a=1"]):
        with pytest.raises(SystemExit) as caught:
            goal.parse(words)
        assert caught.value.code == 2


def test_the_graph_is_the_one_named_or_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def process(number: int, command: str, environment: str) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "cmdline").write_text(command.replace(" ", "\0"))
        (folder / "environ").write_text(environment.replace(" ", "\0"))

    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    process(1, "python -m other.program", "ROS_DOMAIN_ID=9")
    (tmp_path / "2").mkdir()  # a process that has just ended, or another user's
    with pytest.raises(UserError, match="no graph runs"):
        find_domain(None, processes=tmp_path)
    assert find_domain(None, 0, tmp_path) == 0
    process(3, "python -m wm_bridge.nodes.safety", "HOME=/ ROS_DOMAIN_ID=5 A=b=c")
    process(4, "python -m wm_bridge.nodes.driver", "ROS_DOMAIN_ID=5")
    assert running_domains(tmp_path) == (5,) and find_domain(None, processes=tmp_path) == find_domain(None, 0, tmp_path) == 5
    process(5, "python -m wm_bridge.nodes.safety", "HOME=/")  # ROS's own default
    for otherwise in (None, 0):
        with pytest.raises(UserError, match="several graphs run here, in the domains 0, 5"):
            find_domain(None, otherwise, tmp_path)
    assert find_domain(7, processes=tmp_path) == 7
    monkeypatch.setenv("ROS_DOMAIN_ID", "77")
    assert find_domain(None, processes=tmp_path) == 77
    monkeypatch.setenv("ROS_DOMAIN_ID", "x")
    with pytest.raises(UserError, match="expected a number"):
        find_domain(None, processes=tmp_path)


def test_a_view_for_other_machines_asks_for_a_token() -> None:
    with pytest.raises(UserError, match="open to everybody"):
        view.main(["--host", "0.0.0.0", "--domain", "5"])
