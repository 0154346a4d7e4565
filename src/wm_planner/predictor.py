"""Action-conditioned latent dynamics: where does this action lead?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wm_planner.blocks import Cache, CausalBlock, rotary_table
from wm_planner.config import ModelConfig


@dataclass
class RolloutCache:
    """Keys and values of the frames so far, one entry per block, and how many there are."""

    layers: list[Cache]
    length: int


class Predictor(nn.Module):
    """Causal transformer over one token per frame.

    The token of frame t holds its latent z (D), proprioception s (2A: scaled position and
    servo lag) and the action a (A, share of the action box) taken there. Its output is the
    *change* to frame t+1 of both. Time positions are rotary, hence relative.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.width // config.heads
        token = config.latent_dim + config.state_dim + config.action_dim
        self.embed = nn.Sequential(nn.Linear(token, config.width), nn.GELU(), nn.Linear(config.width, config.width))
        self.blocks = nn.ModuleList(CausalBlock(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.latent_head = nn.Linear(config.width, config.latent_dim)
        self.state_head = nn.Linear(config.width, config.state_dim)
        for head in (self.latent_head, self.state_head):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def forward(
        self, z: Tensor, state: Tensor, action: Tensor, cache: RolloutCache | None = None
    ) -> tuple[Tensor, Tensor, RolloutCache]:
        """Predict the next frame after each given one.

        Args:
            z: (B, T, D); state: (B, T, 2A); action: (B, T, A).
            cache: of the frames before these; then T is 1.

        Returns:
            next latents (B, T, D), next states (B, T, 2A), cache including these frames.
        """
        start = cache.length if cache else 0
        steps = z.shape[1]
        times = torch.arange(start, start + steps, device=z.device)
        cos, sin = rotary_table(times, self.head_dim)
        table = (cos.to(z.dtype), sin.to(z.dtype))
        x = self.embed(torch.cat([z, state, action], dim=-1))
        layers: list[Cache] = []
        for index, block in enumerate(self.blocks):
            x, entry = block(x, table, cache.layers[index] if cache else None)
            layers.append(entry)
        x = self.norm(x)
        return z + self.latent_head(x), state + self.state_head(x), RolloutCache(layers, start + steps)
