"""V-JEPA 2-AC: the published shape, its causality, and cached rollouts that equal recomputed ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from wm_planner.errors import PlannerError
from wm_planner.precision import usable
from wm_planner.vjepa import chunks
from wm_planner.vjepa.config import CORRECTED, PUBLISHED, ACConfig
from wm_planner.vjepa.energy import Energy, token_weight
from wm_planner.vjepa.pose import difference, euler, integrate, matrix
from wm_planner.vjepa.predictor import ACPredictor, block_causal, normalise, roll
from wm_planner.vjepa.rollout import Rollout, attention
from wm_planner.vjepa.rope import axis_table, frame_table, rotate

torch.set_num_threads(1)
SMALL = ACConfig(embed_dim=48, width=64, depth=3, heads=4, grid=4)


def random_model(config: ACConfig = SMALL, seed: int = 0) -> ACPredictor:
    """Every parameter random, norms and biases too, so that none can be forgotten."""
    torch.manual_seed(seed)
    model = ACPredictor(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.12)
    return model


def scene(config: ACConfig, count: int, horizon: int, known: int = 1, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Known frames (T, N, D), actions (S, T - 1 + H, A) that agree on the past, and their states."""
    generator = torch.Generator().manual_seed(seed)
    latents = normalise(torch.randn(known, config.patches, config.embed_dim, generator=generator))
    actions = 0.1 * torch.randn(count, known - 1 + horizon, config.action_dim, generator=generator)
    actions[:, : known - 1] = actions[:1, : known - 1]
    start = torch.randn(config.state_dim, generator=generator)
    return latents, actions, integrate(start.expand(count, -1), actions)[:, :-1]


def cached(model: ACPredictor, latents: torch.Tensor, actions: torch.Tensor, states: torch.Tensor, **options: object) -> torch.Tensor:
    known = len(latents)
    rollout = Rollout(model, actions.shape[1] - known + 1, context=known, **options)  # type: ignore[arg-type]
    present = rollout.begin(latents, states[0, :known], actions[0, : known - 1])
    return rollout.latents(present, actions[:, known - 1 :], states[:, known - 1 :])


def test_the_default_shape_is_the_published_one():
    with torch.device("meta"):
        tensors = ACPredictor(ACConfig()).state_dict()
    assert len(tensors) == 300 and sum(t.numel() for t in tensors.values()) == pytest.approx(305.22e6, abs=0.005e6)
    assert tensors["predictor_embed.weight"].shape == (1024, 1408)
    assert tensors["extrinsics_encoder.weight"].shape == (1024, 6)
    assert tensors["predictor_blocks.23.attn.qkv.bias"].shape == (3072,)
    assert tensors["predictor_blocks.0.mlp.fc1.weight"].shape == (4096, 1024)


def test_the_full_size_rollout_reads_nothing_back():
    """On the meta device there are no values: a loop that asks for one fails."""
    config = ACConfig()
    with torch.device("meta"):
        model = ACPredictor(config)
        rollout = Rollout(model, 2, chunk=2, dtype=torch.bfloat16)
        present = rollout.begin(torch.empty(1, 256, 1408), torch.empty(1, 7))
        assert rollout.latents(present, torch.empty(4, 2, 7), torch.empty(4, 2, 7)).shape == (4, 2, 256, 1408)


@pytest.mark.parametrize("rotary", [PUBLISHED, CORRECTED])
@pytest.mark.parametrize("horizon", range(1, 9))
def test_cached_rollouts_equal_recomputed_ones(rotary, horizon):
    config = ACConfig(embed_dim=48, width=64, depth=3, heads=4, grid=4, rotary=rotary)
    model, (latents, actions, states) = random_model(config), scene(config, 3, horizon)
    expected = roll(model, latents.expand(3, 1, -1, -1), actions, states)
    assert expected.shape == (3, horizon, 16, 48) and expected[:, -1].std() > 0.5
    assert (cached(model, latents, actions, states) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("known", [1, 2, 4])
@pytest.mark.parametrize("chunk", [1, 2, 5, None])
def test_context_and_chunks_do_not_change_the_result(known, chunk):
    model, (latents, actions, states) = random_model(), scene(SMALL, 5, 3, known)
    expected = roll(model, latents.expand(5, known, -1, -1), actions, states)
    assert (cached(model, latents, actions, states, chunk=chunk) - expected).abs().max() <= 1e-5


def test_the_future_and_other_candidates_do_not_reach_back():
    model, (latents, actions, states) = random_model(), scene(SMALL, 4, 4)
    before = cached(model, latents, actions, states)
    changed = actions.clone()
    changed[1, 2:] += 0.3
    after = cached(model, latents, changed, states)
    assert torch.equal(after[[0, 2, 3]], before[[0, 2, 3]]) and torch.equal(after[1, :2], before[1, :2])
    assert (after[1, 2] - before[1, 2]).abs().max() > 1e-3


def test_a_patch_answers_to_the_action_of_its_own_frame():
    """Why the present cannot be cached whole."""
    model, (latents, actions, states) = random_model(), scene(SMALL, 2, 1)
    path = cached(model, latents, actions, states)
    assert (path[0] - path[1]).abs().max() > 5e-3


def test_bfloat16_is_near_and_the_elites_are_scored_in_float32():
    model, (latents, actions, states) = random_model(), scene(SMALL, 6, 3)
    start, goal = states[0, 0], normalise(torch.randn(16, 48, generator=torch.Generator().manual_seed(5)))
    exact, fast = (Energy(model, 3, integrate, dtype) for dtype in (torch.float32, torch.bfloat16))
    for energy in (exact, fast):
        energy.observe(latents, start[None], goal)
    path = roll(model, latents.expand(6, 1, -1, -1), actions, states)
    expected = (path[:, -1] - goal).abs().mean((1, 2))
    assert torch.allclose(exact(actions), expected, atol=1e-6)
    assert 1e-6 < (fast(actions) - expected).abs().max() < 0.02
    order = fast.best(actions, 2, fast(actions))
    assert torch.equal(order.costs, exact(actions[order.index])) and bool((order.costs.diff() >= 0).all())


def test_a_mask_weighs_the_tokens_of_its_patches():
    """Where only the masked tokens of two goals agree, their energies do; all tokens weighed alike, it is the plain one."""
    model, (latents, actions, states) = random_model(), scene(SMALL, 4, 2)
    goal, other = (normalise(torch.randn(16, 48, generator=torch.Generator().manual_seed(seed))) for seed in (5, 6))
    mask = np.zeros((60, 80), np.uint8)
    mask[:30, 10:40] = 255  # the upper left quarter of the middle square: patches 0, 1, 4, 5 of 4 x 4
    weight = token_weight(mask, 4)
    assert weight.nonzero().flatten().tolist() == [0, 1, 4, 5] and float(weight.mean()) == pytest.approx(1.0)
    mixed = torch.where(weight[:, None] > 0, goal, other)
    energy = Energy(model, 2, integrate)

    def energies(target, of=None):
        energy.observe(latents, states[0, :1], target, weight=of)
        return energy(actions)

    torch.testing.assert_close(energies(mixed, weight), energies(goal, weight))
    assert (energies(mixed) - energies(goal)).abs().min() > 1e-3
    torch.testing.assert_close(energies(goal, token_weight(np.ones((60, 80), np.uint8), 4)), energies(goal))
    mask[:] = 0
    mask[:, :5] = 1
    with pytest.raises(PlannerError, match="no pixel is set inside of the middle square"):
        token_weight(mask, 4)


def test_the_final_elites_are_ranked_by_their_float32_cost():
    """The cheap costs are made to be misleading among those that are scored again."""
    model, (latents, actions, states) = random_model(), scene(SMALL, 8, 2)
    energy = Energy(model, 2, integrate, torch.bfloat16)
    energy.observe(latents, states[0, :1], normalise(torch.randn(16, 48, generator=torch.Generator().manual_seed(6))))
    exact = energy.exactly(actions)
    misleading = -exact
    assert torch.equal(energy.best(actions, 8, misleading).index, exact.argsort())


class NoReading(TorchDispatchMode):
    """Fails when a value is read back from the device or when a size depends on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        assert name not in ("aten::_local_scalar_dense", "aten::nonzero", "aten::item", "aten::is_nonzero"), name
        return func(*args, **(kwargs or {}))


def test_a_plan_s_energies_are_found_without_reading_anything_back():
    model, (latents, actions, states) = random_model(), scene(SMALL, 5, 3)
    energy = Energy(model, 3, integrate)
    energy.observe(latents, states[0, :1], latents[0])
    with NoReading():
        assert energy(actions).shape == (5,)
    with NoReading(), pytest.raises(AssertionError, match="scalar"):
        energy(actions).max().item()


def test_wrong_shapes_are_refused_with_the_right_ones():
    model, (latents, actions, states) = random_model(), scene(SMALL, 2, 2, known=2)
    rollout = Rollout(model, 2)
    with pytest.raises(PlannerError, match=r"expected latents \(T, 16, 48\)"):
        rollout.begin(latents[:, :3], states[0, :2])
    with pytest.raises(PlannerError, match="more than the 1"):
        rollout.begin(latents, states[0, :2], actions[0, :1])
    with pytest.raises(PlannerError, match="need the 1 actions"):
        Rollout(model, 2, context=2).begin(latents, states[0, :2])
    present = rollout.begin(latents[:1], states[0, :1])
    with pytest.raises(PlannerError, match="H from 1 to 2"):
        rollout.latents(present, actions, states)


def test_published_rotary_tables_repeat_frequencies_block_wise():
    cos, sin = axis_table(torch.tensor([3.0]), 20, PUBLISHED)
    omega = [10000 ** (-i / 10) for i in range(10)]
    assert torch.allclose(sin[0], torch.tensor([math.sin(3 * omega[j % 10]) for j in range(20)]), atol=1e-6)
    assert torch.allclose(cos[0], torch.tensor([math.cos(3 * omega[j % 10]) for j in range(20)]), atol=1e-6)


def test_the_corrected_layout_turns_and_sees_differences_alone():
    q, k = torch.randn(2, 1, 20, generator=torch.Generator().manual_seed(0)).double()

    def product(layout: str, first: float, second: float) -> torch.Tensor:
        tables = [tuple(t.double() for t in axis_table(torch.tensor([p]), 20, layout)) for p in (first, second)]
        return (rotate(q, tables[0]) * rotate(k, tables[1])).sum()

    assert torch.isclose(product(CORRECTED, 2, 5), product(CORRECTED, 7, 10), atol=1e-5)
    assert not torch.isclose(product(PUBLISHED, 2, 5), product(PUBLISHED, 7, 10), atol=1e-2)


def test_action_and_state_tokens_turn_with_time_alone():
    cos, sin = frame_table(ACConfig(), 4)
    assert cos.shape == (258, 64)
    assert bool((cos[:2, 20:] == 1).all()) and bool((sin[:2, 20:] == 0).all()) and bool((sin[:2, :20] != 0).all())
    assert bool((sin[:, 60:] == 0).all())
    assert torch.equal(sin[2, 20:60], torch.zeros(40)) and not torch.equal(sin[3, 40:60], torch.zeros(20))


def test_the_mask_is_causal_over_whole_frames():
    mask = block_causal(3, 2)
    assert mask.int().tolist() == [[1, 1, 0, 0, 0, 0]] * 2 + [[1, 1, 1, 1, 0, 0]] * 2 + [[1] * 6] * 2


angles = st.floats(-math.pi, math.pi)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(angles, angles, angles), min_size=2, max_size=4))
def test_poses_integrate_as_rotations_do(path):
    pose = torch.tensor([[0.1, -0.2, 0.3, *path[0], 0.5]], dtype=torch.float64)
    actions = torch.tensor([[[0.01, 0.02, -0.03, *turn, 0.4] for turn in path[1:]]], dtype=torch.float64)
    poses = integrate(pose, actions)[0]
    rotation = Rotation.from_euler("xyz", path[0])
    for step, turn in enumerate(path[1:], start=1):
        rotation = Rotation.from_euler("xyz", turn) * rotation
        assert torch.allclose(matrix(poses[step, 3:6]), torch.from_numpy(rotation.as_matrix()), atol=1e-9)
        assert torch.allclose(poses[step, :3], pose[0, :3] + step * actions[0, 0, :3])
    assert poses[1, 6] == pytest.approx(0.9) and bool((poses[2:, 6] == 1).all())


@settings(deadline=None, max_examples=60)
@given(angles, st.floats(-1.55, 1.55), angles)
def test_euler_angles_are_scipy_s(x, y, z):
    rotation = Rotation.from_euler("xyz", [x, y, z])
    ours = euler(torch.from_numpy(rotation.as_matrix()))
    assert torch.allclose(ours, torch.from_numpy(rotation.as_euler("xyz")), atol=1e-7) or abs(abs(ours[0]) - math.pi) < 1e-6 or abs(abs(ours[2]) - math.pi) < 1e-6


@pytest.mark.parametrize("y", [math.pi / 2, -math.pi / 2])
def test_gimbal_lock_gives_a_finite_pose_of_the_same_rotation(y):
    rotation = matrix(torch.tensor([0.3, y, -0.4], dtype=torch.float64))
    assert torch.allclose(matrix(euler(rotation)), rotation, atol=1e-7)


def test_the_difference_of_two_poses_is_the_action_between_them():
    pose, action = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.2]), torch.tensor([0.01, 0.02, 0.03, 0.1, -0.2, 0.3, 0.5])
    after = integrate(pose, action[None])[1]
    assert torch.allclose(difference(pose, after), action, atol=1e-6)


def test_chunks_follow_cache_and_rows(monkeypatch):
    monkeypatch.setattr(chunks, "second_level_cache", lambda: 1 << 20)
    cpu = torch.device("cpu")
    tiny = ACConfig(embed_dim=48, width=64, depth=3, heads=4, grid=1)
    assert chunks.chunk_size(ACConfig(), 2, torch.float32, cpu, 400) == 2
    many = chunks.chunk_size(tiny, 2, torch.float32, cpu, 10_000)
    assert 100 < many < 10_000 and chunks.chunk_size(tiny, 2, torch.float32, cpu, 7) == 7
    assert chunks.cache_bytes(ACConfig(), 1, torch.bfloat16) == pytest.approx(25e6, rel=0.05)


def test_chunks_on_a_gpu_take_a_share_of_what_is_free_and_of_what_torch_holds_empty(monkeypatch):
    gpu = torch.device("cuda:0")
    for name, value in {"mem_get_info": (2 << 30, 9 << 30), "memory_reserved": 5 << 30, "memory_allocated": 4 << 30}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    each = chunks.cache_bytes(ACConfig(), 2, torch.bfloat16) + 2 * chunks.activation_bytes(ACConfig(), torch.bfloat16)
    assert chunks.chunk_size(ACConfig(), 2, torch.bfloat16, gpu, 10_000) == int(chunks.GPU_SHARE * (3 << 30)) // each
    assert chunks.chunk_size(ACConfig(), 2, torch.bfloat16, gpu, 5) == 5


@pytest.mark.parametrize("seen", [258, 516])
def test_attention_in_bfloat16_is_that_of_float64_but_for_its_rounding(seen: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(3, 258, 4, 64, generator=generator).transpose(1, 2)
    k, v = torch.randn(3, 2, 4, seen, 64, generator=generator).unbind(1)
    truth = functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    half = attention(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), truth, atol=0.02, rtol=0)
    torch.testing.assert_close(attention(q, k, v).double(), truth, atol=1e-5, rtol=0)


def test_energy_is_computed_on_the_device_of_the_model_without_reading_back() -> None:
    """Tensors without numbers: what reads one, or mixes them with those of the CPU, is an error."""
    with torch.device("meta"):
        model = ACPredictor(SMALL).requires_grad_(False)
    energy = Energy(model, 3, integrate, torch.bfloat16, chunk=2)
    patches = SMALL.patches
    energy.observe(torch.randn(1, patches, SMALL.embed_dim), torch.zeros(1, 7), torch.randn(patches, SMALL.embed_dim), weight=torch.ones(patches))
    assert energy.goal.device.type == "meta"
    for score in (energy, energy.exactly):
        costs = score(torch.zeros(5, 3, 7, device="meta"))
        assert costs.shape == (5,) and costs.device.type == "meta"
        with pytest.raises(NotImplementedError, match="out of meta"):  # all is done but the way back
            score(torch.zeros(5, 3, 7))


def test_a_device_that_is_not_here_is_named() -> None:
    assert usable("cpu") == torch.device("cpu")
    for name in ("abacus", "cuda:77", ""):
        with pytest.raises(PlannerError, match=f"no device '{name}' here.*name another"):
            usable(name)
