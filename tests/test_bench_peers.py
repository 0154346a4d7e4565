"""The comparison with peers: their solvers see our problem, episodes are kept, figures follow from the rows."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from wm_bridge.bench import ablation, peer_packages, peers
from wm_bridge.bench.peer_search import PeerSearch
from wm_bridge.bench.resume import Finished
from wm_bridge.errors import UserError
from wm_planner.config import PlannerConfig
from wm_planner.mpc import Planner
from wm_planner.testing import random_checkpoint

H, A = 4, 6


class Solver:
    """The interface of a solver of the peer: one round of random candidates, and it returns the best."""

    def __init__(self, model: PeerSearch, seed: int) -> None:
        self.model, self.torch_gen, self.given = model, torch.Generator().manual_seed(seed), []

    def configure(self, *, action_space: SimpleNamespace, n_envs: int, config: SimpleNamespace) -> None:
        assert (action_space.shape, n_envs, config.action_block) == ((1, A), 1, 1)
        self.horizon = config.horizon

    def solve(self, info: dict[str, torch.Tensor], init_action: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        print("solve time: 1 s")
        assert all(len(value) == 1 for value in info.values())
        self.given.append(init_action)
        candidates = 2 * torch.randn(1, 20, self.horizon, A, generator=self.torch_gen)
        costs = self.model.get_cost(info, candidates)
        assert costs.shape == (1, 20)
        return {"actions": candidates[:, costs[0].argmin()]}


@pytest.fixture(autouse=True)
def gymnasium(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the peer's own dependency, which only the benchmark installs."""
    spaces = ModuleType("gymnasium.spaces")
    spaces.Box = lambda low, high, shape, dtype: SimpleNamespace(low=low, high=high, shape=shape)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gymnasium", ModuleType("gymnasium"))
    monkeypatch.setitem(sys.modules, "gymnasium.spaces", spaces)


def search(warm: bool = True) -> PeerSearch:
    return PeerSearch(Solver, H, A, warm, seed=3)


def cost(a: torch.Tensor) -> torch.Tensor:
    return (a - 0.5).square().mean((1, 2))


def test_a_peers_plan_is_judged_and_sent_inside_the_box(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def watched(a: torch.Tensor) -> torch.Tensor:
        seen.append(float(a.abs().max()))
        return cost(a)

    found = search().search(watched, lambda a: a.clamp(-1, 1), torch.zeros(1, H, A))
    assert max(seen) <= 1.0 and found.best.abs().max() <= 1.0
    assert found.samples == 21 and found.cost == pytest.approx(float(cost(found.best[None])))
    assert capsys.readouterr().out == ""


def test_a_warm_peer_starts_from_what_remains_of_its_plan_and_a_cold_one_from_nothing() -> None:
    for warm in (True, False):
        peer = search(warm)
        for _ in range(2):
            peer.shift(1)
            last = peer.search(cost, lambda a: a.clamp(-1, 1), torch.zeros(1, H, A))
        first, second = peer.solver.given
        assert first is None and (second is not None) == warm
        if warm:
            assert second.shape == (1, H - 1, A)
        peer.shift(H)
        assert peer.plan is None and last.iterations == 1
        peer.search(cost, lambda a: a, torch.zeros(1, H, A))
        peer.reset()
        assert peer.plan is None


def test_the_rows_share_model_and_energy_and_count_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = PlannerConfig(horizon=H, samples=24, iterations=2, prior_samples=4, threads=1)
    default = Planner.load(random_checkpoint(tmp_path / "m.safetensors"), config)
    default.intrusion = lambda postures: np.zeros(len(postures))
    monkeypatch.setattr(peer_packages, "solvers", lambda: SimpleNamespace(ICEMSolver=Solver, CEMSolver=Solver))
    planners = {row: peers.planner_of(row, default) for row in ("planner", "icem", "cem")}
    assert all(planner.model is default.model and planner.intrusion is default.intrusion for planner in planners.values())
    calls = peers.timed(planners, 3, seed=0)
    assert {row: [steps for _, steps in made] for row, made in calls.items()} == {
        "planner": [24 * 2 * H] * 3, "icem": [21 * H] * 3, "cem": [21 * H] * 3,
    }  # fmt: skip
    figures = peers.figures_of({row: [] for row in planners}, calls)  # no episodes: times only
    assert figures["step_ratio"] == pytest.approx(21 / 48) and figures["wall_ratio"] > 0 and "success" not in figures
    assert all(text for _, text in peers.table_of({row: [] for row in planners}, figures))


def result(end_m: float) -> dict[str, float]:
    return {"held_3cm": end_m < 0.03, "held_5cm": end_m < 0.05, "end_m": end_m, "start_m": 0.2}


def test_figures_follow_from_the_rows() -> None:
    ours = [result(0.01)] * 8 + [result(0.04)] * 2
    theirs = [result(0.02)] * 5 + [result(0.06)] * 4 + [result(0.02)]
    rows = {"planner": ours, "icem": theirs}
    calls = {"planner": [(0.03, 768), (0.02, 768), (0.05, 768)], "icem": [(2.0, 72_000), (1.0, 72_000), (3.0, 72_000)]}
    figures = peers.figures_of(rows, calls)
    assert (figures["success"], figures["peer_success"]) == (0.8, 0.6)
    assert figures["step_ratio"] == pytest.approx(93.75)
    assert figures["wall_ratio"] == pytest.approx(2.0 / 0.03) and figures["icem_wall_ratio_min"] == pytest.approx(50.0)
    assert (figures["icem_only_ours"], figures["icem_only_theirs"]) == (3, 1)
    assert figures["icem_p"] == pytest.approx(2 * (1 + 4) / 16)  # two-sided sign test of 3 against 1
    assert figures["planner_3cm_low"] < 0.8 < figures["planner_3cm_high"]
    text = dict(peers.table_of(rows, figures))
    assert text["icem / planner: steps, time (min, median)"] == "93.8x 50.0x 66.7x"


def test_finished_episodes_survive_a_kill_and_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.jsonl"
    first = Finished(path, {"seed": 1, "planner": {"horizon": 8}})
    first.add("icem", 0, {"end_m": np.float64(0.5), "held": np.bool_(True)})
    with path.open("a") as file:
        file.write('{"row": "icem", "number": 1, "resu')  # killed while writing
    again = Finished(path, {"seed": 1, "planner": {"horizon": 8}})
    assert again.get("icem", 0) == {"end_m": 0.5, "held": True} and again.get("icem", 1) is None
    again.add("icem", 1, {"end_m": 0.1})
    assert [row["end_m"] for row in Finished(path, {"seed": 1, "planner": {"horizon": 8}}).rows("icem", 2)] == [0.5, 0.1]
    with pytest.raises(UserError, match="other settings: planner, seed"):
        Finished(path, {"seed": 2, "planner": {"horizon": 5}})


def test_each_ablation_changes_the_search_it_names() -> None:
    config = PlannerConfig(samples=48, iterations=2)
    for row, change in ablation.ROWS.items():
        changed = dataclasses.replace(config, **change)
        assert (changed == config) == (row == "default")
    assert ablation.steps(config) == 768


def test_an_ablation_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    played = []

    def results_of(jobs: list, workers: int):
        for job in jobs:
            played.append((job.planner.warm_start, job.number))
            yield {"held_3cm": job.number != 1, "held_5cm": True, "end_m": 0.01, "plan_ms": 20.0}

    monkeypatch.setattr(ablation, "results_of", results_of)
    words = ["--only", "default", "no_warm_start", "--state", str(tmp_path / "s.jsonl"), "--json", str(tmp_path / "f.json")]
    words += ["--checkpoint", str(random_checkpoint(tmp_path / "m.safetensors"))]
    ablation.main([*words, "--episodes", "2"])
    assert played == [(True, 0), (True, 1), (False, 0), (False, 1)]
    ablation.main([*words, "--episodes", "3"])
    assert played[4:] == [(True, 2), (False, 2)]
    figures = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert figures["no_warm_start_3cm"] == pytest.approx(2 / 3) and figures["default_5cm"] == 1.0
    assert "3 cm 66.7 %" in capsys.readouterr().out


def test_the_peer_is_installed_apart_once_for_its_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins, venv, commands = tmp_path / "peers.txt", tmp_path / "venv", []

    def pretend(command: list[str]) -> None:
        commands.append(command)
        (venv / "lib" / "python3.11" / "site-packages").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(peer_packages, "_run", pretend)
    pins.write_text("some==1\n")
    site = peer_packages.installed(pins, venv)
    assert site.is_relative_to(venv) and [c[1:3] for c in commands] == [["-m", "venv"], ["-m", "pip"]]
    assert "--no-deps" in commands[1] and str(pins) in commands[1]
    peer_packages.installed(pins, venv)
    assert len(commands) == 2
    pins.write_text("some==2\n")
    peer_packages.installed(pins, venv)
    assert len(commands) == 4
    monkeypatch.undo()
    with pytest.raises(UserError, match="cannot install the peer: .*no such"):
        peer_packages._run([sys.executable, "-c", "raise SystemExit('no such pin')"])
