"""Settings, robots and things that make no sense are refused with a text that says what to do."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from wm_bridge import resources
from wm_bridge.safety import qp
from wm_bridge.safety.chain import Chain
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.filter import SafetyFilter
from wm_bridge.safety.limits import MotionLimits
from wm_bridge.safety.shapes import RobotShapes
from wm_bridge.safety.surroundings import build

VALUES = yaml.safe_load(resources.path("config/safety.yaml").read_text())
CONFIG = SafetyConfig.from_mapping(VALUES)


def changed(group: str, **values: object) -> dict[str, object]:
    return VALUES | {group: VALUES[group] | values}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (VALUES | {"human": 3}, "human must be a group"),
        (changed("trust", hold_bellow=0.1), "unknown key 'trust.hold_bellow'; did you mean 'hold_below'"),
        (VALUES | {"trust": {"enabled": True}}, "trust lacks"),
        (changed("deadman", required=1), "deadman.required must be true or false"),
        (changed("deadman", timeout_ms="long"), "deadman.timeout_ms must be a number"),
        (changed("driver", timeout_ms=True), "driver.timeout_ms must be a number"),
        (changed("driver", timeout_ms=0), "driver.timeout_ms must be finite and > 0"),
        (changed("trust", hysteresis=-0.1), "trust.hysteresis must be finite and >= 0"),
        (changed("human", clearance_m=float("inf")), "clearance_m must be finite"),
        (changed("trust", hold_below=0.3), "hold_below .* must be smaller than slow_below"),
        (changed("trust", slow_below=0.98), "at most 1"),
        (changed("health", voltage_stop_v=12.0), "voltage_stop_v .* smaller than voltage_derate_v"),
        (changed("scene", table_lower=[0.8, -0.65, 0.45]), "table_lower .* must lie below"),
        (changed("scene", workspace_upper=[0.1, 0.2]), "workspace_upper must be three numbers"),
        (changed("scene", workspace_upper="far"), "workspace_upper must be three numbers"),
        (changed("scene", workspace_upper=[0.1, 0.2, float("nan")]), "workspace_upper must be finite"),
        (changed("scene", self_ignore=[["left_palm"]]), "pairs of link names"),
        (changed("scene", self_ignore=[[1, 2]]), "pairs of link names"),
        (VALUES | {"qp_backend": "proxqp"}, "qp_backend 'proxqp' is none of"),
    ],
)
def test_a_senseless_setting_is_refused_with_its_name(values: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SafetyConfig.from_mapping(values)


def test_a_hysteresis_may_be_zero_and_groups_may_be_given_ready_made() -> None:
    assert SafetyConfig.from_mapping(changed("trust", hysteresis=0.0)).trust.hysteresis == 0.0
    assert SafetyConfig.from_mapping(VALUES | {"human": CONFIG.human}) == CONFIG


def test_a_file_that_extends_another_says_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(VALUES))
    file = tmp_path / "mine.yaml"
    file.write_text("extends: base.yaml\nvelocity_scale: 0.5\nhuman: {enabled: true}\n")
    found = SafetyConfig.load(file)
    assert found == dataclasses.replace(CONFIG, velocity_scale=0.5, human=dataclasses.replace(CONFIG.human, enabled=True))
    (tmp_path / "third.yaml").write_text("extends: mine.yaml\nvelocity_scale: 0.25\nhuman: {reaction_ms: 321.0}\n")
    assert SafetyConfig.load(tmp_path / "third.yaml") == dataclasses.replace(found, velocity_scale=0.25, human=dataclasses.replace(found.human, reaction_ms=321.0))
    for text, wrong in (("- 1\n", "expected 'key: value'"), ("extends: mine.yaml\n", "extends itself"), ("a: [1\n", "mine.yaml is not YAML")):
        file.write_text(text)
        with pytest.raises(ValueError, match=wrong):
            SafetyConfig.load(file)
    (tmp_path / "base.yaml").write_text("[]")
    file.write_text("extends: base.yaml\n")
    with pytest.raises(ValueError, match="base.yaml: expected 'key: value'"):
        SafetyConfig.load(file)


def test_another_rate_leaves_a_fifth_of_the_period_free() -> None:
    fast, slow = CONFIG.at_rate(250.0), CONFIG.at_rate(50.0)
    assert (fast.period_ms, fast.tick_budget_ms) == (4.0, 3.2)
    assert (slow.period_ms, slow.tick_budget_ms) == (20.0, CONFIG.tick_budget_ms)


# ---- robots ------------------------------------------------------------------------

BOX = '<collision><geometry><box size="0.1 0.1 0.1"/></geometry></collision>'
LIMIT = '<axis xyz="0 0 1"/><limit lower="-1" upper="1" velocity="1" effort="1"/>'


def described(folder: Path, joints: str, shape: str = BOX, links: str = "ab", base: str = "a", names: tuple[str, ...] = ("j",)) -> SimpleNamespace:
    """A robot of links a, b .. with the given joints."""
    file = folder / f"robot{len(list(folder.iterdir()))}.urdf"
    bodies = "".join(f'<link name="{link}">{shape}</link>' for link in links)
    file.write_text(f'<robot name="r">{bodies}{joints}</robot>')
    one = np.ones(len(names))
    return SimpleNamespace(
        joint_names=names, base_frame=base, urdf_path=lambda: file,
        lower=-one, upper=one, velocity=one, acceleration=5 * one, jerk=100 * one,
    )  # fmt: skip


def joint(kind: str = "revolute", name: str = "j", parent: str = "a", child: str = "b") -> str:
    return f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>{LIMIT}</joint>'


def test_robots_that_the_distances_cannot_describe_are_refused(tmp_path: Path) -> None:
    assert SafetyFilter(described(tmp_path, joint()), CONFIG).obstacles == ()
    for spec, text in (
        (described(tmp_path, joint(), names=("k",)), "are not those of the configuration"),
        (described(tmp_path, joint("continuous")), "only revolute joints"),
        (described(tmp_path, joint("prismatic")), "joint j is not revolute"),
        (described(tmp_path, joint(), base="b"), "base frame b moves"),
        (described(tmp_path, joint(), shape=""), "has no collision shapes"),
        (described(tmp_path, joint(), shape=BOX + '<inertial><mass value="1"/></inertial>'), "2 collision shapes, 0 of them can be read"),
    ):
        with pytest.raises(ValueError, match=text):
            SafetyFilter(spec, CONFIG)


def test_a_shape_that_is_no_box_cylinder_or_sphere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part.stl").write_text(
        "solid s\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\nendsolid s\n"
    )
    mesh = f'<collision><geometry><mesh filename="file://{tmp_path}/part.stl"/></geometry></collision>'
    with pytest.raises(ValueError, match="must be boxes, cylinders or spheres"):
        RobotShapes.from_spec(described(tmp_path, joint(), shape=mesh))


def test_cylinders_and_spheres_are_covered_all_around(tmp_path: Path) -> None:
    for shape, size in (('<cylinder radius="0.1" length="0.4"/>', 0.2), ('<sphere radius="0.1"/>', 0.0)):
        found = RobotShapes.from_spec(described(tmp_path, joint(), shape=f"<collision><geometry>{shape}</geometry></collision>"))
        assert found.radius.tolist() == found.thickness.tolist() == [0.1, 0.1]
        np.testing.assert_allclose(np.abs(found.ends[1]).max(axis=0), [0, 0, size], atol=1e-12)
        np.testing.assert_allclose(np.abs(found.points[1]).max(axis=0), [0, 0, size], atol=1e-12)


def test_without_a_table_no_pair_names_one() -> None:
    from wm_bridge.robots import spec as robots

    shapes = RobotShapes.from_spec(robots.load("nico"))
    with_table, without = build(shapes, CONFIG.scene, {}), build(shapes, dataclasses.replace(CONFIG.scene, table=False), {})
    assert {name for name in with_table.names} - set(without.names) == {name for name in with_table.names if name.endswith("- table")}
    assert any(name.endswith("- table") for name in with_table.names)


def test_limits_for_another_number_of_joints_are_refused() -> None:
    table = SimpleNamespace(
        joint_names=("a", "b"), lower=[-1.0], upper=[1.0], velocity=[1.0], acceleration=[5.0], jerk=[100.0]
    )
    with pytest.raises(ValueError, match="2 joints but limits"):
        SafetyFilter(table, CONFIG)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"upper": [[1.0]]}, "limit 'upper' has shape"),
        ({"velocity": [np.inf]}, "limit 'velocity' is not finite"),
        ({"upper": [-2.0]}, "must lie below upper limits"),
        ({"jerk": [0.0]}, "limit 'jerk' must be positive"),
    ],
)
def test_senseless_limits_are_refused(change: dict[str, object], text: str) -> None:
    good: dict[str, object] = {"lower": [-1.0], "upper": [1.0], "velocity": [1.0], "acceleration": [5.0], "jerk": [100.0]}
    with pytest.raises(ValueError, match=text):
        MotionLimits(**{**good, **change})  # type: ignore[arg-type]


# ---- solvers -----------------------------------------------------------------------


def test_solvers_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert qp.solver("quadprog") is qp.quadprog_solve and isinstance(qp.solver("cvxpy"), qp.CvxpySolver)
    with pytest.raises(ValueError, match="none of"):
        qp.solver("proxqp")
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(ValueError, match="needs cvxpy"):
        qp.solver("cvxpy")


def test_a_chain_gives_the_limits_of_its_urdf(tmp_path: Path) -> None:
    lower, upper, velocity = Chain(described(tmp_path, joint())).limits()
    assert (lower.tolist(), upper.tolist(), velocity.tolist()) == ([-1.0], [1.0], [1.0])
