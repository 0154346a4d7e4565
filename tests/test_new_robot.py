"""From a foreign URDF with meshes to a robot that the safety filter can be built for."""

from __future__ import annotations

import re
import shutil
import struct

import numpy as np
import pytest
from transforms3d.euler import euler2mat

from wm_bridge import resources
from wm_bridge.cli import new_robot
from wm_bridge.core.kinematics import Kinematics
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.robots.capsules import enclose
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.filter import SafetyFilter
from wm_bridge.safety.shapes import RobotShapes


@pytest.mark.parametrize("seed", range(30))
def test_a_capsule_covers_every_point_and_is_no_larger_than_simple_ones(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(int(rng.integers(1, 400)), 3)) * rng.uniform(0.001, 0.3, 3) + rng.normal(size=3)
    found = enclose(points)
    assert (found.distance(points) <= found.radius).all()
    centre = points.mean(0)
    ball = 4 / 3 * np.pi * np.linalg.norm(points - centre, axis=1).max() ** 3
    assert found.volume <= ball * 1.001 + 1e-12


def test_a_capsule_is_found_again():
    rng = np.random.default_rng(1)
    u = rng.normal(size=(3000, 3))
    u /= np.linalg.norm(u, axis=1)[:, None]
    axis = euler2mat(0.3, 0.8, -0.2)[:, 2]
    points = 0.04 * u + np.where(u @ axis > 0, 0.1, -0.1)[:, None] * axis + [0.2, 0, 0.1]
    found = enclose(points)
    assert found.radius == pytest.approx(0.04, rel=0.01) and found.length == pytest.approx(0.2, rel=0.02)
    direction = (found.ends[1] - found.ends[0]) / found.length
    assert abs(direction @ axis) > 0.9999


@pytest.mark.parametrize("points", [np.zeros((0, 3)), [[0, np.nan, 0]]])
def test_points_that_are_none_are_refused(points):
    with pytest.raises(ValueError, match="finite points"):
        enclose(points)


# ---- a robot of somebody else --------------------------------------------------------


def box_stl(path, size, centre):
    """Binary STL of a box."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * np.array(size) / 2 + centre
    faces = [(0, 1, 3), (0, 3, 2), (4, 7, 5), (4, 6, 7), (0, 5, 1), (0, 4, 5), (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)]
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *corners[list(face)].ravel(), 0) for face in faces)
    path.write_bytes(b"\0" * 80 + struct.pack("<I", len(faces)) + body)


LINK = """<link name="{0}"><visual><geometry><mesh filename="package://arm_description/meshes/part.stl"/></geometry></visual>
<collision><origin xyz="0 0 0.15" rpy="0.1 0.2 0.3"/><geometry><mesh filename="package://arm_description/meshes/part.stl" scale="0.001 0.001 0.001"/></geometry></collision></link>"""
JOINT = """<joint name="{0}" type="{3}"><parent link="{1}"/><child link="{2}"/><origin xyz="0 0 {4}"/><axis xyz="{5}"/>{6}</joint>"""
LIMIT = '<limit lower="-2" upper="2" velocity="2" effort="30"/>'


@pytest.fixture
def foreign(tmp_path):
    (tmp_path / "ws" / "arm_description" / "meshes").mkdir(parents=True)
    box_stl(tmp_path / "ws" / "arm_description" / "meshes" / "part.stl", (60.0, 50.0, 300.0), (0, 0, 0))
    parts = [LINK.format(name) for name in ("base", "a", "b", "c", "d")]
    parts += ['<link name="finger"><collision><geometry><box size="0.02 0.02 0.05"/></geometry></collision></link>', '<link name="tip"/>']
    parts += [JOINT.format(*row) for row in (
        ("j4", "c", "d", "revolute", 0.32, "0 0 1", LIMIT),
        ("j1", "base", "a", "continuous", 0.32, "0 0 1", ""),
        ("j2", "a", "b", "revolute", 0.32, "0 1 0", LIMIT),
        ("j3", "b", "c", "revolute", 0.32, "0 1 0", LIMIT),
        ("slide", "d", "finger", "prismatic", 0.32, "1 0 0", '<limit lower="0" upper="0.04" velocity="1" effort="5"/>'),
        ("end", "d", "tip", "fixed", 0.4, "0 0 1", ""),
    )]  # fmt: skip
    path = tmp_path / "Foreign-Arm.urdf"
    path.write_text(f'<robot name="foreign">{"".join(parts)}</robot>')
    return path


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A root with the shipped files, to write into."""
    root = tmp_path / "root"
    shutil.copytree(resources.path("config"), root / "config")
    shutil.copytree(resources.path("urdf"), root / "urdf")
    monkeypatch.setattr(resources, "root", lambda: root)
    return root


def test_a_foreign_arm_gets_files_that_everything_can_read(foreign, checkout, tmp_path, capsys):
    assert new_robot.main([str(foreign), "--packages", str(tmp_path / "ws"), "--tool", "tip"]) == 0
    said = capsys.readouterr().out
    assert "joint j1 has no limits" in said and "joint slide is prismatic" in said and "j2, j3, j4: limited to 1 rad/s" in said and "5 meshes became capsules" in said
    spec = robots.load("foreign_arm")
    assert spec.joint_names == ("j1", "j2", "j3", "j4")
    assert spec.upper.tolist() == [3.14, 2, 2, 2] and spec.velocity.tolist() == [1, 1, 1, 1] and spec.effort.tolist() == [10, 30, 30, 30]
    tool = Kinematics(spec).forward(np.zeros(4), "tip")[:3, 3]
    np.testing.assert_allclose(tool, [0, 0, 4 * 0.32 + 0.4 - 0.0], atol=1e-9)
    box = spec.workspaces["arm"]
    assert box.contains(np.array([tool])).all()
    config = SafetyConfig.load(spec.safety_path())
    assert SafetyFilter(spec, config).obstacles == ()
    shapes = RobotShapes.from_spec(spec)
    # the part's corners, in the link's frame, lie inside of its capsule
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * [0.03, 0.025, 0.15]
    R = euler2mat(0.1, 0.2, 0.3, "sxyz")
    frames = shapes.chain.frames(np.zeros(4))
    for link, height in (("base", 0.0), ("b", 0.64)):
        s = shapes.names.index(link)
        ends = shapes.ends[s] @ frames[shapes.joint[s], :3, :3].T + frames[shapes.joint[s], :3, 3]
        world = corners @ R.T + [0, 0, 0.15 + height]
        way = ends[1] - ends[0]
        share = np.clip((world - ends[0]) @ way / (way @ way), 0, 1)[:, None]
        assert (np.linalg.norm(world - ends[0] - share * way, axis=1) <= shapes.thickness[s]).all(), link
        assert shapes.thickness[s] < 0.05


def test_links_that_always_touch_are_listed_and_others_are_not(foreign, checkout, tmp_path):
    new_robot.main([str(foreign), "--packages", str(tmp_path / "ws")])
    config = SafetyConfig.load(robots.load("foreign_arm").safety_path())
    assert config.scene.self_ignore == ()
    text = foreign.read_text().replace('<origin xyz="0 0 0.32"/>', '<origin xyz="0 0 0.01"/>')
    foreign.write_text(text)
    new_robot.main([str(foreign), "--packages", str(tmp_path / "ws"), "--force"])
    config = SafetyConfig.load(robots.load("foreign_arm").safety_path())
    assert ("a", "d") in config.scene.self_ignore


@pytest.mark.parametrize(
    "break_it, word, remedy",
    [
        (lambda p: [str(p), "--packages", "/nowhere"], "is not there", "--packages"),
        (lambda p: [str(p.with_suffix(".xacro"))], "xacro", "ros2 run xacro"),
        (lambda p: [str(p.with_name("none.urdf"))], "cannot read", "path"),
        (lambda p: (p.write_text("<robot"), [str(p)])[1], "not XML", "URDF"),
        (lambda p: (p.write_text("<sdf/>"), [str(p)])[1], "not a URDF", "URDF"),
        (lambda p: (p.write_text('<robot name="x"><link name="a"/></robot>'), [str(p)])[1], "no revolute", "arm"),
        (lambda p: [str(p), "--packages", str(p.parent / "ws"), "--tool", "hand"], "no link 'hand'", "tip"),
        (lambda p: [str(p), "--name", "9"], "no name", "--name"),
        (lambda p: [str(p), "--name", "nico"], "exist", "--force"),
    ],
)
def test_what_cannot_be_read_says_why(foreign, checkout, break_it, word, remedy):
    with pytest.raises(UserError, match=word) as error:
        new_robot.main(break_it(foreign))
    assert remedy in error.value.remedy


SMALL = """<robot name="x"><link name="base"><collision><geometry><box size="1 1 1"/></geometry></collision></link><link name="a"><inertial>
<mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial><collision><geometry><sphere radius="0.1"/></geometry></collision></link>
<joint name="j" type="revolute"><parent link="base"/><child link="a"/><origin xyz="0 0 2"/><axis xyz="0 1 0"/>
<limit lower="-2" upper="2" velocity="1" effort="30"/></joint></robot>"""


@pytest.mark.parametrize(
    "old, new, word",
    [
        ("-2", "${-pi}", "is a xacro file"),
        ("-2", "two", "limit of joint j: lower='two' is not a number"),
        ("0 0 2", "0,0,2", "origin of joint j: xyz='0,0,2' is not 3 numbers"),
        ("0 1 0", "0 0 0", "axis of joint j has no direction"),
        ("1 1 1", "-1 1 1", "size='-1 1 1' is not 3 positive numbers"),
        ('<sphere radius="0.1"/>', "", "a collision shape of link a is empty"),
        ("sphere", "capsule", "is capsule, not one of box, cylinder, mesh, sphere"),
        ('<inertia ixx="1"', '<wrong ixx="1"', "2 collision shapes, 1 of them can be read"),
        ("revolute", "screw", "has the type 'screw', known are revolute"),
        ('<child link="a"/>', '<child link="gone"/>', "the child of joint j is no link: gone"),
        ('<parent link="base"/>', "", "the parent of joint j is no link: None"),
        ('<parent link="base"/>', '<parent link="a"/>', "link a hangs on itself"),
        ("</robot>", '<link name="island"/></robot>', "base, island hang on nothing"),
        ("</robot>", '<link name="a"/></robot>', "two links are called 'a'"),
        ('<joint name="j"', '<joint name="a"', "a link and a joint are both called 'a'"),
        ('<robot name="x">', "<robot>", "the robot has no name"),
        ("collision", "nothing", "has no collision shapes"),
    ],
)
def test_a_urdf_that_is_wrong_is_refused_with_what_is_wrong_and_nothing_is_written(old, new, word, checkout, tmp_path):
    path = tmp_path / "odd.urdf"
    assert old in SMALL
    path.write_text(SMALL.replace(old, new))
    with pytest.raises(UserError, match=re.escape(word)):
        new_robot.main([str(path)])
    assert not list(checkout.rglob("*odd*"))


@pytest.mark.parametrize(
    "old, new, joint, upper, said",
    [
        ('upper="2"', 'upper="inf"', "j", 3.14, "joint j has no limits"),
        ('lower="-2" upper="2"', 'lower="-180" upper="180"', "j", 180.0, "are these degrees?"),
        ('name="j"', 'name="on"', "on", 2.0, ""),
        ('name="j"', 'name="joint: {1}"', "joint: {1}", 2.0, ""),
    ],
)
def test_a_urdf_that_is_odd_is_read_with_a_word_about_it(old, new, joint, upper, said, checkout, tmp_path, capsys):
    path = tmp_path / "odd one.urdf"
    path.write_text(SMALL.replace(old, new))
    assert new_robot.main([str(path)]) == 0
    spec = robots.load("odd_one")
    assert (spec.joint_names, spec.upper.tolist()) == ((joint,), [upper])
    assert said in capsys.readouterr().out


def test_a_damaged_mesh_is_named(foreign, checkout, tmp_path):
    mesh = tmp_path / "ws" / "arm_description" / "meshes" / "part.stl"
    mesh.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot read the mesh"):
        new_robot.main([str(foreign), "--packages", str(tmp_path / "ws")])


@pytest.mark.parametrize("name", ["arm6", "nico"])
def test_a_robot_without_meshes_keeps_its_shapes(name, checkout):
    new_robot.main([str(resources.path(f"urdf/{name}.urdf")), "--name", "copy"])
    ours, copy = RobotShapes.from_spec(robots.load(name)), RobotShapes.from_spec(robots.load("copy"))
    assert sorted(copy.names) == sorted(ours.names)
    np.testing.assert_allclose(np.sort(copy.thickness), np.sort(ours.thickness), rtol=1e-6)
