"""The planner as a whole: inputs checked, plans repeatable and inside the limits, loop closed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from wm_planner.config import OPTIMISERS, PlannerConfig
from wm_planner.errors import PlannerError
from wm_planner.goals import Goal
from wm_planner.imagine import Remembered
from wm_planner.mpc import Planner
from wm_planner.objective import frame_energy
from wm_planner.plan import Plan, Situation
from wm_planner.preprocess import square_resize
from wm_planner.proposals import object_ways
from wm_planner.terms import Seen
from wm_planner.testing import random_checkpoint, small_config

CONFIG = PlannerConfig(horizon=4, samples=24, iterations=2, prior_samples=4, threads=1)
J = 6


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return random_checkpoint(tmp_path / "m.safetensors")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture
def planner(checkpoint: Path) -> Planner:
    planner = Planner.load(checkpoint, CONFIG)
    planner.set_goal(planner.encode_goal(picture(0)))
    return planner


def test_wrong_inputs_are_named(planner: Planner, checkpoint: Path) -> None:
    zero = np.zeros(J)
    with pytest.raises(PlannerError, match="no goal"):
        Planner.load(checkpoint, CONFIG).plan(picture(1), zero, zero)
    with pytest.raises(PlannerError, match="position must hold the 6 joints"):
        planner.plan(picture(1), np.zeros(5), zero)
    with pytest.raises(PlannerError, match="reference holds NaN"):
        planner.plan(picture(1), zero, np.full(J, np.nan))
    with pytest.raises(PlannerError, match="picture"):
        planner.plan(picture(1)[..., 0], zero, zero)


def test_plans_keep_the_box_and_the_joint_limits(planner: Planner) -> None:
    lower, upper = np.array(planner.model.config.lower), np.array(planner.model.config.upper)
    rng = np.random.default_rng(0)
    for seed in range(5):
        start = rng.choice([lower, upper, rng.uniform(lower, upper)])
        plan = planner.plan(picture(seed), start, start)
        for path in (plan.references, *plan.elite_references):
            assert (path >= lower - 1e-6).all() and (path <= upper + 1e-6).all()
            steps = np.diff(np.vstack([start, path]), axis=0)
            assert (np.abs(steps) <= np.array(planner.model.config.action_scale) + 1e-6).all()
        assert plan.references.shape == (4, J) and np.isfinite(plan.predicted_hand).all()
        assert list(plan.energy_per_iteration) == sorted(plan.energy_per_iteration, reverse=True)


def test_the_same_seed_gives_the_same_plan(checkpoint: Path) -> None:
    def run(seed: int) -> np.ndarray:
        planner = Planner.load(checkpoint, CONFIG, seed)
        planner.set_goal(planner.encode_goal(picture(0)))
        return np.stack([planner.plan(picture(i), np.zeros(J), np.zeros(J)).references for i in range(2)])

    assert np.array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))


def test_a_spent_deadline_still_gives_a_plan(planner: Planner) -> None:
    plan = planner.plan(picture(1), np.zeros(J), np.zeros(J), deadline_s=1e-6)
    assert not plan.deadline_met and plan.iterations == 1
    assert np.isfinite(plan.references).all()


def test_a_plan_within_its_budget_says_so(planner: Planner) -> None:
    assert planner.plan(picture(1), np.zeros(J), np.zeros(J), deadline_s=600.0).deadline_met
    plan = planner.plan(picture(1), np.zeros(J), np.zeros(J))
    assert plan.deadline_met and plan.iterations == CONFIG.iterations == len(plan.energy_per_iteration)


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_every_optimiser_lowers_the_energy_of_the_model(checkpoint: Path, kind: str) -> None:
    planner = Planner.load(checkpoint, dataclasses.replace(CONFIG, optimiser=kind, iterations=6, prior_samples=0))
    planner.set_goal(planner.encode_goal(picture(0)))
    planner.intrusion = lambda postures: np.zeros(len(postures))
    start = np.full(J, 0.1)
    plans = [planner.plan(picture(1), start, start) for _ in range(2)]
    assert plans[0].energy_per_iteration[-1] < plans[0].energy_per_iteration[0]
    assert plans[1].energy <= plans[0].energy_per_iteration[0]
    assert all(plan.nan_costs == 0 and np.isfinite(plan.references).all() for plan in plans)
    lower, upper = np.array(planner.model.config.lower), np.array(planner.model.config.upper)
    assert (plans[1].references >= lower - 1e-6).all() and (plans[1].references <= upper + 1e-6).all()


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_the_hands_that_are_shown_are_those_of_the_plan_and_its_elites(checkpoint: Path, kind: str) -> None:
    """As when they are imagined anew, also where nothing has a finite energy."""
    planner = Planner.load(checkpoint, dataclasses.replace(CONFIG, optimiser=kind))
    planner.set_goal(planner.encode_goal(picture(0)))
    start = np.full(J, 0.1)

    def imagined(paths: np.ndarray) -> np.ndarray:
        here = planner._situation(picture(1), start, start)
        steps = np.diff(paths, axis=1, prepend=np.tile(start, (len(paths), 1, 1))) / np.array(planner.model.config.action_scale)
        with torch.no_grad():
            latents, _ = planner.imagine(here.z, here.state, torch.from_numpy(steps).float())
            return planner.model.read(latents).hand.numpy()

    plan = planner.plan(picture(1), start, start)
    assert len(plan.elite_hands) == CONFIG.elites and len(np.unique(plan.elite_hands[:, -1], axis=0)) > 4
    assert plan.predicted_hand == pytest.approx(imagined(plan.references[None])[0], abs=1e-5)
    assert plan.elite_hands == pytest.approx(imagined(plan.elite_references), abs=1e-5)
    planner.intrusion = lambda postures: np.full(len(postures), np.nan)
    rest = planner.plan(picture(1), start, start)
    assert rest.nan_costs == rest.samples and len(rest.elite_hands) == 0
    assert rest.predicted_hand == pytest.approx(imagined(rest.references[None])[0], abs=1e-5)


def test_what_was_not_imagined_is_not_remembered() -> None:
    known, latents, imagined = torch.randn(3, 4, J), torch.randn(3, 4, 8), Remembered()
    imagined.add(known[:2], latents[:2])
    imagined.add(known[2:], latents[2:])
    found = imagined.latents(known[[2, 0]])
    assert found is not None and torch.equal(found, latents[[2, 0]])
    assert imagined.latents(torch.cat([known[:1], known[1:2] + 1e-3])) is None


def test_a_policy_has_to_win_on_energy(planner: Planner) -> None:
    start = np.zeros(J)
    alone = planner.plan(picture(1), start, start)
    asked = []

    def policy(z: torch.Tensor, state: torch.Tensor, goal: Goal, horizon: int) -> torch.Tensor:
        asked.append((z.shape, state.shape, goal is planner.goal))
        return proposal

    def with_policy() -> Plan:
        fresh = Planner(planner.model, CONFIG)
        fresh.set_goal(planner.goal)
        fresh.policies.append(policy)
        return fresh.plan(picture(1), start, start)

    proposal = torch.full((1, 4, J), float("nan"))
    assert with_policy().nan_costs == 1
    better = Planner(planner.model, dataclasses.replace(CONFIG, iterations=40))
    better.set_goal(planner.goal)
    strong = better.plan(picture(1), start, start)
    proposal = torch.from_numpy(strong.actions).float()[None] / planner.actions.scale
    assert strong.energy < alone.energy and with_policy().energy <= strong.energy + 1e-4
    proposal = torch.ones(1, 4, J)
    assert np.abs(with_policy().actions / planner.actions.scale.numpy()).max() < 0.9  # bad advice is not followed
    assert asked[0] == ((1, planner.model.config.latent_dim), (1, 2 * J), True)
    proposal = torch.zeros(1, 3, J)
    with pytest.raises(PlannerError, match=r"policy policy proposed \(1, 3, 6\); expected \(P, 4, 6\)"):
        with_policy()


def test_a_model_gone_wrong_plans_rest(planner: Planner) -> None:
    planner.imagine.head.bias.fill_(float("nan"))
    start = np.full(J, 0.2)
    plan = planner.plan(picture(1), start, start)
    assert plan.nan_costs == plan.samples
    np.testing.assert_allclose(plan.references, np.tile(start, (4, 1)), atol=1e-6)


def test_the_planner_closes_the_loop_in_an_analytic_world(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    """World and model: the latent is the joint reference; pictures carry it in their pixels."""
    model, scale = planner.model, planner.model.action_scale

    def encode(pictures: torch.Tensor) -> torch.Tensor:
        z = torch.zeros(len(pictures), model.config.latent_dim)
        z[:, :J] = pictures[:, 0, 0, :J]
        return z

    def imagine(z: torch.Tensor, state: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        path = torch.zeros(*actions.shape[:2], model.config.latent_dim)
        path[..., :J] = z[:, :J] + (actions * scale).cumsum(1)
        return path, path[..., :J]

    def show(q: np.ndarray) -> np.ndarray:
        image = np.zeros((32, 32, 3), np.uint8)
        image[0, :J, 0] = np.round((q + 1) * 127.5)
        return image

    monkeypatch.setattr(model, "encode", encode)
    planner.imagine = imagine  # type: ignore[assignment]
    latent_only = {"weight_hand": 0.0, "weight_joints": 0.0, "weight_latent": 100.0}
    planner.config = dataclasses.replace(CONFIG, smallest_noise=0.5, **latent_only)  # the random readout knows no distance
    goal, q = np.array([0.4, -0.3, 0.5, 0.0, -0.5, 0.2]), np.zeros(J)
    planner.set_goal(planner.encode_goal(show(goal)))
    start = np.linalg.norm(goal - q)
    for _ in range(25):
        q = planner.plan(show(q), q, q).references[0]
    assert np.linalg.norm(goal - q) < 0.15 * start


def test_an_object_goal_needs_a_model_that_learned_to_move_objects(planner: Planner) -> None:
    with pytest.raises(PlannerError, match="has not learned to move objects"):
        planner.encode_goal(picture(0), "object")


def test_a_plan_goes_on_from_what_is_committed(planner: Planner) -> None:
    """Planning after two committed periods is planning from the situation that the model imagines then."""
    rest, ahead = np.zeros(J), 0.1 * np.arange(1, 3)[:, None] * np.ones(J) * 0.5
    late = planner.plan(picture(2), rest, rest, committed=ahead)
    assert np.abs(late.references[0] - ahead[-1]).max() <= 0.1 + 1e-6
    assert np.abs(np.diff(late.references, axis=0)).max() <= 0.1 + 1e-6
    z = planner._encode(square_resize(picture(2), 32))
    actions = torch.full((1, 2, J), 0.5)
    latents, states = planner.model.rollout(z[:, None], planner.model.proprioception(torch.zeros(J), torch.zeros(J))[None, None], actions)
    there = planner._later(Situation(z, planner.model.proprioception(torch.zeros(J), torch.zeros(J))[None], torch.zeros(J), torch.zeros(J)), ahead)
    torch.testing.assert_close(there.z, latents[:, -1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(planner.model.scaled_joints(there.position), states[0, -1, :J], atol=1e-5, rtol=1e-4)
    now = planner.plan(picture(2), rest, rest, committed=ahead[:0])
    assert now.goal_energy == pytest.approx(late.goal_energy) and now.distance_m == pytest.approx(late.distance_m)
    with pytest.raises(PlannerError, match="more than the horizon"):
        planner.plan(picture(2), rest, rest, committed=np.zeros((99, J)))
    with pytest.raises(PlannerError, match="committed"):
        planner.plan(picture(2), rest, rest, committed=np.full((1, J), np.nan))


def test_the_likely_ways_of_the_skill_are_imagined_and_the_cheapest_is_sent(tmp_path: Path) -> None:
    path = random_checkpoint(tmp_path / "s.safetensors", config=dataclasses.replace(small_config(), object_skill=True))
    planner = Planner.load(path, dataclasses.replace(CONFIG, skill_share=0.11))  # untrained: all of the 8 near 0.125
    goal = planner.encode_goal(picture(0), "object")
    planner.set_goal(goal)
    z = planner._encode(np.zeros((32, 32, 3), np.uint8))
    state = torch.zeros(1, 2 * J)
    model, start = planner.model, torch.linspace(-0.2, 0.2, J)
    begin = Situation(z, state, start, start)
    parts = planner.actions, planner.imagine, begin, goal
    given = object_ways(planner.model, planner.config, *parts)
    skill, there = model.object_skill, model.table_place(goal.readout.objects[0])
    ways, log_weight = skill.ways(model.table_place(model.read(z).objects[..., 0, :]), model.scaled_joints(start)[None], there)
    assert 1 < len(given) == int((log_weight.exp() >= 0.11).sum()) <= 8
    assert torch.equal(given[0, 0], ways[0, log_weight[0].argmax()])
    assert torch.equal(given[:, 0], given[:, 1]) and not torch.equal(given[0, 1], given[0, 2])  # held
    assert len(object_ways(model, dataclasses.replace(CONFIG, skill_share=1.0), *parts)) == 1
    latents, _ = model.rollout(z[None], state[None], given[:1])
    seen = torch.cat([z[None], latents], dim=1)[0, :-1:2]
    taken = torch.cat([torch.zeros(1, J), given[0, :-1].cumsum(0)])[::2]  # before each held action
    references = model.scaled_joints(start + taken * model.action_scale)
    places = [model.table_place(readout.objects[..., 0, :]) for readout in (model.read(seen), goal.readout)]
    assert torch.allclose(given[0, ::2], model.object_skill.action(places[0], references, places[1]), atol=1e-5)
    impatient = PlannerConfig(horizon=4, weight_object=0.0, weight_time=1.0)
    energy = frame_energy(goal, impatient)(Seen(model, z, state, references[:1]))
    assert torch.allclose(energy, model.object_skill.periods(places[0][:1], references[:1], places[1]))
    plan = planner.plan(picture(1), np.zeros(J), np.zeros(J))
    assert plan.references.shape == (2, J) and plan.predicted_hand.shape == (4, 3)
    assert plan.energy == plan.elite_energies.min() and len(plan.elite_energies) == plan.samples
