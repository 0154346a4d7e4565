"""What the safety filter notes, as messages: its journal and its interventions."""

from __future__ import annotations

import array
from collections.abc import Sequence

import numpy as np
from wm_interfaces.msg import SafetyInterventions, SafetyJournal

from wm_bridge.ros.convert import to_time
from wm_bridge.safety.journal import Pages
from wm_bridge.safety.record import Intervention


def to_journal(pages: Pages, session: int, now_ns: int) -> SafetyJournal:
    """Pages of a journal.

    Args:
        session: of the safety node. now_ns: node time.
    """
    message = SafetyJournal(session=session, first=pages.first, count=pages.count, entries=array.array("B", pages.data))
    message.header.stamp = to_time(now_ns)
    return message


def to_interventions(found: Sequence[Intervention], names: Sequence[str]) -> SafetyInterventions:
    """Interventions (one at least), one row each.

    Args:
        names: (J,) joints of the robot.
    """
    message = SafetyInterventions(
        joint_names=list(names),
        stamp_ns=array.array("q", [item.stamp_ns for item in found]),
        mode=array.array("B", [int(item.mode) for item in found]),
        reasons=array.array("I", [int(item.reasons) for item in found]),
        before=array.array("d", np.concatenate([item.before for item in found]).tobytes()),
        after=array.array("d", np.concatenate([item.after for item in found]).tobytes()),
        distance=array.array("d", [item.distance_m for item in found]),
        margin=array.array("d", [item.margin_m for item in found]),
    )
    message.header.stamp = to_time(found[-1].stamp_ns)
    return message
