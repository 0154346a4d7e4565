"""Picture to latent: a small convolutional encoder that keeps *where* things are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wm_planner.config import ModelConfig


class ConvEncoder(nn.Module):
    """(B, 3, S, S) picture to (B, D) latent.

    Each picture is first freed of its own brightness and colour cast. A patch stem (4x4) is
    followed by 3x3 convolutions down to S/8. The latent sees position in two ways:
    soft-argmax coordinates of learned maps at S/4 and S/8 (Finn et al. 2016, "Deep spatial
    autoencoders") and a flattened low-channel map at S/8. Nothing pools over space.
    """

    # Logits of the soft-argmax start this much larger than the convolution gives them: at 1
    # every map is nearly flat, its expected coordinate the picture's centre, its gradient ~0.
    SHARPNESS = 8.0

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c1, c2, c3 = config.channels
        side = config.image_size // 4
        self.stem = nn.Sequential(nn.Conv2d(3, c1, 4, stride=4), nn.BatchNorm2d(c1), nn.ReLU())
        self.fine = nn.Sequential(nn.Conv2d(c1, c2, 3, padding=1), nn.BatchNorm2d(c2), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(c2, c3, 3, stride=2, padding=1), nn.BatchNorm2d(c3), nn.ReLU())
        self.mix = nn.Sequential(
            nn.Conv2d(c3, c3, 3, padding=1), nn.BatchNorm2d(c3), nn.ReLU(), nn.Conv2d(c3, c3, 3, padding=1)
        )
        self.deeper = nn.Sequential(*(Residual(c3) for _ in range(config.residual_blocks)))
        self.fine_maps = nn.Conv2d(c2, config.keypoints, 1)
        self.coarse_maps = nn.Conv2d(c3, config.keypoints, 1)
        self.squeeze = nn.Sequential(nn.ReLU(), nn.Conv2d(c3, 24, 1), nn.ReLU())
        flat = 24 * (side // 2) ** 2 + 6 * config.keypoints
        self.head = nn.Sequential(
            nn.LayerNorm(flat), nn.Linear(flat, 384), nn.ReLU(), nn.Linear(384, config.latent_dim)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode normalised pictures (B, 3, S, S) to latents (B, D)."""
        z: Tensor = self.head(self.features(pictures))
        return z

    def features(self, pictures: Tensor) -> Tensor:
        """What the convolutions see (B, F), before the last layers make a latent of it."""
        fine = self.fine(self.stem(standardise(pictures)))  # (B, c2, S/4, S/4)
        coarse = self.down(fine)
        coarse = self.deeper(coarse + self.mix(coarse))  # (B, c3, S/8, S/8)
        features = [
            self.squeeze(coarse).flatten(1),
            soft_argmax(self.SHARPNESS * self.fine_maps(fine)),
            soft_argmax(self.SHARPNESS * self.coarse_maps(coarse)),
        ]
        return torch.cat(features, dim=1)


class Residual(nn.Module):
    """Two convolutions added to their input; begins as the identity, so a trained encoder can grow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, width, 3, padding=1)
        self.change = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), last
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        change: Tensor = self.change(x)
        return x + change


def standardise(pictures: Tensor) -> Tensor:
    """Remove each picture's mean colour and contrast: light and white balance drop out."""
    mean = pictures.mean((2, 3), keepdim=True)
    contrast = pictures.std((1, 2, 3), keepdim=True)
    return (pictures - mean) / (contrast + 0.05)


def soft_argmax(logits: Tensor) -> Tensor:
    """(B, K, h, w) logits to (B, 3K): expected x, expected y in [-1, 1], and how peaked."""
    batch, count, h, w = logits.shape
    weight = logits.float().flatten(2).softmax(dim=2).reshape(batch, count, h, w)
    column, row = weight.sum(2), weight.sum(3)  # (B, K, w), (B, K, h)
    x = column @ torch.linspace(-1.0, 1.0, w, device=logits.device)
    y = row @ torch.linspace(-1.0, 1.0, h, device=logits.device)
    peak = ((column * column).sum(2) * (row * row).sum(2)).sqrt()
    return torch.cat([x, y, peak], dim=1).to(logits.dtype)
