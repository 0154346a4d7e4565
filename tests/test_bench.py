"""Benchmarks: the form of their results, what they compute from what they saw, and their arguments."""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wm_bridge.bench import delay, pipeline, reach_ros, startup
from wm_bridge.bench.live import checkpoint_file, objects_of, settings
from wm_bridge.bench.pipeline import Marks, Passage
from wm_bridge.bench.report import BenchResult, percent, wilson
from wm_bridge.cli import bench
from wm_bridge.errors import UserError
from wm_bridge.report import runs
from wm_bridge.robots import spec as robots
from wm_bridge.sim.closed_loop import TICK_NS
from wm_bridge.sim.play import ARM
from wm_bridge.sim.world import SimWorld
from wm_planner.testing import random_checkpoint

TOP_KEYS = {"kind", "bench", "git", "seed", "date", "machine", "weights", "figures", "rows", "samples", "configuration", "versions"}


@pytest.fixture(scope="module")
def world():
    with_renderer = SimWorld(robots.load("nico"))
    yield with_renderer
    with_renderer.close()


# Form of the results ------------------------------------------------------------------------


def test_json_has_the_documented_keys_and_nan_becomes_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "result.json"
    BenchResult("some", 7, "abc", {"good": 0.5, "none": math.nan, "count": 3}, [("row", "value")]).show(file)
    data = json.loads(file.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert set(data) == TOP_KEYS
    assert (data["bench"], data["seed"], data["weights"]) == ("some", 7, "abc")
    assert data["figures"] == {"good": 0.5, "none": None, "count": 3}
    assert "row  value" in capsys.readouterr().out


@pytest.mark.parametrize(("successes", "count", "low", "high"), [(0, 10, 0.0, 0.27754), (10, 10, 0.72246, 1.0), (5, 10, 0.23659, 0.76341)])
def test_wilson_interval_has_its_analytic_values(successes: int, count: int, low: float, high: float) -> None:
    assert wilson(successes, count) == pytest.approx((low, high), abs=2e-5)


def test_wilson_ends_solve_the_score_equation() -> None:
    for successes, count in ((1, 7), (30, 200), (199, 200)):
        for end in wilson(successes, count):
            assert abs(end - successes / count) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / count), rel=1e-9)
    assert wilson(0, 0) == (0.0, 1.0)


def test_percent_shows_rate_interval_and_count() -> None:
    assert percent(190, 200) == "95.0 % (91-97, n=200)"
    assert percent(0, 0) == "nan % (0-100, n=0)"


# Modules and arguments ------------------------------------------------------------------------


@pytest.mark.parametrize("name", bench.BENCHES)
def test_every_listed_benchmark_has_a_main_that_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"wm_bridge.bench.{name}")
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_reach_ros_has_its_own_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["reach", "--ros", "--help"])
    out = capsys.readouterr().out
    assert "--realtime-factor" in out and "--oracle-episodes" not in out


def test_an_unknown_benchmark_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="one of: .*pipeline"):
        bench.main(["swim"])


@pytest.mark.parametrize(
    "words",
    [
        ["reach", "--ros", "--episodes", "0"],
        ["reach", "--ros", "--checkpoint", "missing.safetensors"],
        ["pipeline", "--seconds", "0"],
        ["pipeline", "--seconds", "nan"],
        ["startup", "--repeats", "0"],
        ["startup", "--fresh", "--checkpoint", "some.safetensors"],
    ],
)
def test_wrong_arguments_end_with_code_2_and_a_remedy(words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        bench.main(words)
    assert caught.value.exit_code == 2 and caught.value.remedy


def test_a_speed_the_simulation_cannot_have_is_refused(tmp_path: Path) -> None:
    assert settings(tmp_path, 0.5)["planner"] == {"realtime_factor": 0.5, "checkpoint": str(tmp_path)}
    for speed in (0.0, -1.0, math.nan):
        with pytest.raises(UserError, match="realtime-factor"):
            settings(tmp_path, speed)


def test_a_named_checkpoint_becomes_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_checkpoint(tmp_path / "random.safetensors")
    monkeypatch.chdir(tmp_path)
    assert checkpoint_file(Path("random.safetensors")) == tmp_path / "random.safetensors"


# Pipeline ---------------------------------------------------------------------------------------


def timeline(stamp: int, begin: int) -> Marks:
    """One passage whose stages last 1, 2, 3 ... ms."""
    ms = 1_000_000
    marks = Marks()
    marks.clock[stamp] = begin
    marks.image[stamp] = begin + 1 * ms
    inside = 3 + 4 + 5 + 6  # other, preprocess, encode, plan
    marks.action[stamp] = begin + (1 + 2 + inside) * ms
    marks.reports[stamp] = (4.0, 5.0, 6.0, float(inside))
    marks.action_received[stamp] = marks.action[stamp] + 7 * ms
    marks.command[stamp] = marks.action_received[stamp] + (8 + 9) * ms
    marks.filter_ms = [9.0]
    return marks


def test_stages_are_told_apart_and_add_up_to_the_total() -> None:
    (found,) = pipeline.passages(timeline(10**9, 1_700_000_000_000_000_000))
    assert found == Passage(*(pytest.approx(float(n)) for n in range(1, 10)))
    assert found.total == pytest.approx(45.0)
    assert found.overhead == pytest.approx(45.0 - 5.0 - 6.0)


def test_a_plan_that_was_not_seen_to_the_end_is_left_out() -> None:
    for part in ("clock", "image", "action", "command", "reports"):
        marks = timeline(10**9, 10**18)
        getattr(marks, part).clear()
        assert marks.complete() == [] and pipeline.passages(marks) == []


def test_pipeline_figures_have_the_documented_keys() -> None:
    figures, table = pipeline.figures_of([Passage(*map(float, range(1, 10)))] * 3, [0.1, 0.1])
    assert {"overhead_p50_ms", "total_p50_ms", "total_p99_ms"} <= set(figures)
    assert figures["overhead_p50_ms"] == 34.0 and figures["total_p99_ms"] == 45.0
    assert figures["overhead_after_picture_p50_ms"] == 33.0 and figures["plan_period_s"] == 0.1
    assert len(table) == 9 + 4


def test_messages_are_filed_under_the_stamp_of_their_picture() -> None:
    from wm_bridge.ros import convert, qos

    heard: dict = {}
    marks = Marks()
    marks.attach(lambda name, callback: heard.update({name: callback}))
    stamp = 5_020_000_000

    def message(name: str, **values: object) -> object:
        made = qos.message_type(name)(**values)
        if hasattr(made, "header"):
            made.header.stamp = convert.to_time(stamp)
        return made

    def info(at: int) -> dict[str, int]:
        return {"source_timestamp": at, "received_timestamp": at + 5}

    heard["/clock"](convert.to_clock(stamp), info(100))
    heard["camera/image_raw"](message("camera/image_raw"), info(200))
    heard["wm/action"](message("wm/action"), info(300))
    heard["wm/report"](message("wm/report", total_ms=2.0), info(301))
    command = message("hw/command")
    heard["hw/command"](command, info(350))  # no source: not from a plan
    command.header.frame_id = str(stamp)
    heard["hw/command"](command, info(400))
    heard["hw/command"](command, info(500))  # a later tick of the same plan
    assert marks.complete() == [stamp]
    assert marks.clock[stamp] == 100 and marks.image[stamp] == 200 and marks.command[stamp] == 400
    assert (marks.action[stamp], marks.action_received[stamp]) == (300, 305)


# Reach through the graph ------------------------------------------------------------------------


def test_tasks_are_repeatable_far_enough_and_leave_the_objects_alone(world: SimWorld) -> None:
    first, again, other = (reach_ros.draw(world, 3, number) for number in (0, 0, 1))
    assert np.array_equal(first.goal, again.goal) and not np.array_equal(first.goal, other.goal)
    assert reach_ros.untouched(world, first.start) and reach_ros.untouched(world, first.goal)
    world.reset(first.start, {})
    assert np.linalg.norm(world.hand_position(ARM) - first.goal_hand) >= 0.10


def test_an_arm_that_stands_in_the_block_touches_it(world: SimWorld) -> None:
    q = reach_ros.draw(world, 3, 0).goal
    world.reset(q)
    hand = world.hand_position(ARM)
    in_hand = {"block": (float(hand[0]), float(hand[1]), float(hand[2]), 0.0)}
    reset = world.reset
    world.reset = lambda q, objects=None: reset(q, in_hand)  # type: ignore[method-assign]
    try:
        assert not reach_ros.untouched(world, q)
    finally:
        world.reset = reset  # type: ignore[method-assign]


def test_hands_fill_lost_states_with_the_newest_before(world: SimWorld) -> None:
    world.reset(reach_ros.draw(world, 3, 0).start, {})
    states, truth = [], []
    for _ in range(10):
        states.append(world.state())
        truth.append(world.hand_position(ARM))
        world.step(0.01)
    kept = [states[i] for i in (0, 1, 2, 5, 6, 9)]
    path = reach_ros.hands(world, kept, states[0].time_ns, 9 * TICK_NS * 1e-9)
    assert np.allclose(path, [truth[i] for i in (1, 2, 2, 2, 5, 6, 6, 6, 9)], atol=1e-9)
    with pytest.raises(ValueError, match="begin after"):
        reach_ros.hands(world, kept[3:], states[0].time_ns, 0.05)


def test_reach_ros_figures_have_the_documented_keys() -> None:
    row = {"start_m": 0.2, "end_m": 0.02, "held_3cm": True, "held_5cm": True, "outcome": "TIMEOUT", "interventions": 4, "plan_ms": [40.0, 60.0], "speed": 1.0}
    figures, table = reach_ros.figures_of([row, {**row, "held_3cm": False, "plan_ms": []}])
    assert figures["success_3cm"] == 0.5 and figures["success_5cm"] == 1.0 and figures["episodes"] == 2
    assert figures["planner_p50_ms"] == 50.0 and figures["interventions_per_episode"] == 4.0
    assert any("TIMEOUT 2" in text for _, text in table)
    assert math.isnan(reach_ros.figures_of([{**row, "plan_ms": []}])[0]["planner_p50_ms"])


def test_parked_objects_do_not_come_back(world: SimWorld) -> None:
    world.reset(None, {})
    assert objects_of(world, world.state()) == {}
    world.reset()
    assert "block" in objects_of(world, world.state())


# Start-up -----------------------------------------------------------------------------------------


def test_disk_size_counts_a_file_with_two_names_once_and_links_not_at_all(tmp_path: Path) -> None:
    empty = startup.disk_mb(tmp_path)
    (tmp_path / "one").write_bytes(os.urandom(3_000_000))
    os.sync()
    os.link(tmp_path / "one", tmp_path / "two")
    os.symlink(tmp_path / "one", tmp_path / "three")
    assert startup.disk_mb(tmp_path) - empty == pytest.approx(3.0, abs=0.1)


def test_placing_the_arm_is_not_motion_but_following_a_command_is() -> None:
    watch = startup.MotionWatch()

    def joints(q: float) -> None:
        watch.on_joints(SimpleNamespace(position=[q, 0.0]))

    def command(speed: float) -> None:
        watch.on_command(SimpleNamespace(velocity=np.array([0.0, speed])))

    joints(0.0)
    command(0.0)
    joints(0.7)  # placed
    assert watch.at is None
    command(-0.5)
    joints(0.705)
    assert watch.at is None
    joints(0.72)
    first = watch.at
    assert first is not None
    joints(0.9)
    assert watch.at == first


def test_the_users_environment_has_no_trace_of_ours(tmp_path: Path) -> None:
    from wm_bridge import resources
    from wm_bridge.cli.environment import run_environment

    user = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "LD_LIBRARY_PATH": "/opt/lib"}
    venv = tmp_path / ".venv"
    ours = run_environment(resources.root(), venv, user)
    back = startup.user_environment(ours, venv)
    assert str(tmp_path) not in " ".join(back.values())
    assert {name: back[name] for name in user} == user
    assert not set(back) & {"VIRTUAL_ENV", "FASTRTPS_DEFAULT_PROFILES_FILE", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}


# A real run -----------------------------------------------------------------------------------------


def test_reach_runs_with_any_checkpoint_and_writes_its_figures(tmp_path: Path) -> None:
    from wm_planner.weights import weights_hash

    checkpoint, file = random_checkpoint(tmp_path / "random.safetensors"), tmp_path / "reach.json"
    words = ["--episodes", "1", "--only", "planner", "--workers", "1", "--checkpoint", str(checkpoint), "--json", str(file)]
    assert bench.main(["reach", *words, "--run", str(tmp_path / "run")]) == 0
    left = runs.read(tmp_path / "run")
    assert (left.kind, left.name) == ("bench", "reach") and left.page is not None and "--episodes 1" in left.configuration["arguments"]
    data = json.loads(file.read_text())
    assert set(data) == TOP_KEYS and data["weights"] == weights_hash(checkpoint)
    figures = data["figures"]
    assert {"success_3cm", "success_5cm", "end_cm_median", "plan_ms_median", "episodes"} <= set(figures)
    assert figures["success_3cm"] == 0.0 and figures["episodes"] == 1  # random weights find nothing


# Delay ---------------------------------------------------------------------------------------


def test_every_delay_is_run_with_and_without_compensation_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = []

    def results_of(jobs: list, workers: int):
        for job in jobs:
            played.append((job.settings.latency_ms, job.settings.compensate, job.number))
            yield {"held_3cm": job.settings.compensate, "held_5cm": True, "end_m": 0.02, "refused": 0}

    monkeypatch.setattr(delay, "results_of", results_of)
    words = ["--latencies-ms", "0", "200", "--state", str(tmp_path / "s.jsonl"), "--json", str(tmp_path / "f.json")]
    words += ["--checkpoint", str(random_checkpoint(tmp_path / "m.safetensors"))]
    delay.main([*words, "--episodes", "1"])
    assert played == [(0, False, 0), (0, True, 0), (200, False, 0), (200, True, 0)]
    delay.main([*words, "--episodes", "2"])
    assert played[4:] == [(0, False, 1), (0, True, 1), (200, False, 1), (200, True, 1)]
    figures = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert figures["with_200ms_3cm"] == 1.0 and figures["without_200ms_3cm"] == 0.0 and figures["with_0ms_end_cm_median"] == 2.0


def test_others_are_those_that_this_process_and_its_children_did_not_start() -> None:
    from wm_bridge.bench.live import OthersMeter, cpu_s

    cores = os.cpu_count() or 1
    burn = [sys.executable, "-c", "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'while True: pass']).pid, flush=True); input()"]
    parents = [subprocess.Popen(burn, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(cores)]
    children = [int(parent.stdout.readline()) for parent in parents if parent.stdout]
    try:
        meter, before, begin = OthersMeter(), sum(map(cpu_s, children)), time.monotonic()
        time.sleep(1.0)
        others, own = meter.percent(), 100.0 * (sum(map(cpu_s, children)) - before) / (time.monotonic() - begin)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for parent in parents:
            parent.communicate("\n")
    assert own > 5.0 and -5.0 < others < 100.0 * cores - own + 15.0


def test_camera_latency_runs_from_the_stamp_to_the_arrival() -> None:
    from wm_bridge.bench.camera import Times, figures_of

    stamps = [10**9 + k * 50_000_000 for k in range(101)]
    arrived = [4.0 + 0.01 * k for k in range(101)]
    figures, (name, text) = figures_of("sim", Times([2.0] * 101, arrived, stamps, 17.0))
    assert figures["sim_p50_ms"] == 4.5 and abs(figures["sim_p99_ms"] - 4.99) < 1e-9
    assert (figures["sim_hz"], figures["sim_written_p50_ms"], figures["sim_cpu_percent"], figures["sim_pictures"]) == (20.0, 2.0, 17.0, 101)
    assert name == "sim" and "20.0 Hz" in text
