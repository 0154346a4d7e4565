"""Opening a bag, also one that was cut off."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wm_bridge.bags.salvage import salvage


@contextmanager
def opened(bag: Path) -> Iterator[tuple[Any, str]]:
    """A reader of the bag, or of a mended copy of its mcap file; and what is wrong with it, "" = whole."""
    from rosbags.highlevel import AnyReader, AnyReaderError

    try:
        reader = AnyReader([bag])
        reader.open()
    except (AnyReaderError, OSError) as error:
        files = [bag] if bag.is_file() else sorted(bag.glob("*.mcap"))
        if not files:
            raise FileNotFoundError(f"no mcap file in {bag}") from error
        note = f"the bag was cut off ({error}); shown is what had reached the disk"
        with tempfile.TemporaryDirectory() as folder:
            copy = salvage(files[0], Path(folder) / "salvaged.mcap")
            with AnyReader([copy]) as reader:
                yield reader, note
        return
    try:
        yield reader, ""
    finally:
        reader.close()
