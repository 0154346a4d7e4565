"""Transformer parts of the predictor: rotary time positions and a cached causal block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

Cache = tuple[Tensor, Tensor]  # keys, values: (B, heads, T, d)


def rotary_table(times: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Cos and sin tables (T, dim/2) for integer time positions (T,).

    Rotating queries and keys makes their product depend on the time *difference* only
    (Su et al. 2021), so a cached key stays valid while the window slides.
    """
    frequency = 100.0 ** (-torch.arange(dim // 2, device=times.device, dtype=torch.float32) / (dim // 2))
    angle = times.float()[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the two halves of the last axis of (B, heads, T, d) by a rotary table."""
    cos, sin = table
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class CausalBlock(nn.Module):
    """Pre-norm attention and MLP over frame tokens; a token sees itself and the past."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, table: tuple[Tensor, Tensor], cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Advance (B, T, W) tokens; ``cache`` holds the keys and values of earlier tokens.

        With a cache T must be 1 (one new frame); without, the whole sequence is causal.
        """
        batch, steps, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, steps, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, d)
        q, k = rotate(q, table), rotate(k, table)
        if cache is not None:
            k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=cache is None and steps > 1)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, steps, width))
        return x + self.mlp(self.norm2(x)), (k, v)
