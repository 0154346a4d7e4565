"""The benchmark of fine-tuning: the changed robot is what it says, and the whole way runs and goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wm_bridge.bench import finetune
from wm_bridge.core.kinematics import Kinematics
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.sim.changed import changed_robot, changed_scene
from wm_bridge.sim.world import SimWorld

NICO = robots.load("nico")


def test_the_changed_robot_has_a_longer_forearm_other_colours_and_another_view(tmp_path: Path) -> None:
    changed = changed_robot(NICO, tmp_path)
    old, new = Kinematics(NICO), Kinematics(changed)
    q = NICO.home

    def span(kinematics: Kinematics, a: str, b: str) -> float:
        return float(np.linalg.norm(kinematics.forward(q, a)[:3, 3] - kinematics.forward(q, b)[:3, 3]))

    assert span(new, "right_lower_arm", "right_wrist") == pytest.approx(np.hypot(0.0102, 1.1 * 0.11105), abs=1e-9)
    assert span(new, "right_upper_arm", "right_lower_arm") == pytest.approx(span(old, "right_upper_arm", "right_lower_arm"))
    assert span(new, "left_lower_arm", "left_wrist") == pytest.approx(span(old, "left_lower_arm", "left_wrist"))
    worlds = [SimWorld(NICO), SimWorld(changed), SimWorld(changed, changed_scene())]
    for world in worlds:
        world.reset(q)
    pictures = [world.render("front", 160, 120).astype(int) for world in worlds]
    for world in worlds:
        world.close()
    assert np.abs(pictures[0] - pictures[1]).mean() > 2 and np.abs(pictures[1] - pictures[2]).mean() > 5
    np.testing.assert_allclose(worlds[1].hand_position(), Kinematics(changed).positions(q, NICO.tools["right_arm"]), atol=2e-3)


def test_the_whole_way_runs_and_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "PART", 2)
    state = tmp_path / "state"
    words = ["--episodes", "1", "--sizes", "10", "--length", "4", "--duration", "0.4", "--state", str(state), "--json", str(tmp_path / "found.json")]
    words += ["--train-set", "steps=2", "batch=4", "horizon=3", "validate_every=1", "patience=0", "refine_steps=2"]
    assert finetune.main(words) == 0
    found = json.loads((tmp_path / "found.json").read_text())["figures"]
    assert {"original", "success_before", "success_10", "train_s_10"} <= set(found)
    model = (state / "full_10/model.safetensors").stat().st_mtime_ns
    assert finetune.main(words) == 0, "nothing is done twice"
    assert (state / "full_10/model.safetensors").stat().st_mtime_ns == model
    held_out = [json.loads((part / "shard_0000/meta.json").read_text())["split"] for part in sorted((state / "play_4").glob("part_*"))]
    assert held_out.count("held_out") == 1 and len(held_out) == 5
    capsys.readouterr()
    with pytest.raises(UserError, match="at least 1 episode"):
        finetune.main([*words, "--sizes", "8"])
