"""Bags that are written in parts, cut off anywhere, killed, or on a full disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from wm_bridge.bags.mend import mend
from wm_bridge.bags.reader import opened
from wm_bridge.bags.salvage import MAGIC
from wm_bridge.bags.writer import BagWriter, Split
from wm_bridge.errors import UserError

KIND = "std_msgs/msg/String"
STORE = get_typestore(Stores.ROS2_JAZZY)
MS = 1_000_000


def begun(path: Path, storage: str = "mcap", **settings: Any) -> tuple[BagWriter, Any]:
    writer = BagWriter(path, storage, **settings)
    return writer, writer.add("/words", KIND, STORE.generate_msgdef(KIND, ros_version=2)[0], STORE.hash_rihs01(KIND))


def say(writer: BagWriter, connection: Any, k: int) -> None:
    writer.write(connection, k * 100 * MS, bytes(STORE.serialize_cdr(STORE.types[KIND](f"word {k} " + "x" * (37 * k % 200)), KIND)))


def words(bag: Path) -> tuple[list[int], str]:
    with opened(bag) as (reader, note):
        return [int(reader.deserialize(data, c.msgtype).data.split()[1]) for c, _, data in reader.messages()], note


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_in_parts_is_one_bag_for_rosbag2_readers(tmp_path: Path, storage: str) -> None:
    writer, words_ = begun(tmp_path / "bag", storage, split=Split(duration_s=1.0), custom={"operator": "me"})
    for k in range(25):
        say(writer, words_, k)
    writer.custom["label"] = "success"
    writer.close()
    assert len(list((tmp_path / "bag").glob("bag_*"))) == 3
    with Reader(tmp_path / "bag") as reader:
        assert reader.message_count == 25 and reader.duration == 2400 * MS + 1
        (connection,) = reader.connections
        assert connection.msgdef.data.startswith("string data") and connection.digest.startswith("RIHS01_")
    information = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["version"] == 9 and information["custom_data"] == {"operator": "me", "label": "success"}
    assert [file["message_count"] for file in information["files"]] == [10, 10, 5]
    assert words(tmp_path / "bag") == (list(range(25)), "")


def test_a_part_ends_at_its_size_too(tmp_path: Path) -> None:
    writer, words_ = begun(tmp_path / "bag", split=Split(size_bytes=1000))
    for k in range(40):
        say(writer, words_, k)
    writer.close()
    assert len(writer.parts) > 3 and all(part.size < 1300 for part in writer.parts)
    assert words(tmp_path / "bag")[0] == list(range(40))


def test_a_file_cut_off_at_any_byte_is_read_up_to_the_last_whole_message(tmp_path: Path) -> None:
    writer, words_ = begun(tmp_path / "bag")
    for k in range(20):
        say(writer, words_, k)
        if k % 4 == 3:
            writer.flush()
    ends = [0] * 20
    writer.close()
    data = (tmp_path / "bag" / "bag_0.mcap").read_bytes()
    for k in range(20):
        ends[k] = data.index(f"word {k} ".encode())
    lengths = [len(STORE.serialize_cdr(STORE.types[KIND](f"word {k} " + "x" * (37 * k % 200)), KIND)) - 8 for k in range(20)]
    cut = tmp_path / "cut.mcap"
    known = data.index(b"offered_qos_profiles")  # before it a reader knows no topic
    for length in range(known + 200, len(data), 83):
        cut.write_bytes(data[:length])
        expected = [k for k in range(20) if ends[k] + lengths[k] <= length]
        found, note = words(cut)
        assert found == expected and note, f"cut off after {length} of {len(data)} bytes"
    cut.write_bytes(data[: len(MAGIC)])
    assert words(cut)[0] == []
    cut.write_bytes(data[:5])
    with pytest.raises(ValueError, match="is not an mcap file"):
        words(cut)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_after_a_kill_everything_that_was_flushed_is_there(tmp_path: Path, storage: str) -> None:
    code = (
        "import sys, test_bag_writer as t; from pathlib import Path\n"
        f"writer, words = t.begun(Path({str(tmp_path / 'bag')!r}), {storage!r}, split=t.Split(duration_s=1.0))\n"
        "for k in range(15): t.say(writer, words, k)\n"
        "writer.flush(); print('flushed', flush=True); t.say(writer, words, 15); sys.stdin.read()\n"
    )
    here = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    )
    assert process.stdout is not None and process.stdout.readline() == b"flushed\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    found, note = words(tmp_path / "bag")
    assert found == list(range(15)) and "cut off" in note
    count, why = mend(tmp_path / "bag", tmp_path / "whole")
    assert count == 15 and why
    assert words(tmp_path / "whole") == (list(range(15)), "")


class FullDisk:
    """A file on a disk that has ``room`` bytes left, and more once the reserve is gone."""

    def __init__(self, file: Any, room: int, reserve: Path) -> None:
        self._file, self._room, self._reserve = file, room, reserve

    def write(self, data: bytes) -> int:
        if len(data) > self._room and self._reserve.exists():
            self._file.write(data[: self._room])
            raise OSError(errno.ENOSPC, "No space left on device")
        self._room -= len(data)
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_on_a_full_disk_nothing_that_was_written_is_lost(tmp_path: Path) -> None:
    writer, words_ = begun(tmp_path / "bag")
    storage = writer.parts[-1].storage
    storage.bio = FullDisk(storage.bio, 3000, tmp_path / "bag" / ".reserve")
    flushed = 0
    with pytest.raises(OSError, match="No space"):
        for k in range(100):
            say(writer, words_, k)
            writer.flush()
            flushed = k + 1
    try:
        writer.close()
    except OSError:
        pass  # a torn chunk lies in between: the file is read as one that was cut off
    assert flushed > 5 and words(tmp_path / "bag")[0][:flushed] == list(range(flushed))


def test_an_existing_folder_and_an_unwritable_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    with pytest.raises(UserError, match="exists already"):
        BagWriter(tmp_path / "bag")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot record"):
        BagWriter(tmp_path / "file" / "bag")
    with pytest.raises(UserError, match="unknown storage"):
        BagWriter(tmp_path / "other", "tape")
    with pytest.raises(UserError, match="cannot be read"):
        mend(tmp_path / "nothing", tmp_path / "whole")
