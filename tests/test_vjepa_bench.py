"""The benchmark of V-JEPA 2-AC planning: the search, the FLOP model, and parity where the public source is given."""

from __future__ import annotations

import importlib
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from wm_planner.vjepa.config import ACConfig, EncoderConfig
from wm_planner.vjepa.encoders import VJepaEncoder, standardise
from wm_planner.vjepa.energy import Energy
from wm_planner.vjepa.flops import cached_flops, recomputed_flops
from wm_planner.vjepa.layout import clean
from wm_planner.vjepa.pose import integrate
from wm_planner.precision import has_bfloat16, search_dtype
from wm_planner.vjepa.predictor import normalise, roll
from wm_planner.vjepa.rollout import Rollout

from wm_bridge.bench import planner, vjepa_cost
from wm_bridge.bench.vjepa_cem import Settings, search
from wm_bridge.bench.vjepa_reference import Reference, importable
from wm_bridge.errors import UserError

torch.set_num_threads(1)
TINY = ACConfig(embed_dim=48, width=64, depth=2, heads=2, grid=4)
SOURCE = os.environ.get("WM_VJEPA_REFERENCE")  # folder of the public source, for those who have it


class Quadratic:
    """An energy whose cheapest actions are known."""

    def __init__(self, target: torch.Tensor) -> None:
        self.target, self.asked, self.exact, self.fast = target, 0, self, self

    def __call__(self, actions: torch.Tensor) -> torch.Tensor:
        self.asked += len(actions)
        assert actions[..., :3].abs().max() <= 0.05 and actions[..., 6].abs().max() <= 0.75 and not actions[..., 3:6].any()
        return (actions - self.target).square().sum((1, 2))

    best = Energy.best


def test_the_search_finds_what_is_cheapest_inside_the_box():
    target = torch.tensor([[0.02, -0.03, 0.09, 0.0, 0.0, 0.0, 0.5]]).expand(2, 7)
    energy = Quadratic(target)
    found = search(energy, Settings(samples=200), seed=0)
    assert energy.asked == 200 * 10
    assert torch.allclose(found[:, :2], target[:, :2], atol=0.01) and bool((found[:, 2] > 0.035).all())
    assert torch.allclose(found[:, 6], target[:, 6], atol=0.1)
    assert torch.equal(found, search(Quadratic(target), Settings(samples=200), seed=0))


def test_a_small_gripper_motion_is_none():
    found = search(Quadratic(torch.tensor([[0, 0, 0, 0, 0, 0, 0.1]]).expand(2, 7)), Settings(samples=200), seed=0)
    assert not found[:, 6].any()


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_flop_model_counts_what_torch_counts(horizon, monkeypatch):
    """Attention and linear maps as plain products: torch does not count the fused and packed ones of a CPU."""
    monkeypatch.setattr("wm_planner.linear.can_pack", lambda weight: False)
    model = planner.random_model(TINY, 0)
    scene = planner.make_scene(model, 0, torch.zeros(1, 7))
    rollout = Rollout(model, horizon)
    present = rollout.begin(scene.latents, scene.pose[None])
    actions, states = torch.zeros(4, horizon, 7), torch.zeros(4, horizon, 7)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
        rollout.latents(present, actions, states)
    assert counted.get_total_flops() == pytest.approx(4 * cached_flops(TINY, horizon), rel=0.04)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
        roll(model, scene.latents.expand(4, 1, -1, -1), actions, states)
    assert counted.get_total_flops() == pytest.approx(4 * recomputed_flops(TINY, horizon), rel=0.04)


def test_caching_saves_what_is_documented():
    ratios = [recomputed_flops(planner.SMALL, h) / cached_flops(planner.SMALL, h) for h in (1, 2, 5, 8)]
    assert ratios == pytest.approx([1.1, 1.6, 3.3, 5.0], rel=0.06)


def test_bfloat16_is_searched_in_only_where_it_is_fast(monkeypatch):
    cpu = torch.device("cpu")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert not has_bfloat16(cpu) and search_dtype(cpu) == torch.float32
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert search_dtype(cpu) == torch.bfloat16


def test_without_the_public_source_its_rows_are_skipped_with_the_way_to_get_it(capsys, tmp_path):
    assert planner.main(["--threads", "1", "--json", str(tmp_path / "p.json")]) == 0
    said = capsys.readouterr().out
    assert "skipped; clone github.com/facebookresearch/vjepa2" in said
    assert '"fp32_ratio_h2": null' in (tmp_path / "p.json").read_text()
    with pytest.raises(UserError, match="not the public V-JEPA 2 repository"):
        planner.main(["--reference", str(tmp_path)])


def test_scaling_tells_time_and_work(monkeypatch):
    monkeypatch.setattr(vjepa_cost, "CASES", (("samples", TINY, 1, 2), ("tokens", TINY, 2, 2)))
    figures, rows = vjepa_cost.scaling(torch.device("cpu"), 0)
    assert figures["gflop_samples_2"] == pytest.approx(2 * cached_flops(TINY, 1) / 1e9) and figures["ms_tokens_16"] > 0
    assert 0 < figures["poses_800_ms"] and len(rows) == 3


def test_the_full_size_is_set_beside_its_floor(monkeypatch):
    """At a tiny size; what a GPU does, on the CPU."""
    monkeypatch.setattr(vjepa_cost, "ACConfig", lambda: TINY)
    monkeypatch.setattr(vjepa_cost, "GPU_CASES", (("24x2 H1", Settings(1, 24, 2)),))
    figures, rows = vjepa_cost.full(torch.device("cpu"), 0)
    assert figures["full_over_floor_h2"] == pytest.approx(1e3 * figures["product_tflops"] / figures["full_gflops_h2"])
    assert figures["memory_gb"] > 0 and "TFLOP/s" in rows[0][1]
    figures, rows = vjepa_cost.whole_plans(TINY, torch.device("cpu"), 0, 1e12)
    assert set(figures) == {"s_24x2_H1", "s_24x2_H1_plain"} and min(figures.values()) > 0
    assert [("without" in text, "times the floor" in text) for _, text in rows] == [(True, True), (False, True)]


needs_source = pytest.mark.skipif(not SOURCE, reason="set WM_VJEPA_REFERENCE to the folder of the public V-JEPA 2 source")


@needs_source
def test_the_encoder_is_the_public_one():
    """A small one with random weights, a picture twice."""
    shape = EncoderConfig("vjepa2", 48, 2, 2, 48 / 11, 256)
    with importable(Path(str(SOURCE))):
        public = importlib.import_module("src.models.vision_transformer").VisionTransformer(
            img_size=(256, 256), patch_size=16, num_frames=64, tubelet_size=2, embed_dim=48, depth=2, num_heads=2,
            mlp_ratio=48 / 11, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rope=True,
        )  # fmt: skip
    torch.manual_seed(0)
    for parameter in public.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours = VJepaEncoder(shape, clean(public.state_dict(), "public"), "public")
    picture = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        expected = normalise(public.eval()(standardise(picture)[:, :, None].expand(-1, -1, 2, -1, -1)))
    assert torch.allclose(ours(picture), expected, atol=1e-5)


@needs_source
def test_parity_with_the_public_source():
    """Same latents over eight frames, same energies, same plan."""
    config = ACConfig(embed_dim=1408, width=256, depth=4, heads=4)
    model = planner.random_model(config, 0)
    scene = planner.make_scene(model, 0, torch.tensor(planner.MOVE).repeat(2, 1))
    reference = Reference(Path(str(SOURCE)), model)
    with torch.no_grad():
        figures, _ = planner.parity(reference, model, 0)
        assert max(figures[f"latent_difference_h{h}"] for h in range(1, 9)) <= 1e-5
        assert figures["landscape_same_minimum"] and figures["landscape_difference"] < 0.01 * figures["landscape_span"]
        energy = Energy(model, 2, integrate)
        energy.observe(scene.latents, scene.pose[None], scene.goal)
        settings = Settings(2, 6, 2, 3)
        plan = reference.plan(scene.latents[0], scene.pose, scene.goal, settings.public(), 0)
        assert torch.allclose(plan, search(energy, settings, 0), atol=1e-6)
