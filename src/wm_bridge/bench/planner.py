"""`./wm bench planner`: cached V-JEPA 2-AC planning against the public planner, its cost, and its FLOP model.

Random weights in the published layout; what is measured does not depend on their values.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from wm_bridge.bench import vjepa_cost
from wm_bridge.bench.report import BenchResult
from wm_bridge.bench.vjepa_cem import Settings, search
from wm_bridge.bench.vjepa_reference import OBTAIN, Reference
from wm_planner.precision import has_bfloat16
from wm_planner.vjepa.config import ACConfig
from wm_planner.vjepa.energy import Energy
from wm_planner.vjepa.flops import cached_flops, recomputed_flops
from wm_planner.vjepa.pose import integrate
from wm_planner.vjepa.predictor import ACPredictor, normalise
from wm_planner.vjepa.rollout import Rollout

SMALL = ACConfig(width=256, depth=4, heads=4)  # 256 tokens of 1408 features, as the published encoder gives
HORIZONS = (2, 5, 8)
TARGETS = {"fp32": {2: 1.6, 5: 3.5, 8: 4.5}, "bf16": {2: 2.5, 5: 5.0}}
GRID, LOWEST = 0.075, 38  # half side of the energy landscape, m; which of its 125 moves leads to the goal
MOVE = [0.03, -0.02, 0.01, 0.0, 0.0, 0.0, 0.4]  # per step to the goal of the timed plans
Figures = dict[str, float]
Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Scene:
    """A present and a goal: latents (1, N, D), pose (7,), goal (N, D)."""

    latents: Tensor
    pose: Tensor
    goal: Tensor


def make_scene(model: ACPredictor, seed: int, actions: Tensor) -> Scene:
    """A random present, and a goal that ``actions`` (H, 7) lead to: energies that rank, not ties among noise."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    latents = normalise(torch.randn(1, config.patches, config.embed_dim, generator=generator))
    pose = torch.tensor([0.4, 0.0, 0.3, 3.0, 0.1, -0.2, 0.5])
    rollout = Rollout(model, len(actions))
    path = rollout.latents(rollout.begin(latents, pose[None]), actions[None], integrate(pose, actions)[None, :-1])
    return Scene(latents, pose, path[0, -1])


def random_model(config: ACConfig, seed: int) -> ACPredictor:
    """Random weights; actions count for more than they do at the start of training, as they do at its end."""
    torch.manual_seed(seed)
    model = ACPredictor(config).eval().requires_grad_(False)
    model.action_encoder.weight.mul_(20)
    return model


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds and result."""
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def parity(reference: Reference, model: ACPredictor, seed: int) -> tuple[Figures, Rows]:
    """Largest latent difference over horizons 1 to 8, and of the energies of a 5 x 5 x 5 landscape."""
    axis = torch.linspace(-GRID, GRID, 5)
    moves = torch.zeros(125, 1, 7)
    moves[:, 0, :3] = torch.cartesian_prod(axis, axis, axis)
    scene = make_scene(model, seed, moves[LOWEST])
    generator = torch.Generator().manual_seed(seed)
    rollout = Rollout(model, 8)
    present = rollout.begin(scene.latents, scene.pose[None])
    actions = 0.05 * torch.randn(2, 8, 7, generator=generator)
    states = integrate(scene.pose.expand(2, -1), actions)[:, :-1]
    path = rollout.latents(present, actions, states) - reference.roll(scene.latents, actions, scene.pose)
    worst = [float(path[:, :horizon].abs().max()) for horizon in range(1, 9)]
    energy = Energy(model, 1, integrate)
    energy.observe(scene.latents, scene.pose[None], scene.goal)
    ours = energy(moves)
    theirs = torch.cat(
        [(reference.roll(scene.latents, moves[i : i + 5], scene.pose)[:, -1] - scene.goal).abs().mean((1, 2)) for i in range(0, 125, 5)]
    )
    span = float(theirs.max() - theirs.min())
    figures = {f"latent_difference_h{h}": value for h, value in enumerate(worst, start=1)}
    figures |= {"landscape_difference": float((ours - theirs).abs().max()), "landscape_span": span}
    figures["landscape_same_minimum"] = float(ours.argmin() == theirs.argmin() == LOWEST)
    rows = [
        ("largest latent difference, H 1..8", " ".join(f"{value:.1e}" for value in worst) + "  (limit 1e-5)"),
        ("energy landscape, 125 actions", f"differs by at most {figures['landscape_difference']:.1e} of {span:.1e}, same minimum: {'yes' if figures['landscape_same_minimum'] else 'NO'}"),
    ]
    return figures, rows


def compare(
    reference: Reference, model: ACPredictor, settings: Settings, repeats: int, seed: int, half: bool
) -> tuple[Figures, Rows]:
    """Whole planning calls in turn: public float32, ours float32, ours bfloat16."""
    horizon = settings.horizon
    scene = make_scene(model, seed, torch.tensor(MOVE).repeat(horizon, 1))
    kinds = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if half and horizon in TARGETS["bf16"] else {})
    energies = {name: Energy(model, horizon, integrate, dtype) for name, dtype in kinds.items()}

    def ours(energy: Energy) -> Tensor:
        energy.observe(scene.latents, scene.pose[None], scene.goal)
        return search(energy, settings, seed)

    times: dict[str, list[float]] = {"public": [], **{name: [] for name in kinds}}
    worst = 0.0
    for _ in tqdm(range(repeats), desc=f"H{horizon}", unit="round"):
        spent, wanted = timed(lambda: reference.plan(scene.latents[0], scene.pose, scene.goal, settings.public(), seed))
        times["public"].append(spent)
        for name, energy in energies.items():
            spent, found = timed(lambda energy=energy: ours(energy))  # type: ignore[misc]
            times[name].append(spent)
            if name == "fp32":
                worst = max(worst, float((found - wanted).abs().max()))
    figures: Figures = {f"public_s_h{horizon}": min(times["public"]), f"plan_difference_h{horizon}": worst}
    rows: Rows = [(f"H{horizon} public, fp32", f"min {min(times['public']):.2f} s, median {statistics.median(times['public']):.2f} s")]
    for name in kinds:
        fastest = min(times["public"]) / min(times[name])
        middle = statistics.median(times["public"]) / statistics.median(times[name])
        figures |= {f"{name}_ratio_h{horizon}": fastest, f"{name}_ratio_median_h{horizon}": middle, f"{name}_s_h{horizon}": min(times[name])}
        rows.append((f"   cached, {name}", f"min {min(times[name]):.2f} s: {fastest:.2f}x; median {middle:.2f}x  (target {TARGETS[name][horizon]}x)"))
    arithmetic = recomputed_flops(model.config, horizon) / cached_flops(model.config, horizon)
    rows.append(("   same plan, arithmetic alone", f"plans differ by {worst:.1e}; {arithmetic:.2f}x fewer operations"))
    return figures, rows


def against_public(args: argparse.Namespace) -> tuple[Figures, Rows]:
    """All rows that need the public source, or the one line that says how to get it."""
    names = [f"fp32_ratio_h{h}" for h in HORIZONS] + [f"bf16_ratio_h{h}" for h in TARGETS["bf16"]]
    if args.reference is None:
        return dict.fromkeys(names, math.nan), [("against the public planner", f"skipped; {OBTAIN}")]
    model = random_model(SMALL, args.seed)
    reference = Reference(args.reference, model)
    figures, rows = parity(reference, model, args.seed)
    half = has_bfloat16(torch.device("cpu"))
    if not half:
        figures |= dict.fromkeys((f"bf16_ratio_h{h}" for h in TARGETS["bf16"]), math.nan)
        rows.append(("bf16", "skipped: this processor has no bfloat16 arithmetic, plans run in float32"))
    for horizon in args.horizons:
        settings = Settings(horizon, args.samples, args.iterations, min(10, args.samples // 2))
        more = compare(reference, model, settings, args.repeats, args.seed, half)
        figures, rows = figures | more[0], rows + more[1]
    return figures, rows


def main(argv: list[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="wm bench planner", description=__doc__)
    parser.add_argument("--reference", type=Path, metavar="DIR", help=f"the public V-JEPA 2 source: {OBTAIN}")
    parser.add_argument("--horizons", type=int, nargs="*", default=list(HORIZONS), choices=HORIZONS, help="(default 2 5 8)")
    parser.add_argument("--samples", type=int, default=12, help="of both planners (default 12; the public default is 400)")
    parser.add_argument("--iterations", type=int, default=2, help="of both planners (default 2; the public default is 10)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each comparison (default 3)")
    parser.add_argument("--scaling", action="store_true", help="cost against samples, horizon and tokens beside the FLOP model")
    parser.add_argument("--full", action="store_true", help="the 305 M predictor with random weights: memory and time (3 GB)")
    parser.add_argument("--device", default="cpu", help="of --scaling and --full (default cpu; cuda plans whole calls)")
    parser.add_argument("--threads", type=int, default=0, help="torch CPU threads (default: torch's own)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, scene and search")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args(argv)
    if min(args.samples // 4, args.iterations, args.repeats) < 1:
        parser.error("--samples must be at least 4 (half of them are elites), --iterations and --repeats at least 1")
    warnings.filterwarnings("ignore", category=FutureWarning)  # the public source uses a context that torch retires
    if args.threads:
        torch.set_num_threads(args.threads)
    with torch.no_grad():
        figures, rows = against_public(args)
        for wanted, measure in ((args.scaling, vjepa_cost.scaling), (args.full, vjepa_cost.full)):
            if wanted:
                more = measure(torch.device(args.device), args.seed)
                figures, rows = figures | more[0], rows + more[1]
    rows.insert(0, ("setting", f"{args.samples} samples, {args.iterations} iterations, {torch.get_num_threads()} threads; depth 4, width 256, 256 tokens"))
    BenchResult("planner", args.seed, "", figures, rows).show(args.json)
    return 0
