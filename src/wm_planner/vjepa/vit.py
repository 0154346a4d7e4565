"""The V-JEPA 2.1 encoder: a vision transformer with corrected rotary positions, for single pictures.

`transformers` has no V-JEPA 2.1; parameter names and shapes are those of the published files
(Bardes et al. 2026, arXiv 2603.14482). Of several outputs the last, as used for planning, is given.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wm_planner.vjepa.blocks import NORM_EPS, Block
from wm_planner.vjepa.config import CORRECTED, EncoderConfig
from wm_planner.vjepa.rope import grid_table

PRETRAINING_GRID = 16  # patches per side that rotary positions are scaled to
LEVELS = 4  # normed outputs at equal depths; the last one is used


class Patches(nn.Module):
    """Pictures or short clips to tokens."""

    def __init__(self, width: int, frames: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, kernel_size=(frames, patch, patch), stride=(frames, patch, patch))


class VisionTransformer(nn.Module):
    """(B, 3, S, S) normalised pictures to (B, N, D) tokens."""

    def __init__(self, config: EncoderConfig, rotary: str = CORRECTED) -> None:
        super().__init__()
        self.config, self.rotary = config, rotary
        width = config.width
        self.patch_embed = Patches(width, 2, config.patch)  # of clips; in the file, not used for pictures
        self.patch_embed_img = Patches(width, 1, config.patch)
        self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, config.heads, config.hidden) for _ in range(config.depth))
        self.norms_block = nn.ModuleList(nn.LayerNorm(width, eps=NORM_EPS) for _ in range(LEVELS))

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode pictures; S must be a multiple of the patch side."""
        kernel = self.patch_embed_img.proj
        maps = functional.conv2d(pictures, kernel.weight[:, :, 0], kernel.bias, stride=self.config.patch)
        x = maps.flatten(2).mT + self.img_mod_embed
        rows, columns = maps.shape[2:]
        index = torch.arange(rows * columns, device=x.device)
        across = (PRETRAINING_GRID - 1) / max(1, columns - 1)
        down = (PRETRAINING_GRID - 1) / max(1, rows - 1)
        head_dim = self.config.width // self.config.heads
        still = torch.zeros_like(index)
        table = grid_table(head_dim, (index // columns) * down, (index % columns) * across, still, self.rotary)
        for block in self.blocks:
            x = block(x, table)
        out: Tensor = self.norms_block[-1](x)
        return out
