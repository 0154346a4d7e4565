"""What V-JEPA 2-AC planning costs: against samples, horizon and tokens, and at full size."""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Callable
from functools import partial

import torch

from wm_bridge.bench.vjepa_cem import Settings, search
from wm_planner.precision import search_dtype
from wm_planner.vjepa.chunks import cache_bytes
from wm_planner.vjepa.config import ACConfig
from wm_planner.vjepa.energy import Energy
from wm_planner.vjepa.flops import cached_flops
from wm_planner.vjepa.pose import integrate
from wm_planner.vjepa.predictor import ACPredictor, normalise

BASE = ACConfig(width=256, depth=4, heads=4)
CASES = (
    *(("samples", BASE, 2, samples) for samples in (2, 4, 8, 16)),
    *(("horizon", BASE, horizon, 4) for horizon in (1, 2, 4, 8)),
    *(("tokens", dataclasses.replace(BASE, grid=grid), 2, 4) for grid in (4, 8, 16)),
)
GPU_CASES = (("800x10 H1", Settings(1, 800, 10)), ("64x5 H2", Settings(2, 64, 5)))
CPU_SAMPLES = 2


def energy_of(config: ACConfig, horizon: int, device: torch.device, seed: int, dtype: torch.dtype) -> Energy:
    """Random weights, present and goal, ready to be asked; the unfolded weights are let go."""
    torch.manual_seed(seed)
    with torch.device(device):
        model = ACPredictor(config).eval().requires_grad_(False)
    energy = Energy(model, horizon, integrate, dtype)
    frames = normalise(torch.randn(2, config.patches, config.embed_dim, device=device))
    energy.observe(frames[:1], torch.zeros(1, config.state_dim, device=device), frames[1])
    return energy


def seconds(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Shortest of several runs."""
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found)


def scaling(device: torch.device, seed: int) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Time of one set of energies beside the FLOP model; the speed would be the same everywhere if the model were all."""
    figures: dict[str, float] = {}
    rows: list[tuple[str, str]] = []
    for what, config, horizon, samples in CASES:
        energy = energy_of(config, horizon, device, seed, torch.float32)
        actions = 0.05 * torch.randn(samples, horizon, 7, device=device)
        spent = seconds(partial(energy, actions), device, 4)
        work = samples * cached_flops(config, horizon) / 1e9
        value = {"samples": samples, "horizon": horizon, "tokens": config.patches}[what]
        figures |= {f"ms_{what}_{value}": 1e3 * spent, f"gflop_{what}_{value}": work}
        rows.append((f"{what} {value} (H{horizon}, {samples} samples, {config.patches} tokens)", f"{1e3 * spent:.1f} ms, {work:.2f} GFLOP: {work / spent:.0f} GFLOP/s"))
    poses, turns = torch.rand(800, 7), torch.rand(800, 1, 7)
    spent = seconds(partial(integrate, poses, turns), torch.device("cpu"), 20)
    figures["poses_800_ms"] = 1e3 * spent
    rows.append(("800 poses, one step", f"{1e3 * spent:.2f} ms  (limit 1 ms)"))
    return figures, rows


def full(device: torch.device, seed: int) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """The published shape with random weights. On a CPU a few candidates are timed and a plan is told in proportion."""
    config, dtype = ACConfig(), search_dtype(device)
    energy = energy_of(config, 2, device, seed, dtype)
    figures: dict[str, float] = {}
    rows: list[tuple[str, str]] = []
    if device.type == "cuda":
        for name, settings in GPU_CASES:
            run = partial(search, energy, settings, seed, device)
            run()
            figures[f"s_{name.replace(' ', '_')}"] = spent = seconds(run, device, 3)
            rows.append((f"305 M predictor, {name}", f"{spent:.2f} s"))
        figures["memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    else:
        for horizon, plan in ((1, 800 * 10), (2, 64 * 5)):
            actions = 0.05 * torch.randn(CPU_SAMPLES, horizon, 7)
            spent = seconds(partial(energy, actions), device, 2)
            work = CPU_SAMPLES * cached_flops(config, horizon) / 1e9
            figures |= {f"full_s_per_candidate_h{horizon}": spent / CPU_SAMPLES, f"full_gflops_h{horizon}": work / spent}
            rows.append((f"305 M predictor, H{horizon}", f"{spent / CPU_SAMPLES:.2f} s per candidate ({work / spent:.0f} GFLOP/s); {plan} of them, in proportion: {plan * spent / CPU_SAMPLES / 60:.0f} min"))
        figures["memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    keys = cache_bytes(config, 1, dtype) / 1e6
    rows.append(("   memory", f"{figures['memory_gb']:.2f} GB at most; keys and values {keys:.0f} MB per candidate and frame in {dtype}".replace("torch.", "")))
    return figures, rows
