"""`./wm train`: fit the compact world model to a dataset, or fine-tune a checkpoint with little of it (--from)."""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import dataclasses
import math
import os
import random
import signal
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from wm_planner.calibrate import calibrate
from wm_planner.config import ModelConfig, TrainConfig, config_from_mapping, load_config
from wm_planner.data import Dataset, Snapshots
from wm_planner.errors import PlannerError
from wm_planner.finetune import PARTS, Patience, limit, merged
from wm_planner.losses import WorldModelLoss
from wm_planner.precision import has_bfloat16
from wm_planner.refine import RefineConfig, refined_on
from wm_planner.weights import complete, load_model, save_model, weights_hash
from wm_planner.world_model import WorldModel, grown


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then cosine decay to 2 % of the peak."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def step_generator(seed: int, step: int, rank: int) -> np.random.Generator:
    """Random numbers of one step: the same after a resume as without the break."""
    return np.random.default_rng(np.random.SeedSequence([seed, step, rank]))


class Trainer:
    """Model, average, optimiser and step count; everything that a resume needs."""

    def __init__(self, model: WorldModel, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.model = model.to(device)
        if device.type == "cpu":
            self.model.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        free = [p for p in self.model.parameters() if p.requires_grad]
        decay, plain = [p for p in free if p.ndim > 1], [p for p in free if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            foreach=True,
        )
        self.step, self.patience, self.finished = 0, Patience(config.patience), False
        self.loss: nn.Module = WorldModelLoss(self.model, config)
        self.bf16 = config.precision == "bf16" or (config.precision == "auto" and has_bfloat16(device))

    def train_step(
        self, data: Dataset, rank: int = 0, world: int = 1, snapshots: Snapshots | None = None
    ) -> dict[str, float]:
        """One optimiser step; returns the loss terms and the gradient norm."""
        config = self.config
        rng = step_generator(config.seed, self.step, rank)
        shared = step_generator(config.seed, self.step, -1 % 2**32)  # the same on every process
        ramp = min(1.0, self.step / max(1, config.curriculum * config.steps))
        horizon = int(shared.integers(max(2, config.targets), max(2, round(2 + ramp * (config.horizon - 2))) + 1))
        context = int(shared.integers(1, config.context + 1))
        batch = data.windows(
            rng,
            config.batch // world,
            context=context,
            horizon=horizon,
            targets=config.targets,
            brightness=config.brightness,
        )
        singles = snapshots.draw(rng, config.snapshots // world) if snapshots else None
        generator = torch.Generator().manual_seed(int(shared.integers(2**31)))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        autocast = (
            torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bf16 else contextlib.nullcontext()
        )
        with autocast:
            total, terms = self.loss(batch, horizon, context, generator, singles)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise PlannerError(
                f"the gradient is not finite at step {self.step}; lower learning_rate or look for bad data"
            )
        self.optimizer.step()
        self.step += 1
        self.update_average()
        return {"total": float(total.detach()), "gradient": float(norm)} | {k: float(v) for k, v in terms.items()}

    @torch.no_grad()
    def update_average(self) -> None:
        """Exponential moving average of the weights, with a warm-up."""
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        averaged: list[torch.Tensor] = list(self.average.parameters())
        torch._foreach_lerp_(averaged, list(self.model.parameters()), 1 - decay)
        for kept, now in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(now)  # running statistics of the batch norms

    def state(self) -> dict[str, Any]:
        """Everything that a resume needs."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "patience": dataclasses.asdict(self.patience),
            "model_config": dataclasses.asdict(self.model.config),
            "train_config": dataclasses.asdict(self.config),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``; the model must have the same shape."""
        saved = dict(state["model_config"])
        if saved != dataclasses.asdict(self.model.config):
            raise PlannerError("the checkpoint to resume has another model shape; use a new --out folder")
        self.model.load_state_dict(complete(self.model, state["model"]))
        self.average.load_state_dict(complete(self.average, state["average"]))
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.patience = Patience(**{**state.get("patience", {}), "allowed": self.config.patience})


@torch.no_grad()
def validate(model: WorldModel, data: Dataset, windows: int = 128, seed: int = 1) -> dict[str, float]:
    """Held-out figures: latent error against copy-last, hand and object error by readout."""
    device = model.joint_centre.device
    horizon = min(10, data.length - 1)
    batch = data.windows(
        np.random.default_rng(seed),
        windows,
        context=1,
        horizon=horizon,
        targets=2,
        held_out=True,
        target_steps=[1, horizon],
    )
    from wm_planner.preprocess import to_tensor

    b, f = batch.pictures.shape[:2]
    z = torch.unflatten(model.encode(to_tensor(batch.pictures.flatten(0, 1), device)), 0, (b, f))
    state = model.proprioception(batch.position.to(device), batch.reference.to(device))
    z_pred, _ = model.rollout(z[:, :1], state[:, :1], batch.actions.to(device) / model.action_scale)
    figures: dict[str, float] = {}
    for name, frame, step in (("h1", 1, 0), (f"h{horizon}", 2, horizon - 1)):
        error = (z_pred[:, step] - z[:, frame]).square().mean()
        copy_last = (z[:, 0] - z[:, frame]).square().mean()
        figures[f"error_ratio_{name}"] = float(error / copy_last)
    read, ahead = model.read(z), model.read(z_pred[:, -1])
    hand = (read.hand - batch.hand_at.to(device)).norm(dim=-1).flatten()
    figures["hand_cm_median"] = float(hand.median()) * 100
    figures["hand_cm_p95"] = float(hand.quantile(0.95)) * 100
    predicted = (ahead.hand - batch.hand_at[:, 2].to(device)).norm(dim=-1)
    figures[f"hand_cm_h{horizon}"] = float(predicted.median()) * 100
    objects = (read.objects[..., :2] - batch.objects_at[..., :2].to(device)).norm(dim=-1).flatten()
    objects = objects[torch.isfinite(objects)]
    figures["object_cm_median"] = float(objects.median()) * 100 if len(objects) else math.nan
    singular = torch.linalg.svdvals((z - z.mean((0, 1))).flatten(0, 1))
    share = singular.square() / singular.square().sum()
    figures["effective_rank"] = float(torch.exp(-(share * (share + 1e-12).log()).sum()))
    return figures


def hand_error(figures: dict[str, float]) -> float:
    """What early stopping watches, cm: the hand as it is seen, as a goal picture is, and as it is predicted. The joints tell
    much of the prediction, so that one alone gets better before the eye does."""
    return figures["hand_cm_median"] + next(value for name, value in figures.items() if name.startswith("hand_cm_h"))


def save_training(trainer: Trainer, out: Path, card: dict[str, Any]) -> None:
    """Write the resumable state and, unless a best or finished one is there, the current average as a checkpoint."""
    partial = out / "training.pt.partial"
    torch.save(trainer.state(), partial)
    partial.replace(out / "training.pt")
    kept = trainer.finished or trainer.patience.allowed > 0
    if not kept or not (out / "model.safetensors").is_file():
        save_model(merged(trainer.average), out / "model.safetensors", {**card, "step": trainer.step})


def check_start(model: WorldModel, meta: dict[str, Any], start: Path) -> None:
    """The checkpoint to start from keeps its normalisation; refuse data that it does not fit."""
    wanted = {"joint_names": list(model.config.joint_names), "period_s": model.config.period_s, "image_size": model.config.image_size, "objects": list(model.config.objects)}
    for key, value in wanted.items():
        if meta[key] != value:
            raise PlannerError(f"{start} has {key} {value}, the data have {meta[key]}; make data like the checkpoint's (./wm dataset --help)")
    box = np.array(model.config.action_scale)
    if (np.array(meta["action_scale"]) > 1.5 * box).any():
        print(f"note: the data's action box is larger than the checkpoint's {np.round(box, 3).tolist()}; faster moves are outside of it", file=sys.stderr)


def forgotten(model: WorldModel, before: dict[str, float], old: Dataset) -> dict[str, dict[str, float]]:
    """Held-out figures on the old data, before and after."""
    return {"before": before, "after": validate(model, old)}


def model_config_for(data: Dataset, values: dict[str, Any]) -> ModelConfig:
    """Shape of a model for this dataset: joints, limits and picture size come from the data."""
    meta = data.meta
    return ModelConfig(
        joint_names=tuple(meta["joint_names"]),
        lower=tuple(meta["lower"]),
        upper=tuple(meta["upper"]),
        action_scale=tuple(meta["action_scale"]),
        period_s=float(meta["period_s"]),
        image_size=int(meta["image_size"]),
        objects=tuple(meta["objects"]),
        **values,
    )


def finish(trainer: Trainer, data: Dataset, out: Path, card: dict[str, Any], before: dict[str, float], old: Dataset | None) -> None:
    """Calibrate the model that ships (the best one, if one was kept) and note what was forgotten."""
    path = out / "model.safetensors"
    best = trainer.patience.allowed > 0 and path.is_file()
    model, noted = load_model(path) if best else (merged(trainer.average), {**card, "step": trainer.step})
    calibrate(model, data)
    noted["validation"] = validate(model, data) if data.held_out else {}
    if trainer.config.refine_steps and trainer.config.part == "full" and "refine" not in noted:
        model = refined_at_the_end(model, data, trainer.config, noted)
    if old is not None:
        noted["forgetting"] = forgotten(model, before, old)
        for name, value in noted["forgetting"]["after"].items():
            print(f"old data: {name} {before[name]:.3f} -> {value:.3f}")
    if best:
        print(f"kept: step {trainer.patience.step}, the best on held-out episodes")
    save_model(model, path, noted)
    trainer.finished = True


def refined_at_the_end(model: WorldModel, data: Dataset, config: TrainConfig, noted: dict[str, Any]) -> WorldModel:
    """Predictor and prior fitted to episodes encoded once; the model as it was when held-out episodes are not predicted better."""
    settings = RefineConfig(
        steps=config.refine_steps, horizon=min(config.horizon, data.length), ema=config.ema, offset=config.refine_offset, seed=config.seed, threads=config.threads
    )  # fmt: skip
    refined = refined_on(copy.deepcopy(model), data, None, settings)
    figures, before = validate(refined, data) if data.held_out else {}, noted["validation"]
    name = next((name for name in reversed(figures) if name.startswith("error_ratio")), "")
    noted["refine"] = dataclasses.asdict(settings) | {"before": before, "after": figures, "kept": not name or figures[name] < before[name]}
    print("refined: " + "  ".join(f"{key} {before[key]:.3f} -> {value:.3f}" for key, value in figures.items()))
    if not noted["refine"]["kept"]:
        print("the refined predictor is no better on held-out episodes and was left out")
        return model
    noted["validation"] = figures
    return refined


def append_curve(path: Path, row: dict[str, float]) -> None:
    """Add a row to a CSV file; the header is written once."""
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="wm train", description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="dataset folders made by `./wm collect`")
    parser.add_argument("--snapshots", type=Path, nargs="+", help="folders made by `./wm collect --snapshots`")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoints and curves")
    parser.add_argument("--config", type=Path, help="YAML with TrainConfig keys (default: config/train_compact.yaml)")
    parser.add_argument("--from", dest="start", type=Path, help="start from the weights of this checkpoint")
    parser.add_argument("--only", choices=PARTS, help="with --from: the part of the weights that may change (setting `part`)")
    parser.add_argument("--old", type=Path, nargs="+", help="with --from: data of the old task; how much of it is forgotten goes into the card")
    parser.add_argument("--residual-blocks", type=int, metavar="N",
                        help="further residual blocks of the encoder; with --from it grows by the missing ones")  # fmt: skip
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override a training setting")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument("--fresh", action="store_true", help="do not resume what --out holds")
    parser.add_argument("--stop-after", type=int, default=0, help="stop (resumable) after this many steps from now")
    return parser.parse_args(argv)


def overrides_from(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE words to typed settings."""
    import yaml

    result: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise PlannerError(f"--set takes KEY=VALUE, got {pair!r}")
        try:
            result[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise PlannerError(f"--set {pair} is not YAML ({' '.join(str(error).split())}); put a value with brackets or colons into quotes of its own") from error
    return result


def main(argv: list[str]) -> int:
    """Train; resumes by itself when ``--out`` holds an unfinished run."""
    try:
        return run(parse(argv))
    except PlannerError as error:
        print(f"wm train: {error}", file=sys.stderr)
        return 2


def run(args: argparse.Namespace) -> int:
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    overrides = overrides_from(args.set) | ({"part": args.only} if args.only else {})
    config = (
        load_config(TrainConfig, args.config, overrides)
        if args.config
        else config_from_mapping(TrainConfig, overrides, "--set")
    )
    if config.threads:
        torch.set_num_threads(config.threads)
    if world > 1:
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    name = args.device
    if name == "auto":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    random.seed(config.seed)
    torch.manual_seed(config.seed)

    data = Dataset(args.data)
    snapshots = Snapshots(args.snapshots, data.meta) if args.snapshots else None
    args.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parents: dict[str, Any] = {}
    old = Dataset(args.old) if args.old else None
    before: dict[str, float] = {}
    if args.start:
        model, parents = load_model(args.start)
        check_start(model, data.meta, args.start)
        if args.residual_blocks is not None:
            model = grown(model, residual_blocks=args.residual_blocks)
        if old is not None:
            before = validate(model, old)
        limit(model, config.part, config.rank)
    elif config.part != "full":
        raise PlannerError(f"part {config.part} of a model that is not there; give --from CHECKPOINT")
    else:
        model = WorldModel(model_config_for(data, {"residual_blocks": args.residual_blocks or 0}))
    trainer = Trainer(model, config, device)
    resume = args.out / "training.pt"
    if resume.is_file() and not args.fresh:
        trainer.load_state(torch.load(resume, map_location=device, weights_only=True))
        if rank == 0:
            print(f"resuming {resume} at step {trainer.step} of {config.steps}")
    if world > 1:
        local = [device.index] if device.type == "cuda" else None
        trainer.loss = nn.parallel.DistributedDataParallel(trainer.loss, device_ids=local)
    card: dict[str, Any] = {
        "data": data.meta,
        "episodes": len(data),
        "snapshots": len(snapshots) if snapshots else 0,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train": dataclasses.asdict(config),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data_digest": data.digest(),
        "parent": {"weights": weights_hash(args.start), "step": parents.get("step")} if args.start else None,
    }
    free = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if rank == 0:
        print(
            f"{len(data)} episodes of {data.length} steps; {card['parameters'] / 1e6:.2f} M parameters, {free / 1e6:.2f} M of them free; "
            f"{config.steps} steps of {config.batch} windows on {device}"
        )
    last = config.steps if not args.stop_after else min(config.steps, trainer.step + args.stop_after)
    bar = tqdm(
        total=config.steps, initial=trainer.step, unit="step", disable=rank != 0, smoothing=0.05, mininterval=2.0
    )
    sums: dict[str, float] = {}
    started, count = time.monotonic(), 0
    try:
        while trainer.step < last and not trainer.patience.over:
            terms = trainer.train_step(data, rank, world, snapshots)
            bar.update()
            count += 1
            sums = {k: sums.get(k, 0.0) + v for k, v in terms.items()}
            if rank == 0 and trainer.step % config.log_every == 0:
                row = {"step": trainer.step, "seconds": time.monotonic() - started}
                row |= {k: v / count for k, v in sums.items()}
                append_curve(args.out / "curve.csv", {k: round(v, 6) for k, v in row.items()})
                bar.set_postfix(loss=f"{row['total']:.3f}", pred=f"{row['prediction']:.4f}", hand=f"{row['readout']:.4f}")
                sums, count = {}, 0
            if rank == 0 and trainer.step % config.checkpoint_every == 0:
                save_training(trainer, args.out, card)
            if rank == 0 and data.held_out and trainer.step % config.validate_every == 0:
                figures = validate(trainer.average, data)
                append_curve(args.out / "validation.csv", {"step": trainer.step} | {k: round(v, 5) for k, v in figures.items()})
                bar.write(f"step {trainer.step}: " + "  ".join(f"{k} {v:.3f}" for k, v in figures.items()))
                if trainer.patience.better(hand_error(figures), trainer.step) and config.patience:
                    save_model(merged(trainer.average), args.out / "model.safetensors", {**card, "step": trainer.step, "validation": figures})
        if rank == 0 and (trainer.step >= config.steps or trainer.patience.over):
            finish(trainer, data, args.out, card, before, old)
    except KeyboardInterrupt:
        if rank == 0:
            bar.write(f"stopped at step {trainer.step}; the same command resumes")
    finally:
        bar.close()
        if rank == 0 and trainer.step:
            save_training(trainer, args.out, card)
        if world > 1:
            torch.distributed.destroy_process_group()
    if rank == 0:
        print(f"wrote {args.out / 'model.safetensors'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
