"""`./wm eval`: score a checkpoint on held-out play, beside the controls that unmask a fake."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.config import PlannerConfig, load_config
from wm_planner.data import Batch, Dataset
from wm_planner.errors import PlannerError
from wm_planner.goals import Goal
from wm_planner.objective import frame_energy
from wm_planner.preprocess import to_tensor
from wm_planner.terms import Seen
from wm_planner.weights import load_model, weights_hash
from wm_planner.world_model import Readout, WorldModel

DEAD_DEVIATION = 0.05  # a latent dimension that varies less carries nothing; the regulariser asks for 1


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        figures: numbers by name.
        error: mean squared latent error after 1..H open-loop steps; copy_last: of predicting
            no change; shuffled: of rollouts under another window's actions.
    """

    figures: dict[str, float]
    error: tuple[float, ...]
    copy_last: tuple[float, ...]
    shuffled: tuple[float, ...]


@dataclass(frozen=True)
class Encoded:
    """Windows of a batch after encoding: latents z (B, 1+H, D), states (B, 1+H, 2A), actions (B, H, A)."""

    batch: Batch
    z: Tensor
    state: Tensor
    actions: Tensor


@torch.no_grad()
def evaluate(
    model: WorldModel, data: Dataset, config: PlannerConfig | None = None, windows: int = 200, seed: int = 1
) -> Evaluation:
    """Score ``model`` on the held-out episodes of ``data``.

    Args:
        config: weights of the energy that is ranked against the true distance.
        windows: random windows of 10 steps (fewer in shorter episodes).
    """
    model.eval()
    horizon = min(10, data.length)
    rng = np.random.default_rng(seed)
    held_out = encode_windows(model, data, rng, windows, horizon, held_out=True)
    training = encode_windows(model, data, rng, windows, horizon, held_out=False)
    z, actions = held_out.z, held_out.actions
    z_pred, _ = model.rollout(z[:, :1], held_out.state[:, :1], actions)
    z_shuffled, _ = model.rollout(z[:, :1], held_out.state[:, :1], actions.roll(1, dims=0))
    truth = z[:, 1:]

    def per_step(predicted: Tensor) -> tuple[float, ...]:
        return tuple((predicted - truth).square().mean((0, 2)).tolist())

    error, copy_last, shuffled = per_step(z_pred), per_step(z[:, :1].expand_as(truth)), per_step(z_shuffled)
    figures: dict[str, float] = {}
    for step in sorted({1, min(5, horizon), horizon}):
        figures[f"error_ratio_h{step}"] = ratio(error[step - 1], copy_last[step - 1])
    figures["shuffled_action_ratio"] = ratio(error[-1], shuffled[-1])
    figures |= ranking(model, held_out, config or PlannerConfig(), rng)
    figures |= spectrum(z.flatten(0, 1))
    figures |= readout_errors(model, held_out, z_pred)
    for name, pick in (("joints", "position_at"), ("hand", "hand_at")):
        target, known = getattr(held_out.batch, pick), getattr(training.batch, pick)
        figures[f"probe_r2_{name}"] = probe(
            training.z.flatten(0, 1), known.flatten(0, 1), z.flatten(0, 1), target.flatten(0, 1)
        )
    return Evaluation(figures, error, copy_last, shuffled)


def encode_windows(
    model: WorldModel, data: Dataset, rng: np.random.Generator, count: int, horizon: int, held_out: bool
) -> Encoded:
    """Draw windows of one context frame and ``horizon`` encoded targets."""
    batch = data.windows(
        rng, count, context=1, horizon=horizon, targets=horizon, held_out=held_out,
        target_steps=range(1, horizon + 1),
    )  # fmt: skip
    device = model.joint_centre.device
    parts = [model.encode(to_tensor(part.flatten(0, 1), device)) for part in torch.split(batch.pictures, 16)]
    z = torch.cat(parts).reshape(count, 1 + horizon, -1)
    state = model.proprioception(batch.position.to(device), batch.reference.to(device))
    return Encoded(batch, z, state, batch.actions.to(device) / model.action_scale)


def ranking(model: WorldModel, held_out: Encoded, config: PlannerConfig, rng: np.random.Generator) -> dict[str, float]:
    """Spearman correlation of energies with the true hand distance over 500 random pairs."""
    z = held_out.z.flatten(0, 1)
    hand = held_out.batch.hand_at.flatten(0, 1).to(z.device)
    first, second = torch.from_numpy(rng.integers(len(z), size=(2, 500))).to(z.device)
    distance = (hand[first] - hand[second]).norm(dim=-1)
    state = held_out.state[:, : held_out.z.shape[1]].flatten(0, 1)
    goals = Goal(z[second], model.read(z[second]), 0.0, math.inf)
    references = state[first, : model.config.action_dim]
    energy = frame_energy(goals, config)(Seen(model, z[first], state[first], references))
    raw = (z[first] - z[second]).square().mean(-1)
    return {
        "energy_distance_spearman": spearman(energy, distance),
        "latent_distance_spearman": spearman(raw, distance),
    }


def spectrum(z: Tensor) -> dict[str, float]:
    """Collapse figures of latents (N, D): effective rank (Roy & Vetterli 2007) of the variances, dead share."""
    variance = torch.linalg.svdvals(z - z.mean(0)).square()
    share = variance / variance.sum().clamp(min=1e-12)
    return {
        "effective_rank": float(torch.exp(-(share * (share + 1e-12).log()).sum())),
        "dead_dimensions": float((z.std(0) < DEAD_DEVIATION).float().mean()),
    }


def readout_errors(model: WorldModel, held_out: Encoded, z_pred: Tensor) -> dict[str, float]:
    """Errors of the decoded scene in cm: of seen frames, and of the frame imagined H steps ahead."""
    batch = held_out.batch
    horizon = z_pred.shape[1]

    def hand(read: Readout, truth: Tensor) -> Tensor:
        error: Tensor = (read.hand.cpu() - truth).norm(dim=-1)
        return error.flatten() * 100

    def block(read: Readout, truth: Tensor) -> Tensor:
        error: Tensor = (read.objects.cpu()[..., :2] - truth[..., :2]).norm(dim=-1)
        return error[torch.isfinite(error)] * 100

    seen, ahead = model.read(held_out.z), model.read(z_pred[:, -1])
    figures = {}
    for name, error in (
        ("hand_cm", hand(seen, batch.hand_at)),
        ("object_cm", block(seen, batch.objects_at)),
        (f"hand_cm_h{horizon}", hand(ahead, batch.hand_at[:, -1])),
        (f"object_cm_h{horizon}", block(ahead, batch.objects_at[:, -1])),
    ):
        figures[f"{name}_median"] = float(error.median()) if len(error) else math.nan
        figures[f"{name}_p95"] = float(error.quantile(0.95)) if len(error) else math.nan
    return figures


def probe(z: Tensor, target: Tensor, z_test: Tensor, target_test: Tensor, ridge: float = 1e-3) -> float:
    """R2 on (z_test, target_test) of a ridge regression fitted on (z, target), mean over outputs."""
    z, target, z_test, target_test = (t.double().cpu() for t in (z, target, z_test, target_test))
    centre, offset = z.mean(0), target.mean(0)
    gram = (z - centre).T @ (z - centre)
    gram += ridge * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, (z - centre).T @ (target - offset))
    residual = (z_test - centre) @ weight + offset - target_test
    spread = (target_test - target_test.mean(0)).square().sum(0)
    moving = spread > 1e-9  # an output that never changes has no R2
    return float((1 - residual.square().sum(0)[moving] / spread[moving]).mean())


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two (N,) series, ties by mean rank."""

    def ranks(values: Tensor) -> NDArray[np.float64]:
        _, inverse, counts = np.unique(values.cpu().numpy(), return_inverse=True, return_counts=True)
        last = counts.cumsum()
        return (last - (counts - 1) / 2)[inverse]

    first, second = ranks(a), ranks(b)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def ratio(error: float, baseline: float) -> float:
    """Error as a share of a baseline; NaN for a baseline of zero."""
    return error / baseline if baseline > 0 else math.nan


def table(result: Evaluation) -> list[tuple[str, str]]:
    """Lines of the printed table."""
    rows = [(name, f"{value:.3f}") for name, value in result.figures.items()]
    curve = zip(result.error, result.copy_last, result.shuffled, strict=True)
    for step, (error, copy_last, shuffled) in enumerate(curve, start=1):
        text = f"model {error:.4f}  copy-last {copy_last:.4f}  shuffled actions {shuffled:.4f}"
        rows.append((f"latent error, {step} ahead", text))
    return rows


def plot(result: Evaluation, path: Path) -> None:
    """Write error against horizon as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = range(1, len(result.error) + 1)
    for name, values in (("model", result.error), ("copy last", result.copy_last), ("shuffled", result.shuffled)):
        axes.plot(steps, values, marker="o", label=name)
    axes.set(xlabel="control periods ahead", ylabel="mean squared latent error", ylim=(0, None))
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str]) -> int:
    """Print the table; write JSON and plot when asked."""
    parser = argparse.ArgumentParser(prog="wm eval", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="model.safetensors of `./wm train`")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="dataset folders made by `./wm collect`")
    parser.add_argument("--held-out", type=float, default=0.05, help="share of episodes that training left out")
    parser.add_argument("--windows", type=int, default=200, help="random windows of 10 steps")
    parser.add_argument("--planner", type=Path, help="YAML with PlannerConfig keys: weights of the energy")
    parser.add_argument("--seed", type=int, default=1, help="of windows and pairs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="write error against horizon here (.png, .svg, .pdf)")
    args = parser.parse_args(argv)
    try:
        model, _ = load_model(args.checkpoint)
        config = load_config(PlannerConfig, args.planner) if args.planner else PlannerConfig()
        result = evaluate(model, Dataset(args.data, args.held_out), config, args.windows, args.seed)
    except PlannerError as error:
        print(f"wm eval: {error}", file=sys.stderr)
        return 2
    rows = table(result)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"  {name:<{width}}  {text}")
    if args.json:
        figures = {k: None if math.isnan(v) else v for k, v in result.figures.items()}
        curves = {"error": result.error, "copy_last": result.copy_last, "shuffled": result.shuffled}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"weights": weights_hash(args.checkpoint), "seed": args.seed, "figures": figures, "curves": curves}
        args.json.write_text(json.dumps(content, indent=1) + "\n")
    if args.plot:
        plot(result, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
