"""The demonstrator: it pushes the block where it is told, with motions the arm can make."""

import numpy as np
import pytest
from wm_bridge.bench.push import draw_push
from wm_bridge.robots import spec as robots
from wm_bridge.sim.demonstrator import PushTo, draw_goal
from wm_bridge.sim.episodes import CollectConfig, apply_action, record_episode
from wm_bridge.sim.play import ARM, AROUND
from wm_bridge.sim.pusher import Pusher
from wm_bridge.sim.reach import HAND, Reach, Surface
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld

SCALE = np.full(6, 0.1)


@pytest.fixture(scope="module")
def world():
    world = SimWorld(robots.load("nico"))
    yield world
    world.close()


def test_goals_are_as_far_as_asked_and_where_the_hand_gets_around():
    rng = np.random.default_rng(0)
    block = np.array([0.36, -0.25])
    for _ in range(100):
        goal = draw_goal(block, rng, 0.05, 0.12)
        assert 0.05 <= np.linalg.norm(goal - block) <= 0.12
        assert all(low <= value <= high for value, (low, high) in zip(goal, AROUND, strict=True))


def test_reach_moves_the_point_and_keeps_the_limits(world):
    rng = np.random.default_rng(1)
    reach, point = Reach(world), np.array([0.0, 0.02, -0.1])
    solved = 0
    for _ in range(20):
        q = sample_reachable(world, rng)
        target = reach.position(q, point) + rng.uniform(-0.05, 0.05, 3)
        found = reach.solve(q, point, target, 0.005)
        if found is not None:
            solved += 1
            assert np.linalg.norm(reach.position(found, point) - target) < 0.005
            arm = found[reach.index]
            assert (arm >= reach.lower - 1e-9).all() and (arm <= reach.upper + 1e-9).all()
    assert solved >= 12


def test_the_point_of_reach_is_that_of_the_world(world):
    q = sample_reachable(world, np.random.default_rng(2))
    world.reset(q, objects={})
    body = world.model.body(HAND).id
    np.testing.assert_allclose(Reach(world).position(q, np.zeros(3)), world.data.xpos[body], atol=1e-9)


def test_surface_points_of_a_reachable_pose_are_above_the_table(world):
    surface, rng = Surface(world), np.random.default_rng(3)
    for _ in range(5):
        q = sample_reachable(world, rng)
        hand, rest, _ = surface.points(q)
        assert surface.free(q)
        assert hand[:, 2].min() > world.scene.table_height
        assert hand.shape[1] == rest.shape[1] == 3


def push(world, number, player, periods=80):
    """Distance of the block to its goal after an episode of ``player(goal)``."""
    rng = np.random.default_rng(100 + number)
    start, block, goal = draw_push(world, rng)
    act = player(np.array(goal[:2]), rng)
    world.reset(start, objects={"block": block})
    index = world.spec.indices(ARM)
    for _ in range(periods):
        apply_action(world, act(world.reference[index]), SCALE, 0.1)
    return np.linalg.norm(world.object_pose("block")[:2] - goal[:2])


def knowing(world):
    """The pusher itself, at full speed."""

    def player(goal, rng):
        pusher = Pusher(world, goal)

        def act(reference):
            q = world.spec.home.copy()
            q[pusher.index] = reference
            step = pusher.step(q, world.object_pose("block")[:2])
            if step is None:
                return np.zeros(6)
            return step / max(1.0, np.max(np.abs(step) / SCALE))

        return act

    return player


def test_the_pusher_brings_the_block_to_its_goal(world):
    assert sum(push(world, n, knowing(world)) < 0.03 for n in range(8)) >= 6


def test_advice_stays_right_when_the_demonstrator_errs(world):
    far = []
    for number in range(4):
        rng = np.random.default_rng(number)
        player = PushTo(world, rng, SCALE)
        world.reset(player.start(), objects={})
        player.mistake, player.shaking, player.speed = 0.02, 0.0, 1.0
        player.beside = np.array([0.02, -0.02])
        player.place_objects(1.0)
        pusher = None
        for _ in range(30):
            reference = world.reference[world.spec.indices(ARM)]
            done = player.action(reference)
            pusher = pusher or Pusher(world, player.goal)
            q = world.spec.home.copy()
            q[pusher.index] = reference
            right = pusher.step(q, world.object_pose("block")[:2])
            right = np.full(6, np.nan) if right is None else player.limited(right, 1.0)
            np.testing.assert_allclose(player.advice, right, atol=1e-12)
            far.append(np.nanmax(np.abs(done - right), initial=0.0))
            apply_action(world, done, SCALE, 0.1)
    assert np.max(far) > 0.02


def test_a_recorded_demonstration_moves_the_block(world):
    rng = np.random.default_rng(5)
    episode = record_episode(world, PushTo(world, rng, SCALE), rng, CollectConfig(length=50, image_size=32))
    path = episode["objects"][:, 0, :2]
    assert episode["images"].shape == (51, 32, 32, 3)
    assert episode["advice"].shape == (50, 6) and episode["goal"].shape == (2,)
    assert np.linalg.norm(path[-1] - path[0]) > 0.02
    assert np.abs(np.diff(episode["reference"], axis=0)).max() <= 0.1 + 1e-6
    assert np.abs(episode["advice"]).max() <= 0.1 + 1e-6
