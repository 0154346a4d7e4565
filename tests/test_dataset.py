"""Bags to training data: every sample's picture, joints and commands belong together; ugly bags; LeRobot in and out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT
from data_bag import BEGIN_S, JOINTS, Plan, number_of, painted, where, write
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from wm_bridge.bags.messages import joint_state_values
from wm_bridge.bench import data_convert, data_known
from wm_bridge.cli import dataset as command
from wm_bridge.dataset import sync
from wm_bridge.dataset.convert import read_bag, splits_of
from wm_bridge.dataset.lerobot import read_dataset
from wm_bridge.dataset.mapping import Policy, load_mapping
from wm_bridge.dataset.moments import Moments
from wm_bridge.dataset.streams import Part, read_streams
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_planner.data import Dataset

S = 1_000_000_000
STORE = get_typestore(Stores.ROS2_JAZZY)
MAPPING = load_mapping(ROOT / "config/datasets/wm.yaml")


def run(bags: list[Path], out: Path, *words: str) -> int:
    return command.main([*map(str, bags), "--out", str(out), "--length", "10", *words])


def told(out: Path) -> dict:
    return json.loads((out / "quality.json").read_text())


def windows(out: Path) -> dict[str, np.ndarray]:
    shards = Dataset([out / "windows"]).shards
    return {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}


# ---- one clock --------------------------------------------------------------------------


@given(
    st.integers(0, 2**32 - 1), st.floats(12.0, 60.0), st.floats(0.0, 0.3), st.sampled_from([5.0, 10.0, 12.5])
)
def test_a_sample_is_the_nearest_picture_and_the_joints_and_command_of_its_moment(seed, picture_hz, jitter, rate_hz):
    rng = np.random.default_rng(seed)

    def stamps(hz: float, wobble: float) -> np.ndarray:
        at = 5.0 + np.arange(int(4 * hz)) / hz + wobble / hz * rng.uniform(-1, 1, int(4 * hz))
        return np.round(np.sort(at) * S).astype(np.int64)

    camera, joints, commands = stamps(picture_hz, jitter), stamps(100.0, 0.3), stamps(40.0, 0.3)
    slope, level = rng.normal(size=3), rng.normal(size=3)
    line = level + joints[:, None] / S * slope
    steps = rng.normal(size=(len(commands), 3))
    part = Part({"front": (camera, np.arange(len(camera)))}, (joints, line), (commands, steps), np.zeros(0, np.int64))
    holes = sync.Counter()
    found = sync.episodes_of(part, rate_hz, Policy(500.0 / rate_hz, 60.0, 1000.0, 1.0), holes)
    assert found
    for episode in found:
        np.testing.assert_array_equal(camera[episode.pictures["front"]], episode.stamps)
        np.testing.assert_allclose(episode.position, level + episode.stamps[:, None] / S * slope, atol=1e-9)
        newest = [np.flatnonzero(commands <= stamp)[-1] for stamp in episode.stamps]
        np.testing.assert_array_equal(episode.reference, steps[newest])
        assert len(set(episode.stamps)) == len(episode)
        grid = episode.stamps - episode.offset_ns[0]
        np.testing.assert_allclose(np.diff(grid), S / rate_hz, atol=1)
        for at, offset in zip(grid, episode.offset_ns[0], strict=True):
            assert abs(offset) == np.abs(camera - at).min()


def test_half_a_picture_period_is_the_largest_offset(tmp_path):
    for hz in (30.0, 23.0):
        bag = write(tmp_path / f"bag{hz}", Plan(picture_hz=hz))
        (episode,) = read_bag(bag, MAPPING, JOINTS).episodes
        assert np.abs(episode.offset_ns).max() <= 0.5 * S / hz + 1


# ---- the whole way ----------------------------------------------------------------------


@pytest.mark.parametrize("encoding, storage", [("png", StoragePlugin.MCAP), ("raw", StoragePlugin.SQLITE3), ("jpg", StoragePlugin.MCAP)])
def test_from_a_bag_to_lerobot_and_back_to_the_same_windows(tmp_path, encoding, storage):
    bag = write(tmp_path / "bag", Plan(encoding=encoding, storage=storage, marks_s=(BEGIN_S + 3.02, BEGIN_S + 5.51)))
    assert run([bag], tmp_path / "a", "--image-size", "48", "--held-out", "0.3") == 0
    info, episodes = read_dataset(tmp_path / "a/lerobot")
    assert info.joints == JOINTS and info.rate_hz == 10.0 and info.cameras == {"front": (64, 48)}
    assert [episode.split for episode in episodes] == ["train", "train", "val"]
    assert [len(episode.state) for episode in episodes] == [31, 25, 24]
    begin = 0
    for episode in episodes:
        numbers = [number_of(picture) for picture in episode.pictures("front")]
        stamps = BEGIN_S + np.array(numbers) / 30.0
        assert numbers == [3 * (begin + k) for k in range(len(numbers))]
        np.testing.assert_allclose(episode.state, where(stamps), atol=1e-6)
        sent = where(np.floor((stamps + 1e-6) * 100) / 100 + 0.05)  # the newest of a hundred a second
        np.testing.assert_allclose(episode.reference, sent, atol=1e-6)
        np.testing.assert_allclose(episode.action[:-1], sent[1:], atol=1e-6)
        begin += len(numbers)
    assert run([tmp_path / "a/lerobot"], tmp_path / "b", "--image-size", "48") == 0
    first, second = windows(tmp_path / "a"), windows(tmp_path / "b")
    for name in ("position", "reference", "hand"):
        np.testing.assert_allclose(first[name], second[name], atol=1e-6)
    assert np.abs(first["images"].astype(int) - second["images"]).mean() < 12
    data = Dataset([tmp_path / "a/windows"])
    assert len(data.training) == 3 + 3 and len(data.held_out) == 3
    assert data.meta["joint_names"] == list(JOINTS) and np.isnan(first["objects"]).all()
    assert (tmp_path / "a/quality.html").read_text().count("data:image") >= 2
    assert (tmp_path / "b/quality.html").read_text().count("data:image") == 1


def test_statistics_of_a_dataset_are_those_of_its_rows(tmp_path):
    bag = write(tmp_path / "bag", Plan(marks_s=(BEGIN_S + 4.0,)))
    assert run([bag], tmp_path / "out") == 0
    _, episodes = read_dataset(tmp_path / "out/lerobot")
    rows = np.concatenate([episode.state for episode in episodes])
    stats = json.loads((tmp_path / "out/lerobot/meta/stats.json").read_text())["observation.state"]
    for name, value in (("min", rows.min(0)), ("max", rows.max(0)), ("mean", rows.mean(0)), ("std", rows.std(0))):
        np.testing.assert_allclose(stats[name], value, atol=1e-5)
    assert stats["count"] == [len(rows)]
    parts = Moments()
    for some in np.array_split(rows, 5):
        parts.add(some)
    np.testing.assert_allclose(parts.told()["std"], rows.std(0), atol=1e-9)


def test_a_foreign_bag_by_a_mapping(tmp_path):
    """Values without names in degrees, other topics and names, no commands, two cameras."""
    plan = Plan(encoding="jpg", camera="cam/wrist", joints="arm/q", commands="", array=True, scale=180 / np.pi)
    bag = write(tmp_path / "bag", plan)
    foreign = tmp_path / "foreign.yaml"
    order = [f"j{k}" for k in range(6)]
    foreign.write_text(
        f"robot: nico\ngroup: right_arm\nrate_hz: 10\ncameras: {{wrist: /cam/wrist}}\njoints: {{topic: /arm/q, unit: deg, order: {order},"
        f" rename: {{{', '.join(f'{name}: j{k}' for k, name in enumerate(JOINTS))}}}}}\n"
        "policy: {offset_ms: 50, joint_gap_ms: 60, command_age_ms: 500, shortest_s: 1}\n"
    )
    assert run([bag], tmp_path / "out", "--mapping", str(foreign)) == 0
    info, (episode,) = read_dataset(tmp_path / "out/lerobot")
    assert set(info.cameras) == {"wrist"}
    stamps = BEGIN_S + np.array([number_of(picture) for picture in episode.pictures("wrist")]) / 30.0
    np.testing.assert_allclose(episode.state, where(stamps), atol=1e-6)
    np.testing.assert_allclose(episode.action[:-1], episode.state[1:], atol=1e-6)


def test_a_dataset_of_another_tool_has_the_action_before_as_reference(tmp_path):
    bag = write(tmp_path / "bag", Plan())
    assert run([bag], tmp_path / "a", "--held-out", "0") == 0
    import pyarrow.parquet as pq

    table = tmp_path / "a/lerobot/data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(table).drop_columns(["observation.reference"]), table)
    assert run([tmp_path / "a/lerobot"], tmp_path / "b") == 0
    first, second = windows(tmp_path / "a"), windows(tmp_path / "b")
    np.testing.assert_allclose(second["reference"][0, 1:], first["reference"][0, 1:], atol=1e-6)
    np.testing.assert_allclose(second["reference"][0, 0], first["position"][0, 0], atol=1e-6)


# ---- ugly bags --------------------------------------------------------------------------


def at(*spans: tuple[float, float], hz: float = 30.0) -> list[tuple[float, int]]:
    """Pictures in spans of time, numbered by their time."""
    return [(BEGIN_S + k / hz, k) for begin, end in spans for k in range(round(begin * hz), round(end * hz))]


def test_a_camera_that_was_away_for_a_second_leaves_a_hole(tmp_path):
    bag = write(tmp_path / "bag", Plan(pictures=at((0.0, 3.0), (4.0, 8.0))))
    assert run([bag], tmp_path / "out") == 0
    data = read_bag(bag, MAPPING, JOINTS)
    assert [len(episode) for episode in data.episodes] == [31, 40]
    assert data.episodes[0].stamps[-1] < (BEGIN_S + 3.0) * S and data.episodes[1].stamps[0] >= (BEGIN_S + 4) * S - 1
    words = " ".join(told(out := tmp_path / "out")["bags"][str(bag)]["warnings"])
    assert "nothing for up to 1.03 s" in words and "no picture within offset_ms" in words, out


def test_a_camera_slower_than_the_control_rate_is_told_of_with_the_remedy(tmp_path, capsys):
    bag = write(tmp_path / "bag", Plan(pictures=at((0.0, 8.0), hz=7.0)))
    assert run([bag], tmp_path / "out") == 3
    assert "--rate 7" in capsys.readouterr().out
    assert run([bag], tmp_path / "again", "--rate", "7") == 0


def test_repeated_and_zero_stamps_are_left_out_and_counted(tmp_path):
    pictures = [entry for pair in at((0.0, 6.0)) for entry in (pair, (pair[0], 999), (pair[0] + 1e-3, 998))]
    bag = write(tmp_path / "bag", Plan(pictures=pictures, clock=lambda at_s: 0.0 if round(at_s * 3000) % 100 == 3 else at_s))
    data = read_bag(bag, MAPPING, JOINTS)
    assert sum(map(len, data.episodes)) == 60
    assert data.streams.left_out["front: stamp zero, old or used before"] >= 180


def test_a_clock_that_is_set_back_makes_two_parts_and_loses_nothing(tmp_path):
    bag = write(tmp_path / "bag", Plan(clock=lambda at_s: at_s if at_s < BEGIN_S + 4.0 else at_s - 3.0))
    data = read_bag(bag, MAPPING, JOINTS)
    assert len(data.streams.parts) == 2 and [len(episode) for episode in data.episodes] == [40, 40]
    assert run([bag], tmp_path / "out") == 0
    _, episodes = read_dataset(tmp_path / "out/lerobot")
    numbers = [number_of(picture) for episode in episodes for picture in episode.pictures("front")]
    assert numbers == [3 * k for k in range(80)]


@pytest.mark.parametrize("share", [0.35, 0.6, 0.97])
def test_what_had_reached_the_disk_of_a_bag_that_was_cut_off_is_data(tmp_path, share):
    bag = write(tmp_path / "bag", Plan(duration_s=12.0, size=(256, 192), paint=lambda n, w, h: np.random.default_rng(n).integers(0, 255, (h, w, 3), np.uint8)))
    file = next(bag.glob("*.mcap"))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    (bag / "metadata.yaml").unlink()
    data = read_bag(bag, MAPPING, JOINTS)
    assert "cut off" in data.streams.note
    assert sum(map(len, data.episodes)) > 0.6 * share * 120 - 20


def test_types_that_do_not_fit_missing_topics_and_foreign_joints_say_what_there_is(tmp_path, capsys):
    good = write(tmp_path / "good", Plan())
    bad = {
        "types": (Plan(camera="joint_states_", joints="camera/image_raw", commands="hw/command", pictures=()), "are sensor_msgs/msg/JointState"),
        "topic": (Plan(camera="other/image"), "topics of a fitting type: /other/image/compressed"),
        "joints": (Plan(names=("a", "b", "c", "d", "e", "f")), "other joints than"),
    }
    for name, (plan, text) in bad.items():
        bag = write(tmp_path / name, plan)
        code = run([good, bag], tmp_path / f"out_{name}")
        assert code == 0 and text in capsys.readouterr().out, name
        shutil.rmtree(tmp_path / f"out_{name}")
    with pytest.raises(UserError, match="none of the bags"):
        run([tmp_path / "nothing"], tmp_path / "out")
    (tmp_path / "text.mcap").write_text("no bag")
    with pytest.raises(UserError, match="none of the bags"):
        run([tmp_path / "text.mcap"], tmp_path / "out")


def test_pictures_that_change_their_size_or_are_none_end_in_one_sentence(tmp_path):
    bag = write(tmp_path / "bag", Plan(paint=lambda n, w, h: painted(n, *((w, h) if n < 100 else (w * 2, h)))))
    with pytest.raises(UserError, match=r"128x48 in a video of 64x48"):
        run([bag], tmp_path / "out")
    assert not (tmp_path / "out/lerobot").exists()


# ---- what people type -------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, text",
    [
        ("robto: nico", "unknown key 'robto'; did you mean 'robot'"),
        ("policy: {offset_ms: .nan, joint_gap_ms: 1, command_age_ms: 1, shortest_s: 1}", "policy.offset_ms must be a number > 0"),
        ("joints: {topic: q, unit: grad}", "unit must be one of"),
        ("cameras: {}", "cameras must name at least one topic"),
        ("rate_hz: fast", "rate_hz must be a number"),
        ("joints: 3", "joints must be a group of keys"),
    ],
)
def test_a_wrong_mapping_says_which_key(tmp_path, change, text):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((ROOT / "config/datasets/wm.yaml").read_text()) | yaml.safe_load(change)))
    with pytest.raises(ValueError, match=text):
        load_mapping(path)


def test_a_folder_in_use_and_numbers_that_make_no_sense_are_refused(tmp_path):
    bag = write(tmp_path / "bag", Plan(duration_s=2.0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/something").touch()
    with pytest.raises(UserError, match="holds something already"):
        run([bag], tmp_path / "out")
    with pytest.raises(UserError, match="at least 1"):
        run([bag], tmp_path / "new", "--length", "0")
    with pytest.raises(UserError, match="exactly|whole samples"):
        run([bag], tmp_path / "new2", "--rate", "7.5")


def test_the_last_episodes_are_held_out():
    assert splits_of(10, 0.2) == ["training"] * 8 + ["held_out"] * 2
    assert splits_of(1, 0.5) == ["training"] and splits_of(2, 0.01) == ["training", "held_out"] and splits_of(3, 0.0) == ["training"] * 3


# ---- messages and bags of the benchmark ------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet="abcdefgh/", max_size=9), st.lists(st.text(alphabet="xyz_", max_size=7), max_size=5), st.integers(0, 6))
def test_the_values_of_a_joint_state_are_found_in_its_bytes(frame: str, names: list[str], count: int) -> None:
    kinds, values = STORE.types, np.arange(count) + 0.5
    header = kinds["std_msgs/msg/Header"](stamp=kinds["builtin_interfaces/msg/Time"](sec=3, nanosec=4), frame_id=frame)
    data = bytes(STORE.serialize_cdr(kinds["sensor_msgs/msg/JointState"](header, names, values, np.zeros(2), np.zeros(0)), "sensor_msgs/msg/JointState"))
    begin, found = joint_state_values(data)
    assert found == count and (not count or list(np.frombuffer(data, "<f8", found, begin)) == list(values))


def test_joints_that_change_their_order_in_the_middle_are_read_by_name(tmp_path: Path) -> None:
    """Names in another order, other joints, names again: the shortcut for equal messages must not be taken."""
    kinds, wanted = STORE.types, list(JOINTS)
    orders = [wanted, wanted, wanted[::-1], wanted[::-1], [*wanted[:5], "other"], wanted]
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kind = "sensor_msgs/msg/JointState"
        joints, camera = writer.add_connection("/joint_states", kind, typestore=STORE), writer.add_connection("/camera/image_raw", "sensor_msgs/msg/Image", typestore=STORE)
        for k, names in enumerate(orders):
            header = kinds["std_msgs/msg/Header"](stamp=kinds["builtin_interfaces/msg/Time"](sec=k + 1, nanosec=0), frame_id="")
            values = np.array([10.0 * k + (wanted.index(name) if name in wanted else 99) for name in names])
            writer.write(joints, k, STORE.serialize_cdr(kinds[kind](header, names, values, np.zeros(0), np.zeros(0)), kind))
            picture = kinds["sensor_msgs/msg/Image"](header, 2, 2, "rgb8", 0, 6, np.zeros(12, np.uint8))
            writer.write(camera, k, STORE.serialize_cdr(picture, "sensor_msgs/msg/Image"))
    mapping = dataclasses.replace(MAPPING, commands=None)
    streams = read_streams(tmp_path / "bag", mapping, wanted)
    stamps, rows = streams.parts[0].joints
    assert list(stamps // 10**9) == [1, 2, 3, 4, 6] and sum(streams.left_out.values()) == 1
    np.testing.assert_array_equal(rows, [10.0 * k + np.arange(6) for k in (0, 1, 2, 3, 5)])


def test_the_benchmark_knows_when_its_pictures_were_taken_and_notices_joints_that_are_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_known, "_DRAWN", 4)
    found = data_convert.convert(tmp_path, "jpeg", 5.0, seed=1)
    assert found["samples"] >= 41 and found["sync_ms_p99"] < 1.0
    plain = data_known.Known.joints
    monkeypatch.setattr(data_known.Known, "joints", lambda known, at_s: plain(known, at_s - 0.02))
    known = data_known.write_bag(tmp_path / "late", robots.load("nico"), "right_arm", 5.0, "jpeg", 1)
    monkeypatch.undo()
    assert command.main([str(tmp_path / "late"), "--out", str(tmp_path / "out"), "--no-lerobot"]) == 0
    shard = Dataset([tmp_path / "out/windows"]).shards[0]
    late = known.late_s(np.array(shard["position"][0], float), known.taken_s[data_known.numbers_of(np.array(shard["images"][0]))])
    np.testing.assert_allclose(late, -0.02, atol=2e-3)
