"""Messages that wait until somebody looks, instead of waking a process for each."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined,misc"

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

from wm_bridge.bags.messages import stamp_of
from wm_bridge.ros import qos


class Mailbox:
    """A subscription that no executor waits for; ``take`` empties it.

    For topics at control rate of which a node needs a few values now and then, or all of them
    but not at once. DDS receives in threads of its own meanwhile; of more than ``depth``
    messages the oldest are lost.

    Args:
        node: owns the subscription.
        name: topic, a row of ``qos.TOPICS``.
        depth: messages kept.
        raw: give serialized bytes.
        other: message class and QoS of a topic that is no row of the table.
    """

    def __init__(self, node: Node, name: str, depth: int = 100, raw: bool = False, other: tuple[Any, QoSProfile] | None = None) -> None:
        self.name = name
        kind, profile = other or (qos.message_type(name), qos.mailbox_profile(name, depth))
        self._subscription = node.create_subscription(
            kind,
            name,
            _nothing,
            profile,
            callback_group=_Never(),
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            raw=raw,
        )

    def take(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Messages that have come since the last call, oldest first, each with its message info.

        The info holds ``source_timestamp`` and ``received_timestamp`` in ns of the system clock.
        """
        subscription = self._subscription
        with subscription.handle:
            while (taken := subscription.handle.take_message(subscription.msg_type, subscription.raw)) is not None:
                yield taken


class Recent:
    """The last messages of a topic that begins with a Header; only those asked for are read.

    Args:
        node: owns the subscription.
        name: topic, a row of ``qos.TOPICS``.
        depth: messages kept.
        topic: where it is heard; "" = under its own name.
    """

    def __init__(self, node: Node, name: str, depth: int = 50, topic: str = "") -> None:
        self._kind = qos.message_type(name)
        self._box = Mailbox(node, topic or name, depth, raw=True, other=(self._kind, qos.mailbox_profile(name, depth)))
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=depth)

    def around(self, stamp_ns: int) -> list[Any]:
        """The last message at or before a moment and the first one after it, as far as there are."""
        self.collect()
        before = [item for item in self._kept if item[0] <= stamp_ns][-1:]
        after = [item for item in self._kept if item[0] > stamp_ns][:1]
        return [deserialize_message(data, self._kind) for _, data in before + after]

    def newest(self) -> Any:
        """The last message; None before the first."""
        self.collect()
        return deserialize_message(self._kept[-1][1], self._kind) if self._kept else None

    def collect(self) -> None:
        """Fetch what has come, so that the next question finds little to fetch."""
        for data, _ in self._box.take():
            stamp = stamp_of(data)
            if self._kept and stamp < self._kept[-1][0]:
                self._kept.clear()  # time began anew: the writer was started again
            self._kept.append((stamp, data))


class _Never(CallbackGroup):
    """Never lets an executor run anything, so the executor does not wait for it either."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        return None


def _nothing(_: Any) -> None:
    """Never called."""
