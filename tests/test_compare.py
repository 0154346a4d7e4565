"""Comparing two checkpoints: exact intervals of paired successes, the energy landscape, the closed loop, and one page of all."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wm_bridge.bench import paired as pairing
from wm_bridge.cli import compare as command
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.sim.closed_loop import LoopSettings
from wm_planner.compare import AHEAD, OFFSETS, _landscape, clopper_pearson, paired
from wm_planner.config import PlannerConfig
from wm_planner.errors import PlannerError
from wm_planner.testing import random_checkpoint
from wm_planner.weights import load_model

FAST = PlannerConfig(samples=16, iterations=1, elites=4, keep_elites=2, prior_samples=2, horizon=3, threads=1)


@pytest.mark.parametrize("count", [1, 7, 20])
def test_the_exact_interval_covers_at_least_so_often_and_has_its_analytic_ends(count: int) -> None:
    ends = [clopper_pearson(k, count) for k in range(count + 1)]
    assert ends[0][1] == pytest.approx(1 - 0.025 ** (1 / count)) and ends[0][0] == 0.0
    for (low, high), (mirrored_low, mirrored_high) in zip(ends, reversed(ends), strict=True):
        assert low == pytest.approx(1 - mirrored_high) and high == pytest.approx(1 - mirrored_low)
    for rate in np.linspace(0.02, 0.98, 25):
        covered = sum(math.comb(count, k) * rate**k * (1 - rate) ** (count - k) for k, (low, high) in enumerate(ends) if low <= rate <= high)
        assert covered >= 0.95
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_verdict_on_pairs_is_the_mirrored_one_when_they_are_swapped_and_agrees_with_its_interval(pairs: list[tuple[bool, bool]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    row, back = paired(a, b), paired(b, a)
    assert (row.low, row.high) == pytest.approx((-back.high, -back.low)) and row.p == pytest.approx(back.p)
    assert {row.better, back.better} in ({""}, {"A", "B"})
    assert row.low - 1e-9 <= row.mean <= row.high + 1e-9
    assert bool(row.better) == (row.low > 1e-9 or row.high < -1e-9)


def test_six_goals_won_by_one_alone_are_a_verdict_five_are_none() -> None:
    """McNemar by hand: 2 / 2^6 = 0.031, 2 / 2^5 = 0.063; trials that both win or lose say nothing."""
    assert paired([False] * 6 + [True] * 30, [True] * 36).p == pytest.approx(2 / 2**6)
    assert paired([False] * 6, [True] * 6).better == "B" and paired([True] * 6, [False] * 6).better == "A"
    assert paired([False] * 5 + [True] * 50, [True] * 55).better == ""
    with pytest.raises(PlannerError, match="same trials"):
        paired([True], [])


def test_the_landscape_is_least_at_the_recorded_action_when_it_led_to_what_was_imagined(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = load_model(random_checkpoint(tmp_path / "model.safetensors"))[0]
    joints = model.config.action_dim
    z, state = torch.randn(AHEAD + 1, model.config.latent_dim), torch.randn(AHEAD + 1, model.config.state_dim) * 0.1
    actions = torch.rand(1, AHEAD, joints) * 0.6 - 0.3
    with torch.no_grad():
        imagined, _ = model.rollout(z[None, :1], state[None, :1], actions)
        z[AHEAD] = imagined[0, -1]
        least, landscape = _landscape(model, z, state, torch.zeros(1, dtype=torch.long), actions)
        assert least < 1e-6 and landscape[len(OFFSETS) // 2] == pytest.approx(0.0, abs=1e-6) and (landscape >= 0).all()
        beside, _ = model.rollout(z[None, :1], state[None, :1], actions + OFFSETS[9])
        z[AHEAD] = beside[0, -1]
        assert _landscape(model, z, state, torch.zeros(1, dtype=torch.long), actions)[0] > 0.1


def test_the_same_checkpoint_twice_ends_in_the_same_places_and_in_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    path = random_checkpoint(tmp_path / "model.safetensors")
    plain = pairing.closed_loop

    def short(checkpoints, spec, config, episodes, seed):
        return plain(checkpoints, spec, FAST, episodes, seed, settings=LoopSettings(duration_s=0.6))

    monkeypatch.setattr(command, "closed_loop", short)
    words = [str(path), str(path), "--closed-loop", "2", "--html", str(tmp_path / "page.html"), "--json", str(tmp_path / "found.json")]
    assert command.main(words) == command.NO_VERDICT
    found = json.loads((tmp_path / "found.json").read_text())["closed_loop"]
    assert found["end_cm"]["difference"] == 0.0 and found["end_cm"]["a"] > 0.0 and found["trials"] == 2
    assert "no verdict" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "everything is in the file"
    with pytest.raises(UserError, match="nothing to compare on"):
        command.main(words[:2])


def test_another_model_ends_elsewhere_from_the_same_starts(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    paths = [random_checkpoint(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (0, 1)]
    found = pairing.closed_loop(paths, robots.load("nico"), FAST, 1, 5, settings=LoopSettings(duration_s=0.6))
    assert found.end_cm["A"] != found.end_cm["B"]
    assert found.success.trials == 1 and found.end.better == "", "one goal is no ground for a verdict"
