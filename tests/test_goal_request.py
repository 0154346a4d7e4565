"""Goals in words and as ReachGoal requests: what is meant comes through, what is wrong is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_maker import make_bag
from wm_interfaces.action import ReachGoal

from wm_bridge.core.goal import GoalConfig
from wm_bridge.core.goal_card import goal_card, words
from wm_bridge.core.goal_kinds import BagFrame, JointsGoal, PictureGoal, PoseGoal
from wm_bridge.core.goal_text import parse_goal
from wm_bridge.errors import UserError
from wm_bridge.ros import convert
from wm_bridge.ros.goal_request import from_request, goal_config, to_request

RNG = np.random.default_rng(0)
PICTURE, OTHER = (RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8) for _ in range(2))
MASK = np.zeros((24, 32), np.uint8)
MASK[4:9, 5:20] = 255
TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # a quarter about z


def load(file: Path) -> np.ndarray:
    return PICTURE if file.name == "a.png" else OTHER


# Words --------------------------------------------------------------------------------------


def test_words_name_every_kind_of_goal() -> None:
    assert parse_goal("joints:elbow=-0.5, wrist=0.25", load) == JointsGoal({"elbow": -0.5, "wrist": 0.25})
    place = parse_goal("pose:0.3,-0.2,0.8", load)
    assert isinstance(place, PoseGoal) and place.rotation is None and place.position.tolist() == [0.3, -0.2, 0.8]
    half = np.sqrt(0.5)
    pose = parse_goal(f"pose:0.3,-0.2,0.8,0,0,{half},{half}", load)
    assert isinstance(pose, PoseGoal) and pose.rotation is not None
    np.testing.assert_allclose(pose.rotation, TURN, atol=1e-9)
    bag = parse_goal("bag:some/run@4.5@left/image_raw", load, MASK)
    assert isinstance(bag, BagFrame) and (bag.bag, bag.time_s, bag.topic) == (str(Path("some/run").absolute()), 4.5, "left/image_raw")
    one, row = parse_goal("a.png", load, MASK), parse_goal("a.png,b.png", load)
    assert isinstance(one, PictureGoal) and one.picture is PICTURE and one.mask is MASK
    assert isinstance(row, list) and [goal.picture is PICTURE for goal in row] == [True, False]


def test_a_file_with_a_comma_in_its_name_is_one_picture(tmp_path: Path) -> None:
    (tmp_path / "a,b.png").touch()
    assert isinstance(parse_goal(str(tmp_path / "a,b.png"), load), PictureGoal)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("joints:elbow", "expected NAME=RAD, got 'elbow'"),
        ("joints:elbow=much", "'much' is not a number"),
        ("joints:elbow=nan", "'nan' is not a finite number"),
        ("joints:elbow=1,elbow=2", "joint elbow is named twice"),
        ("pose:1,2", "expected 3 numbers .* got 2"),
        ("pose:1,2,3,0,0,0,0", "quaternion x, y, z, w of length 1"),
        ("bag:run", "expected FILE@SECONDS"),
        ("bag:run@soon", "'soon' is not a number"),
    ],
)
def test_words_that_make_no_goal_are_told_with_the_forms(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as told:
        parse_goal(text, load)
    assert "joints:NAME=RAD" in told.value.remedy and told.value.exit_code == 2


def test_a_mask_goes_with_pictures() -> None:
    with pytest.raises(UserError, match="a mask goes with pictures, not with pose"):
        parse_goal("pose:1,2,3", load, MASK)


# Requests -----------------------------------------------------------------------------------


def through(asked, **numbers: float):
    return from_request(to_request(asked, **numbers), None, "base_link")


def test_what_is_asked_for_comes_through_a_request(tmp_path: Path) -> None:
    joints = JointsGoal({"elbow": -0.5, "wrist": 0.25})
    assert through(joints) == joints
    free, turned = through(PoseGoal(np.array([0.3, -0.2, 0.8]))), through(PoseGoal(np.array([0.3, -0.2, 0.8]), TURN))
    assert free.rotation is None and free.position.tolist() == turned.position.tolist() == [0.3, -0.2, 0.8]
    np.testing.assert_allclose(turned.rotation, TURN, atol=1e-9)
    one, row = through(PictureGoal(PICTURE, MASK)), through([PictureGoal(PICTURE), PictureGoal(OTHER)])
    np.testing.assert_array_equal(one.picture, PICTURE)
    np.testing.assert_array_equal(one.mask, MASK)
    assert len(row) == 2 and (row[1].picture == OTHER).all() and row[0].mask is None
    found = through(BagFrame(str(make_bag(tmp_path / "bag", 1.0, goal=False)), 0.5))
    assert found.picture.shape == (240, 320, 3) and found.mask is None


def test_the_settings_of_a_request_win_where_they_are_not_zero() -> None:
    usual = GoalConfig()
    assert goal_config(ReachGoal.Goal(), usual) == usual
    numbers = {"tolerance_m": 0.1, "tolerance_rad": 0.2, "hold_s": 0.3, "switch_energy": 0.4, "switch_hold_s": 0.5, "timeout_s": 0.6}
    config = goal_config(to_request(JointsGoal({}), **numbers), usual)
    assert {name: getattr(config, name) for name in numbers} == numbers


def request(kind: int, **fields) -> ReachGoal.Goal:
    return ReachGoal.Goal(kind=kind, **fields)


def pose_in(frame: str, turn: tuple[float, ...] | None = None) -> ReachGoal.Goal:
    asked = request(2, turn=turn is not None)
    asked.pose.header.frame_id = frame
    if turn is not None:
        o = asked.pose.pose.orientation
        o.x, o.y, o.z, o.w = turn
    return asked


def joints_of(names: list[str], position: list[float]) -> ReachGoal.Goal:
    asked = request(1)
    asked.joints.name, asked.joints.position = names, position
    return asked


def wide(picture: np.ndarray, mask: np.ndarray | None = None) -> ReachGoal.Goal:
    return to_request(PictureGoal(picture, mask))


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (request(7), "goal kind 7 is not known; kinds are 0 image, 1 joints, 2 pose, 3 bag frame"),
        (request(0), "goal picture: "),
        (request(1, tolerance_rad=float("nan")), "tolerance_rad must be finite and not negative, got nan"),
        (joints_of(["a", "b"], [1.0]), "2 joint names and 1 positions"),
        (joints_of(["a", "a"], [1.0, 2.0]), "names joints twice"),
        (request(1, target="block"), "go with goal pictures only"),
        (request(2, mask=convert.to_mask(MASK)), "go with goal pictures only"),
        (pose_in("camera"), "the goal pose is in frame 'camera'; give it in 'base_link'"),
        (pose_in("/base_link", (0.0, 0.0, 0.0, 0.0)), "quaternion x, y, z, w of length 1, got"),
        (pose_in("", (float("nan"), 0.0, 0.0, 1.0)), "quaternion x, y, z, w of length 1, got"),
        (request(3, bag="/no/such/bag"), "bag /no/such/bag does not exist"),
        (wide(np.zeros((32, 24, 3), np.uint8)), "goal picture is 24x32, the camera gives 320x240"),
    ],
)
def test_requests_that_cannot_be_pursued_are_told(asked: ReachGoal.Goal, problem: str) -> None:
    live = convert.to_image(convert.Frame(np.zeros((240, 320, 3), np.uint8), 0, "camera"))
    with pytest.raises(ValueError, match=problem):
        from_request(asked, live, "base_link")


def test_every_goal_can_be_shown() -> None:
    np.testing.assert_array_equal(goal_card(PictureGoal(PICTURE)), PICTURE)
    part = goal_card(PictureGoal(PICTURE, MASK))
    np.testing.assert_array_equal(part[MASK > 0], PICTURE[MASK > 0])
    assert (part[MASK == 0] <= 63).all()
    for goal in (JointsGoal({"elbow": 0.5}), PoseGoal(np.array([0.3, -0.2, 0.8]))):
        card = goal_card(goal, 320, 240)
        assert card.shape == (240, 320, 3) and card.max() > 200
    assert words(JointsGoal({"elbow": 0.5})) == ["joints [rad]", "elbow 0.500"]
    assert words(PoseGoal(np.array([0.3, -0.2, 0.8])))[-1] == "any orientation"
