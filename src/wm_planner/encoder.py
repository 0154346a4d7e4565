"""Picture to latent: a small convolutional encoder that keeps *where* things are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wm_planner.config import ModelConfig


class ConvEncoder(nn.Module):
    """(B, 3, S, S) picture to (B, D) latent.

    A patch stem (4x4, lossless width) is followed by 3x3 convolutions down to S/8. The
    latent sees position in two ways: soft-argmax coordinates of learned maps at S/4
    (Finn et al. 2016, "Deep spatial autoencoders") and a flattened low-channel map at
    S/8. No normalisation layer mixes pixels, so a moving arm does not change how the
    background is encoded.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c1, c2, c3 = config.channels
        side = config.image_size // 4
        self.stem = nn.Sequential(nn.Conv2d(3, c1, 4, stride=4), nn.ReLU(inplace=True))
        self.fine = nn.Sequential(nn.Conv2d(c1, c2, 3, padding=1), nn.ReLU(inplace=True))
        self.maps = nn.Conv2d(c2, config.keypoints, 1)
        self.down = nn.Sequential(nn.Conv2d(c2, c3, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.mix = nn.Sequential(
            nn.Conv2d(c3, c3, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(c3, c3, 3, padding=1)
        )
        self.squeeze = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(c3, 24, 1), nn.ReLU(inplace=True))
        flat = 24 * (side // 2) ** 2 + 3 * config.keypoints
        self.head = nn.Sequential(nn.Linear(flat, 384), nn.ReLU(inplace=True), nn.Linear(384, config.latent_dim))
        axis = torch.linspace(-1.0, 1.0, side)
        self.register_buffer("axis", axis, persistent=False)
        self.axis: Tensor

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode normalised pictures (B, 3, S, S) to latents (B, D)."""
        fine = self.fine(self.stem(pictures))  # (B, c2, S/4, S/4)
        coarse = self.down(fine)
        coarse = self.squeeze(coarse + self.mix(coarse))  # (B, 24, S/8, S/8)
        features = torch.cat([coarse.flatten(1), self.soft_argmax(self.maps(fine))], dim=1)
        return self.head(features)

    def soft_argmax(self, maps: Tensor) -> Tensor:
        """(B, K, h, w) maps to (B, 3K): expected x, expected y and confidence of each map."""
        batch, count, h, w = maps.shape
        weight = maps.float().flatten(2).softmax(dim=2).reshape(batch, count, h, w)
        column, row = weight.sum(2), weight.sum(3)  # (B, K, w), (B, K, h)
        x, y = column @ self.axis, row @ self.axis
        spread = (column * column).sum(2) * (row * row).sum(2)
        return torch.cat([x, y, spread.sqrt()], dim=1).to(maps.dtype)
