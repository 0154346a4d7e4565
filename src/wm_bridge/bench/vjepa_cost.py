"""What V-JEPA 2-AC planning costs: against samples, horizon and tokens, and at full size."""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Callable
from functools import partial

import torch

from wm_bridge.bench.vjepa_cem import RESCORED, Settings, search
from wm_planner.linear import Linear, Product
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
ROWS = (1 << 11, 1 << 16)  # tokens of a product timed on its own, on a CPU and on a GPU


def energy_of(config: ACConfig, horizon: int, device: torch.device, seed: int, dtype: torch.dtype, graphs: bool = True) -> Energy:
    """Random weights, present and goal, ready to be asked; the unfolded weights are let go."""
    torch.manual_seed(seed)
    with torch.device(device):
        model = ACPredictor(config).eval().requires_grad_(False)
    energy = Energy(model, horizon, integrate, dtype, graphs=graphs)
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


def product_flops(config: ACConfig, device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the widest of the model's products on its own, over many tokens."""
    rows = ROWS[device.type == "cuda"]
    weight = torch.randn(config.width, config.hidden, device=device)
    product = Product(Linear(weight, weight[0]).to(dtype))
    x = torch.randn(rows, config.width, device=device, dtype=dtype)
    product(x)
    return 2 * rows * config.width * config.hidden / seconds(partial(product, x), device, 5)


def whole_plans(config: ACConfig, device: torch.device, seed: int, speed: float) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Plans with and without CUDA graphs; ``speed`` FLOP/s of the search's products."""
    figures: dict[str, float] = {}
    rows: list[tuple[str, str]] = []
    exact_speed = product_flops(config, device, torch.float32)
    for graphs in (False, True):
        energy = energy_of(config, 2, device, seed, search_dtype(device), graphs)
        for name, settings in GPU_CASES:
            run = partial(search, energy, settings, seed, device)
            for _ in range(2):  # the second captures
                run()
            each = cached_flops(config, settings.horizon)
            floor = settings.samples * settings.iterations * each / speed + RESCORED * settings.elites * each / exact_speed
            spent = seconds(run, device, 3)
            figures[f"s_{name.replace(' ', '_')}{'' if graphs else '_plain'}"] = spent
            how = f"{spent:.3f} s {'with' if graphs else 'without'} CUDA graphs, {spent / floor:.2f} times the floor of {floor:.3f} s"
            rows.append((f"305 M predictor, {name}", how))
    return figures, rows


def candidates(config: ACConfig, device: torch.device, seed: int, speed: float) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """A few candidates, and what plans would take in proportion; ``speed`` FLOP/s of the search's products."""
    figures: dict[str, float] = {}
    rows: list[tuple[str, str]] = []
    energy = energy_of(config, 2, device, seed, search_dtype(device))
    for horizon, plan in ((1, 800 * 10), (2, 64 * 5)):
        actions = 0.05 * torch.randn(CPU_SAMPLES, horizon, 7)
        spent = seconds(partial(energy, actions), device, 2) / CPU_SAMPLES
        work = cached_flops(config, horizon)
        figures |= {f"full_s_per_candidate_h{horizon}": spent, f"full_gflops_h{horizon}": work / spent / 1e9, f"full_over_floor_h{horizon}": spent * speed / work}
        rows.append((f"305 M predictor, H{horizon}", f"{spent:.2f} s per candidate, {spent * speed / work:.2f} times the floor; {plan} of them, in proportion: {plan * spent / 60:.0f} min"))
    return figures, rows


def full(device: torch.device, seed: int) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """The published shape with random weights, beside the floor: the time of its products alone, each as fast as the widest.

    On a CPU a few candidates are timed, on a GPU whole plans.
    """
    config, dtype = ACConfig(), search_dtype(device)
    speed = product_flops(config, device, dtype)
    gpu = device.type == "cuda"
    figures, rows = (whole_plans if gpu else candidates)(config, device, seed, speed)
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    in_dtype = f"in {dtype}".replace("torch.", "")
    rows.insert(0, ("widest product on its own", f"{speed / 1e12:.2f} TFLOP/s {in_dtype}"))
    rows.append(("   memory", f"{memory:.2f} GB at most; keys and values {cache_bytes(config, 1, dtype) / 1e6:.0f} MB per candidate and frame {in_dtype}"))
    return {"product_tflops": speed / 1e12, "memory_gb": memory} | figures, rows
