"""A bag of one run as a few arrays and pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge.bags.messages import header_ns
from wm_bridge.bags.reader import opened
from wm_bridge.core.images import decode, decompress
from wm_bridge.core.types import FloatArray, ImageArray

S = 1_000_000_000


@dataclass(frozen=True)
class PlanRow:
    """One planning call, times in ms; see wm_interfaces/msg/PlanReport. ``goal`` counts from 0."""

    stamp_ns: int
    goal: int
    energy: float
    distance_m: float
    progress: float
    trust: float
    call_ms: float
    total_ms: float
    deadline_met: bool


@dataclass(frozen=True)
class SafetyRow:
    """A change of ``safety/state``."""

    stamp_ns: int
    mode: str
    enabled: bool
    refused: int


@dataclass(frozen=True)
class VerdictRow:
    """A tick in which the safety filter changed or refused something; ``change`` in rad."""

    stamp_ns: int
    mode: int
    reasons: tuple[str, ...]
    change: float


@dataclass
class Recording:
    """What the report needs of a bag; everything in the order of its stamps (node time).

    Attributes:
        frames: (stamp, encoded picture). goals: (stamp, RGB picture).
        states: (stamp, flat simulator state), see ``SimState``; empty on a real robot.
        ticks: verdicts in all. counts: messages per topic.
        note: what is wrong with the bag; "" = whole.
    """

    frames: list[tuple[int, bytes]] = field(default_factory=list)
    goals: list[tuple[int, ImageArray]] = field(default_factory=list)
    plans: list[PlanRow] = field(default_factory=list)
    safety: list[SafetyRow] = field(default_factory=list)
    verdicts: list[VerdictRow] = field(default_factory=list)
    states: list[tuple[int, FloatArray]] = field(default_factory=list)
    ticks: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    note: str = ""

    def picture_at(self, stamp_ns: int) -> ImageArray | None:
        """The newest camera picture not younger than ``stamp_ns`` (the first one before that)."""
        if not self.frames:
            return None
        index = np.searchsorted([stamp for stamp, _ in self.frames], stamp_ns, side="right") - 1
        return decompress(self.frames[max(int(index), 0)][1])


def read(bag: Path) -> Recording:
    """Read a bag folder (or an mcap file); a damaged one gives what is there, and says so in ``note``."""
    recording = Recording()
    try:
        with opened(bag) as (reader, recording.note):
            for connection, stamp, data in reader.messages():
                topic = connection.topic.lstrip("/")
                recording.counts[topic] = recording.counts.get(topic, 0) + 1
                take = _TAKERS.get(topic)
                if take is not None:
                    take(recording, stamp, reader.deserialize(data, connection.msgtype))
    except Exception as error:  # noqa: BLE001  foreign files raise anything; what was read stays
        recording.note = f"{recording.note}; " * bool(recording.note) + f"the bag cannot be read further: {error}"
    return recording


def _take_picture(recording: Recording, _: int, message: Any) -> None:
    recording.frames.append((header_ns(message), bytes(message.data)))


def _take_goal(recording: Recording, _: int, message: Any) -> None:
    picture = decode(bytes(message.data), message.height, message.width, message.encoding, message.step)
    recording.goals.append((header_ns(message), picture))


def _take_plan(recording: Recording, _: int, message: Any) -> None:
    recording.plans.append(
        PlanRow(
            header_ns(message),
            len(recording.goals) - 1,
            float(message.goal_energy),
            float(message.distance_m),
            float(message.progress),
            float(message.trust),
            float(message.preprocess_ms + message.encode_ms + message.plan_ms),
            float(message.total_ms),
            bool(message.deadline_met),
        )
    )


def _take_safety(recording: Recording, _: int, message: Any) -> None:
    recording.safety.append(
        SafetyRow(header_ns(message), str(message.mode_name), bool(message.enabled), int(message.refused))
    )


def _take_verdict(recording: Recording, _: int, message: Any) -> None:
    recording.ticks += 1
    if message.reasons:
        change = np.abs(np.asarray(message.output) - np.asarray(message.requested))
        recording.verdicts.append(
            VerdictRow(
                header_ns(message), int(message.mode), tuple(message.reason_names), float(change.max(initial=0.0))
            )
        )


def _take_state(recording: Recording, _: int, message: Any) -> None:
    values = np.array(message.data, dtype=float)
    recording.states.append((int(values[0]) * S + int(values[1]), values))


_TAKERS = {
    "camera/image_raw/compressed": _take_picture,
    "wm/goal": _take_goal,
    "wm/report": _take_plan,
    "safety/state": _take_safety,
    "safety/verdict": _take_verdict,
    "sim/state": _take_state,
}
