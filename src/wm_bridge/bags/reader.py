"""Opening a bag, also one that was cut off."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from wm_bridge.bags.salvage import salvage

_ENDINGS = (".mcap", ".db3")


@contextmanager
def opened(bag: Path) -> Iterator[tuple[Any, str]]:
    """A reader of the bag, or of mended copies of its files; and what is wrong with it, "" = whole.

    Args:
        bag: folder, or one mcap or db3 file.

    Raises:
        OSError, ValueError: no bag, or nothing in it that can be read.
    """
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    usual = get_typestore(Stores.ROS2_JAZZY)  # for bags of older formats, which hold no definitions
    why = _unlisted(bag)
    if not why:
        try:
            reader = AnyReader([bag], default_typestore=usual)
            reader.open()
        except Exception as error:  # noqa: BLE001  of a damaged file rosbags raises anything
            why = str(error) or repr(error)
    if not why:
        try:
            yield reader, ""
        finally:
            reader.close()
        return
    files = [bag] if bag.is_file() else bag_files(bag)
    if not files:
        raise FileNotFoundError(f"no mcap file in {bag}, and no db3 file ({why})")
    note = f"the bag was cut off ({why}); shown is what had reached the disk"
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for number, file in enumerate(files):
            copy = salvage(file, Path(folder) / f"salvaged_{number}{file.suffix}")
            copies.append(copy)
        with AnyReader(copies, default_typestore=usual) as reader:
            yield reader, note


def bag_files(folder: Path) -> list[Path]:
    """The files of a bag, in the order in which they were begun."""
    found = [file for file in folder.glob("*") if file.suffix in _ENDINGS]
    return sorted(found, key=lambda file: (len(file.stem), file.stem))


def _unlisted(bag: Path) -> str:
    """Why the metadata of a folder cannot be trusted; "" when it can, or is left to the reader to judge."""
    listed = bag / "metadata.yaml"
    if not listed.is_file():
        return ""
    try:
        names = yaml.safe_load(listed.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]["relative_file_paths"]
    except (yaml.YAMLError, OSError, KeyError, TypeError, UnicodeDecodeError) as error:
        return f"its metadata.yaml cannot be read: {error!r}"
    more = {file.name for file in bag_files(bag)} - {Path(name).name for name in names}
    return f"{', '.join(sorted(more))} not listed in metadata.yaml: it was not finished" if more else ""
