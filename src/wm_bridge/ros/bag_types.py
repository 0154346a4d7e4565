"""Message definitions and QoS of topics, as a bag keeps them."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from wm_bridge import resources
from wm_bridge.errors import UserError


class Definitions:
    """Definitions of message types: from the ROS installation, else those that rosbags brings along (Jazzy)."""

    def __init__(self) -> None:
        from rosbags.typesys import Stores, get_typestore

        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._packages: set[str] = set()
        self.load("wm_interfaces")

    def load(self, package: str) -> None:
        """Read all messages of a package.

        Raises:
            UserError: its files are nowhere.
        """
        from rosbags.typesys import get_types_from_msg

        for file in sorted(message_folder(package).glob("*.msg")):
            name = f"{package}/msg/{file.stem}"
            if name not in self._store.types:
                self._store.register(get_types_from_msg(file.read_text(encoding="utf-8"), name))
        self._packages.add(package)

    def of(self, kind: str) -> tuple[str, str]:
        """Definition with all that it holds, and type hash.

        Raises:
            UserError: unknown type.
        """
        if kind not in self._store.types:
            self.load(kind.split("/")[0])
        try:
            text, _ = self._store.generate_msgdef(kind, ros_version=2)
            return text, self._store.hash_rihs01(kind)
        except Exception as error:  # rosbags: KeyError, TypesysError
            raise UserError(f"no definition of {kind}: {error!r}", "install its package", 2) from error


def message_folder(package: str) -> Path:
    """Folder of a package's ``.msg`` files: from the ROS installation, else from the checkout.

    Raises:
        UserError: neither has it.
    """
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    for prefix in filter(None, prefixes):
        folder = Path(prefix) / "share" / package / "msg"
        if folder.is_dir():
            return folder
    try:
        return resources.path(f"ros2_ws/src/{package}/msg")
    except FileNotFoundError as error:
        raise UserError(f"no message files of {package}", "build it: ./wm doctor says how", 2) from error


def bag_qos(offered: QoSProfile) -> Any:
    """QoS as the bag's metadata keeps it."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    never = QosTime(0, 0)
    seconds, nanoseconds = divmod(offered.deadline.nanoseconds, 1_000_000_000)
    return Qos(
        QosHistory.KEEP_LAST,
        offered.depth,
        QosReliability.RELIABLE if offered.reliability == ReliabilityPolicy.RELIABLE else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if offered.durability == DurabilityPolicy.TRANSIENT_LOCAL else QosDurability.VOLATILE,
        QosTime(seconds, nanoseconds) if seconds < 1_000_000_000 else never,
        never,
        QosLiveliness.AUTOMATIC,
        never,
        False,
    )


def listening(offered: list[QoSProfile], depth: int) -> QoSProfile:
    """QoS that hears every one of several writers."""
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered)
    latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
