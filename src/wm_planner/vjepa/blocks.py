"""The transformer block that the V-JEPA encoders and predictors share, with the published parameter names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wm_planner.vjepa.rope import Table, rotate

NORM_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head attention with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, table: Table, mask: Tensor | None = None) -> Tensor:
        """(B, L, W) to the same shape; ``mask`` (L, L) is True where a row may look at a column."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, heads, L, d)
        q, k = rotate(qkv[:2], table)
        attended = functional.scaled_dot_product_attention(q, k, qkv[2], attn_mask=mask)
        out: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) to the same shape."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor, table: Table, mask: Tensor | None = None) -> Tensor:
        """(B, L, W) to the same shape."""
        x = x + self.attn(self.norm1(x), table, mask)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def initialise(blocks: nn.ModuleList, others: list[nn.Linear], std: float = 0.02) -> None:
    """Truncated normal weights, zero biases; the residual outputs shrink with depth."""
    for module in [*(m for m in blocks.modules() if isinstance(m, nn.Linear)), *others]:
        nn.init.trunc_normal_(module.weight, std=std, a=-2.0, b=2.0)
        nn.init.zeros_(module.bias)
    with torch.no_grad():
        for index, block in enumerate(blocks):
            assert isinstance(block, Block)
            block.attn.proj.weight.div_((2.0 * (index + 1)) ** 0.5)
            block.mlp.fc2.weight.div_((2.0 * (index + 1)) ** 0.5)
