"""Coloured noise: neighbouring actions of a sampled sequence resemble each other."""

from __future__ import annotations

import torch
from torch import Tensor


def coloured_mixing(horizon: int, beta: float) -> Tensor:
    """(H, H) matrix that turns white noise over time into noise with spectrum 1 / f^beta.

    Rows have unit length, so every time step keeps unit variance.
    """
    frequency = torch.fft.rfftfreq(2 * horizon)
    frequency[0] = frequency[1]
    amplitude = frequency ** (-beta / 2)
    impulse = torch.fft.irfft(amplitude, n=2 * horizon)
    lag = (torch.arange(horizon)[:, None] - torch.arange(2 * horizon)[None]) % (2 * horizon)
    covariance = impulse[lag] @ impulse[lag].T
    deviation = covariance.diagonal().sqrt()
    covariance = covariance / deviation[:, None] / deviation[None]
    mixing: Tensor = torch.linalg.cholesky(covariance + 1e-5 * torch.eye(horizon))
    return mixing
