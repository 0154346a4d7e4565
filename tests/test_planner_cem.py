"""The search: it finds the optimum, keeps its limits and its deadline, and survives NaN."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wm_planner import cem
from wm_planner.actions import ActionSpec
from wm_planner.cem import ICem, cheapest, coloured_mixing
from wm_planner.config import PlannerConfig
from wm_planner.errors import PlannerError

H, A = 6, 3
CONFIG = PlannerConfig(horizon=H, samples=64, iterations=8, prior_samples=0)
REST = torch.zeros(1, H, A)


def box(candidates: torch.Tensor) -> torch.Tensor:
    return candidates.clamp(-1, 1)


def test_the_optimum_of_a_quadratic_is_found() -> None:
    target = torch.linspace(-0.6, 0.6, H)[:, None].expand(H, A)
    search = ICem(CONFIG, A, seed=0)
    found = [search.search(lambda a: (a - target).square().mean((1, 2)), box, REST) for _ in range(3)][-1]
    assert (found.best - target).abs().max() < 0.15
    assert found.cost < 0.005


def test_an_optimum_outside_the_box_is_met_at_its_edge() -> None:
    search = ICem(CONFIG, A, seed=0)
    seen = []

    def cost(a: torch.Tensor) -> torch.Tensor:
        seen.append(float(a.abs().max()))
        return (a - 3.0).square().mean((1, 2))

    for _ in range(4):
        found = search.search(cost, box, REST)
    assert max(seen) <= 1.0
    assert found.best.mean() > 0.9


def test_a_point_mass_reaches_its_goal() -> None:
    goal, position, velocity = torch.tensor([0.5, -0.3, 0.2]), torch.zeros(A), torch.zeros(A)
    search = ICem(CONFIG, A, seed=0)
    for _ in range(40):

        def cost(a: torch.Tensor) -> torch.Tensor:
            v = velocity + 0.1 * a.cumsum(1)
            x = position + 0.5 * v.cumsum(1)
            return ((x - goal).square().sum(-1) + 0.02 * v.square().sum(-1)).mean(1)

        search.shift()
        action = search.search(cost, box, REST).best[0]
        velocity = velocity + 0.1 * action
        position = position + 0.5 * velocity
    assert (position - goal).norm() < 0.03


def test_nan_costs_are_counted_and_never_chosen() -> None:
    def cost(a: torch.Tensor) -> torch.Tensor:
        value = a.square().mean((1, 2))
        return value.masked_fill(a[:, 0, 0] < 0, float("nan"))

    found = ICem(CONFIG, A, seed=0).search(cost, box, REST)
    assert found.nan_costs > 0
    assert found.best[0, 0] >= 0 and found.cost < float("inf")


def test_all_nan_gives_rest_and_forgets_the_plan() -> None:
    search = ICem(CONFIG, A, seed=0)
    search.search(lambda a: (a - 0.5).square().mean((1, 2)), box, REST)
    search.reset()
    found = search.search(lambda a: torch.full((len(a),), float("nan")), box, REST)
    assert found.nan_costs == found.samples
    assert found.cost == float("inf") and not search.warm
    assert torch.isfinite(found.best).all() and found.best.abs().max() == 0


def test_the_same_seed_gives_the_same_plan() -> None:
    def run(seed: int) -> torch.Tensor:
        return ICem(CONFIG, A, seed).search(lambda a: (a - 0.3).square().mean((1, 2)), box, REST).best

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_the_deadline_ends_the_search_after_the_running_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(cem.time, "monotonic", lambda: clock[0])
    starts = []

    def slow(a: torch.Tensor) -> torch.Tensor:
        starts.append(clock[0])
        clock[0] += 0.02  # what one evaluation takes
        return a.square().mean((1, 2))

    found = ICem(CONFIG, A, seed=0).search(slow, box, REST, deadline=100.05)
    assert not found.deadline_met and found.iterations == 3 < CONFIG.iterations
    assert all(start < 100.05 for start in starts)  # so it ends within one evaluation of the deadline
    late = ICem(CONFIG, A, seed=0).search(slow, box, REST, deadline=clock[0] - 1)
    assert late.iterations == 1  # something is always evaluated


def test_shifting_moves_the_plan_on_and_ends_it_with_rest() -> None:
    search = ICem(CONFIG, A, seed=0)
    search.search(lambda a: (a - 0.3).square().mean((1, 2)), box, REST)
    mean, elites = search.mean.clone(), search.elites.clone()
    search.shift(2)
    assert torch.equal(search.mean[:-2], mean[2:]) and search.mean[-2:].abs().max() == 0
    assert torch.equal(search.elites[:, :-2], elites[:, 2:])
    search.shift(H)
    assert not search.warm and search.mean.abs().max() == 0


def test_a_good_proposal_wins() -> None:
    secret = torch.sign(torch.randn(1, H, A, generator=torch.Generator().manual_seed(5)))
    one = PlannerConfig(horizon=H, samples=16, iterations=1, prior_samples=1)
    found = ICem(one, A, seed=0).search(lambda a: (a - secret).square().mean((1, 2)), box, torch.cat([REST, secret]))
    assert torch.equal(found.best, secret[0])


def test_noise_has_unit_variance_and_its_colour() -> None:
    def lag_one(beta: float) -> float:
        search = ICem(PlannerConfig(horizon=32, noise_beta=beta), 2, seed=0)
        noise = search.noise(4000)
        assert torch.allclose(noise.std((0, 2)), torch.ones(32), atol=0.05)
        return float((noise[:, 1:] * noise[:, :-1]).mean())

    assert lag_one(0.0) == pytest.approx(0.0, abs=0.03)
    assert 0.2 < lag_one(1.0) < lag_one(2.0)
    power = torch.fft.rfft(ICem(PlannerConfig(horizon=64), 1, 0).noise(2000)[..., 0]).abs().square().mean(0)
    assert power[2:4].mean() > 8 * power[16:24].mean()  # 1 / f^2 falls by about 40 here


def test_the_mixing_matrix_is_causal() -> None:
    mixing = coloured_mixing(8, 2.0)
    assert mixing.triu(1).abs().max() == 0


def spec() -> ActionSpec:
    return ActionSpec(
        ("a", "b"), "rad", torch.tensor([0.1, 0.2]), torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 1.0]), 0.1
    )


numbers = st.floats(-3, 3, width=32)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=10, max_size=10), st.floats(-0.5, 0.5, width=32), st.floats(0, 1, width=32))
def test_projected_actions_keep_box_and_limits(values: list[float], first: float, second: float) -> None:
    actions, start = torch.tensor(values).reshape(1, 5, 2), torch.tensor([first, second])
    allowed = spec().project(start, actions)
    assert allowed.abs().max() <= 1 + 1e-5
    path = start + (allowed * spec().scale).cumsum(1)
    assert (path >= spec().lower - 1e-5).all() and (path <= spec().upper + 1e-5).all()
    torch.testing.assert_close(spec().project(start, allowed), allowed, atol=1e-4, rtol=0)


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"elites": 0}, {"elites": 65}, {"horizon": 0}, {"iterations": 0}, {"prior_samples": 60}):
        with pytest.raises(PlannerError):
            PlannerConfig(**wrong)


def test_the_cheapest_proposal_wins_and_without_a_finite_cost_the_arm_rests():
    proposals = torch.tensor([0.9, 0.2, -0.4])[:, None, None].expand(3, H, A)
    halved = cheapest(lambda c: (c - 0.1).square().mean((1, 2)), lambda c: 0.5 * c, proposals)
    assert torch.equal(halved.best, 0.5 * proposals[1]) and halved.samples == 3
    assert halved.elite_costs.tolist() == sorted(halved.elite_costs.tolist())
    unsure = cheapest(lambda c: torch.tensor([torch.nan, torch.inf, 2.0]), lambda c: c, proposals)
    assert torch.equal(unsure.best, proposals[2]) and unsure.nan_costs == 2
    nothing = cheapest(lambda c: torch.full((3,), torch.nan), lambda c: c, proposals)
    assert not nothing.best.any() and nothing.cost == float("inf")
