"""`./wm replay` on bags written by hand: what came once, twice, or twice with another content."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from test_safety_replay import Session

from wm_bridge.cli import replay as command
from wm_bridge.replay.recorded import read

NODE = 4711  # session of the safety node
COUNT = 20


@pytest.fixture(scope="module")
def session() -> Session:
    made = Session()
    made.start()
    made.move(ticks=COUNT)
    made.pages = made.filter.take_pages()
    return made


def write(folder: Path, session: Session, counters: list[int], changed: int = 0) -> Path:
    """A bag with the journal, and hw/command with these counters; the last ``changed`` of them with another position."""
    store = get_typestore(Stores.ROS2_JAZZY)
    definition = (ROOT / "ros2_ws/src/wm_interfaces/msg/SafetyJournal.msg").read_text()
    store.register(get_types_from_msg(definition, "wm_interfaces/msg/SafetyJournal"))
    kinds = store.types
    time, head = kinds["builtin_interfaces/msg/Time"], kinds["std_msgs/msg/Header"]
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        at = 0

        def write_one(topic: str, kind: str, message: object) -> None:
            nonlocal at
            at += 1
            writer.write(channels[topic], at, store.serialize_cdr(message, kind))

        names = {"safety/journal": "wm_interfaces/msg/SafetyJournal", "hw/command": "sensor_msgs/msg/JointState"}
        channels = {topic: writer.add_connection(f"/{topic}", kind, typestore=store) for topic, kind in names.items()}
        pages = session.pages
        journal = kinds[names["safety/journal"]](head(time(0, 0), ""), NODE, pages.first, pages.count, np.frombuffer(pages.data, np.uint8))
        write_one("safety/journal", names["safety/journal"], journal)
        for place, counter in enumerate(counters):
            sent = session.commands[counter - 1]
            position = sent.position + 1e-3 * (place >= len(counters) - changed)
            header = head(time(*divmod(sent.stamp_ns, 10**9)), f"{sent.source_stamp_ns}:{NODE}:1:{counter}:1")
            message = kinds[names["hw/command"]](header, list(sent.names), position, sent.velocity, np.zeros(0))
            write_one("hw/command", names["hw/command"], message)
    return folder


@pytest.mark.parametrize(
    ("more", "changed", "code", "text"),
    [
        ([], 0, 0, ""),
        ([7, 9], 0, 0, "2 further hw/command with a number that had been used (7, 9): the same content"),
        ([8], 1, 1, "1 further hw/command with a number that had been used (8): another content"),
    ],
)
def test_a_second_command_of_one_number_is_told_of_and_another_content_is_a_failure(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[int], changed: int, code: int, text: str
) -> None:
    bag = write(tmp_path / "bag", session, [*range(1, COUNT + 1), *more], changed)
    assert command.main([str(bag), "--no-run", "--json", str(tmp_path / "figures.json")]) == code
    out = capsys.readouterr().out
    assert "the same, bit for bit" in out and text in out and ("further" in out) is bool(more)
    figures = json.loads((tmp_path / "figures.json").read_text())
    (found,) = figures["sessions"]
    assert figures["replay_identical"] == 1 - code and found["compared"] == COUNT
    assert (found["repeated"], found["contradicted"]) == (len(more) - changed, changed)


def test_a_command_that_is_not_what_the_filter_gave_is_a_difference(session: Session, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", session, [*range(1, COUNT + 1)], changed=1)
    recorded = read(bag)
    (report,) = command.replay_safety(bag, recorded).reports
    assert recorded.notes == [] and report.wrong and report.different == 1 and not report.contradicted
