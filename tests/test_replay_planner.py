"""A recorded run of the real graph through planner and safety filter again: as recorded, the same every time, and what is told of ugly bags."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from bag_editor import STRING, Change, Message, edited, stamp_of, stamped

from wm_bridge.bench.data_defects import DEFECTS, defect
from wm_bridge.bench.paired import replays
from wm_bridge.cli import replay as command
from wm_bridge.errors import UserError
from wm_bridge.nodes.planner import PlannerNode
from wm_bridge.planner_setup import EquippedPlanner, PlannerSetup
from wm_bridge.replay import golden
from wm_bridge.replay.recorded import read
from wm_bridge.replay.run import Replay, ReplaySettings, replay_planner
from wm_bridge.replay.summary import summarise
from wm_bridge.report import runs
from wm_bridge.robots import spec as robots
from wm_bridge.testing import assert_replay
from wm_planner.testing import random_checkpoint
from wm_planner.weights import weights_hash

pytestmark = pytest.mark.slow
S = 10**9
JOURNAL = "/safety/journal"
PICTURES, STAMPED = "/camera/image_raw/compressed", ("/camera/image_raw/compressed", "/joint_states", "/hw/command", "/wm/report", "/wm/action")


@pytest.fixture(scope="module")
def settings(recorded_run: Path) -> ReplaySettings:
    """With the world model of the run."""
    return ReplaySettings(PlannerSetup(str(recorded_run.parents[1] / "random.safetensors")))


@pytest.fixture(scope="module")
def replayed(recorded_run: Path, settings: ReplaySettings) -> Replay:
    return replay_planner(recorded_run, settings)


@pytest.fixture(scope="module")
def golden_file(replayed: Replay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("golden") / "run.golden"
    golden.write(file, replayed)
    return file


def test_every_picture_is_judged_as_it_was_recorded(replayed: Replay) -> None:
    summary = summarise(replayed)
    rows = summary.rows
    assert len(rows) >= 0.8 * len(replayed.recorded.plans) >= 16
    assert {row.goal for row in rows} == {1, 2}
    # On a busy machine the recorder loses joint states: from the pictures of those moments nothing can be planned.
    assert set(summary.refused) <= {"no joint_states of the picture's time", "no hw/command of the picture's time"}
    planned = [row for row in rows if not row.refused]
    assert len(planned) >= 0.6 * len(rows)
    # The same picture, joints and goal give the same energy; a reference may have been on its way then.
    assert sum(row.energy == row.recorded_energy for row in planned) >= 0.8 * len(planned)
    # No random number was drawn before the first plan of a goal; on a busy machine its joints may be those of another moment.
    assert {row.goal for row in rows if row.difference_rad == 0.0} & {1, 2}
    assert summary.figures["cosine_p50"] > 0.5, "what is planned is what was done then"


def test_the_node_begins_a_goal_with_the_random_numbers_of_a_replay(settings: ReplaySettings) -> None:
    """And not with those that the goals before it left."""
    equipped = EquippedPlanner(settings.planner, robots.load("nico"))
    parameters = SimpleNamespace(points=8, max_frame_age_ms=250, deadline_ms=0.0, delay_ms=0.0)
    node = SimpleNamespace(_judge_by_calibration=lambda: None, _equipped=equipped, params=parameters, planner=equipped.planner, spec=robots.load("nico"), _speed=1.0)
    begun = []
    for number in (1, 2):
        equipped.planner.search.generator.seed()
        PlannerNode._make_loop(node, "hand", number)
        begun.append(equipped.planner.search.generator.get_state().tolist())
        equipped.begin_goal(number)
        assert equipped.planner.search.generator.get_state().tolist() == begun[-1]
    assert begun[0] != begun[1]


def test_the_recorded_filter_does_the_same_and_nothing_new_is_stopped(replayed: Replay) -> None:
    (report,) = replayed.guarded.reports
    assert not report.wrong and report.ticks > 200
    assert set(replayed.guarded.judged) == {d.stamp_ns for d in replayed.decisions if d.trajectory is not None}
    assert all(len(judged.modes) > 3 for judged in list(replayed.guarded.judged.values())[:-1]), "followed for a period"


def test_the_same_bag_gives_the_same_decisions(recorded_run: Path, replayed: Replay, settings: ReplaySettings) -> None:
    assert json.dumps(golden.rows(replay_planner(recorded_run, settings))) == json.dumps(golden.rows(replayed))


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_however_many_processes_plan_the_decisions_are_the_same(recorded_run: Path, replayed: Replay, settings: ReplaySettings, jobs: int) -> None:
    found = replay_planner(recorded_run, dataclasses.replace(settings, jobs=jobs))
    assert json.dumps(golden.rows(found)) == json.dumps(golden.rows(replayed)) and found.notes == replayed.notes


def _old(messages: Iterable[Message]) -> Iterable[Message]:
    """Goals as an older planner told of them."""
    for topic, log_ns, data in messages:
        if topic == "/wm/request":
            told = json.loads(data[8:].rstrip(b"\0"))
            del told["planner"]["seed_per_goal"]
            text = json.dumps(told).encode() + b"\0"
            data = data[:4] + len(text).to_bytes(4, "little") + text
        yield topic, log_ns, data


def test_a_goal_is_planned_the_same_without_the_goals_before_it(recorded_run: Path, replayed: Replay, settings: ReplaySettings, tmp_path: Path) -> None:
    """In old recordings it is not: there its random numbers are those that the goals before it left."""

    def second(change: Change) -> list[dict[str, object]]:
        found = replay_planner(edited(recorded_run, tmp_path / f"bag_{len(list(tmp_path.iterdir()))}", change), settings)
        return [row | {"goal": 2} for row in golden.rows(found)[1:] if row.get("goal") == len(found.recorded.goals)]

    def skipped(messages: Iterator[Message]) -> Iterable[Message]:
        asked = 0
        for message in messages:
            asked += message[0] == "/wm/request"
            if message[0] not in ("/wm/request", "/wm/report") or asked == 2:
                yield message

    whole = [row for row in golden.rows(replayed)[1:] if row.get("goal") == 2]
    assert len(whole) >= 8 and second(skipped) == whole
    old = second(_old)
    assert old != whole and second(lambda messages: _old(skipped(messages))) not in (old, whole)


def test_a_laboratory_tests_a_bag_in_three_lines(recorded_run: Path, golden_file: Path, settings: ReplaySettings) -> None:
    replay = assert_replay(recorded_run, golden=golden_file, checkpoint=settings.planner.checkpoint, may_stop=len(read(recorded_run).plans))
    assert replay.decisions
    with defect("planner: two joints exchanged"), pytest.raises(AssertionError, match="decisions differ from the golden file"):
        assert_replay(recorded_run, golden=golden_file, checkpoint=settings.planner.checkpoint)


def test_a_defect_of_the_filter_is_noticed_without_a_golden_file(recorded_run: Path, settings: ReplaySettings) -> None:
    with defect("filter: plan followed a tick late"), pytest.raises(AssertionError, match="safety filter answers otherwise than recorded"):
        assert_replay(recorded_run, checkpoint=settings.planner.checkpoint)


def test_there_are_ten_defects_and_each_is_undone() -> None:
    assert len(DEFECTS) == 10
    for name, (owner, attribute, _) in DEFECTS.items():
        before = vars(owner)[attribute]
        with defect(name):
            assert vars(owner)[attribute] is not before
        assert vars(owner)[attribute] is before


def test_the_command_compares_with_an_exit_code(
    recorded_run: Path, golden_file: Path, settings: ReplaySettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(recorded_run), "--checkpoint", settings.planner.checkpoint, "--golden", str(golden_file)]
    assert command.main([*arguments, "--json", str(tmp_path / "figures.json"), "--run", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    left = runs.read(tmp_path / "run")
    assert (left.kind, left.outcome) == ("replay", "golden file the same, safety filter the same") and left.page is not None
    assert left.figures["golden_different"] == 0 and left.configuration["planner.weights"]
    assert "all as in the golden file" in out and "would have stopped the arm  " in out
    assert json.loads((tmp_path / "figures.json").read_text())["golden_different"] == 0
    assert command.main([*arguments, "--no-run", "--set", "weight_smoothness=0.5"]) == 1
    out = capsys.readouterr().out
    assert "first: plan of goal 1" in out and "planner search.weight_smoothness: golden 0.02, now 0.5" in out


def test_the_bag_says_what_was_run_and_how_it_went(recorded_run: Path) -> None:
    information = yaml.safe_load((recorded_run / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    custom = information["custom_data"]
    assert (custom["operator"], custom["note"], custom["label"], custom["take_overs"]) == ("a test", "3 goals", "success", "1")
    assert [mark["mark"] for mark in json.loads(custom["marks"])] == ["success", "take_over: the operator held the arm"]
    counts = {row["topic_metadata"]["name"]: row["message_count"] for row in information["topics_with_message_count"]}
    assert (counts["/record/info"], counts["/record/mark"], counts["/wm/request"]) == (1, 2, 2)
    recorded = read(recorded_run)
    assert [type(goal.record.stages[0]).__name__ for goal in recorded.goals] == ["PictureGoal", "JointsGoal"]
    assert recorded.goals[0].record.planner["image_topic"] == "camera/image_raw"
    assert recorded.goals[0].record.robot == "nico" and recorded.goals[1].record.number == 2
    assert recorded.begin_ns > 0, "nothing is stamped before there is a clock"


def test_a_bag_is_played_to_the_real_nodes(recorded_run: Path, settings: ReplaySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    figures = tmp_path / "figures.json"
    assert command.main([str(recorded_run), "--ros", "--speed", "2", "--checkpoint", settings.planner.checkpoint, "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert found["plans"] >= 10 and sum(found["safety_ticks_by_mode"].values()) > 200


# Ugly bags ------------------------------------------------------------------------------------


def middle(bag: Path) -> int:
    """Recording time of the middle of the first goal."""
    goal = read(bag).goals[0]
    return goal.frames[len(goal.frames) // 2]


def _no_camera(messages: Iterator[Message], at_ns: int) -> Iterable[Message]:
    return (m for m in messages if not (m[0] == PICTURES and at_ns <= stamp_of(m[2]) < at_ns + S))


def _clock_jumps(messages: Iterator[Message], at_ns: int) -> Iterable[Message]:
    for topic, log_ns, data in messages:
        back = topic in STAMPED and stamp_of(data) >= at_ns
        yield topic, log_ns, stamped(data, stamp_of(data) - 5 * S) if back else data


def _slower(messages: Iterator[Message], at_ns: int) -> Iterable[Message]:
    kept = 0
    for message in messages:
        if message[0] == PICTURES and stamp_of(message[2]) >= at_ns:
            kept += 1
            if kept % 4:
                continue
        yield message


def _doubled(messages: Iterator[Message], at_ns: int) -> Iterable[Message]:
    for message in messages:
        yield message
        if message[0] == PICTURES and at_ns <= stamp_of(message[2]) < at_ns + S // 2:
            yield message


def _damaged(messages: Iterator[Message], at_ns: int) -> Iterable[Message]:
    for topic, log_ns, data in messages:
        yield topic, log_ns, data[: len(data) // 2] if topic == "/joint_states" and log_ns < at_ns else data


UGLY = {
    "no camera for a second": (_no_camera, "1 gap, the longest 1.05 s", 0.3),
    "the clock jumps": (_clock_jumps, "the clock jumps back by 4.95 s", 0.15),
    "a slower camera": (_slower, "the rate changes from 20.0 to 5.0 Hz", 0.15),
    "doubled stamps": (_doubled, "with the stamp of the one before", 1.0),
    "damaged joint states": (_damaged, "could not be understood and are left out", 0.3),
}


@pytest.mark.parametrize("name", UGLY)
def test_an_ugly_bag_is_told_of_and_planned_as_far_as_it_goes(recorded_run: Path, settings: ReplaySettings, tmp_path: Path, name: str) -> None:
    change, text, share = UGLY[name]
    at_ns = middle(recorded_run)
    bag = edited(recorded_run, tmp_path / "ugly", lambda messages: (m for m in change(messages, at_ns) if m[0] != JOURNAL))
    replay = replay_planner(bag, settings)
    assert text in "\n".join(replay.notes) and "the safety filter was not run" in replay.notes[-1]
    planned = [decision for decision in replay.decisions if decision.numbers]
    assert len(planned) >= share * len(replay.recorded.plans) * 0.9


@pytest.mark.parametrize(
    ("types", "text"),
    [
        ({"/joint_states": STRING}, "/joint_states holds std_msgs/msg/String, expected sensor_msgs/msg/JointState"),
        ({PICTURES: "sensor_msgs/msg/JointState"}, "expected sensor_msgs/msg/CompressedImage"),
        ({"/wm/request": "sensor_msgs/msg/JointState"}, "the bag lacks wm/request"),
    ],
)
def test_a_topic_of_another_type_is_named(recorded_run: Path, settings: ReplaySettings, tmp_path: Path, types: dict[str, str], text: str) -> None:
    bag = edited(recorded_run, tmp_path / "ugly", lambda messages: (m for m in messages if m[0] != JOURNAL), types)
    try:
        told = "\n".join(replay_planner(bag, settings).notes)
    except UserError as error:
        told = str(error)
    assert text in told


def test_other_qos_changes_nothing(recorded_run: Path, golden_file: Path, settings: ReplaySettings, tmp_path: Path) -> None:
    bag = edited(recorded_run, tmp_path / "other", best_effort=True)
    assert golden.compare(golden_file, replay_planner(bag, settings)).same


def test_a_bag_cut_off_is_planned_up_to_the_cut(recorded_run: Path, settings: ReplaySettings, tmp_path: Path) -> None:
    (file,) = recorded_run.glob("*.mcap")
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size * 9 // 10])
    replay = replay_planner(cut, settings)
    assert "cut off" in replay.notes[0] and 0 < len(replay.decisions) <= len(read(recorded_run).plans)


@pytest.mark.parametrize(
    ("content", "text"),
    [({}, "no mcap file"), ({"bag_0.mcap": b""}, "is not an mcap file"), ({"metadata.yaml": b"[1, 2"}, "no mcap file"), ({"bag_0.db3": b"SQLite format 3\0 and then noise"}, "no bag database")],
)
def test_what_is_no_bag_ends_in_one_sentence(tmp_path: Path, content: dict[str, bytes], text: str) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=text):
        command.main([str(folder)])


# ---- two checkpoints on one recording --------------------------------------------------------


def test_a_recording_is_planned_with_both_and_agreement_with_oneself_decides_nothing(recorded_run: Path, tmp_path: Path) -> None:
    own, other = recorded_run.parents[1] / "random.safetensors", random_checkpoint(tmp_path / "other.safetensors", seed=9)
    found = replays([own, other], [weights_hash(own), weights_hash(other)], [recorded_run, tmp_path / "none"])
    assert found.bags == [str(recorded_run)] and list(found.failed) == [str(tmp_path / "none")]
    assert found.own and found.recorded_with == {weights_hash(own)}
    assert [row.t_s for row in found.rows["A"][0]] == [row.t_s for row in found.rows["B"][0]]
    assert [row.energy for row in found.rows["A"][0]] != [row.energy for row in found.rows["B"][0]]
    assert found.off_by is None or not found.off_by.better
