"""The simulated world: servos, contacts, states, looks, and the robots driven through it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from wm_bridge.core.types import Command
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.base import RobotError
from wm_bridge.robots.fake import FakeRobot
from wm_bridge.robots.mujoco import PERFECT, MujocoRobot, SensorModel
from wm_bridge.robots.spec import Box
from wm_bridge.sim.config import DomainRandomization, SceneConfig
from wm_bridge.sim.sampling import height_above_table, sample_reachable
from wm_bridge.sim.state import SimState
from wm_bridge.sim.world import SimWorld


@pytest.fixture(scope="module")
def spec():
    return robot_spec.load("nico")


@pytest.fixture(scope="module")
def shared(spec):
    world = SimWorld(spec)
    yield world
    world.close()


@pytest.fixture
def world(shared):
    shared.nominal()
    shared.reset()
    return shared


# Servos -------------------------------------------------------------------------------------


def test_servos_hold_against_gravity(world, spec):
    rng = np.random.default_rng(0)
    for arm in ("right_arm", "left_arm"):
        q = sample_reachable(world, rng, arm)
        world.reset(q, objects={})
        world.step(2.0)
        assert np.abs(world.q - q).max() < 0.01
        assert np.abs(world.dq).max() < 1e-3
        assert np.abs(world.tau).max() < 3.0  # what a servo should carry at rest


def test_servos_follow_a_ramp_at_their_speed_limit(world, spec):
    rng = np.random.default_rng(1)
    for _ in range(5):
        start, goal = sample_reachable(world, rng), sample_reachable(world, rng)
        world.reset(start, objects={})
        steps = int(np.abs(goal - start).max() / 0.01) + 1
        for step in range(1, steps + 1):  # at most 1 rad/s
            world.set_reference(start + (goal - start) * step / steps)
            world.step(0.01)
            assert np.abs(world.q - world.reference).max() < 0.06
        world.step(0.4)
        assert np.abs(world.q - goal).max() < 0.003


def test_a_far_reference_never_exceeds_the_velocity_limit(world, spec):
    rng = np.random.default_rng(2)
    for _ in range(5):
        start, goal = sample_reachable(world, rng), sample_reachable(world, rng)
        world.reset(start, objects={})
        world.set_reference(goal)
        fastest = 0.0
        for _ in range(200):
            world.step(0.01)
            if world.in_contact("right_arm"):
                break
            fastest = max(fastest, np.abs(world.dq / spec.velocity).max())
        assert 0.5 < fastest < 1.05


def test_efforts_stay_within_the_limit_when_pressing_on_the_table(world, spec):
    q = spec.home.copy()
    q[spec.index("r_shoulder_y")] = 0.3
    q[spec.index("r_elbow_y")] = -1.3
    world.set_reference(q)
    world.step(2.0)
    assert world.in_contact("right_arm")
    assert np.abs(world.tau).max() > 3.0
    assert (np.abs(world.tau) <= spec.effort + 1e-9).all()
    assert world.hand_position()[2] > world.scene.table_height - 0.02


def test_references_are_moved_into_the_limits_and_must_be_finite(world, spec):
    world.set_reference(spec.upper + 1.0)
    np.testing.assert_array_equal(world.reference, spec.upper)
    for bad in (np.full(14, np.nan), np.full(14, np.inf), np.zeros(13)):
        with pytest.raises(ValueError, match="14"):
            world.set_reference(bad)
    np.testing.assert_array_equal(world.reference, spec.upper)


def test_time_is_exact_for_any_cutting(world):
    for _ in range(1000):
        world.step(0.001)
    for _ in range(3):
        world.step(1 / 3)
    assert 0 <= 2_000_000_000 - world.time_ns <= 5_000_000


# Poses and objects --------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["right_arm", "left_arm"])
def test_sampled_poses_are_reachable_and_free(world, spec, arm):
    rng = np.random.default_rng(3)
    box, index = spec.workspaces[arm], spec.indices(arm)
    for _ in range(100):
        q = sample_reachable(world, rng, arm)
        assert ((q >= spec.lower) & (q <= spec.upper)).all()
        np.testing.assert_array_equal(np.delete(q, index), np.delete(spec.home, index))
        world.reset(q, objects={})
        assert box.contains(world.hand_position(arm))
        assert not world.in_contact(arm)
        assert height_above_table(world, world.data, arm) >= 0.02


def test_sampled_poses_near_the_body_do_not_touch_it(world):
    rng, near = np.random.default_rng(11), Box((0.02, -0.20, 0.50), (0.20, 0.15, 0.80))
    for _ in range(30):
        q = sample_reachable(world, rng, workspace=near, clearance_m=-1.0)
        world.reset(q, objects={})
        assert not world.in_contact("right_arm")


def test_sampling_leaves_the_world_alone_and_repeats_with_its_seed(world):
    before = world.state().to_array()
    first = sample_reachable(world, np.random.default_rng(4))
    again = sample_reachable(world, np.random.default_rng(4))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(world.state().to_array(), before)


def test_contact_counts_the_table_but_not_objects(world, spec):
    assert not world.in_contact("right_arm")
    hand = world.hand_position()
    world.set_object("block", (*hand, 0.0))
    assert not world.in_contact("right_arm")
    q = spec.home.copy()
    q[spec.index("r_shoulder_y")] = 0.3
    world.reset(q, objects={})
    assert world.in_contact("right_arm") and not world.in_contact("left_arm")


def test_objects_rest_on_the_table_and_parked_ones_stay_parked(world):
    pose = world.on_table("block", 0.35, -0.3, 0.7)
    world.reset(objects={"block": pose})
    parked = world.object_pose("can")
    world.step(2.0)
    np.testing.assert_allclose(world.object_pose("block"), pose, atol=2e-3)
    np.testing.assert_allclose(world.object_pose("can"), parked, atol=1e-6)


def test_a_low_hand_pushes_the_block_over_the_table(world, spec):
    rng, moved = np.random.default_rng(10), []
    low = Box((0.2, -0.45, 0.60), (0.45, 0.10, 0.68))
    for _ in range(12):
        q = sample_reachable(world, rng, workspace=low, clearance_m=0.005)
        world.reset(q, objects={})
        hand = world.hand_position()
        start = world.on_table("block", hand[0], hand[1] + 0.10)
        world.reset(q, objects={"block": start})
        q[spec.index("r_shoulder_z")] = spec.upper[0]
        world.set_reference(q)
        world.step(2.0)
        pose = world.object_pose("block")
        moved.append(np.linalg.norm(pose[:2] - start[:2]))
        assert pose[2] > world.scene.table_height - 0.001 or pose[0] > world.scene.table_x[1]
    assert np.median(moved) > 0.03


# States -------------------------------------------------------------------------------------


def test_a_state_continues_exactly_in_another_world(world, spec):
    other = SimWorld(spec)
    world.set_reference(sample_reachable(world, np.random.default_rng(5)))
    world.step(0.303)
    state = pickle.loads(pickle.dumps(SimState.from_array(world.state().to_array())))
    other.load_state(state)
    assert state.time_ns == 303_000_000
    world.step(0.5)
    other.step(0.5)
    np.testing.assert_array_equal(other.state().to_array(), world.state().to_array())


def test_a_loaded_state_draws_the_same_pixels(world, spec):
    other = SimWorld(spec)
    world.set_reference(sample_reachable(world, np.random.default_rng(6)))
    world.step(0.6)
    other.load_state(world.state())
    for camera in ("front", "left_eye", "right_eye"):
        np.testing.assert_array_equal(world.render(camera), other.render(camera))
    other.close()


def test_states_of_other_scenes_or_with_nan_are_refused(world, spec):
    state, before = world.state(), world.state().to_array()
    bad = [
        SimWorld(spec, SceneConfig(objects=())).state(),
        SimState(0, state.qpos * np.nan, state.qvel, state.control, state.reference,
                 state.warmstart),
    ]  # fmt: skip
    for other in bad:
        with pytest.raises(ValueError, match="another scene|not finite"):
            world.load_state(other)
    np.testing.assert_array_equal(world.state().to_array(), before)
    with pytest.raises(ValueError, match="announces"):
        SimState.from_array(before[:-1])


# Looks --------------------------------------------------------------------------------------


def test_randomize_repeats_with_its_seed_and_nominal_undoes_it(world):
    plain = world.render()
    ranges = DomainRandomization(distractors=())
    pictures = []
    for _ in range(2):
        world.randomize(np.random.default_rng(7), ranges)
        pictures.append(world.render())
    np.testing.assert_array_equal(*pictures)
    assert np.abs(pictures[0].astype(int) - plain).mean() > 5
    world.nominal()
    np.testing.assert_array_equal(world.render(), plain)


def test_distractors_stand_on_the_table_clear_of_the_arm(world):
    rng = np.random.default_rng(8)
    seen = 0
    for _ in range(40):
        world.reset(sample_reachable(world, rng), objects={})
        world.randomize(rng)
        for name in ("can", "brick"):
            pose = world.object_pose(name)
            if pose[0] > 0:
                seen += 1
                world.step(0.1)
                np.testing.assert_allclose(world.object_pose(name)[:3], pose[:3], atol=5e-3)
    assert 20 < seen < 60


def test_shift_scales_the_light_and_does_not_add_up(world):
    plain = world.render().mean()
    world.shift(light=0.6)
    assert 0.5 * plain < world.render().mean() < 0.7 * plain
    world.shift(light=0.6)
    once = world.render()
    world.shift(light=0.6)
    np.testing.assert_array_equal(world.render(), once)
    with pytest.raises(ValueError, match="light"):
        world.shift(light=0.0)


def test_the_right_hand_is_seen_over_the_whole_workspace(world):
    rng = np.random.default_rng(9)
    for _ in range(60):
        world.reset(sample_reachable(world, rng), objects={})
        picture = world.render("front", 320, 240)[:, 40:280].astype(int)
        red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
        orange = (red > 90) & (red > 1.6 * green) & (red > 4 * blue)
        assert orange.sum() > 60


def test_unknown_cameras_and_sizes_are_named(world):
    with pytest.raises(ValueError, match="front"):
        world.render("back")
    with pytest.raises(ValueError, match="1280x960"):
        world.render("front", 4000, 3000)
    with pytest.raises(ValueError, match="block"):
        world.object_pose("blok")


# Drivers ------------------------------------------------------------------------------------


@pytest.fixture(params=["fake", "mujoco"])
def robot(request, spec):
    robot = FakeRobot(spec) if request.param == "fake" else MujocoRobot(spec, sensors=PERFECT)
    with robot:
        yield robot


def command(spec, position, stamp_ns=0):
    return Command(spec.joint_names, position, np.zeros(14), stamp_ns)


def test_a_robot_starts_at_rest_and_follows_its_references(robot, spec):
    assert np.abs(robot.read().velocity).max() == 0.0
    goal = spec.home.copy()
    goal[:6] += [0.2, 0.2, -0.2, 0.2, 0.3, 0.1]
    sent = robot.write(command(spec, goal))
    np.testing.assert_array_equal(sent.position, goal)
    robot.advance(1.0)
    state = robot.read()
    assert state.names == spec.joint_names
    assert state.stamp_ns == robot.time_ns == 1_000_000_000
    assert np.abs(state.position - goal).max() < 0.005


def test_a_robot_reports_what_was_really_sent(robot, spec):
    sent = robot.write(command(spec, spec.upper + 1.0, stamp_ns=5))
    np.testing.assert_array_equal(sent.position, spec.upper)
    assert sent.stamp_ns == 5


def test_a_robot_refuses_nan_and_foreign_names_without_moving(robot, spec):
    with pytest.raises(RobotError, match="finite"):
        robot.write(command(spec, np.full(14, np.nan)))
    with pytest.raises(RobotError, match="joint_names"):
        robot.write(Command(spec.joint_names[::-1], np.zeros(14), np.zeros(14), 0))
    robot.advance(0.5)
    assert np.abs(robot.read().position - spec.home).max() < 1e-3


def test_stop_holds_the_present_pose(robot, spec):
    goal = spec.home.copy()
    goal[0] = spec.upper[0]
    robot.write(command(spec, goal))
    robot.advance(0.3)
    robot.stop()
    robot.advance(0.2)
    held = robot.read().position
    robot.advance(0.5)
    np.testing.assert_allclose(robot.read().position, held, atol=1e-3)
    assert held[0] < goal[0] - 0.2


def test_a_robot_that_is_not_connected_says_so(robot, spec):
    robot.disconnect()
    robot.disconnect()
    for call in (robot.read, robot.stop, lambda: robot.write(command(spec, spec.home))):
        with pytest.raises(RobotError, match="connect"):
            call()


def test_sensor_noise_and_latency_are_what_was_asked_for(spec):
    sensors = SensorModel(position_noise=0.01, state_latency_s=0.05, command_latency_s=0.1)
    with MujocoRobot(spec, sensors=sensors) as robot:
        goal = spec.home.copy()
        goal[0] = 0.5
        robot.write(command(spec, goal))
        robot.advance(0.09)
        assert abs(robot.world.q[0]) < 1e-3
        assert robot.read().stamp_ns == 40_000_000
        robot.advance(1.5)
        assert abs(robot.world.q[0] - 0.5) < 0.01
        readings = []
        for _ in range(300):
            robot.advance(0.01)
            readings.append(robot.read().position - goal)
        assert 0.009 < np.std(readings) < 0.011
