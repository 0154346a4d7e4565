"""Faults of the simulator: each does what it says, from its moment on, and is gone with the next episode."""

from __future__ import annotations

import numpy as np
import pytest

from wm_bridge.robots import spec as robots
from wm_bridge.sim.faults import FAULTS, MOVED_M, SEEN, SEEN_LEVELS, FaultyWorld
from wm_bridge.sim.play import ARM
from wm_bridge.sim.world import SimWorld

VIEW = ("front", 160, 120)


@pytest.fixture(scope="module")
def world() -> FaultyWorld:
    return FaultyWorld(robots.load("nico"))


def begin(world: FaultyWorld, kind: str, first: int = 0, seed: int = 0) -> None:
    world.nominal()
    world.reset()
    world.schedule(kind, first, np.random.default_rng(seed))


def swing(world: FaultyWorld, rad: float = 0.04) -> np.ndarray:
    """Move all arm joints for a period; returns the references that were asked for."""
    wish = world.reference.copy()
    wish[world.spec.indices(ARM)] -= rad
    world.set_reference(wish)
    world.step(0.1)
    return wish


def test_without_a_fault_it_is_the_plain_world(world: FaultyWorld) -> None:
    plain = SimWorld(world.spec)
    begin(world, "")
    assert np.array_equal(world.render(*VIEW), plain.render(*VIEW))
    for one in (world, plain):
        wish = one.reference.copy()
        wish[2] += 0.05
        one.set_reference(wish)
        one.step(0.5)
    assert np.array_equal(world.q, plain.q) and world.begun == -1
    with pytest.raises(ValueError, match="unknown fault 'fire'"):
        world.schedule("fire", 0, np.random.default_rng(0))


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_begins_with_its_picture_and_not_before_and_ends_with_the_episode(world: FaultyWorld, kind: str) -> None:
    begin(world, "")
    usual = [world.render(*VIEW) for _ in range(4) if swing(world) is not None]
    begin(world, kind, first=2)
    shown = []
    for _ in range(4):
        swing(world)
        shown.append(world.render(*VIEW))
    assert world.begun == 2
    assert all(np.array_equal(a, b) for a, b in zip(shown[:2], usual[:2], strict=True))
    if kind not in ("stuck joint", "weak joint"):
        assert not np.array_equal(shown[2], usual[2])
    begin(world, "")
    swing(world)
    assert np.array_equal(world.render(*VIEW), usual[0])


def test_a_covered_camera_shows_one_surface(world: FaultyWorld) -> None:
    begin(world, "covered camera")
    assert world.render(*VIEW).std(axis=(0, 1)).max() < 4.0


def test_a_moved_camera_stands_ten_centimetres_away(world: FaultyWorld) -> None:
    begin(world, "")
    before = world.model.cam("front").pos.copy()
    for seed in range(5):
        begin(world, "moved camera", seed=seed)
        world.render(*VIEW)
        assert np.linalg.norm(world.model.cam("front").pos - before) == pytest.approx(MOVED_M)


def test_a_frozen_frame_waits_for_motion_and_repeats_the_picture_before(world: FaultyWorld) -> None:
    begin(world, "frozen frame")
    first = [world.render(*VIEW) for _ in range(3)]
    assert world.begun == -1, "the arm rests"
    swing(world)
    assert np.array_equal(world.render(*VIEW), first[-1]) and world.begun == 3


@pytest.mark.parametrize(("kind", "gain"), [("stuck joint", 0.0), ("weak joint", 0.5)])
def test_a_lame_joint_is_one_that_moved_and_does_its_share(world: FaultyWorld, kind: str, gain: float) -> None:
    begin(world, kind)
    world.render(*VIEW)
    assert world.begun == -1
    pivot = swing(world)
    world.render(*VIEW)
    wish = swing(world)
    world.step(1.0)
    share = (world.q - pivot)[world.spec.indices(ARM)] / (wish - pivot)[world.spec.indices(ARM)]
    lame = np.abs(share - gain).argmin()
    assert share[lame] == pytest.approx(gain, abs=0.06) and np.delete(share, lame) == pytest.approx(1.0, abs=0.06)


def test_a_large_object_is_seen_and_touches_nothing(world: FaultyWorld) -> None:
    begin(world, "")
    usual = world.render(*VIEW).astype(int)
    for seed in range(3):
        begin(world, "large object", seed=seed)
        picture = world.render(*VIEW)
        assert (np.abs(picture - usual).max(axis=2) >= SEEN_LEVELS).mean() >= SEEN
        assert not world.in_contact(ARM)
