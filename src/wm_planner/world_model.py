"""The compact world model: encode, predict, roll out, read out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wm_planner.config import ModelConfig
from wm_planner.encoder import ConvEncoder
from wm_planner.errors import PlannerError
from wm_planner.predictor import Predictor
from wm_planner.skill import ObjectSkill


SCENE_SIDE, SCENE_DIM, LOW_CONTRAST = 24, 48, 0.05  # of the novelty score: pixels, basis, of [-1, 1]
CALIBRATION = ("scene_basis", "novelty_limit")


@dataclass(frozen=True)
class Readout:
    """What the latent says about the scene, in SI units.

    Attributes:
        joints: (..., A) rad. hand: (..., 3) m, base frame. objects: (..., O, 3) m, base frame.
    """

    joints: Tensor
    hand: Tensor
    objects: Tensor


class WorldModel(nn.Module):
    """Joint-embedding predictive model with actions, in the manner of V-JEPA 2-AC.

    Trained end to end without pixel reconstruction: the encoder and the predictor agree on
    a latent that the future can be predicted in, a regulariser keeps that latent from
    collapsing, and a small readout keeps in it what proprioception knows (see ``losses.py``).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ConvEncoder(config)
        self.predictor = Predictor(config)
        width = config.readout_width
        self.readout_head = nn.Sequential(
            nn.Linear(config.latent_dim, width), nn.ReLU(inplace=True), nn.Linear(width, config.readout_dim)
        )
        prior_input = 2 * config.latent_dim + config.state_dim
        self.prior_head = nn.Sequential(
            nn.Linear(prior_input, 384),
            nn.ReLU(inplace=True),
            nn.Linear(384, 384),
            nn.ReLU(inplace=True),
            nn.Linear(384, config.prior_horizon * config.action_dim),
        )
        if config.object_skill:
            self.skill = ObjectSkill(config)
        lower, upper = torch.tensor(config.lower), torch.tensor(config.upper)
        self.register_buffer("joint_centre", (lower + upper) / 2, persistent=False)
        self.register_buffer("joint_half_range", (upper - lower) / 2, persistent=False)
        self.register_buffer("action_scale", torch.tensor(config.action_scale), persistent=False)
        self.register_buffer("hand_centre", torch.tensor([0.3, -0.2, 0.8]), persistent=False)
        # set from data after training, see calibrate.py
        self.register_buffer("scene_basis", torch.zeros(SCENE_SIDE**2, SCENE_DIM))
        self.register_buffer("novelty_limit", torch.tensor(float("inf")))
        self.scene_basis: Tensor
        self.novelty_limit: Tensor
        self.joint_centre: Tensor
        self.joint_half_range: Tensor
        self.action_scale: Tensor
        self.hand_centre: Tensor

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (B, D) of normalised pictures (B, 3, S, S)."""
        z: Tensor = self.encoder(pictures)
        return z

    def proprioception(self, position: Tensor, reference: Tensor) -> Tensor:
        """State (..., 2A) from measured position and commanded reference, both (..., A) rad."""
        scaled = self.scaled_joints(position)
        lag = (reference - position) / self.action_scale
        return torch.cat([scaled, lag.clamp(-4, 4)], dim=-1)

    def scaled_joints(self, joints: Tensor) -> Tensor:
        """(..., A) rad as shares of half the joints' range, 0 in its middle."""
        return (joints - self.joint_centre) / self.joint_half_range

    def rollout(self, z: Tensor, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Imagine H steps from C context frames.

        Args:
            z: (B, C, D) encoded context, oldest first; state: (B, C, 2A).
            actions: (B, C - 1 + H, A) as shares of the action box; the first C - 1 were
                taken between the context frames.

        Returns:
            latents (B, H, D) and states (B, H, 2A) after each of the last H actions.
        """
        context = z.shape[1]
        z_next, s_next, cache = self.predictor(z, state, actions[:, :context])
        z_now, s_now = z_next[:, -1:], s_next[:, -1:]
        latents, states = [z_now], [s_now]
        for step in range(context, actions.shape[1]):
            z_now, s_now, cache = self.predictor(z_now, s_now, actions[:, step : step + 1], cache)
            latents.append(z_now)
            states.append(s_now)
        return torch.cat(latents, dim=1), torch.cat(states, dim=1)

    def read(self, z: Tensor) -> Readout:
        """Decode latents (..., D) into joints, hand and object positions."""
        return self.split_readout(self.readout_head(z))

    def split_readout(self, raw: Tensor) -> Readout:
        """Network units to SI units (joints by their range, positions in decimetres)."""
        a = self.config.action_dim
        objects = torch.unflatten(raw[..., a + 3 :], -1, (-1, 3))
        return Readout(
            joints=raw[..., :a] * self.joint_half_range + self.joint_centre,
            hand=raw[..., a : a + 3] * 0.1 + self.hand_centre,
            objects=objects * 0.1 + self.hand_centre,
        )

    def join_readout(self, readout: Readout) -> Tensor:
        """SI units to network units; inverse of ``split_readout``."""
        joints = (readout.joints - self.joint_centre) / self.joint_half_range
        hand = (readout.hand - self.hand_centre) * 10.0
        objects = (readout.objects - self.hand_centre) * 10.0
        return torch.cat([joints, hand, objects.flatten(-2)], dim=-1)

    def scene(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """What normalised pictures (B, 3, S, S) show, whatever the light.

        Returns:
            (B, P) small grey copies less their mean, of about unit length; (B,) contrasts.
        """
        grey = functional.adaptive_avg_pool2d(pictures.mean(1, keepdim=True), SCENE_SIDE).flatten(1)
        grey = grey - grey.mean(1, keepdim=True)
        contrast = grey.square().mean(1).sqrt()
        return grey / (contrast[:, None] + LOW_CONTRAST) / SCENE_SIDE, contrast

    def novelty(self, pictures: Tensor) -> Tensor:
        """How foreign (B,) the scene of normalised pictures (B, 3, S, S) is; 0 is well known.

        The part of the scene that lies outside the principal subspace of the training
        pictures, plus what contrast an almost empty picture lacks. The latent itself cannot
        tell: the regulariser that keeps it Gaussian puts a foreign picture among the known.
        """
        scene, contrast = self.scene(pictures)
        known = scene @ self.scene_basis
        foreign = (scene.square().sum(1) - known.square().sum(1)).clamp(min=0).sqrt()
        return foreign + (1.0 - contrast / LOW_CONTRAST).clamp(min=0)

    def propose(self, z: Tensor, state: Tensor, z_goal: Tensor) -> Tensor:
        """Inverse-dynamics prior: (B, D), (B, 2A), (B, D) to actions (B, prior_horizon, A) in [-1, 1]."""
        raw: Tensor = self.prior_head(torch.cat([z, state, z_goal], dim=-1)).tanh()
        return torch.unflatten(raw, -1, (self.config.prior_horizon, self.config.action_dim))

    @property
    def object_skill(self) -> ObjectSkill:
        """What the model knows of moving objects; a PlannerError when it has not learned it."""
        if not self.config.object_skill:
            raise PlannerError(
                "this checkpoint has not learned to move objects; refine it with "
                "`./wm refine --demonstrations FOLDER`, or choose the goal target hand"
            )
        return self.skill

    def table_place(self, position: Tensor) -> Tensor:
        """(..., 2) place in the table plane, network units, of positions (..., 2 or 3) in m."""
        return (position[..., :2] - self.hand_centre[:2]) * 10.0


def grown(model: WorldModel, **shape: Any) -> WorldModel:
    """The same weights in a larger shape; parts that ``model`` lacks start anew.

    Args:
        shape: ``ModelConfig`` keys, of those that add parts: residual_blocks, object_skill.
    """
    larger = WorldModel(dataclasses.replace(model.config, **shape))
    larger.load_state_dict(model.state_dict(), strict=False)
    return larger.eval()
