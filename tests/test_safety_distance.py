"""Distances: the geometry is right, margins are kept, things added mid-run are obeyed."""

import dataclasses

import coal
import numpy as np
import pinocchio
import pytest
from test_safety_filter import CONFIG

from wm_bridge.bench.safety_loop import CoalDistances, SafetyLoop
from wm_bridge.core.types import Reason, SafetyMode
from wm_bridge.robots import spec as robots
from wm_bridge.safety import qp
from wm_bridge.safety.chain import Chain
from wm_bridge.safety.guard import DistanceGuard
from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.shapes import RobotShapes
from wm_bridge.safety.surroundings import build

SPEC = robots.load("nico")
SHAPES = RobotShapes.from_spec(SPEC)
THINGS = (
    Obstacle("ball", "sphere", (0.05,), (0.45, -0.30, 0.80)),
    Obstacle("bar", "capsule", (0.02, 0.3), (0.40, 0.0, 0.90), (0.0, 0.6, 0.0, 0.8)),
    Obstacle("crate", "box", (0.1, 0.1, 0.2), (0.55, 0.1, 0.75), (0.0, 0.0, 0.6, 0.8)),
)


@pytest.fixture
def guard():
    made = DistanceGuard(SHAPES, CONFIG.scene, 0.01)
    for thing in THINGS:
        made.add(thing, 0)
    made.start(SPEC.home)
    return made


def postures(count, seed=0):
    return np.random.default_rng(seed).uniform(SPEC.lower, SPEC.upper, (count, len(SPEC.joint_names)))


def test_batched_frames_are_those_of_pinocchio():
    chain = Chain(SPEC)
    data = chain.model.createData()
    order = [SPEC.joint_names.index(name) for name in chain.model.names[1:]]
    q = postures(40)
    frames = chain.frames(q)
    for k, row in enumerate(q):
        pinocchio.forwardKinematics(chain.model, data, row[order])
        for joint in range(chain.model.njoints):
            np.testing.assert_allclose(frames[k, joint], data.oMi[joint].homogeneous, atol=1e-12)


def test_no_distance_is_larger_than_the_true_one_of_coal(guard):
    """Covers and face normals may only make things nearer than they are."""
    witness = CoalDistances(SPEC, CONFIG)
    witness.set_obstacles(THINGS)
    for q in postures(60):
        assert guard.tightest(q).room <= witness.room(q) + 1e-6


def placed(model, geometry, q):
    """Geometry objects of the URDF with their poses, by pinocchio alone."""
    data, found = model.createData(), geometry.createData()
    order = [SPEC.joint_names.index(name) for name in model.names[1:]]
    pinocchio.updateGeometryPlacements(model, data, geometry, found, q[order])
    return list(zip(geometry.geometryObjects, found.oMg, strict=True))


def test_every_single_pair_is_at_most_as_far_as_coal_says_and_boxes_over_things_are_exact(guard):
    """Not only the tightest one: each pair may be the one that counts."""
    model = pinocchio.buildModelFromUrdf(str(SPEC.urdf_path()))
    geometry = pinocchio.buildGeomFromUrdf(model, str(SPEC.urdf_path()), pinocchio.GeometryType.COLLISION)
    pairs, asked, answer = guard._pairs, coal.DistanceRequest(), coal.DistanceResult()
    others = {thing.name: thing for thing in (*THINGS, CONFIG.scene.table_box())}
    kinds = {"box": coal.Box, "sphere": coal.Sphere, "capsule": coal.Capsule}
    lower, upper = CONFIG.scene.workspace_lower, CONFIG.scene.workspace_upper
    for q in postures(12, seed=3):
        mine, places = pairs.sweep.at(q), placed(model, geometry, q)
        for k, name in enumerate(pairs.names):
            item, M = places[pairs.shape[k]]
            thing = name.rpartition(" - ")[2]
            if k >= sum(pairs.runs[:2]):  # room inside of the workspace
                if isinstance(item.geometry, coal.Box):
                    reach = np.abs(M.rotation) @ item.geometry.halfSide
                else:  # a cylinder is held as a capsule around it
                    reach = np.abs(M.rotation[:, 2]) * getattr(item.geometry, "halfLength", 0.0) + item.geometry.radius
                room = min((upper - M.translation - reach).min(), (M.translation - reach - lower).min())
                assert mine[k] == pytest.approx(room, abs=1e-9), name
                continue
            if thing in others:
                shape, N = kinds[others[thing].shape](*others[thing].size), pinocchio.SE3(others[thing].rotation(), others[thing].position)
            else:
                other, N = places[pairs.other[k]]
                shape = other.geometry
            poses = [coal.Transform3s(T.rotation, T.translation) for T in (M, N)]
            answer.clear()
            true = coal.distance(item.geometry, poses[0], shape, poses[1], asked, answer)
            if true > 0.0:
                assert mine[k] <= true + 1e-6, name


def test_the_witness_of_the_long_runs_sees_the_walls_of_the_workspace():
    open_room, q = CoalDistances(SPEC, CONFIG), SPEC.home
    for room in (0.02, 0.0, -0.05):
        boxed = dataclasses.replace(CONFIG, scene=open_room.boxed(q, room))
        assert CoalDistances(SPEC, boxed).room(q) == pytest.approx(min(room, open_room.room(q)), abs=1e-12)


def test_the_hand_over_the_table_is_measured_exactly(guard):
    """The table margin is a few millimetres: no cover may eat them up."""
    pairs, scene = guard._pairs, CONFIG.scene
    table = np.array([k for k, name in enumerate(pairs.names) if name == "right_palm - table"])
    palm = [k for k, name in enumerate(SHAPES.names) if name == "right_palm"]
    assert (SHAPES.radius[palm] == 0.0).all()  # boxes: their own corners
    over = 0
    for q in postures(300):
        frames = SHAPES.chain.frames(q)[SHAPES.joint[palm]]
        corners = SHAPES.points[palm] @ np.swapaxes(frames[:, :3, :3], 1, 2) + frames[:, None, :3, 3]
        corners = corners.reshape(-1, 3)
        height = corners[:, 2].min() - scene.table_upper[2]
        inside = (corners[:, :2] > scene.table_lower[:2]) & (corners[:, :2] < scene.table_upper[:2])
        if inside.all() and height > 0:
            over += 1
            found = pairs.sweep.at(q)[table].min()
            assert found == pytest.approx(height, abs=1e-12)
    assert over > 5


def test_a_pair_exactly_at_its_margin_has_it_and_one_inside_may_come_no_nearer_than_half_a_millimetre():
    room = DistanceGuard(SHAPES, CONFIG.scene, 0.01)
    room.start(SPEC.home)
    pair = int(np.flatnonzero(room._pairs.kind == int(Reason.TABLE_DISTANCE))[0])
    distance = float(room._distance[pair])
    for margin, floor in ((distance, distance), (np.nextafter(distance, 1.0), distance - 0.0005)):
        made = DistanceGuard(SHAPES, dataclasses.replace(CONFIG.scene, table_margin_m=float(margin)), 0.01)
        made.start(SPEC.home)
        assert made._distance[pair] == distance and made._floor[pair] == floor


def test_what_was_measured_in_a_tick_is_remembered_with_its_place(guard):
    """Again and again the same pairs from other places: each time the distances of that place."""
    rng, seen = np.random.default_rng(6), 0
    for _ in range(40):
        q = SPEC.home + rng.normal(0, 1e-7, len(SPEC.joint_names))
        found = guard.assess(q, np.tile(q + 0.1, (3, 1)), 0)
        assert np.array_equal(guard._where[found.pairs], np.tile(q, (len(found.pairs), 1)))
        np.testing.assert_allclose(guard._distance[found.pairs], guard._pairs.sweep.at(q)[found.pairs], atol=1e-12)
        seen += len(found.pairs)
    assert seen > 400


def test_links_that_may_touch_are_no_pair_and_all_others_are():
    every = build(SHAPES, CONFIG.scene, {}).names
    scene = dataclasses.replace(CONFIG.scene, self_ignore=[["right_palm", "left_palm"], ["torso", "nothing"]])
    gone = set(every) - set(build(SHAPES, scene, {}).names)
    assert gone and all({"left_palm", "right_palm"} == set(name.split(" - ")) for name in gone)


def test_a_thing_may_bear_the_name_of_a_link_and_is_no_part_of_the_robot_then(guard):
    for name in set(SHAPES.names):
        guard.add(Obstacle(name, "sphere", (0.02,), (0.5, -0.5, 1.2)), 0)
    keys = guard._keys()
    assert len(set(keys)) == len(keys) == len(guard._pairs.names)


def test_gradients_are_the_slopes_of_the_distances(guard):
    pairs, every = guard._pairs, np.arange(len(guard._pairs.names))

    wrong = total = 0
    for q in postures(8):
        slopes = pairs.sweep.gradients(q, every)
        for joint in range(len(q)):
            step = np.zeros_like(q)
            step[joint] = 1e-6
            numeric = (pairs.sweep.at(q + step) - pairs.sweep.at(q - step)) / 2e-6
            assert (np.abs(numeric) <= pairs.lever[:, joint] + 1e-6).all()
            wrong += int((np.abs(numeric - slopes[:, joint]) > 1e-4).sum())
            total += len(every)
    assert wrong <= 1e-3 * total  # where the nearest corner changes there is no slope


def test_the_swept_bound_holds_between_the_postures(guard):
    rng = np.random.default_rng(1)
    every = np.arange(len(guard._pairs.names))
    for q in postures(15, seed=1):
        end = q + rng.normal(0, 0.03, len(q))
        way = q + np.linspace(0, 1, 21)[:, None] * (end - q)
        bound = guard._pairs.sweep.along(np.stack([q, end]), every, True).lowest
        lowest = np.min([guard._pairs.sweep.at(row) for row in way], axis=0)
        assert (bound <= lowest + 1e-9).all()


def test_no_certificate_tells_of_more_room_than_there_is_along_the_way(guard):
    """Small ways, which two postures decide, as well as long ones, which are looked at between."""
    rng, told = np.random.default_rng(2), 0
    for q in postures(150, seed=4):
        way = rng.normal(size=len(q)) * 10.0 ** rng.uniform(-7, -2)
        outputs = q + np.linspace(0.2, 1.0, 5)[:, None] * way
        for _ in range(2):  # the second time the distances at q are known
            found = guard.assess(q, outputs, 0).certificate
        if found.name:
            pair = np.array([k for k, name in enumerate(guard._pairs.names) if name == found.name])
            least = min(guard._pairs.sweep.at(row)[pair].min() for row in (q, *outputs))
            assert found.distance <= least + 1e-9
            told += 1
    assert told > 50


@pytest.mark.parametrize("arms", [("right_arm",), ("right_arm", "left_arm")])
@pytest.mark.parametrize("walls", [np.inf, 0.1])
def test_no_margin_is_broken_by_any_plan_message_or_thing(arms, walls):
    config = CONFIG if walls == np.inf else dataclasses.replace(CONFIG, scene=CoalDistances(SPEC, CONFIG).boxed(SPEC.home, walls))
    loop = SafetyLoop(SPEC, config, np.random.default_rng(5), arms)
    found = loop.run(1200, hostile=True, check_every=2)
    assert found.breaches == 0 and found.broken_certificates == 0 and not found.latched, found.least_room_m
    assert found.limited > 50, "nothing came near anything: the test tests nothing"
    assert np.abs(np.diff(np.array(found.outputs), axis=0)).max() > 0.003, "the arm hardly moved"
    assert walls == np.inf or any(note.reasons & Reason.WORKSPACE for note in loop.filter.take_interventions())


def test_without_distances_the_same_plans_do_hit_something():
    config = dataclasses.replace(CONFIG, scene=dataclasses.replace(CONFIG.scene, enabled=False))
    loop = SafetyLoop(SPEC, config, np.random.default_rng(5))
    assert loop.run(1200, hostile=False, check_every=2).breaches > 0


def test_equal_inputs_give_equal_bits_near_things_too():
    runs = [SafetyLoop(SPEC, CONFIG, np.random.default_rng(3)).run(300, hostile=True, check_every=0) for _ in range(2)]
    assert np.array_equal(runs[0].outputs, runs[1].outputs)


def test_a_thing_added_in_the_way_is_obeyed_at_the_next_tick():
    loop = SafetyLoop(SPEC, CONFIG, np.random.default_rng(0))
    goal = SPEC.home[loop.place].copy()
    goal[loop.names.index("r_shoulder_z")] = 0.6

    def drive(ticks):
        for k in range(ticks):
            if k % 10 == 0:
                way = np.clip(goal - loop.q[loop.place], -0.05, 0.05)
                loop.submit(loop.q[loop.place] + np.outer(np.arange(6), way))
            loop.run_quietly(1)

    drive(30)
    frames = SHAPES.chain.frames(loop.q)
    ahead = loop.q.copy()
    ahead[SPEC.joint_names.index("r_shoulder_z")] += 0.35
    wrist = SHAPES.chain.frames(ahead)[SHAPES.joint[SHAPES.names.index("right_palm")], :3, 3]
    assert np.linalg.norm(wrist - frames[SHAPES.joint[SHAPES.names.index("right_palm")], :3, 3]) > 0.1
    thing = Obstacle("box", "sphere", (0.03,), wrist)
    assert loop.filter.add_obstacle(thing).ok
    loop.witness.set_obstacles((thing,))
    modes = []
    for _ in range(20):
        drive(10)
        assert loop.witness.room(loop.q) >= -1e-6
        modes.append(loop.filter.status())
    assert modes[-1].mode is SafetyMode.LIMITED and modes[-1].reasons & Reason.OBSTACLE_DISTANCE
    assert " at 0.0" in modes[-1].detail and f"margin {CONFIG.scene.obstacle_margin_m:.4f} m" in modes[-1].detail
    notes = loop.filter.take_interventions()
    assert any(note.reasons & Reason.OBSTACLE_DISTANCE and note.distance_m >= note.margin_m - 1e-9 for note in notes)
    stuck = loop.q.copy()
    assert loop.filter.remove_obstacle("box").ok
    drive(100)
    assert np.abs(loop.q - stuck).max() > 0.1
    assert not loop.filter.remove_obstacle("box").ok


def test_a_thing_that_may_move_is_given_more_room_the_longer_it_was_not_seen():
    still, quick = DistanceGuard(SHAPES, CONFIG.scene, 0.01), DistanceGuard(SHAPES, CONFIG.scene, 0.01)
    place = (0.5, -0.3, 0.9)
    still.add(Obstacle("x", "sphere", (0.05,), place), 0)
    quick.add(Obstacle("x", "sphere", (0.05,), place, speed_bound_m_s=0.5), 0)
    for guard in (still, quick):
        guard.start(SPEC.home)
    outputs = np.tile(SPEC.home, (3, 1))
    assert still.assess(SPEC.home, outputs, 10**9).certificate.room > 0
    assert quick.assess(SPEC.home, outputs, 0).certificate.room > 0
    assert quick.assess(SPEC.home, outputs, 10**9).certificate.room < 0


@pytest.mark.parametrize(
    "fields, word",
    [
        ({"shape": "cone"}, "shape"),
        ({"size": (0.1, 0.2)}, "sizes"),
        ({"size": (-0.1,)}, "positive"),
        ({"size": (np.nan,)}, "positive"),
        ({"position": (0, 0, np.inf)}, "position"),
        ({"orientation": (0, 0, 0, 0)}, "quaternion"),
        ({"speed_bound_m_s": -1.0}, "speed"),
        ({"name": ""}, "name"),
    ],
)
def test_a_senseless_thing_is_refused(fields, word):
    good = {"name": "x", "shape": "sphere", "size": (0.1,), "position": (0, 0, 1)}
    with pytest.raises(ValueError, match=word):
        Obstacle(**(good | fields))


# ---- the solver is never believed ---------------------------------------------------


def programme(seed=0, rows=6):
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(-1, 0, 14), rng.uniform(0.1, 1, 14)
    inside = rng.uniform(low, high)
    G = rng.normal(size=(rows, 14))
    return rng.uniform(-2, 2, 14), low, high, G, G @ inside - 0.1


@pytest.mark.parametrize("seed", range(15))
def test_quadprog_agrees_with_the_oracle(seed):
    ours, theirs = qp.solve(*programme(seed)), qp.solve(*programme(seed), qp.CvxpySolver())
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_poison_in_any_input_gives_no_answer(place, value):
    parts = [part.copy() for part in programme()]
    parts[place].flat[0] = value
    assert qp.solve(*parts) is None


def test_a_box_that_is_empty_for_one_joint_has_no_answer():
    wish, low, high, G, h = programme()
    low, high = low.copy(), high.copy()
    low[1], high[1] = high[1] + 1e-6, high[1]
    assert qp.solve(wish, low, high, G, h) is None
    assert qp.solve(wish, low, high, np.zeros_like(G), np.full_like(h, -1.0)) is None


def test_contradicting_rows_give_no_answer_with_either_backend():
    wish, low, high, G, h = programme()
    for backend in (None, qp.CvxpySolver()):
        assert qp.solve(wish, low, high, np.vstack([G, -G]), np.concatenate([h + 99, -h + 99]), backend) is None


@pytest.mark.parametrize(
    "answer",
    [
        lambda wish, *_: np.full_like(wish, np.nan),
        lambda wish, low, high, *_: np.clip(wish, low, high),  # in the box, but against the rows
        lambda wish, *_: wish + 50.0,
        lambda wish, low, *_: low - 1e-3,
        lambda wish, *_: None,
        lambda wish, *_: wish[:3],
        lambda *_: 1 / 0,
    ],
)
def test_whatever_a_broken_solver_answers_is_caught(answer):
    wish, low, high, G, h = programme()
    assert (G @ np.clip(wish, low, high) < h - 1e-3).any()  # the rows do matter
    assert qp.solve(*programme(), answer) is None


def test_a_broken_solver_leaves_the_margins_unbroken():
    def liar(wish, *_):
        return wish

    loop = SafetyLoop(SPEC, CONFIG, np.random.default_rng(5))
    loop.filter._chooser._solver = liar
    found = loop.run(600, hostile=False, check_every=2)
    assert found.breaches == 0 and found.limited > 0 and not found.latched
