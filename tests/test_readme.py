"""What the documents promise exists: commands, options, launch files, paths, links."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from pathlib import Path

import pytest
from conftest import ROOT

from wm_bridge import arguments
from wm_bridge.cli import bench, commands
from wm_bridge.cli import main as commands_main
from wm_bridge.ros import qos

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]
MADE_LATER = {"runs/extrinsics.yaml", "data/play", "outputs/model", "my_goal.png"}  # by the commands of the README themselves


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def wm_commands(page: str) -> list[list[str]]:
    """Words after `./wm` wherever a page names a command."""
    code = [inline or block for inline, block in re.findall(r"`(\./wm [^`\n]+)`|^(\./wm .*)$", text(page), re.M)]
    found = [re.split(r"\s+#|\s{3,}", line)[0].split() for line in code]
    return [words[1:] for words in found]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_exists(page: str) -> None:
    for words in wm_commands(page):
        assert words[0].startswith("-") or words[0] in commands.COMMANDS, words
        if words[0] == "bench" and len(words) > 1 and words[1].isalpha() and words[1].islower():
            assert words[1] in bench.BENCHES, words


def test_the_readme_leads_with_the_demo_and_is_read_in_two_minutes() -> None:
    used = [words[0] for words in wm_commands("README.md")]
    assert used[0] == "demo"
    assert {"test", "doctor"} <= set(used) and len(text("README.md").split()) < 650, "two minutes"


def test_every_benchmark_is_behind_a_figure_or_explained() -> None:
    assert {words[1] for words in wm_commands("docs/benchmarks.md") if words[0] == "bench" and words[1].islower()} == set(bench.BENCHES)


def test_every_option_of_the_demo_in_the_documents_is_known() -> None:
    from wm_bridge.cli import demo

    for page in PAGES:
        for words in wm_commands(page):
            if words[0] == "demo":
                args = demo.parse([word if word.startswith("-") else {"N": "1", "FOLDER": "x"}.get(word, word) for word in words[1:]])
                assert args.goals >= 1


@functools.cache
def help_of(command: tuple[str, ...]) -> str:
    """What `./wm COMMAND --help` prints."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), pytest.raises(SystemExit, match="^0$"):
        commands_main.main([*command, "--help"])
    return told.getvalue()


@pytest.mark.parametrize("page", sorted(set(PAGES) - {"CHANGELOG.md"}))
def test_every_option_in_the_documents_is_known(page: str) -> None:
    for words in wm_commands(page):
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        if not options or words[0] == "test" or words[0].startswith("-"):  # what ./wm test does not know goes to pytest
            continue
        nested = words[0] in ("bench", "calibrate-camera", "runs") and re.fullmatch("[a-z-]+", words[1]) and not words[1].startswith("-")
        command = tuple(words[: 2 if nested else 1])
        for option in options:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", help_of(command)), f"./wm {' '.join(command)} knows no {option}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#]+)\)", text(page)):
        if not target.startswith("https://"):
            assert (folder / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page: str) -> None:
    tops = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("runs", "build")}
    for word in re.findall(r"[\w.]+(?:/[\w.*-]+)+/?", text(page)):
        if word.split("/")[0] in tops and word not in MADE_LATER and "*" not in word and "NAME" not in word:
            assert (ROOT / word).exists(), f"{page}: {word}"


def test_every_launch_file_and_argument_exists() -> None:
    calls = re.findall(r"ros2 launch wm_bringup (\S+)((?: \w+:=\S+)*)", text("docs/quick-start.md"))
    assert {name for name, _ in calls} == {"sim.launch.py", "robot.launch.py"}
    for name, given in calls:
        assert (ROOT / "launch" / name).is_file()
        declared = {"rviz", *arguments.PROFILES[name.removesuffix(".launch.py")]}
        assert set(re.findall(r"(\w+):=", given)) <= declared


def test_the_topics_of_the_quick_start_are_those_of_the_graph() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \| ([^|]+) \|$", text("docs/quick-start.md").split("## With a native ROS 2")[1].split("##")[0], re.M)
    assert len(rows) >= 6
    for names, kind, _ in rows:
        if "action" in kind or "std_srvs" in kind:
            continue
        for name in re.findall(r"`([^`]+)`", names):
            assert qos.topic(name).type.split("/")[0] in kind and qos.topic(name).type.split("/")[-1] in kind, name


def test_the_figures_have_their_place_and_the_picture_is_small() -> None:
    readme, figures = text("README.md"), text("docs/benchmarks.md")
    assert figures.index("<!-- figures -->") < figures.index("<!-- /figures -->")
    assert readme.index("emergency stop") < readme.index("Quick start")
    picture = ROOT / "docs" / "images" / "demo.webp"
    assert "docs/images/demo.webp" in readme and picture.stat().st_size < 2_000_000
    assert picture.read_bytes()[8:16] == b"WEBPVP8X" and picture.read_bytes()[20] & 2, "it moves"


def test_readme_and_changelog_name_no_machine() -> None:
    for page in PAGES:
        assert not re.search(r"/home/|/work/|/root/", text(page)), page
    assert Path(ROOT / "CHANGELOG.md").read_text().index("## Unreleased") > 0
