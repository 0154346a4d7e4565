"""Observation in, trajectory out; bad input comes back as a value."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from wm_bridge.core.goal import GoalConfig, GoalPhase, Outcome
from wm_bridge.core.goal_kinds import JointsGoal, PictureGoal, PoseGoal
from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.core.plan_step import PlanLoopConfig
from wm_bridge.core.tracking import TrajectoryTracker
from wm_bridge.core.types import Frame, JointState, Observation

MS = 1_000_000
NAMES = ("base", "elbow", "wrist")
SPEC = SimpleNamespace(
    joint_names=NAMES,
    lower=np.array([-1.0, -1.0, -1.0]),
    upper=np.array([1.0, 1.0, 1.0]),
    velocity=np.ones(3),
    acceleration=np.full(3, 5.0),
    jerk=np.full(3, 50.0),
)
PICTURE = np.zeros((4, 4, 3), np.uint8)


class StepPlanner:
    """Walks every joint towards a target by at most 0.05 rad per period."""

    joint_names = ("wrist", "base")
    period_s = 0.1

    def __init__(self, target=(0.4, -0.2)):
        self.target = np.array(target)
        self.goal = None
        self.resets = 0
        self.seen = []
        self.change = {}
        self.committed = []
        self.periods = []

    def encode_goal(self, image, target="hand"):
        if image.shape[0] < 4:
            raise ValueError("the picture is too small; send at least 4 rows")
        return SimpleNamespace(trust=1.0)

    def set_goal(self, goal):
        self.goal = goal

    def reset(self):
        self.resets += 1

    def plan(self, image, position, reference, deadline_s=None, periods=1, committed=()):
        self.periods.append(periods)
        self.seen.append((position, reference))
        self.committed.append(committed)
        reference = committed[-1] if len(committed) else reference
        steps = np.arange(1, 9)[:, None] * 0.05
        way = self.target - reference
        references = reference + np.sign(way) * np.minimum(np.abs(way), steps)
        distance = float(np.abs(self.target - position).max())
        values = dict(
            references=references,
            goal_energy=distance,
            distance_m=distance,
            object_distance_m=2.0,
            joint_distance_rad=0.0,
            trust=1.0,
        )
        return SimpleNamespace(**(values | self.change))


def observation(stamp_ms=1000, position=(0.0, 0.0, 0.0), reference=None, names=NAMES, **change):
    position = np.array(position)
    velocity = change.get("velocity", np.zeros(len(names)))
    joints = JointState(names, position, velocity, np.zeros(len(names)), round(change.get("joints_ms", stamp_ms) * MS))
    frame = Frame(change.get("image", PICTURE), round(stamp_ms * MS), "camera")
    return Observation(frame, joints, position if reference is None else reference)


def loop(planner=None, config=None, goal_config=None):
    made = PlanLoop(planner or StepPlanner(), SPEC, config, goal_config)
    assert made.set_goal(PICTURE, 900 * MS).ok
    return made


def test_planner_sees_its_joints_by_name_and_the_echo_clipped_to_the_limits():
    planner = StepPlanner()
    names = ("elbow", "wrist", "base")
    step = loop(planner).step(
        observation(names=names, position=(0.1, 0.2, 0.3), reference=np.array([-1.5, 0.0, 0.25])),
        1000 * MS,
    )
    assert step.refused == ""
    position, reference = planner.seen[0]
    np.testing.assert_array_equal(position, [0.2, 0.3])  # wrist, base
    np.testing.assert_array_equal(reference, [0.25, -1.0])


def test_trajectory_runs_half_way_between_references_and_ends_at_rest():
    step = loop(config=PlanLoopConfig(points=4)).step(observation(), 1000 * MS)
    trajectory, references = step.trajectory, step.plan.references
    assert trajectory.names == ("wrist", "base") and trajectory.stamp_ns == 1000 * MS
    assert trajectory.times_ns == tuple(round(t * MS) for t in (50, 150, 250, 350, 450))
    path = np.concatenate([np.zeros((1, 2)), references[:4]])
    np.testing.assert_allclose(trajectory.positions[:-1], (path[1:] + path[:-1]) / 2)
    np.testing.assert_allclose(trajectory.velocities[:-1], np.diff(path, axis=0) / 0.1)
    np.testing.assert_array_equal(trajectory.positions[-1], references[3])
    np.testing.assert_array_equal(trajectory.velocities[-1], [0.0, 0.0])


def test_a_plan_begins_where_the_plans_before_it_will_have_led():
    """Two periods pass until a plan is followed: the third one is begun as the first one is first followed."""
    planner = StepPlanner(target=(1.0, -1.0))
    made = loop(planner, PlanLoopConfig(points=4, delay_s=0.2))
    arm, sent = TrajectoryTracker(SPEC), []
    arm.start(np.zeros(3), now_ns=900 * MS)
    for k in range(8):
        now = 1000 + 100 * k
        for arrival in [s for s in sent if s[0] == now * MS]:
            arm.accept(arrival[1], now * MS)
        step = made.step(observation(now, arm.position(now * MS)), now * MS)
        assert step.trajectory.times_ns[0] == 250 * MS
        sent.append(((now + 200) * MS, step.trajectory))
    np.testing.assert_array_equal(planner.committed[0], np.zeros((2, 2)))  # nothing was sent yet
    assert all(len(row) == 2 for row in planner.committed)
    for k in range(6):  # what was foretold at frame k for two periods later is what was sent then
        _, later = planner.seen[k + 2]
        np.testing.assert_allclose(planner.committed[k][-1], later, atol=0.004)
        np.testing.assert_allclose(planner.committed[k + 1][0], later, atol=0.004)
    assert planner.seen[7][1][0] > 0.15, "the arm moves"


def test_the_delay_is_measured_from_the_frame_to_the_end_of_the_step():
    clock = iter(range(0, 10**12, 5 * MS))  # 5 ms between two looks at it
    planner = StepPlanner()
    made = PlanLoop(planner, SPEC, PlanLoopConfig(delay_s=None), clock=lambda: next(clock), speed=2.0)
    assert made.set_goal(PICTURE, 900 * MS).ok and made.delay_s == 0.0
    for k in range(30):
        made.step(observation(1000 + 100 * k), (1130 + 100 * k) * MS)
    assert made.delay_s == pytest.approx(0.130 + 2.0 * 3 * 0.005)
    assert [len(row) for row in planner.committed] == [0] + 29 * [2]


@pytest.mark.parametrize("delay_s", [-0.1, np.nan, np.inf])
def test_a_delay_that_makes_no_sense_is_refused(delay_s):
    with pytest.raises(ValueError, match="delay_s"):
        PlanLoopConfig(delay_s=delay_s)


def test_plans_never_leave_the_position_limits():
    step = loop(StepPlanner(target=(5.0, -5.0)), PlanLoopConfig(points=8)).step(
        observation(position=(-0.9, 0.0, 0.9)), 1000 * MS
    )
    assert np.abs(step.trajectory.positions).max() <= 1.0


def test_the_loop_reaches_the_goal_and_then_holds_still():
    made = loop(goal_config=GoalConfig(hold_s=0.3))
    q = np.zeros(3)
    for k in range(40):
        stamp = 1000 + 100 * k
        step = made.step(observation(stamp, q), stamp * MS)
        if step.outcome is not None:
            break
        q = q.copy()
        q[[2, 0]] = step.plan.references[0]
    assert step.outcome is Outcome.REACHED and step.status.progress == 1.0
    held = step.trajectory
    assert np.array_equal(held.velocities, np.zeros_like(held.velocities))
    np.testing.assert_array_equal(held.positions[0], q[[2, 0]])
    later = made.step(observation(stamp + 100, q + 0.01), (stamp + 100) * MS)
    np.testing.assert_array_equal(later.trajectory.positions, held.positions)
    assert later.plan is None and later.outcome is Outcome.REACHED
    assert made.counts.plans == k + 1 and made.counts.steps == k + 2


@pytest.mark.parametrize("target, outcome", [("hand", None), ("object", Outcome.REACHED)])
def test_joints_that_differ_delay_a_goal_of_the_hand_alone(target, outcome):
    planner = StepPlanner(target=(0.0, 0.0))
    planner.change = dict(joint_distance_rad=1.0, object_distance_m=0.0)
    made = loop(planner, PlanLoopConfig(target=target), GoalConfig(hold_s=0.3))
    steps = [made.step(observation(1000 + 100 * k), (1000 + 100 * k) * MS) for k in range(5)]
    assert steps[-1].outcome is outcome


def test_all_joints_of_what_is_planned_from_are_shown():
    shown = []
    made = PlanLoop(StepPlanner(), SPEC, observe=shown.append)
    assert made.set_goal(PICTURE, 900 * MS).ok
    made.step(observation(position=(0.1, 0.2, 0.3)), 1000 * MS)
    made.step(observation(1100, position=(np.nan, 0.0, 0.0)), 1100 * MS)
    assert [tuple(joints.position) for joints in shown] == [(0.1, 0.2, 0.3)]


def test_the_planner_is_told_how_many_periods_have_passed_since_its_last_plan_for_the_goal():
    planner = StepPlanner()
    made = loop(planner)
    for stamp_ms in (1000, 1100, 1210, 1360, 1660):
        assert made.step(observation(stamp_ms), stamp_ms * MS).plan is not None
    assert planner.periods == [1, 1, 1, 2, 3]
    assert made.set_goal(PICTURE, 2000 * MS).ok and made.step(observation(2500), 2500 * MS).plan is not None
    assert planner.periods[-1] == 1


def test_an_unknown_trust_ends_no_goal_and_a_bad_one_does():
    for trust, outcome in ((math.nan, None), (0.001, Outcome.NOT_TRUSTED)):
        planner = StepPlanner()
        planner.change = {"trust": trust}
        made = loop(planner)
        steps = [made.step(observation(1000 + 100 * k), (1000 + 100 * k) * MS) for k in range(12)]
        assert steps[-1].outcome is outcome


def test_a_new_goal_after_the_old_one_plans_again():
    planner = StepPlanner()
    made = loop(planner, goal_config=GoalConfig(timeout_s=0.5))
    assert made.step(observation(2000), 2000 * MS).outcome is Outcome.TIMEOUT
    assert made.set_goal(PICTURE, 2000 * MS).ok and planner.resets == 2
    step = made.step(observation(2100), 2100 * MS)
    assert step.plan is not None and step.outcome is None
    step = made.step(observation(2600, (0.3, 0.3, 0.3)), 2600 * MS)
    assert step.outcome is Outcome.TIMEOUT
    np.testing.assert_array_equal(step.trajectory.positions[0], [0.3, 0.3])


@pytest.mark.parametrize(
    "change, now_ms, words",
    [
        ({"position": (0.0, np.nan, 0.0)}, 1000, "joint state is not finite"),
        ({"velocity": np.array([0.0, np.inf, 0.0])}, 1000, "joint state is not finite"),
        ({"reference": np.array([0.0, np.nan, 0.0])}, 1000, "reference is not finite"),
        ({"reference": np.zeros(2)}, 1000, "reference has shape"),
        ({"joints_ms": 975}, 1000, "align"),
        ({}, 1400, "400 ms old"),
        ({"names": NAMES[:2], "position": (0.0, 0.0), "reference": np.zeros(3)}, 1000, "lacks"),
        ({"image": np.zeros((0, 4, 3), np.uint8)}, 1000, "camera picture"),
    ],
)
def test_a_bad_observation_is_refused_with_the_reason(change, now_ms, words):
    planner = StepPlanner()
    made = loop(planner)
    step = made.step(observation(1000, **change), now_ms * MS)
    assert words in step.refused and step.trajectory is None and not planner.seen
    assert made.counts.refused == 1 and made.counts.failed == 0


def test_the_same_frame_is_not_planned_twice():
    made = loop()
    assert made.step(observation(1000), 1000 * MS).refused == ""
    assert "not newer" in made.step(observation(1000), 1010 * MS).refused


def test_after_a_clock_reset_frames_are_taken_again():
    made = loop()
    made.step(observation(10_000), 10_000 * MS)
    assert made.step(observation(1000), 1000 * MS).refused == ""


@pytest.mark.parametrize(
    "references", [np.full((8, 2), np.nan), np.zeros((8, 3)), np.zeros((0, 2)), "nonsense"]
)
def test_a_planner_that_returns_nonsense_gives_no_trajectory(references):
    planner = StepPlanner()
    planner.change = {"references": references}
    made = loop(planner)
    step = made.step(observation(), 1000 * MS)
    assert step.trajectory is None and "plan" in step.refused and made.counts.failed == 1


def test_a_planner_that_raises_gives_a_value():
    planner = StepPlanner()
    planner.plan = lambda *args: 1 / 0
    step = loop(planner).step(observation(), 1000 * MS)
    assert step.trajectory is None and "division" in step.refused


def test_without_a_goal_nothing_is_planned():
    step = PlanLoop(StepPlanner(), SPEC).step(observation(), 1000 * MS)
    assert "no goal" in step.refused and step.status.phase is GoalPhase.IDLE


@pytest.mark.parametrize(
    "picture, words",
    [
        (np.zeros((4, 4), np.uint8), "(height, width, 3)"),
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((2, 4, 3), np.uint8), "too small"),
        (None, "uint8"),
    ],
)
def test_a_bad_goal_picture_is_refused_and_the_old_goal_stays(picture, words):
    made = loop()
    made.step(observation(), 1000 * MS)
    answer = made.set_goal(picture, 1100 * MS)
    assert not answer.ok and words in answer.message
    assert made.status.phase is not GoalPhase.IDLE


def test_the_object_distance_decides_when_it_is_the_target():
    step = loop(config=PlanLoopConfig(target="object")).step(observation(), 1000 * MS)
    assert step.summary.distance_m == 2.0


def test_a_planner_for_another_robot_is_refused_at_once():
    planner = StepPlanner()
    planner.joint_names = ("knee",)
    with pytest.raises(ValueError, match="knee"):
        PlanLoop(planner, SPEC)


class ManyGoals(StepPlanner):
    """Takes every kind of goal and notes what it was given."""

    def __init__(self):
        super().__init__()
        self.asked, self.pursued = [], []

    def encode_goal(self, image, target="hand", mask=None):
        self.asked.append(("picture", int(image.flat[0]), mask))
        return SimpleNamespace(trust=1.0, name=f"picture {image.flat[0]}")

    def joints_goal(self, joints):
        if "tail" in joints:
            raise ValueError("there is no joint tail")
        self.asked.append(("joints", dict(joints)))
        return SimpleNamespace(trust=1.0, name="joints")

    def pose_goal(self, position, rotation=None):
        self.asked.append(("pose", tuple(position), rotation))
        return SimpleNamespace(trust=1.0, name="pose")

    def set_goal(self, goal):
        self.pursued.append(goal.name)


def pursue(asked, config=None, **change):
    """A loop that is at its goal at once, and its planner."""
    planner = ManyGoals()
    planner.change = {"distance_m": 0.001, "joint_distance_rad": 9.0, "angle_rad": 0.01, "goal_trust": 1.0} | change
    made = PlanLoop(planner, SPEC, None, config)
    answer = made.set_goal(asked, 900 * MS)
    return made, planner, answer


def steps(made, count=8):
    return [made.step(observation(1000 + 100 * k), (1000 + 100 * k) * MS) for k in range(count)]


def test_joints_are_reached_by_their_angle_alone():
    made, planner, answer = pursue(JointsGoal({"wrist": 0.2}), distance_m=float("nan"))
    assert answer.ok and planner.asked == [("joints", {"wrist": 0.2})]
    assert steps(made)[-1].outcome is Outcome.REACHED
    far, _, _ = pursue(JointsGoal({"wrist": 0.2}), angle_rad=0.06)
    assert steps(far)[-1].outcome is None


def test_a_pose_is_reached_by_place_and_turn():
    made, planner, answer = pursue(PoseGoal(np.array([0.3, 0.0, 0.7]), np.eye(3)))
    assert answer.ok and planner.asked[0][:2] == ("pose", (0.3, 0.0, 0.7))
    assert steps(made)[-1].outcome is Outcome.REACHED
    turned, _, _ = pursue(PoseGoal(np.array([0.3, 0.0, 0.7]), np.eye(3)), angle_rad=0.3)
    away, _, _ = pursue(PoseGoal(np.array([0.3, 0.0, 0.7])), distance_m=0.2)
    assert steps(turned)[-1].outcome is None and steps(away)[-1].outcome is None


def test_a_goal_that_the_planner_refuses_leaves_the_old_one():
    made, planner, _ = pursue(JointsGoal({"wrist": 0.2}))
    answer = made.set_goal(JointsGoal({"tail": 1.0}), 950 * MS)
    assert not answer.ok and answer.message == "the planner does not take this goal: there is no joint tail"
    assert planner.pursued == ["joints"] and steps(made)[-1].outcome is Outcome.REACHED


def test_pictures_in_a_row_are_pursued_one_after_the_other():
    first, second = np.full((4, 4, 3), 1, np.uint8), np.full((4, 4, 3), 2, np.uint8)
    made, planner, answer = pursue(
        [PictureGoal(first), PictureGoal(second)], GoalConfig(switch_energy=0.1), distance_m=0.2, goal_energy=0.05, joint_distance_rad=0.0
    )
    assert answer.ok and planner.pursued == ["picture 1"]
    step = made.step(observation(1000), 1000 * MS)
    assert planner.pursued == ["picture 1", "picture 2"] and (step.status.stage, step.status.stages) == (2, 2)
    planner.change["distance_m"] = 0.001
    assert [made.step(observation(1100 + 100 * k), (1100 + 100 * k) * MS) for k in range(8)][-1].outcome is Outcome.REACHED
    bad = made.set_goal([PictureGoal(first), PictureGoal(second[..., 0])], 2000 * MS)
    assert not bad.ok and bad.message.startswith("goal 2 of 2: picture must be (height, width, 3)")
    assert not made.set_goal([], 2000 * MS).ok


def test_of_a_masked_picture_the_trust_is_that_beside_the_frame():
    mask = np.ones((4, 4), np.uint8)
    made, planner, answer = pursue(PictureGoal(PICTURE, mask), goal_trust=0.0)
    assert answer.ok and planner.asked[0][2] is mask
    assert steps(made, 1)[-1].outcome is Outcome.NOT_TRUSTED
    whole, _, _ = pursue(PictureGoal(PICTURE), goal_trust=0.0)
    assert steps(whole, 1)[-1].outcome is None
