"""Train an action-conditioned predictor on recorded play, over any frozen encoder.

The recipe of V-JEPA 2-AC (Assran et al. 2025, section 3.2): mean absolute error of one step with real
frames before it, plus that of two steps of which the second builds on the first one's prediction.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from wm_planner.config import EFFECTOR_NAMES, TrainConfig, config_from_mapping
from wm_planner.data import Dataset
from wm_planner.effector import as_pose
from wm_planner.errors import PlannerError
from wm_planner.posture import Forward
from wm_planner.train import learning_rate, overrides_from, step_generator
from wm_planner.vjepa import store
from wm_planner.vjepa.config import CORRECTED, ACConfig
from wm_planner.vjepa.encoders import FrameEncoder, load_encoder
from wm_planner.vjepa.pose import difference
from wm_planner.vjepa.predictor import ACPredictor, normalise, roll

SETTINGS = {"steps": 20_000, "batch": 16, "horizon": 8, "learning_rate": 4e-4, "weight_decay": 0.04, "warmup": 500}
ROLLOUT = 2  # steps of the second loss term


def loss(model: ACPredictor, latents: Tensor, actions: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Both terms of the loss, scalars.

    Args:
        latents: (B, T + 1, N, D), layer-normed. actions: (B, T, A). states: (B, T, P).
    """
    taught = (normalise(model(latents[:, :-1], actions, states)) - latents[:, 1:]).abs().mean()
    steps = min(ROLLOUT, actions.shape[1])
    imagined = roll(model, latents[:, :1], actions[:, :steps], states[:, :steps])
    return taught, (imagined[:, -1] - latents[:, steps]).abs().mean()


def encode(encoder: FrameEncoder, pictures: Tensor, device: torch.device) -> Tensor:
    """(B, F, S, S, 3) uint8 to latents (B, F, N, D), scaled to the encoder's picture size."""
    flat = pictures.flatten(0, 1).permute(0, 3, 1, 2).to(device).float() / 255
    if flat.shape[-1] != encoder.image_size:
        flat = functional.interpolate(flat, size=(encoder.image_size,) * 2, mode="bilinear", align_corners=False)
    latents = encoder(flat)
    return latents.view(*pictures.shape[:2], *latents.shape[1:])


def draw(
    data: Dataset, encoder: FrameEncoder, config: TrainConfig, step: int, device: torch.device, held_out: bool = False, forward: Forward | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One batch of windows: latents, actions and states as ``loss`` takes them.

    Actions are changes of the references, states the references, rad. With ``forward`` both are the tool's, xyz [m] and
    xyz-Euler [rad]: the change that the references make, and the pose of the measured joints.
    """
    rng = step_generator(config.seed, step, int(held_out))
    batch = data.windows(rng, config.batch, context=config.horizon, horizon=1, targets=1, held_out=held_out)
    latents = encode(encoder, batch.pictures, device)
    if forward is None:
        return latents, batch.actions.to(device), batch.reference[:, :-1].to(device)
    asked, measured = (as_pose(forward(joints.double().numpy())).float() for joints in (batch.reference, batch.position[:, :-1]))
    return latents, difference(asked[:, :-1], asked[:, 1:]).to(device), measured.to(device)


def fit(
    model: ACPredictor,
    encoder: FrameEncoder,
    data: Dataset,
    config: TrainConfig,
    device: torch.device,
    report: Callable[[int, float], object] = lambda step, value: None,
    forward: Forward | None = None,
) -> ACPredictor:
    """Train ``model`` in place; ``report`` is told the loss of every step."""
    model.to(device).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        total = sum(loss(model, *draw(data, encoder, config, step, device, forward=forward)), torch.zeros((), device=device))
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if not torch.isfinite(nn.utils.clip_grad_norm_(model.parameters(), 1.0)):
            raise PlannerError(f"the gradient is not finite at step {step}; lower learning_rate or look for bad data")
        optimizer.step()
        report(step, float(total.detach()))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def validate(model: ACPredictor, encoder: FrameEncoder, data: Dataset, config: TrainConfig, forward: Forward | None = None) -> tuple[float, float, float]:
    """Held-out mean absolute error of one step, the same under other windows' actions, and that of copying the last frame."""
    device = model.predictor_embed.weight.device
    latents, actions, states = draw(data, encoder, config, 0, device, held_out=True, forward=forward)
    taught, foreign = (float(loss(model, latents, told, states)[0]) for told in (actions, actions.roll(1, 0)))
    return taught, foreign, float((latents[:, 1:] - latents[:, :-1]).abs().mean())


def make_parser() -> argparse.ArgumentParser:
    """The arguments of a training."""
    parser = argparse.ArgumentParser(prog="./wm train-ac", description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="dataset folders made by `./wm collect`")
    parser.add_argument("--encoder", type=Path, required=True, help="imported V-JEPA file, DINO folder, or compact checkpoint")
    parser.add_argument("--image-size", type=int, help="picture side, for a DINO encoder")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--width", type=int, default=256, help="of the transformer (default 256)")
    parser.add_argument("--depth", type=int, default=4, help="blocks (default 4)")
    parser.add_argument("--heads", type=int, default=4, help="attention heads (default 4)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override a TrainConfig setting")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    return parser


def train(args: argparse.Namespace, data: Dataset, forward: Forward | None = None) -> dict[str, Any]:
    """Train and write one predictor; returns the card that was written with it.

    Args:
        args: of ``make_parser``. forward: places the tool of the data's joints; None: the actions are those of joints.
    """
    config = config_from_mapping(TrainConfig, SETTINGS | overrides_from(args.set), "--set")
    if config.threads:
        torch.set_num_threads(config.threads)
    device = torch.device(args.device)
    encoder = load_encoder(args.encoder, args.image_size)
    if isinstance(encoder, nn.Module):
        encoder.to(device)
    size = len(data.meta["joint_names"]) if forward is None else len(EFFECTOR_NAMES)
    shape = ACConfig(
        encoder.embed_dim, args.width, args.depth, args.heads, grid=encoder.grid, action_dim=size, state_dim=size,
        rotary=CORRECTED, period_s=float(data.meta["period_s"]),
    )  # fmt: skip
    torch.manual_seed(config.seed)
    with tqdm(total=config.steps, unit="step") as bar:
        model = fit(ACPredictor(shape), encoder, data, config, device, lambda _, value: (bar.update(), bar.set_postfix(loss=f"{value:.4f}")), forward)
    error, foreign, copied = validate(model, encoder, data, config, forward)
    card = {
        "encoder": args.encoder.name,
        "joint_names": data.meta["joint_names"],
        "actions": "joints" if forward is None else "end_effector",
        "train": {name: getattr(config, name) for name in SETTINGS} | {"seed": config.seed},
        "held_out_error": error,
        "held_out_foreign_actions": foreign,
        "held_out_copy_last": copied,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    store.write(args.out, {store.PREDICTOR + n: t for n, t in model.state_dict().items()}, store.Header(shape, {}, card))
    print(f"wrote {args.out}: held-out error {error:.4f} of one step, under other actions {foreign:.4f}, copying the last frame {copied:.4f}")
    return card
