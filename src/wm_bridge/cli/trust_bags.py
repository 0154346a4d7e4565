"""What the planner saw at each plan of a recorded run, for a trust calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wm_bridge.bags.messages import header_ns
from wm_bridge.bags.reader import opened
from wm_bridge.core.images import decompress
from wm_bridge.core.subject import camera_subject
from wm_bridge.core.types import FloatArray
from wm_bridge.errors import UserError
from wm_planner.preprocess import square_resize, to_tensor
from wm_planner.trust.glimpse import Glimpse
from wm_planner.trust.watch import Watch
from wm_planner.world_model import WorldModel

S = 1_000_000_000


@dataclass
class Track:
    """Joint positions over time: stamps (N,) ns and positions (N, J) rad of ``names``."""

    names: tuple[str, ...] = ()
    stamps: list[int] = field(default_factory=list)
    positions: list[FloatArray] = field(default_factory=list)

    def add(self, message: Any) -> None:
        """One more sensor_msgs/JointState; those that are not newer or name other joints are left out."""
        names, stamp = tuple(message.name), header_ns(message)
        if self.names in ((), names) and (not self.stamps or stamp > self.stamps[-1]):
            self.names = names
            self.stamps.append(stamp)
            self.positions.append(np.asarray(message.position, dtype=float))

    def at(self, names: Sequence[str], stamp_ns: int) -> FloatArray:
        """(A,) rad at a time, linear in between and the nearest one outside."""
        path = np.array(self.positions)
        return np.array([np.interp(stamp_ns, self.stamps, path[:, self.names.index(name)]) for name in names])


@dataclass(frozen=True)
class BagEpisodes:
    """Plans of each goal. ``camera``: see ``core.subject``; ``simulated``: the bag holds a simulator's state."""

    episodes: tuple[tuple[Glimpse, ...], ...]
    camera: str
    simulated: bool


@torch.inference_mode()
def episodes_of(bag: Path, model: WorldModel) -> BagEpisodes:
    """Everything that was planned from in a bag, as the running planner saw it.

    Raises:
        UserError: the bag lacks pictures, joints, commands or plans.
    """
    pictures: dict[int, tuple[bytes, str]] = {}
    joints, commands = Track(), Track()
    goals: list[list[int]] = []
    simulated = False
    with opened(bag) as (reader, _):
        for connection, _, data in reader.messages():
            topic = connection.topic.lstrip("/")
            if topic == "wm/goal":
                goals.append([])
            elif topic == "sim/state":
                simulated = True
            elif topic in ("camera/image_raw/compressed", "joint_states", "hw/command", "wm/report"):
                message = reader.deserialize(data, connection.msgtype)
                if topic == "joint_states":
                    joints.add(message)
                elif topic == "hw/command":
                    commands.add(message)
                elif topic == "wm/report" and goals:
                    goals[-1].append(header_ns(message))
                elif topic != "wm/report":
                    pictures[header_ns(message)] = bytes(message.data), str(message.header.frame_id)
    names = model.config.joint_names
    for what, there in (
        ("pictures", bool(pictures)), ("plans", any(goals)),
        ("joint_states", set(names) <= set(joints.names)), ("hw/command", set(names) <= set(commands.names)),
    ):  # fmt: skip
        if not there:
            raise UserError(f"{bag} holds no {what} of joints {', '.join(names)}", "record a run of the graph with the recorder node", 2)
    watch = Watch(model)
    episodes, camera = [], ""
    for stamps in goals:
        watch.reset()
        watch.log, last = [], 0
        for stamp in stamps:
            if stamp not in pictures:
                continue
            data, frame_id = pictures[stamp]
            picture = decompress(data)
            camera = camera_subject(frame_id, picture.shape[1], picture.shape[0])
            small = square_resize(picture, model.config.image_size)
            z = model.encode(to_tensor(small[None]))[0]
            measured, sent = (torch.from_numpy(track.at(names, stamp)).float() for track in (joints, commands))
            watch.judge(small, z, measured, sent, max(1, round((stamp - last) / S / model.config.period_s)) if last else 1)
            last = stamp
        if watch.log:
            episodes.append(tuple(watch.log))
    return BagEpisodes(tuple(episodes), camera, simulated)
