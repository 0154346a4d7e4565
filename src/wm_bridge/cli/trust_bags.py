"""What the planner saw at each plan of a recorded run, for a trust calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge.core.subject import camera_subject
from wm_bridge.core.types import FloatArray
from wm_bridge.errors import UserError
from wm_bridge.replay.recorded import read
from wm_planner.trust.glimpse import Glimpse
from wm_planner.trust.kinds import kind_of

S = 1_000_000_000


@dataclass(frozen=True)
class Track:
    """Joint positions over time: stamps (N,) ns, ascending, and positions (N, J) rad of ``names``."""

    names: tuple[str, ...]
    stamps: FloatArray
    positions: FloatArray

    @classmethod
    def of(cls, states: Sequence[tuple[int, Any]]) -> Track:
        """Of recorded joint states or commands; those that are not newer or name other joints are left out."""
        names = tuple(states[0][1].names) if states else ()
        stamps, positions = [0], []
        for _, state in states:
            if tuple(state.names) == names and state.stamp_ns > stamps[-1]:
                stamps.append(state.stamp_ns)
                positions.append(np.asarray(state.position, dtype=float))
        return cls(names, np.array(stamps[1:], dtype=float), np.array(positions))

    def at(self, names: Sequence[str], stamp_ns: int) -> FloatArray:
        """(A,) rad at a time, linear in between and the nearest one outside."""
        return np.array([np.interp(stamp_ns, self.stamps, self.positions[:, self.names.index(name)]) for name in names])


@dataclass(frozen=True)
class BagEpisodes:
    """Plans of each goal, and its kind. ``camera``: see ``core.subject``; ``simulated``: the bag holds a simulator's state."""

    episodes: tuple[tuple[str, tuple[Glimpse, ...]], ...]
    camera: str
    simulated: bool


def episodes_of(bag: Path, planner: Any) -> BagEpisodes:
    """Everything that was planned from in a bag, as the running planner saw it.

    Args:
        planner: of ``wm_planner``.

    Raises:
        UserError: the bag lacks pictures, joints, commands or plans.
    """
    recorded = read(bag)
    names = planner.joint_names
    joints, commands = Track.of(recorded.joints), Track.of(recorded.commands)
    for what, there in (
        ("pictures", bool(recorded.pictures)), ("plans", any(goal.frames for goal in recorded.goals)),
        ("joint_states", set(names) <= set(joints.names)), ("hw/command", set(names) <= set(commands.names)),
    ):  # fmt: skip
        if not there:
            raise UserError(f"{bag} holds no {what} of joints {', '.join(names)}", "record a run of the graph with the recorder node", 2)
    pictures = {picture.stamp_ns: picture for picture in recorded.pictures}
    episodes, camera = [], ""
    for goal in recorded.goals:
        planner.watch.pursue(kind := kind_of(goal.record.loop.target))
        planner.watch.log, last = [], 0
        for stamp in goal.frames:
            if stamp not in pictures:
                continue
            try:
                image, frame_id = pictures[stamp].decoded(), pictures[stamp].frame_id
            except ValueError:
                continue  # damaged: the recorded planner saw another one
            camera = camera_subject(frame_id.removeprefix(str(goal.record.planner.get("tf_prefix", ""))), image.shape[1], image.shape[0])
            periods = max(1, round((stamp - last) / S / planner.period_s)) if last else 1
            planner.witness(image, joints.at(names, stamp), commands.at(names, stamp), periods)
            last = stamp
        if planner.watch.log:
            episodes.append((kind, tuple(planner.watch.log)))
    planner.watch.log = None
    return BagEpisodes(tuple(episodes), camera, recorded.simulated)
