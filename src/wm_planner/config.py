"""Settings of the world model, its training and the planner; one frozen dataclass each."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wm_planner.errors import PlannerError

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the compact world model.

    Attributes:
        joint_names: controlled joints; their order is the order of every action.
        lower, upper: joint limits, rad; used to scale proprioception.
        action_scale: largest change of each reference per period, rad (the action box).
        period_s: control period of one action.
        image_size: side of the square network input, pixels.
        latent_dim: D, size of the latent.
        channels: widths of the encoder's stages.
        residual_blocks: further residual blocks of the encoder at S/8.
        keypoints: soft-argmax maps of the encoder.
        width, depth, heads: predictor transformer.
        readout_width: hidden width of the readout and prior heads.
        objects: names of the objects that the readout locates.
        prior_horizon: actions proposed by the inverse-dynamics prior.
        object_skill: has an ``ObjectSkill``, learned from demonstrations.
    """

    joint_names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    action_scale: tuple[float, ...]
    period_s: float = 0.1
    image_size: int = 96
    latent_dim: int = 128
    channels: tuple[int, int, int] = (32, 48, 64)
    residual_blocks: int = 0
    keypoints: int = 32
    width: int = 128
    depth: int = 3
    heads: int = 4
    readout_width: int = 256
    objects: tuple[str, ...] = ("block",)
    prior_horizon: int = 6
    object_skill: bool = False

    def __post_init__(self) -> None:
        sizes = {len(self.joint_names), len(self.lower), len(self.upper), len(self.action_scale)}
        if len(sizes) != 1 or 0 in sizes:
            raise PlannerError(
                "joint_names, lower, upper and action_scale must name the same joints, got "
                f"{len(self.joint_names)}, {len(self.lower)}, {len(self.upper)} and {len(self.action_scale)} entries"
            )
        if any(not low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise PlannerError("every joint needs lower < upper")
        if any(not (math.isfinite(s) and s > 0) for s in self.action_scale):
            raise PlannerError("action_scale must be positive and finite for every joint")
        if self.width % (2 * self.heads):
            raise PlannerError(f"width {self.width} must be a multiple of 2 * heads ({2 * self.heads})")
        if self.image_size % 8:
            raise PlannerError(f"image_size {self.image_size} must be a multiple of 8")

    @property
    def action_dim(self) -> int:
        """A, the number of controlled joints."""
        return len(self.joint_names)

    @property
    def state_dim(self) -> int:
        """Measured position and servo lag of each joint."""
        return 2 * self.action_dim

    @property
    def readout_dim(self) -> int:
        """Joints, hand position, object positions."""
        return self.action_dim + 3 + 3 * len(self.objects)


@dataclass(frozen=True)
class TrainConfig:
    """One training run; everything that decides its result.

    Attributes:
        steps: optimiser steps in total.
        batch: windows per step (over all processes).
        snapshots: single pictures per step, when a folder of them is given.
        horizon: longest open-loop rollout, control periods.
        context: most real frames before the rollout starts.
        targets: future frames of each window that are encoded as rollout targets.
        curriculum: share of the training after which the full horizon is used.
        learning_rate, weight_decay, warmup: AdamW with linear warm-up and cosine decay.
        ema: decay of the weight average that is evaluated and shipped.
        loss_*: weights of the loss terms.
        projections: random directions of the anti-collapse regulariser.
        brightness: spread of the per-window gain augmentation.
        precision: "auto" (bf16 on a processor that has it, CPU or GPU, else fp32), "fp32" or "bf16".
        part: of a checkpoint that may change: full, predictor, last-layers or lora (``finetune``).
        rank: of LoRA's changes.
        patience: validations in which the hand was neither seen nor predicted better until the training ends; 0 = it
            never ends early.
        refine_steps: at the end of a training of part full, the predictor and the prior alone are fitted for so many steps
            to episodes encoded once (``refine``), and kept when they predict held-out episodes better; 0 = not.
        refine_offset: of ``refine.RefineConfig``.
        seed: of weights, batches and augmentation.
        threads: torch CPU threads; 0 leaves torch's default.
        log_every, checkpoint_every, validate_every: steps between lines of the log, between checkpoints, between validations.
    """

    steps: int = 8000
    batch: int = 64
    snapshots: int = 64
    horizon: int = 10
    context: int = 1
    targets: int = 2
    curriculum: float = 0.3
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    warmup: int = 200
    ema: float = 0.998
    loss_prediction: float = 1.0
    loss_state: float = 1.0
    loss_regulariser: float = 0.05
    loss_readout: float = 1.0
    loss_predicted_readout: float = 1.0
    loss_prior: float = 0.3
    projections: int = 128
    brightness: float = 0.15
    precision: str = "auto"
    part: str = "full"
    rank: int = 8
    patience: int = 0
    refine_steps: int = 0
    refine_offset: float = 0.15
    seed: int = 0
    threads: int = 0
    log_every: int = 20
    checkpoint_every: int = 200
    validate_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "horizon", "context", "targets", "rank", "log_every", "checkpoint_every", "validate_every"):
            if getattr(self, name) < 1:
                raise PlannerError(f"train setting {name} must be at least 1, got {getattr(self, name)}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise PlannerError(f"precision must be auto, fp32 or bf16, got {self.precision!r}")


OPTIMISERS = ("icem", "cem", "mppi", "gradient")  # of ``search``
LATENT_DISTANCES = ("l1", "l2", "cosine")  # of ``terms.LatentDistance``
ACTION_SPACES = ("joints", "end_effector")
EFFECTOR_NAMES = ("x", "y", "z", "turn_x", "turn_y", "turn_z", "gripper")


@dataclass(frozen=True)
class PlannerConfig:
    """Receding-horizon search over imagined rollouts; see ``search``.

    Attributes:
        optimiser: icem, cem, mppi or gradient.
        horizon: H, imagined periods.
        samples: S, candidates per iteration.
        iterations: refinements per planning call.
        elites: candidates that the next distribution is fitted to.
        keep_elites: elites carried into the next call, shifted, and by iCEM into the next iteration.
        noise_beta: colour of the sampling noise (0 white, 2 brown); cem has white noise always.
        initial_std: of the first distribution, as a share of the action box.
        warm_std: the same when the search starts from the last plan.
        min_std: floor of the fitted deviation.
        warm_start: go on from the last plan; False starts every call from rest.
        best_so_far: send the cheapest candidate seen; False sends where the search ended.
        cem_momentum: share of the old distribution in the next one.
        mppi_temperature: the smaller, the more the cheapest elite counts; share of the elites' cost spread.
        gradient_step: first step of the descent, as a share of the action box.
        gradient_starts: sequences that descend, at least.
        distance_scale_m: closer than this the noise shrinks in proportion.
        distance_scale_rad: the same for goals that are joints or an orientation.
        smallest_noise: lower end of that shrinking.
        skill_share: a way of the object skill is imagined when it is at least this likely.
        skill_hold: periods for which an action of the object skill is held, and after which a plan
            ends: longer than until the next one comes.
        prior_samples: candidates proposed by the inverse-dynamics prior.
        action_space: joints, or end_effector: candidates are changes of the end effector's pose, which differential
            inverse kinematics turns into joints (``effector.py``).
        search_rotation, search_gripper: search these as well; without, they are 0, as in the public V-JEPA 2-AC planner.
        box_m, box_rad, box_gripper: largest change per period of each end-effector coordinate.
        effector_momentum: share of the old distribution in the next one, for xyz, turn_xyz and gripper (7 numbers);
            empty: the optimiser's own.
        rotation_weight: m per rad, how much the orientation counts beside the position in the inverse kinematics; 0
            leaves it free.
        R_base_action: rows (9 numbers) of the rotation from the model's action axes to the robot's base frame, as
            `./wm calibrate-axes` writes it; empty: the axes are the base's.
        latent_distance: l1, l2 (mean square) or cosine.
        weight_*: terms of the objective, see ``objective.py`` and ``terms.py``; 0 leaves one out.
        threads: torch CPU threads; 0 leaves torch's default.
    """

    optimiser: str = "icem"
    horizon: int = 8
    samples: int = 64
    iterations: int = 3
    elites: int = 8
    keep_elites: int = 4
    noise_beta: float = 2.0
    initial_std: float = 0.5
    warm_std: float = 0.3
    min_std: float = 0.02
    warm_start: bool = True
    best_so_far: bool = True
    cem_momentum: float = 0.1
    mppi_temperature: float = 0.5
    gradient_step: float = 0.15
    gradient_starts: int = 12
    distance_scale_m: float = 0.12
    distance_scale_rad: float = 0.4
    smallest_noise: float = 0.08
    skill_share: float = 0.1
    skill_hold: int = 2
    prior_samples: int = 6
    latent_distance: str = "l2"
    action_space: str = "joints"
    search_rotation: bool = False
    search_gripper: bool = False
    box_m: float = 0.05
    box_rad: float = 0.2
    box_gripper: float = 0.75
    effector_momentum: tuple[float, ...] = ()
    rotation_weight: float = 0.0
    R_base_action: tuple[float, ...] = ()
    weight_latent: float = 0.1
    weight_hand: float = 1.0
    weight_joints: float = 0.3
    weight_posture: float = 3.0
    weight_turn: float = 1.0
    weight_object: float = 1.0
    weight_time: float = 0.1
    weight_action: float = 0.02
    weight_smoothness: float = 0.02
    weight_intrusion: float = 10.0
    weight_uncertainty: float = 0.0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise PlannerError(f"optimiser must be one of {', '.join(OPTIMISERS)}, got {self.optimiser!r}")
        if self.latent_distance not in LATENT_DISTANCES:
            raise PlannerError(f"latent_distance must be one of {', '.join(LATENT_DISTANCES)}, got {self.latent_distance!r}")
        if self.action_space not in ACTION_SPACES:
            raise PlannerError(f"action_space must be one of {', '.join(ACTION_SPACES)}, got {self.action_space!r}")
        if min(self.box_m, self.box_rad, self.box_gripper) <= 0 or self.rotation_weight < 0:
            raise PlannerError("box_m, box_rad and box_gripper must be above 0, rotation_weight at least 0")
        if self.search_rotation and not self.rotation_weight:
            raise PlannerError("search_rotation needs a rotation_weight, 0.05 for a start: with 0 the inverse kinematics leaves the orientation free")
        if len(self.effector_momentum) not in (0, len(EFFECTOR_NAMES)) or len(self.R_base_action) not in (0, 9):
            raise PlannerError(
                f"effector_momentum takes {len(EFFECTOR_NAMES)} numbers and R_base_action 9 or none, "
                f"got {len(self.effector_momentum)} and {len(self.R_base_action)}"
            )
        if not (0 <= self.cem_momentum < 1 and self.mppi_temperature > 0 and self.gradient_step > 0):
            raise PlannerError("cem_momentum must be in 0..1, below 1; mppi_temperature and gradient_step above 0")
        if not 1 <= self.elites <= self.samples:
            raise PlannerError(f"elites must be between 1 and samples ({self.samples}), got {self.elites}")
        if min(self.horizon, self.iterations, self.skill_hold) < 1:
            raise PlannerError("horizon, iterations and skill_hold must be at least 1")
        if self.keep_elites + self.prior_samples >= self.samples:
            raise PlannerError("keep_elites + prior_samples must leave room for random samples")


def config_from_mapping(kind: type[ConfigT], values: Mapping[str, Any], source: str = "settings") -> ConfigT:
    """Build a config dataclass from a mapping; an unknown key names the nearest valid one."""
    fields = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; valid: {', '.join(sorted(fields))}"
            raise PlannerError(f"{source}: unknown key {key!r}{hint}")
    converted = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return kind(**converted)
    except TypeError as error:
        raise PlannerError(f"{source}: {error}") from error


def load_config(kind: type[ConfigT], path: Path, overrides: Mapping[str, Any] | None = None) -> ConfigT:
    """Read a config dataclass from a YAML or JSON file, then apply overrides."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        raise PlannerError(f"no config file {path}") from None
    except yaml.YAMLError as error:
        raise PlannerError(f"{path} is not YAML ({' '.join(str(error).split())}); correct it") from error
    if not isinstance(values, dict):
        raise PlannerError(f"{path} must hold key: value pairs, got a {type(values).__name__}")
    return config_from_mapping(kind, {**values, **(overrides or {})}, str(path))
