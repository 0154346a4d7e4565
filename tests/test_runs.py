"""What a run leaves, and `./wm runs`: all kinds are listed and compared, what is no run is told."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from wm_bridge.bench.report import BenchResult
from wm_bridge.cli import bench, refine
from wm_bridge.cli import runs as command
from wm_bridge.errors import UserError
from wm_bridge.report import runs, short, training
from wm_bridge.report.about import flat, made
from wm_planner.testing import random_checkpoint, synthetic_dataset


def old_demo(error: str = "") -> dict[str, object]:
    """As ./wm demo wrote it before reports had a kind."""
    goals = [{"outcome": "REACHED", "true_m": 0.01, "duration_s": 3.0}, {"outcome": "TIMEOUT", "true_m": 0.03, "duration_s": 5.0}]
    return {"date": "2026-11-21T14:59:50+0000", "git": "7a8bd9e", "seed": 3, "goals": goals, "planning": {"plans": 9, "plan_ms_p50": 40.0}, "error": error}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with three runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "report.json").write_text(json.dumps(old_demo()))
    for name, p50, samples in (("two", 44.0, 48), ("three", 50.0, 64)):
        report = BenchResult("plan", 0, "abc", {"p50_ms": p50, "none": math.nan}, [("2 threads", "44 ms")]).as_json()
        report |= {"date": f"2026-11-22T0{len(name)}:00:00+00:00", "configuration": {"search": {"samples": samples, "iterations": 2}}}
        runs.write_report(tmp_path / "runs" / name, report)
    return tmp_path


def test_all_kinds_are_listed_newest_first_and_what_is_no_run_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in {"empty": "", "cut": '{"kind": "be', "list": "[1]", "foreign": '{"a": 1}', "undated": '{"kind": "bench"}', "odd": '{"goals": 3, "date": "now"}'}.items():
        (folder / "runs" / name).mkdir()
        (folder / "runs" / name / "report.json").write_text(text)
    (folder / "outputs" / "nothing").mkdir(parents=True)
    (folder / "runs" / "bytes").mkdir()
    (folder / "runs" / "bytes" / "report.json").write_bytes(b"\xff\xfe")
    (folder / "runs" / "some.jsonl").touch()
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(line.split()[4]).name for line in lines[:2]] == ["three", "two"] and "p50_ms 50" in lines[0]
    assert "demo" in lines[2] and "REACHED, TIMEOUT; true_cm 2, duration_s 4" in lines[2] and lines[2].endswith("7a8bd9e")
    told = {line.split("/")[1].split(":")[0]: line for line in lines[3:]}
    assert set(told) == {"empty", "cut", "list", "foreign", "undated", "odd", "nothing", "bytes"} and all(line.startswith("! ") for line in lines[3:])
    assert "goes on, or was ended" in told["empty"] and "no report.json" in told["nothing"] and "no kind" in told["foreign"]


def test_one_run_is_shown_by_part_of_its_name_or_as_the_last(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["show", "last"]) == command.main(["show", "thr"]) == command.main(["show", str(folder / "runs" / "three")]) == 0
    out = capsys.readouterr().out
    assert out.count("bench plan") == 3 and "search.samples" in out and "python" in out and "none" not in out
    with pytest.raises(UserError, match="2 runs are called 't': .*three.*two"):
        command.main(["show", "t"])
    with pytest.raises(UserError, match="0 runs are called 'x'"):
        command.main(["show", "x"])
    with pytest.raises(UserError, match="takes 2 names, got 1"):
        command.main(["compare", "one"])


def test_a_whole_name_is_meant_before_a_part_and_no_folder_is_used_twice(folder: Path) -> None:
    first = runs.new_folder("bench", "plan")
    first.mkdir(parents=True)
    second = runs.new_folder("bench", "plan")
    assert second != first and not second.exists()
    for name in ("two~2", "two-more"):
        (folder / "runs" / name).mkdir()
        (folder / "runs" / name / "report.json").write_text(json.dumps(old_demo()))
    assert runs.pick(runs.find([folder / "runs"])[0], "two").folder.name == "two"


def test_the_list_shows_the_newest_thirty_or_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(30):
        (folder / "runs" / f"n{number}").mkdir()
        (folder / "runs" / f"n{number}" / "report.json").write_text(json.dumps(old_demo()))
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 31 and lines[-1] == "and 3 older ones: --all"
    assert command.main(["--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 33


def test_a_comparison_has_figures_side_by_side_and_only_what_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["compare", "two", "three"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "p50_ms" in line).split() == ["p50_ms", "44", "50", "+6"]
    assert "  search.samples: 48 -> 64" in lines and not any("iterations" in line for line in lines)
    assert "versions: the same" in lines
    assert command.main(["compare", "one", "two"]) == 0
    assert "versions: A does not say" in capsys.readouterr().out.splitlines()


def test_a_figure_of_one_side_only_is_compared_with_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((folder / "runs" / "three" / "report.json").read_text())
    runs.write_report(folder / "runs" / "three", report | {"figures": {**report["figures"], "only_here": 7.0}})
    for names in (("two", "three"), ("three", "two")):
        command.main(["compare", *names])
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "only_here" in line]
        assert line.split() == ["only_here", "7"], "no difference"


def test_the_machine_readable_form_is_strict_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def read() -> object:
        return json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))

    assert command.main(["--json"]) == 0
    assert [run["kind"] for run in read()] == ["bench", "bench", "demo"]
    assert command.main(["compare", "two", "three", "--json"]) == 0
    assert read()["differences"]["configuration"] == {"search.samples": ["48", "64"]}


def test_an_unfinished_demo_says_why(folder: Path) -> None:
    (folder / "runs" / "one" / "report.json").write_text(json.dumps(old_demo("stopped by the user")))
    assert runs.read(folder / "runs" / "one").outcome == "REACHED, TIMEOUT: stopped by the user"


def test_settings_become_lines() -> None:
    assert flat({"a": {"b": 1, "c": {}}, "d": [1, 2], "e": None}) == {"a.b": "1", "d": "[1, 2]", "e": "None"}
    assert flat(None) == {} and made({"a": 1})["versions"]["numpy"]


# What benchmarks and trainings leave ------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A benchmark in the place of `plan`; what it was asked for."""
    asked: list[list[str]] = []

    def main(words: list[str]) -> int:
        asked.append(words)
        if "--fail" not in words:
            BenchResult("plan", 1, "", {"p50_ms": 2.0}, [("a < b", "2 ms")], {"call, ms": [3.0, 1.0, math.nan, 2.0], "way, cm": [1.0], "no, ms": []}).show(Path(words[words.index("--json") + 1]) if "--json" in words else None)
        return 0

    monkeypatch.setitem(sys.modules, "wm_bridge.bench.plan", SimpleNamespace(main=main))  # type: ignore[arg-type]
    return asked


def test_a_benchmark_leaves_a_folder_with_a_page(folder: Path, measured: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["plan", "--calls", "3"]) == 0
    (left,) = (folder / "runs").glob("*-bench-plan")
    text = (left / "report.html").read_text()
    assert "a &lt; b" in text and text.count("data:image/png;base64,") == 2 and "--calls 3" in text and "numpy" in text
    report = json.loads((left / "report.json").read_text())
    assert report["samples"] == {"call, ms": [1.0, 2.0, 3.0], "way, cm": [1.0], "no, ms": []}
    assert runs.find([Path("runs")])[0][0].figures == {"p50_ms": 2.0}
    assert bench.main(["plan"]) == 0 and len(list((folder / "runs").glob("*-bench-plan*"))) == 2, "a second one in the same second"


def test_a_benchmark_leaves_nothing_elsewhere_than_it_was_told(folder: Path, measured: list[list[str]]) -> None:
    before = set((folder / "runs").iterdir())
    assert bench.main(["plan", "--no-run", "--json", "mine.json"]) == 0
    assert bench.main(["plan", "--fail"]) == 0
    assert set((folder / "runs").iterdir()) == before
    assert bench.main(["plan", "--json", "mine.json", "--run", "here"]) == 0
    assert runs.read(Path("here")).page and measured[-1] == ["--json", "mine.json"]
    assert bench.main(["plan", "--json", "--run", "there", "--calls", "2"]) == 0
    assert measured[-1] == ["--calls", "2", "--json", "there/report.json"]


def test_many_samples_are_thinned_but_keep_their_ends() -> None:
    values = BenchResult("x", 0, "", {}, samples={"t, ms": range(100_000)}).as_json()["samples"]["t, ms"]
    assert len(values) == 1000 and (values[0], values[-1]) == (0.0, 99_999.0) and values[500] == pytest.approx(50_000, rel=0.01)


def test_a_training_leaves_its_curves_on_a_page(tmp_path: Path) -> None:
    assert training.make(tmp_path, []) is None, "nothing was trained yet"
    (tmp_path / "curve.csv").write_text("step,seconds,total\n10,1.0,0.5\n20,2.0,0.4\n30,")  # killed while it wrote
    (tmp_path / "validation.csv").write_text("step,hand_cm_h10,error_ratio_h10\n20,3.5,0.2\n")
    page = training.make(tmp_path, ["--data", "some"])
    assert page is not None and page.read_text().count("data:image/png;base64,") == 2
    run = runs.read(tmp_path)
    assert (run.kind, run.outcome) == ("training", "step 20") and run.figures["hand_cm_h10"] == 3.5
    assert run.configuration["arguments"] == "--data some"


def test_a_refinement_leaves_a_page_with_what_was_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = random_checkpoint(tmp_path / "in.safetensors", ("first", "second"))
    words = ["--checkpoint", str(source), "--data", str(synthetic_dataset(tmp_path / "play", episodes=40)), "--out", str(tmp_path / "fine.safetensors")]
    assert refine.main([*words, "--steps", "2"]) == 0
    run = runs.find([tmp_path / "runs"])[0][0]
    assert (run.kind, run.name, run.figures["steps"]) == ("training", "fine", 2.0) and "fine.safetensors" in run.outcome
    assert run.configuration["refine.steps"] == "2" and run.page is not None and len(run.configuration["refined_from"]) > 6
    assert refine.main([*words[:-1], str(tmp_path / "x"), "--checkpoint", str(tmp_path / "none")]) == 2
    assert len(runs.find([tmp_path / "runs"])[0]) == 1, "what was not made leaves none"


def test_a_short_page_shows_its_tables_and_leaves_empty_ones_out(tmp_path: Path) -> None:
    page = short.make(tmp_path / "a", "robot", "nico", "a <node> died", {"seconds": 2.0}, {"arguments": {"robot": "nico"}}, {"Last warnings": [("driver", "late & slow")], "None": []})
    text = page.read_text(encoding="utf-8")
    assert "a &lt;node&gt; died" in text and "late &amp; slow" in text and "<h2>None" not in text and "arguments.robot" in text and "seconds" in text
    assert short.numbers({"a": {"b": 1, "c": "x"}, "d": True, "e": 0.5}) == {"a.b": 1.0, "e": 0.5}
