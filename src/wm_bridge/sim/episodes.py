"""Recording of play: one randomised episode at a time, as arrays ready for a shard."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_bridge.core.roam import Visits
from wm_bridge.core.types import FloatArray
from wm_bridge.sim.demonstrator import PushTo
from wm_bridge.sim.play import ARM, LOW, GoalDirected, Player, Push, Rest, Roaming, SmoothRandom
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld

SUBSTEPS = 5


@dataclass(frozen=True)
class CollectConfig:
    """What is collected.

    Attributes:
        length: control periods of an episode (frames: one more).
        blind: record no pictures.
        period_s: control period.
        image_size: side of the stored pictures; they are drawn at twice that and averaged.
        nominal_share: episodes without any domain randomisation.
        object_share: episodes with the block on the table.
        position_noise: standard deviation of the measured joints, rad.
        low_share: snapshots with the hand at the table, most of them with the block beside it.
        goal_directed, smooth_random, roam, push, demonstrate: relative share of each kind of play.
    """

    length: int = 40
    blind: bool = False
    period_s: float = 0.1
    image_size: int = 96
    nominal_share: float = 0.15
    object_share: float = 0.7
    position_noise: float = 0.001
    low_share: float = 0.45
    goal_directed: float = 0.75
    smooth_random: float = 0.25
    roam: float = 0.0
    push: float = 0.0
    demonstrate: float = 0.0


def apply_action(world: SimWorld, action: FloatArray, action_scale: FloatArray, period_s: float) -> None:
    """Move the arm's references by ``action`` (A,), evenly over one period, inside box and limits."""
    index = world.spec.indices(ARM)
    before = world.reference
    after = before.copy()
    after[index] += np.clip(action, -action_scale, action_scale)
    after = world.spec.clip(after)
    for part in range(1, SUBSTEPS + 1):
        world.set_reference(before + (after - before) * part / SUBSTEPS)
        world.step(period_s / SUBSTEPS)


def block_position(world: SimWorld) -> FloatArray:
    """(3,) position of the block, NaN when it is parked."""
    position = world.object_pose("block")[:3]
    return position if position[0] > -5.0 else np.full(3, np.nan)


def record_episode(
    world: SimWorld, player: Player, rng: np.random.Generator, config: CollectConfig
) -> dict[str, NDArray]:
    """Play and record one episode; keys and shapes as in ``wm_planner.data`` without the E axis."""
    from wm_planner.preprocess import square_resize

    index = world.spec.indices(ARM)
    world.reset(player.start(), objects={})
    if rng.uniform() < config.nominal_share:
        world.nominal()
    else:
        world.randomize(rng)
    player.place_objects(config.object_share)
    frames: dict[str, list] = {name: [] for name in ("images", "position", "reference", "hand", "objects")}
    size = config.image_size
    for step in range(config.length + 1):
        if not config.blind:
            frames["images"].append(square_resize(world.render("front", 2 * size, 2 * size), size))
        frames["position"].append(world.q[index] + rng.normal(0, config.position_noise, len(index)))
        frames["reference"].append(world.reference[index])
        frames["hand"].append(world.hand_position(ARM))
        frames["objects"].append(block_position(world)[None])
        if step < config.length:
            apply_action(world, player.action(world.reference[index]), player.scale, config.period_s)
            if player.advice is not None:
                frames.setdefault("advice", []).append(player.advice)
    if player.advice is not None:
        frames["goal"] = list(np.asarray(player.goal))
    return {
        name: np.stack(values).astype(np.uint8 if name == "images" else np.float32)
        for name, values in frames.items()
        if values
    }


def record_snapshot(world: SimWorld, rng: np.random.Generator, config: CollectConfig) -> dict[str, NDArray]:
    """One picture of an independent pose and look, in the form of an episode of one frame."""
    low = rng.uniform() < config.low_share
    pose = sample_reachable(world, rng, workspace=LOW, clearance_m=0.005) if low else sample_reachable(world, rng)
    player = Rest(world, rng, np.ones(len(world.spec.indices(ARM))), pose, low and rng.uniform() < 0.7)
    return record_episode(world, player, rng, dataclasses.replace(config, length=0))


def choose_player(
    world: SimWorld, rng: np.random.Generator, action_scale: FloatArray, config: CollectConfig, visits: Visits
) -> Player:
    """Draw the kind of play of one episode; roaming goes where the hand was least often by its ``visits``."""
    kinds = [
        (GoalDirected, config.goal_directed),
        (SmoothRandom, config.smooth_random),
        (Roaming, config.roam),
        (Push, config.push),
        (PushTo, config.demonstrate),
    ]
    weights = np.array([weight for _, weight in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))][0]
    return Roaming(world, rng, action_scale, visits) if kind is Roaming else kind(world, rng, action_scale)
