"""The action-conditioned predictor: which latent follows this one, if the robot does that?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wm_planner.vjepa.blocks import NORM_EPS, Block, initialise
from wm_planner.vjepa.config import ACConfig
from wm_planner.vjepa.rope import frames_table


class ACPredictor(nn.Module):
    """Block-causal transformer over frames of [action, state, patches] tokens.

    A token sees every token of its own and of earlier frames, so the patches of frame t are
    already under the influence of action t, and what comes out in their place is frame t + 1.
    Parameter names and shapes are those of the published V-JEPA 2-AC predictor
    (``extrinsics_encoder`` is in the file and, as in the published configuration, not used).
    """

    def __init__(self, config: ACConfig) -> None:
        super().__init__()
        self.config = config
        self.predictor_embed = nn.Linear(config.embed_dim, config.width)
        self.action_encoder = nn.Linear(config.action_dim, config.width)
        self.state_encoder = nn.Linear(config.state_dim, config.width)
        self.extrinsics_encoder = nn.Linear(max(1, config.action_dim - 1), config.width)
        self.predictor_blocks = nn.ModuleList(
            Block(config.width, config.heads, config.hidden) for _ in range(config.depth)
        )
        self.predictor_norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.predictor_proj = nn.Linear(config.width, config.embed_dim)
        ends = [self.predictor_embed, self.action_encoder, self.state_encoder, self.extrinsics_encoder, self.predictor_proj]
        initialise(self.predictor_blocks, ends)

    def forward(self, latents: Tensor, actions: Tensor, states: Tensor) -> Tensor:
        """Predict the frame after each given one.

        Args:
            latents: (B, T, N, D), layer-normed. actions: (B, T, A) taken at each frame.
            states: (B, T, P) proprioception of each frame.

        Returns:
            (B, T, N, D), not yet layer-normed (see ``normalise``).
        """
        batch, frames = latents.shape[:2]
        extra = torch.stack([self.action_encoder(actions), self.state_encoder(states)], dim=2)  # (B, T, 2, W)
        x = torch.cat([extra, self.predictor_embed(latents)], dim=2).flatten(1, 2)  # (B, T * M, W)
        table = frames_table(self.config, frames, x.device)
        mask = block_causal(frames, self.config.tokens, x.device) if frames > 1 else None
        for block in self.predictor_blocks:
            x = block(x, table, mask)
        patches = x.view(batch, frames, self.config.tokens, -1)[:, :, 2:]
        out: Tensor = self.predictor_proj(self.predictor_norm(patches))
        return out


def block_causal(frames: int, tokens: int, device: torch.device | str = "cpu") -> Tensor:
    """(L, L) mask, True where a token (row) may look: its own frame and earlier ones."""
    frame = torch.arange(frames, device=device).repeat_interleave(tokens)
    return frame[:, None] >= frame[None]


def normalise(latents: Tensor) -> Tensor:
    """Layer norm without scale and shift: encoder outputs and predictions live on this sphere."""
    return functional.layer_norm(latents, latents.shape[-1:])


def roll(model: ACPredictor, latents: Tensor, actions: Tensor, states: Tensor) -> Tensor:
    """Open loop by recomputing every frame at every step: the plain statement of what ``rollout`` does faster.

    Args:
        latents: (B, T, N, D) known frames. actions: (B, T - 1 + H, A). states: (B, T - 1 + H, P) of
            the frames at which these actions are taken.

    Returns:
        (B, H, N, D) imagined frames, layer-normed.
    """
    known = latents.shape[1]
    for step in range(known, actions.shape[1] + 1):
        after = normalise(model(latents, actions[:, :step], states[:, :step])[:, -1:])
        latents = torch.cat([latents, after], dim=1)
    return latents[:, known:]
