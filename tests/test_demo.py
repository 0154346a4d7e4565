"""`./wm demo`: what it checks before it starts, and whole runs with a model of random weights."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import wait_until

from wm_bridge.cli import demo
from wm_bridge.cli.demo_progress import LiveLine, describe
from wm_bridge.cli.demo_scene import HEIGHT, WIDTH, DemoScene, load_goal_picture
from wm_bridge.errors import UserError

# Before anything is started ---------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_named_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*file/run") as caught:
        demo.main(["--out", str(tmp_path / "file" / "run")])
    assert "--out" in caught.value.remedy


def test_a_run_never_overwrites_a_bag(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    with pytest.raises(UserError, match="already holds a bag"):
        demo.main(["--out", str(tmp_path)])


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing.safetensors does not exist"):
        demo.main(["--checkpoint", str(tmp_path / "nothing.safetensors")])


@pytest.mark.parametrize("words", [["--goals", "0"], ["--timeout", "nan"], ["--realtime-factor", "0"], ["--seed", "x"], ["--speed", "3"]])
def test_a_wrong_argument_ends_with_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        demo.parse(words)
    assert caught.value.code == 2 and words[0] in capsys.readouterr().err


@pytest.mark.parametrize(("content", "text"), [(None, "does not exist"), (b"", "is not a picture"), (b"GIF89a nonsense", "is not a picture")])
def test_a_bad_goal_picture_is_named(tmp_path: Path, content: bytes | None, text: str) -> None:
    file = tmp_path / "goal.png"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=text):
        load_goal_picture(file)
    with pytest.raises(UserError, match="is no file"):
        load_goal_picture(tmp_path)


@pytest.mark.parametrize(("size", "done"), [((240, 320), ""), ((480, 640), "scaled"), ((600, 600), "cut to 600x450"), ((90, 400), "cut to 120x90")])
def test_a_goal_picture_of_any_size_is_cut_in_its_middle_and_scaled(tmp_path: Path, size: tuple[int, int], done: str) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    picture[:, size[1] // 2 :] = (0, 0, 255)  # BGR: the right half is red
    cv2.imwrite(str(tmp_path / "goal.png"), picture)
    found, text = load_goal_picture(tmp_path / "goal.png")
    assert found.shape == (HEIGHT, WIDTH, 3) and done in text and bool(text) == bool(done)
    assert tuple(found[120, 40]) == (0, 0, 0) and tuple(found[120, 280]) == (255, 0, 0)


def test_start_and_goal_follow_the_seed_and_lie_apart_and_leave_the_block_alone() -> None:
    def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scene = DemoScene("nico", np.random.default_rng(seed))
        start = scene.start()
        goal = scene.goal(start, least_m=0.35)
        block = scene.world.object_pose("block")[:3]
        assert goal.hand is not None and np.linalg.norm(goal.hand - scene.hand(start)) >= 0.35
        scene.world.load_state(start)
        assert np.linalg.norm(scene.world.object_pose("block")[:3] - block) < 0.005
        scene.close()
        return start.reference, goal.hand, goal.asked.picture

    first, again, other = draw(3), draw(3), draw(4)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any() and (first[2] != other[2]).any()


@pytest.mark.parametrize(
    ("log", "message", "remedy"),
    [
        ("[ERROR] [12.5] [planner]: cannot plan: x\n  what to do: train\nplanner: cannot plan: x\n  what to do: train", "cannot plan: x", "train"),
        ("camera: no EGL\n  what to do: apt-get install libegl1", "no EGL", "apt-get install libegl1"),
        ("Traceback\n  File\nValueError: odd", "graph did not start: planner ended with code 2: ValueError: odd", "see log"),
        ("", "graph did not start: planner ended with code 2", "see log"),
    ],
)
def test_a_node_that_could_not_start_gives_two_lines(log: str, message: str, remedy: str) -> None:
    told = demo.plain(UserError(f"graph did not start: planner ended with code 2\n{log}".strip(), "see log", 2))
    assert (told.message, told.remedy, told.exit_code) == (message, remedy, 2)
    assert len(str(told).splitlines()) == 2


# The live line ----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_is_one_line_on_a_terminal_and_plain_lines_elsewhere() -> None:
    feedback = SimpleNamespace(elapsed_s=1.0, energy=0.5, distance_m=0.123, angle_rad=0.0, progress=0.5, plan_ms=31.0, stage=1, stages=1)
    text = describe(feedback, "NORMAL")
    assert "12.3 cm" in text and "31 ms" in text and "NORMAL" in text and "50 %" in text
    shown: list[str] = []
    for out in (Terminal(), io.StringIO()):
        line = LiveLine(out)
        line.update(text)
        line.update("too early")
        line.close()
        line.update(describe(None, "HOLD"))
        line.close()
        shown.append(out.getvalue())
    assert shown[0].count("\r") == shown[0].count("\n") == 2 and "too early" not in shown[0]
    assert "\r" not in shown[1] and "\x1b" not in shown[1] and shown[1].count("\n") == 2


def test_the_start_of_the_process_is_known_to_some_hundredths() -> None:
    code = "import time; time.sleep(0.5); from wm_bridge.cli import demo; print(time.monotonic() - demo.process_start())"
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert 0.5 <= float(done.stdout) <= time.monotonic() - begin + 0.05, done.stderr


# Whole runs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from wm_planner.testing import random_checkpoint

    return random_checkpoint(tmp_path_factory.mktemp("model") / "random.safetensors")


class Run:
    """The demo as a program; its lines are collected while it runs."""

    def __init__(self, folder: Path, env: dict[str, str], *words: str) -> None:
        self.folder = folder
        env = {name: value for name, value in env.items() if name != "ROS_DOMAIN_ID"}
        command = [sys.executable, "-m", "wm_bridge.cli.main", "demo", "--out", str(folder), "--seed", "5", *words]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def end(self, timeout: float = 200.0) -> int:
        """Wait for the end; fails when a process of the run is left."""
        code = self.process.wait(timeout)
        self._reader.join(10.0)
        assert not self.left(), self.text
        return code

    def left(self) -> list[str]:
        """Command lines of processes that name the run's folder."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
            except OSError:
                continue
            if str(self.folder) in line and int(entry.name) != os.getpid():
                found.append(line)
        return found


@pytest.fixture
def start(ros_env: dict[str, str], tmp_path: Path) -> Iterator[object]:
    runs: list[Run] = []

    def begin(*words: str) -> Run:
        runs.append(Run(tmp_path / "run", ros_env, *words))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait(10)


@pytest.mark.slow
def test_a_goal_that_is_not_reached_ends_with_code_3_and_a_whole_report(start, checkpoint: Path) -> None:
    from wm_bridge.report import recording

    run = start("--checkpoint", str(checkpoint), "--timeout", "1.5", "--tolerance", "1e-9")
    assert run.end() == demo.NOT_REACHED, run.text
    report = json.loads((run.folder / "report.json").read_text())
    (goal,) = report["goals"]
    assert goal["outcome"] in ("TIMEOUT", "STALLED", "NOT_TRUSTED") and goal["message"]
    assert f"{goal['outcome']} after" in run.text and "scoring only" in run.text
    assert goal["true_start_m"] >= 0.10 and np.isfinite(goal["true_m"]) and report["seed"] == 5
    assert report["checkpoint"] == "random.safetensors" and len(report["checkpoint_hash"]) == 12
    assert report["planning"]["plans"] >= 1 and report["video_frames"] > 0
    assert set(report["nodes"]) == {"recorder", "driver", "safety", "camera", "planner", "viz"}
    assert all(node["cpu_s"] > 0 for node in report["nodes"].values())
    bag = recording.read(run.folder / "bag")
    assert bag.note == report["bag_note"] == "" and len(bag.goals) == 1 and bag.safety and bag.states
    # Placed before the safety node let anything through, and at rest before it was left.
    enabled = [row.enabled for row in bag.safety]
    assert not enabled[0] and any(enabled) and not enabled[-1]
    page = (run.folder / "report.html").read_text()
    assert goal["outcome"] in page and page.count("data:image/jpeg") == 3
    film = cv2.VideoCapture(str(run.folder / "video.webm"))
    count = 0
    while film.read()[0]:
        count += 1
    assert count == report["video_frames"]
    assert "Traceback" not in run.text


@pytest.mark.slow
def test_ctrl_c_stops_the_arm_keeps_the_bag_and_leaves_nothing(start, checkpoint: Path) -> None:
    from wm_bridge.report import recording

    run = start("--checkpoint", str(checkpoint), "--timeout", "100", "--tolerance", "1e-9")
    wait_until(lambda: "  energy " in run.text or run.process.poll() is not None, 150.0, "the first plan")
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130, run.text
    assert "the arm stands" in run.text or "brakes the arm" in run.text
    assert "Traceback" not in run.text
    report = json.loads((run.folder / "report.json").read_text())
    assert report["error"] == "stopped by the user" and report["goals"][0]["outcome"] == "UNFINISHED"
    bag = recording.read(run.folder / "bag")
    assert bag.note == "" and bag.counts["wm/goal"] == 1 and bag.counts["hw/command"] > 10


@pytest.mark.slow
def test_a_foreign_checkpoint_gives_two_lines_and_keeps_the_bag(start, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"not a checkpoint")
    run = start("--checkpoint", str(foreign))
    assert run.end() == 1, run.text
    assert run.text.rstrip().splitlines()[-2].startswith("cannot plan with") and "what to do:" in run.lines[-1]
    assert "Traceback" not in run.text and (run.folder / "bag").is_dir()
    assert "cannot plan with" in json.loads((run.folder / "report.json").read_text())["error"]
