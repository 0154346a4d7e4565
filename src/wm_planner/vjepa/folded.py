"""An AC predictor's weights rearranged for inference; the same function, less work per token.

Layer-norm scales are folded into the weights that follow them, and queries and keys have the
features of each rotary pair moved to the two halves of the head (their product does not change).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wm_planner.linear import Linear, Product, copied, fold_norm
from wm_planner.vjepa.blocks import Block
from wm_planner.vjepa.predictor import ACPredictor
from wm_planner.vjepa.rope import Table


@dataclass(frozen=True)
class FoldedBlock:
    """Linear maps of a block; the layer norm before ``qkv`` and ``up`` has no scale of its own any more."""

    qkv: Product
    out: Product
    up: Product
    down: Product


@dataclass(frozen=True)
class Folded:
    """All maps of a predictor."""

    embed: Product
    action: Product
    state: Product
    blocks: tuple[FoldedBlock, ...]
    head: Product


@torch.no_grad()
def fold(model: ACPredictor, dtype: torch.dtype) -> Folded:
    """Snapshot of the weights in ``dtype``; folded in float32 first."""

    def plain(linear: nn.Linear) -> Product:
        return Product(copied(linear.float()).to(dtype))

    blocks = [fold_block(block, model.config.heads, dtype) for block in model.predictor_blocks if isinstance(block, Block)]
    return Folded(
        embed=plain(model.predictor_embed),
        action=plain(model.action_encoder),
        state=plain(model.state_encoder),
        blocks=tuple(blocks),
        head=Product(fold_norm(model.predictor_norm, copied(model.predictor_proj)).to(dtype)),
    )


def fold_block(block: Block, heads: int, dtype: torch.dtype) -> FoldedBlock:
    """Copy of a block with norms folded in and rotary pairs split into halves."""
    qkv = fold_norm(block.norm1, copied(block.attn.qkv))
    width = qkv.bias.shape[0] // 3
    order = torch.arange(2 * width).view(2 * heads, -1, 2).mT.flatten()  # even features of a head, then odd ones
    order = torch.cat([order, torch.arange(2 * width, 3 * width)]).to(qkv.bias.device)
    return FoldedBlock(
        qkv=Product(Linear(qkv.weight[:, order], qkv.bias[order]).to(dtype)),
        out=Product(copied(block.attn.proj).to(dtype)),
        up=Product(fold_norm(block.norm2, copied(block.mlp.fc1)).to(dtype)),
        down=Product(copied(block.mlp.fc2).to(dtype)),
    )


def halves(table: Table, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A rotary table (tokens, d) as cos and sin of the even and of the odd features, each (tokens, 1, d / 2)."""
    cos, sin = table
    return tuple(t[:, None, start::2].to(dtype).contiguous() for t in (cos, sin) for start in (0, 1))  # type: ignore[return-value]


def turn(x: Tensor, table: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """Rotate (..., tokens, heads, d) in place; its features are in halves (see ``fold_block``)."""
    even_cos, odd_cos, even_sin, odd_sin = table
    first, second = x.chunk(2, dim=-1)
    from_second, from_first = second * even_sin, first * odd_sin
    first.mul_(even_cos).sub_(from_second)
    second.mul_(odd_cos).add_(from_first)
