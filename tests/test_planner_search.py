"""Every optimiser: it finds the optimum, keeps its limits and its deadline, and survives NaN."""

from __future__ import annotations

import dataclasses
import random
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wm_planner.actions import ActionSpec
from wm_planner.config import OPTIMISERS, PlannerConfig
from wm_planner.errors import PlannerError
from wm_planner.search.base import Optimiser
from wm_planner.search.choose import make_optimiser
from wm_planner.search.icem import ICem
from wm_planner.search.noise import coloured_mixing
from wm_planner.search.trial import cheapest

H, A = 6, 3
CONFIG = PlannerConfig(horizon=H, samples=64, iterations=8, prior_samples=0)
REST = torch.zeros(1, H, A)


def box(candidates: torch.Tensor) -> torch.Tensor:
    return candidates.clamp(-1, 1)


@pytest.fixture(params=OPTIMISERS)
def search(request: pytest.FixtureRequest) -> Optimiser:
    return optimiser(request.param)


def optimiser(kind: str, seed: int = 0, **changes: object) -> Optimiser:
    return make_optimiser(dataclasses.replace(CONFIG, optimiser=kind, **changes), ActionSpec.shares(A), seed)


def distance_to(target: torch.Tensor | float):
    return lambda a: (a - target).square().mean((1, 2))


def test_the_optimum_of_a_quadratic_is_found(search: Optimiser) -> None:
    target = torch.linspace(-0.6, 0.6, H)[:, None].expand(H, A)
    found = [search.search(distance_to(target), box, REST) for _ in range(3)][-1]
    assert (found.best - target).abs().max() < 0.15
    assert found.cost < 0.005


def test_an_optimum_outside_the_box_is_met_at_its_edge(search: Optimiser) -> None:
    seen = []

    def cost(a: torch.Tensor) -> torch.Tensor:
        seen.append(float(a.detach().abs().max()))
        return (a - 3.0).square().mean((1, 2))

    for _ in range(4):
        found = search.search(cost, box, REST)
        assert max(float(found.best.abs().max()), float(found.elites.abs().max())) <= 1.0
    assert max(seen) <= 1.0
    assert found.best.mean() > 0.9


def rugged(a: torch.Tensor) -> torch.Tensor:
    return (a - 0.2).square().mean((1, 2)) + 0.3 * (9 * a).sin().mean((1, 2))


def test_the_best_so_far_never_gets_worse_and_is_what_is_returned(search: Optimiser) -> None:
    for _ in range(5):
        found = search.search(rugged, box, REST)
        assert len(found.cost_per_iteration) == found.iterations == CONFIG.iterations
        assert list(found.cost_per_iteration) == sorted(found.cost_per_iteration, reverse=True)
        assert found.cost == found.cost_per_iteration[-1] == pytest.approx(float(rugged(found.best[None])), abs=1e-5)
        assert not found.best.requires_grad and found.nan_costs == 0


def test_the_last_plan_enters_the_next_search(search: Optimiser) -> None:
    once = search.search(distance_to(0.4), box, REST)
    again = search.search(distance_to(0.4), box, REST)
    assert again.cost_per_iteration[0] <= once.cost
    assert again.cost < once.cost


def test_a_winning_proposal_is_returned_and_a_losing_one_is_not(search: Optimiser) -> None:
    secret = torch.sign(torch.randn(1, H, A, generator=torch.Generator().manual_seed(5)))
    found = search.search(distance_to(secret), box, torch.cat([REST, secret]))
    assert torch.equal(found.best, secret[0]) and found.cost == 0.0
    search.reset()
    lost = search.search(distance_to(0.05), box, torch.cat([REST, secret]))
    assert lost.cost <= 0.05**2 and not torch.equal(lost.best, secret[0])


def test_a_proposal_outside_the_box_is_brought_into_it(search: Optimiser) -> None:
    found = search.search(distance_to(1.0), box, torch.full((1, H, A), 7.0))
    assert torch.equal(found.best, torch.ones(H, A))


def test_a_point_mass_reaches_its_goal() -> None:
    goal, position, velocity = torch.tensor([0.5, -0.3, 0.2]), torch.zeros(A), torch.zeros(A)
    search = ICem(CONFIG, ActionSpec.shares(A), seed=0)
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


def test_nan_costs_are_counted_and_never_chosen(search: Optimiser) -> None:
    def cost(a: torch.Tensor) -> torch.Tensor:
        value = a.square().mean((1, 2))
        return value.masked_fill(a[:, 0, 0] < 0, float("nan"))

    proposals = torch.cat([REST - 0.1, REST + 0.1, torch.full_like(REST, float("nan"))])
    for _ in range(2):
        found = search.search(cost, box, proposals)
        assert found.nan_costs > 0
        assert found.best[0, 0] >= 0 and found.cost < float("inf")
        assert torch.isfinite(found.elite_costs).all() and torch.isfinite(found.elites).all()


def test_all_nan_gives_rest_and_forgets_the_plan(search: Optimiser) -> None:
    search.search(distance_to(0.5), box, REST)
    found = search.search(lambda a: float("nan") * a.square().mean((1, 2)), box, REST)
    assert found.nan_costs == found.samples > 0
    assert found.cost == float("inf") and found.best.shape == (H, A) and not found.best.any()
    assert len(found.elites) == 0 and not search.warm and not search.mean.any()


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_the_same_seed_gives_the_same_plan(kind: str) -> None:
    def run(seed: int) -> torch.Tensor:
        return optimiser(kind, seed).search(rugged, box, REST).elites

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_icem_gives_the_numbers_it_always_gave() -> None:
    """Recorded when the search was one file: who changes them changes the plans of every release before."""

    def cost(a: torch.Tensor) -> torch.Tensor:
        target = torch.linspace(-0.6, 0.6, H)[:, None].expand(H, A)
        return (a - target).square().mean((1, 2)) + 0.1 * (5 * a).cos().mean((1, 2))

    search, energies = optimiser("icem"), []
    for scale in (1.0, 0.5, 0.5):
        search.shift()
        found = search.search(cost, box, REST, scale)
        energies.append(list(found.cost_per_iteration))
    expected = [
        [0.11872, 0.05452, 0.02694, 0.00159, -0.00634, -0.01275, -0.01512, -0.01786],
        [0.08638, 0.0627, 0.0439, 0.02876, 0.01722, 0.01015, 0.00612, 0.00399],
        [0.13002, 0.11551, 0.07411, 0.0667, 0.05204, 0.03588, 0.03404, 0.02877],
    ]
    assert torch.allclose(torch.tensor(energies), torch.tensor(expected), atol=2e-4)
    assert found.best[0].tolist() == pytest.approx([-0.5545, -0.768, -0.6843], abs=1e-3)
    assert found.samples == 8 * 64


def test_without_warm_start_every_call_begins_at_rest() -> None:
    def first(warm_start: bool) -> float:
        search = optimiser("icem", warm_start=warm_start)
        return [search.search(distance_to(0.5), box, REST).cost_per_iteration[0] for _ in range(3)][-1]

    assert first(True) < 0.01 < 0.05 < first(False)


def test_where_the_search_ended_is_sent_when_asked_for() -> None:
    def run(best_so_far: bool):
        return optimiser("icem", best_so_far=best_so_far).search(distance_to(0.3), box, REST)

    mean, best = run(False), run(True)
    assert mean.samples == best.samples + 1
    assert torch.allclose(mean.best, best.elites.mean(0), atol=1e-6)
    assert mean.cost == pytest.approx(float(distance_to(0.3)(mean.best[None])))


def test_the_configuration_names_the_optimiser_and_cem_samples_white_noise() -> None:
    assert [type(optimiser(kind)).__name__.lower() for kind in OPTIMISERS] == list(OPTIMISERS)
    noise = {kind: optimiser(kind).noise(4000) for kind in ("icem", "cem", "mppi")}
    alike = {kind: float((sample[:, 1:] * sample[:, :-1]).mean()) for kind, sample in noise.items()}
    assert abs(alike["cem"]) < 0.05 and alike["icem"] > 0.5 and alike["mppi"] > 0.5


class Ticker:
    """A clock that moves only when something is done."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_thousand_deadlines_are_kept_to_within_one_iteration() -> None:
    rng = random.Random(0)
    cut_short = late = 0
    for number in range(1000):
        clock, lasted = Ticker(), []

        def slow(a: torch.Tensor) -> torch.Tensor:
            lasted.append(rng.choice([0.001, 0.01, 0.05]) * rng.random())
            clock.now += lasted[-1]
            return a.square().mean((1, 2))

        config = PlannerConfig(
            optimiser=OPTIMISERS[number % 4], horizon=2, samples=6, elites=2, keep_elites=1, prior_samples=0, iterations=8
        )
        deadline = clock.now + rng.uniform(-0.01, 0.12)
        found = make_optimiser(config, ActionSpec.shares(1), 0, clock).search(slow, box, torch.zeros(1, 2, 1), deadline=deadline)
        assert clock.now <= max(deadline, 1000.0) + lasted[-1]
        assert found.deadline_met == (clock.now <= deadline)
        assert found.iterations == len(lasted) == len(found.cost_per_iteration) >= 1
        if found.iterations < config.iterations:  # there was no time for another one of the longest so far
            assert found.iterations == 1 or sum(lasted[:-1]) + max(lasted[:-1]) <= deadline - 1000.0 + 1e-9
            assert clock.now + max(lasted) > deadline
            cut_short += 1
        late += not found.deadline_met
    assert cut_short > 300 and 0 < late < cut_short


def test_on_the_real_clock_a_search_ends_by_its_deadline_or_with_the_iteration_that_ran_then(search: Optimiser) -> None:
    began: list[float] = []

    def slow(a: torch.Tensor) -> torch.Tensor:
        began.append(time.monotonic())
        time.sleep(0.002)
        return a.square().mean((1, 2))

    for budget in (-1.0, 0.0, 0.003, 0.007):
        began.clear()
        deadline = time.monotonic() + budget
        found = search.search(slow, box, REST, deadline=deadline)
        assert all(start <= deadline for start in began[1:])  # none but the first begins late, on however busy a machine
        assert found.iterations == len(began) and torch.isfinite(found.best).all()


def test_a_cost_that_cannot_be_differentiated_is_named() -> None:
    with pytest.raises(PlannerError, match="cannot be differentiated"):
        optimiser("gradient").search(lambda a: a.detach().square().mean((1, 2)), box, REST)


def test_gradients_that_are_not_finite_stop_nothing() -> None:
    found = optimiser("gradient").search(lambda a: a.abs().sqrt().mean((1, 2)), box, torch.cat([REST, REST + 0.5]))
    assert found.cost == 0.0 and found.nan_costs == 0  # the slope at 0 is not a number


def test_shifting_moves_the_plan_on_and_ends_it_with_rest() -> None:
    search = ICem(CONFIG, ActionSpec.shares(A), seed=0)
    search.search(lambda a: (a - 0.3).square().mean((1, 2)), box, REST)
    mean, elites = search.mean.clone(), search.elites.clone()
    search.shift(2)
    assert torch.equal(search.mean[:-2], mean[2:]) and search.mean[-2:].abs().max() == 0
    assert torch.equal(search.elites[:, :-2], elites[:, 2:])
    search.shift(H)
    assert not search.warm and search.mean.abs().max() == 0


def test_noise_has_unit_variance_and_its_colour() -> None:
    def lag_one(beta: float) -> float:
        search = ICem(PlannerConfig(horizon=32, noise_beta=beta), ActionSpec.shares(2), seed=0)
        noise = search.noise(4000)
        assert torch.allclose(noise.std((0, 2)), torch.ones(32), atol=0.05)
        return float((noise[:, 1:] * noise[:, :-1]).mean())

    assert lag_one(0.0) == pytest.approx(0.0, abs=0.03)
    assert 0.2 < lag_one(1.0) < lag_one(2.0)
    power = torch.fft.rfft(ICem(PlannerConfig(horizon=64), ActionSpec.shares(1), 0).noise(2000)[..., 0]).abs().square().mean(0)
    assert power[2:4].mean() > 8 * power[16:24].mean()  # 1 / f^2 falls by about 40 here


def test_the_mixing_matrix_is_causal() -> None:
    mixing = coloured_mixing(8, 2.0)
    assert mixing.triu(1).abs().max() == 0


def spec() -> ActionSpec:
    return ActionSpec(
        ("a", "b"), ("rad", "rad"), "joints", torch.tensor([0.1, 0.2]), torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 1.0]), 0.1
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
    for wrong in (
        {"elites": 0}, {"elites": 65}, {"horizon": 0}, {"iterations": 0}, {"prior_samples": 60},
        {"optimiser": "adam"}, {"cem_momentum": 1.0}, {"mppi_temperature": 0.0}, {"gradient_step": 0.0},
    ):  # fmt: skip
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
