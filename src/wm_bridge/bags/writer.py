"""Writes bags as rosbag2 does (format version 9, mcap or sqlite3), in parts, and so that little is lost when it is killed.

What is flushed is in the file in whole records: an mcap file that ends anywhere is read up to its last whole message
(``salvage``), a sqlite3 file up to its last transaction. The index of a part and the folder's metadata.yaml are
written when the part is finished.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wm_bridge.errors import UserError

STORAGES = ("mcap", "sqlite3")
_ENDINGS = {"mcap": ".mcap", "sqlite3": ".db3"}
_RESERVE, _RESERVE_BYTES = ".reserve", 2_000_000  # given back to the disk when a full one has to be finished on


@dataclass(frozen=True)
class Split:
    """When a new part begins; 0 = never.

    Attributes:
        size_bytes: of a part. duration_s: of a part, by the times of its messages.
    """

    size_bytes: int = 0
    duration_s: float = 0.0


@dataclass
class Part:
    """One file of a bag, and what is in it."""

    path: Path
    storage: Any
    counts: dict[int, int] = field(default_factory=dict)
    begin_ns: int = 2**63 - 1
    end_ns: int = 0
    size: int = 0

    def info(self) -> dict[str, Any]:
        """Its entry in metadata.yaml."""
        count = sum(self.counts.values())
        begin = self.begin_ns if count else 0
        return {
            "path": self.path.name,
            "starting_time": {"nanoseconds_since_epoch": begin},
            "duration": {"nanoseconds": max(0, self.end_ns - begin)},
            "message_count": count,
        }


class BagWriter:
    """A bag that is being written; ``close`` finishes it.

    Attributes:
        path: folder. parts: its files so far. custom: texts that go into metadata.yaml; may change until the end.
    """

    def __init__(self, path: Path, storage: str = "mcap", split: Split = Split(), custom: Mapping[str, str] | None = None) -> None:
        """Make the folder and begin the first part.

        Raises:
            UserError: it exists, or cannot be made.
        """
        self.path, self._storage, self._split = path, storage, split
        self.custom = dict(custom or {})
        self._connections: list[Any] = []
        self.parts: list[Part] = []
        if storage not in STORAGES:
            raise UserError(f"unknown storage {storage!r}", f"choose one of {', '.join(STORAGES)}", 2)
        if path.exists():
            raise UserError(f"cannot record to {path}: it exists already", "choose a new folder; a bag is never written over", 2)
        try:
            path.mkdir(parents=True)
            (path / _RESERVE).write_bytes(bytes(_RESERVE_BYTES))
            self._begin()
        except OSError as error:
            raise UserError(f"cannot record to {path}: {error}", "choose a new folder on a writable disk with space", 2) from error

    def add(self, topic: str, kind: str, definition: str, digest: str, qos: Sequence[Any] = ()) -> Any:
        """A topic: returns what ``write`` takes.

        Args:
            topic: full name. kind: for example ``sensor_msgs/msg/Image``. definition: of the message, with those it holds.
            digest: its type hash (REP 2016). qos: offered, rosbags' ``Qos``.
        """
        from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat

        connection = Connection(
            len(self._connections) + 1, topic, kind, MessageDefinition(MessageDefinitionFormat.MSG, definition), digest, 0,
            ConnectionExtRosbag2("cdr", list(qos)), self,
        )  # fmt: skip
        self._connections.append(connection)
        self._tell(self.parts[-1], connection)
        return connection

    def write(self, connection: Any, log_ns: int, data: bytes) -> None:
        """One message.

        Raises:
            OSError: the disk.
        """
        part = self.parts[-1]
        split, count = self._split, sum(part.counts.values())
        over = (split.size_bytes and part.size >= split.size_bytes) or (split.duration_s and log_ns - part.begin_ns >= split.duration_s * 1e9)
        if count and over:
            self._finish()
            part = self._begin()
        try:
            part.storage.write(connection, log_ns, data)
        except OSError:
            raise
        except Exception as error:  # sqlite3's own errors: a full disk, a file that was taken away
            raise OSError(str(error)) from error
        part.counts[connection.id] = part.counts.get(connection.id, 0) + 1
        part.begin_ns, part.end_ns = min(part.begin_ns, log_ns), max(part.end_ns, log_ns)
        part.size += len(data)

    def flush(self, to_disk: bool = False) -> None:
        """Hand over what was written to the system, where it outlives this process, and to the disk when asked.

        Raises:
            OSError: the disk.
        """
        storage = self.parts[-1].storage
        if self._storage == "sqlite3":
            try:
                storage.conn.commit()
            except Exception as error:
                raise OSError(str(error)) from error
            return
        if storage.chunk.bio.tell():
            storage.close_chunk()
        storage.bio.flush()
        if to_disk:
            os.fdatasync(storage.bio.fileno())

    def close(self) -> None:
        """Finish the bag; also on a full disk, with what was kept in reserve for it.

        Raises:
            OSError: it could not be finished; what was flushed stays readable.
        """
        (self.path / _RESERVE).unlink(missing_ok=True)
        self._finish()

    # Parts --------------------------------------------------------------------------------

    def _begin(self) -> Part:
        from rosbags.rosbag2 import CompressionMode
        from rosbags.rosbag2.storage_mcap import McapWriter
        from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer

        stem = f"{self.path.name}_{len(self.parts)}"
        kind = McapWriter if self._storage == "mcap" else Sqlite3Writer
        storage = kind(_Place(self.path, stem), CompressionMode.NONE)  # type: ignore[arg-type]
        part = Part(self.path / f"{stem}{_ENDINGS[self._storage]}", storage)
        self.parts.append(part)
        for connection in self._connections:
            self._tell(part, connection)
        return part

    def _tell(self, part: Part, connection: Any) -> None:
        if not any(other.msgtype == connection.msgtype for other in self._connections if other.id < connection.id):
            part.storage.add_msgtype(connection)
        part.storage.add_connection(connection, _yaml(_qos(connection)))
        part.counts[connection.id] = 0

    def _finish(self) -> None:
        """End the present part and bring metadata.yaml up to date."""
        storage = self.parts[-1].storage
        try:
            self.flush()
            storage.close(9, _yaml(self._metadata()))
        except OSError:
            with suppress(Exception):
                storage.abort()
            raise
        except Exception as error:
            raise OSError(str(error)) from error
        finally:
            made = self.path / "metadata.yaml.new"
            with suppress(OSError):
                made.write_text(_yaml({"rosbag2_bagfile_information": self._metadata()}) + "\n", encoding="utf-8")
                made.replace(self.path / "metadata.yaml")

    def _metadata(self) -> dict[str, Any]:
        files = [part.info() for part in self.parts]
        counts = {connection.id: sum(part.counts.get(connection.id, 0) for part in self.parts) for connection in self._connections}
        filled = [part for part in self.parts if sum(part.counts.values())]
        begin, end = min((part.begin_ns for part in filled), default=0), max((part.end_ns for part in filled), default=0)
        return {
            "version": 9,
            "storage_identifier": self._storage,
            "duration": {"nanoseconds": end - begin},
            "starting_time": {"nanoseconds_since_epoch": begin},
            "message_count": sum(counts.values()),
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": connection.topic,
                        "type": connection.msgtype,
                        "serialization_format": "cdr",
                        "offered_qos_profiles": _qos(connection),
                        "type_description_hash": connection.digest,
                    },
                    "message_count": counts[connection.id],
                }
                for connection in self._connections
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [part.path.name for part in self.parts],
            "files": files,
            "custom_data": self.custom or None,
            "ros_distro": os.environ.get("ROS_DISTRO", "jazzy"),
        }


@dataclass(frozen=True)
class _Place:
    """Where rosbags' storage writers put a file: they ask a folder for its name and add the ending to it."""

    folder: Path
    name: str

    def __truediv__(self, file: str) -> Path:
        return self.folder / file


def _qos(connection: Any) -> Any:
    from rosbags.rosbag2.metadata import dump_qos_v9

    return dump_qos_v9(connection.ext.offered_qos_profiles)


def _yaml(value: Any) -> str:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue().strip()
