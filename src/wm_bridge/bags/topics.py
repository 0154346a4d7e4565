"""Topics of a bag by their name in the graph, of the type that is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

IMAGE, COMPRESSED, JOINTS = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/JointState"


def find(connections: Sequence[Any], name: str, types: Sequence[str], namespace: str = "") -> tuple[list[Any], str]:
    """Connections of a topic.

    Args:
        connections: of a reader. name: relative or global. types: that are understood.
        namespace: of the graph; "" looks for the name itself, then for one topic that ends with it.

    Returns:
        The connections, none when there is no such topic, and what is wrong with it, "" = nothing.
    """
    wanted = "/".join(filter(None, (namespace.strip("/"), name.strip("/"))))
    found = [c for c in connections if c.topic.strip("/") == wanted]
    if not found and not namespace:
        found = [c for c in connections if c.topic.strip("/").endswith(f"/{wanted}")]
        topics = sorted({c.topic for c in found})
        if len(topics) > 1:
            return [], f"{name} is there more than once: {', '.join(topics)}; choose one with --namespace"
    good = [c for c in found if c.msgtype in types]
    if found and not good:
        return [], f"{found[0].topic} holds {found[0].msgtype}, expected {' or '.join(types)}; it is not used"
    return good, ""


def contents(connections: Sequence[Any]) -> str:
    """Topics and types in one line, for messages."""
    rows: Mapping[str, str] = {c.topic: c.msgtype for c in connections}
    return ", ".join(f"{topic} ({kind})" for topic, kind in sorted(rows.items())) or "nothing"
