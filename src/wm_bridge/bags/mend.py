"""A bag that was cut off, written anew as a whole one."""

from __future__ import annotations

from pathlib import Path

from wm_bridge.bags.reader import opened
from wm_bridge.bags.writer import BagWriter
from wm_bridge.errors import UserError


def mend(bag: Path, into: Path, storage: str = "mcap") -> tuple[int, str]:
    """Copy every message of a bag that can be read.

    Returns:
        How many messages, and what was wrong with the bag ("" = nothing).

    Raises:
        UserError: no bag, or ``into`` exists.
    """
    count = 0
    try:
        with opened(bag) as (reader, note):
            writer = BagWriter(into, storage, custom={"mended": note or "was whole"})
            try:
                places = {
                    (c.topic, c.msgtype): writer.add(c.topic, c.msgtype, c.msgdef.data, reader.typestore.hash_rihs01(c.msgtype), c.ext.offered_qos_profiles)
                    for c in {(c.topic, c.msgtype): c for c in reader.connections}.values()
                }
                for connection, log_ns, data in reader.messages():
                    writer.write(places[connection.topic, connection.msgtype], log_ns, data)
                    count += 1
            finally:
                writer.close()
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  foreign files raise anything
        raise UserError(f"{bag} cannot be read: {error}" + (f"; {count} messages before that are in {into}" if count else ""), "name the folder of a bag, or its mcap or db3 file", 2) from error
    return count, note
