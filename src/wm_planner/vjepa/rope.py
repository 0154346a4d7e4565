"""Rotary positions over time, row and column, in the layout of the published weights and in the corrected one."""

from __future__ import annotations

import torch
from torch import Tensor

from wm_planner.vjepa.config import PUBLISHED, ACConfig

Table = tuple[Tensor, Tensor]  # cos, sin: (tokens, head_dim)


def axis_width(head_dim: int) -> int:
    """Features of a head that turn with each of time, row and column; what is left over does not turn."""
    return 2 * (head_dim // 6)


def axis_table(positions: Tensor, width: int, layout: str) -> Table:
    """Cos and sin (tokens, width) of one axis for positions (tokens,).

    Features 2i and 2i + 1 are a pair. "corrected" gives both the angle of frequency i (Su et al. 2021).
    "published" repeats the frequencies block-wise, so that feature j has frequency j mod (width / 2):
    no rotation, but what the V-JEPA 2 weights were trained with (facebookresearch/vjepa2, pull request 15).
    """
    count = width // 2
    omega = 1.0 / 10000.0 ** (torch.arange(count, dtype=torch.float32, device=positions.device) / count)
    angle = positions.float()[:, None] * omega
    angle = angle.repeat(1, 2) if layout == PUBLISHED else angle.repeat_interleave(2, dim=1)
    return angle.cos(), angle.sin()


def join(axes: list[Table], head_dim: int) -> Table:
    """Tables of several axes side by side; the features that are left over keep cos 1 and sin 0."""
    cos, sin = torch.cat([a[0] for a in axes], dim=1), torch.cat([a[1] for a in axes], dim=1)
    rest = head_dim - cos.shape[1]
    return torch.cat([cos, cos.new_ones(len(cos), rest)], dim=1), torch.cat([sin, sin.new_zeros(len(sin), rest)], dim=1)


def grid_table(head_dim: int, rows: Tensor, columns: Tensor, time: Tensor, layout: str) -> Table:
    """Table of patch tokens at (time, row, column), each (tokens,)."""
    width = axis_width(head_dim)
    return join([axis_table(p, width, layout) for p in (time, rows, columns)], head_dim)


def frame_table(config: ACConfig, time: int, device: torch.device | str = "cpu") -> Table:
    """Table (M, head_dim) of one frame: action and state turn with time alone, patches with all three axes."""
    index = torch.arange(config.patches, device=device)
    now = torch.full((config.patches,), float(time), device=device)
    rows, columns = index // config.grid, index % config.grid
    patches = grid_table(config.head_dim, rows, columns, now, config.rotary)
    extra = join([axis_table(now[:1].repeat(2), axis_width(config.head_dim), config.rotary)], config.head_dim)
    return torch.cat([extra[0], patches[0]]), torch.cat([extra[1], patches[1]])


def frames_table(config: ACConfig, frames: int, device: torch.device | str = "cpu") -> Table:
    """Table (frames * M, head_dim) of frames 0, 1, ..."""
    tables = [frame_table(config, t, device) for t in range(frames)]
    return torch.cat([t[0] for t in tables]), torch.cat([t[1] for t in tables])


def rotate(x: Tensor, table: Table) -> Tensor:
    """Turn (..., tokens, head_dim): x cos + x' sin, where x' holds each pair (a, b) as (-b, a)."""
    first, second = x.view(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([-second, first], dim=-1).flatten(-2)
    return x * table[0].to(x.dtype) + turned * table[1].to(x.dtype)
