"""URDF, configuration and MuJoCo scene describe one and the same robot."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import yaml
from wm_bridge import resources
from wm_bridge.core.kinematics import Kinematics
from wm_bridge.robots import spec as robot_spec
from wm_bridge.sim.world import SimWorld

FRAMES = ("right_tcp", "left_tcp", "right_lower_arm", "left_palm", "left_eye_optical", "head")


@pytest.fixture(scope="module")
def spec():
    return robot_spec.load("nico")


@pytest.fixture(scope="module")
def world(spec):
    world = SimWorld(spec)
    yield world
    world.close()


def test_joint_order_is_right_arm_left_arm_head(spec):
    groups = spec.groups
    assert spec.joint_names == groups["right_arm"] + groups["left_arm"] + groups["head"]
    assert len(spec.joint_names) == 14
    assert spec.indices("left_arm").tolist() == [6, 7, 8, 9, 10, 11]


def test_urdf_config_and_mujoco_agree_on_joints_and_limits(spec, world):
    lower, upper = Kinematics(spec).limits()
    np.testing.assert_allclose(lower, spec.lower, atol=1e-9)
    np.testing.assert_allclose(upper, spec.upper, atol=1e-9)
    for index, name in enumerate(spec.joint_names):
        joint = world.model.joint(name)
        np.testing.assert_allclose(joint.range, [spec.lower[index], spec.upper[index]], atol=1e-9)
        servo = world.model.actuator(name)
        effort = world.model.jnt_actfrcrange[joint.id]  # the weight's share included
        assert effort.tolist() == [-spec.effort[index], spec.effort[index]]
        assert servo.forcerange.tolist() == [-spec.effort[index], spec.effort[index]]


def test_urdf_limits_of_speed_and_effort_are_those_of_the_config(spec):
    tree = ElementTree.parse(spec.urdf_path())
    limits = {
        joint.get("name"): joint.find("limit")
        for joint in tree.iter("joint")
        if joint.get("type") == "revolute"
    }
    assert set(limits) == set(spec.joint_names)
    for index, name in enumerate(spec.joint_names):
        assert float(limits[name].get("velocity")) == spec.velocity[index] <= 1.0
        assert float(limits[name].get("effort")) == spec.effort[index] <= 6.0


def test_forward_kinematics_of_mujoco_and_pinocchio_agree(spec, world):
    kinematics, rng = Kinematics(spec), np.random.default_rng(0)
    for _ in range(200):
        q = rng.uniform(spec.lower, spec.upper)
        world.reset(q, objects={})
        for frame in FRAMES:
            T_base_frame = kinematics.forward(q, frame)
            body = world.data.body(frame)
            np.testing.assert_allclose(T_base_frame[:3, 3], body.xpos, atol=1e-6)
            np.testing.assert_allclose(T_base_frame[:3, :3].ravel(), body.xmat, atol=1e-6)


def test_hanging_hands_are_where_the_published_model_has_them(spec):
    kinematics, zero = Kinematics(spec), np.zeros(14)
    right, left = (kinematics.forward(zero, frame)[:3, 3] for frame in ("right_tcp", "left_tcp"))
    np.testing.assert_allclose(right, [0.0003, -0.1255, 0.3584], atol=1e-4)
    np.testing.assert_allclose(left, [0.0043, 0.1260, 0.3595], atol=1e-4)


def test_jacobian_is_the_derivative_of_the_position(spec):
    kinematics, rng = Kinematics(spec), np.random.default_rng(1)
    for arm, frame in spec.tools.items():
        q = rng.uniform(spec.lower, spec.upper)
        jacobian, step = kinematics.jacobian(q, frame), 1e-6
        for joint in range(14):
            delta = np.zeros(14)
            delta[joint] = step
            ahead = kinematics.positions(np.stack([q + delta, q - delta]), frame)
            slope = (ahead[0] - ahead[1]) / (2 * step)
            np.testing.assert_allclose(jacobian[:3, joint], slope, atol=1e-6)
        others = np.setdiff1d(np.arange(14), spec.indices(arm))
        assert not jacobian[:, others].any()


def test_optical_frames_look_forward_with_x_to_the_right(spec):
    q = spec.home.copy()
    q[spec.indices("head")] = 0.0
    R_base_optical = Kinematics(spec).forward(q, "left_eye_optical")[:3, :3]
    np.testing.assert_allclose(R_base_optical[:, 2], [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(R_base_optical[:, 0], [0, -1, 0], atol=1e-9)


def test_masses_are_those_of_a_real_arm(world):
    for side in ("right", "left"):
        names = ("shoulder", "collarbone", "upper_arm", "lower_arm", "wrist", "palm")
        mass = sum(float(world.model.body(f"{side}_{name}").mass[0]) for name in names)
        assert 1.0 <= mass <= 1.2


def test_home_is_free_of_contact_and_inside_the_workspace(spec, world):
    world.reset()
    assert not world.in_contact("right_arm") and not world.in_contact("left_arm")
    assert spec.workspaces["right_arm"].contains(world.hand_position("right_arm"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda data: data.update(workspace={}), "nearest is 'workspaces'"),
        (lambda data: data["joints"]["r_arm_x"].update(hom=0), "nearest is 'home'"),
        (lambda data: data["joints"]["r_arm_x"].update(home=2.0), "outside its limits"),
        (lambda data: data["joints"]["r_arm_x"].update(limits=[1, -1]), "not ordered"),
        (lambda data: data["joints"]["r_arm_x"].update(velocity=float("nan")), "finite"),
        (lambda data: data["defaults"].update(effort=-1.0), "must be > 0"),
        (lambda data: data["groups"]["head"].append("head_yy"), "nearest is 'head_y'"),
    ],
)
def test_mistakes_in_the_yaml_are_named(change, text):
    data = yaml.safe_load(resources.path("config/robots/nico.yaml").read_text(encoding="utf-8"))
    change(data)
    with pytest.raises(ValueError, match=text):
        robot_spec.from_dict(data)


def test_the_spec_cannot_be_changed(spec):
    with pytest.raises(ValueError, match="read-only"):
        spec.lower[0] = -10.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.lower = None


def test_unknown_names_list_what_there_is(spec):
    with pytest.raises(FileNotFoundError, match="nico"):
        robot_spec.load("nica")
    with pytest.raises(ValueError, match="r_elbow_y"):
        spec.index("r_elbow")
    with pytest.raises(ValueError, match="right_tcp"):
        Kinematics(spec).forward(spec.home, "tool0")


def test_resources_stay_inside_the_repository():
    with pytest.raises(ValueError, match="relative"):
        resources.path("../outside")
    with pytest.raises(FileNotFoundError, match="shipped"):
        resources.path("urdf/none.urdf")


def test_a_robot_file_that_is_no_yaml_says_where(tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\njoints: {a: [1\n")
    with pytest.raises(ValueError, match="mine.yaml is not YAML.*"):
        robot_spec.load(str(tmp_path / "mine.yaml"))
