"""Camera picture to network input; collection, training and planning all come through here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wm_planner.errors import PlannerError


def check_picture(image: NDArray[np.uint8], smallest: int = 32) -> None:
    """Raise PlannerError unless ``image`` is a usable (H, W, 3) uint8 RGB picture."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise PlannerError(f"expected a uint8 RGB picture of shape (height, width, 3), got {found}")
    if min(image.shape[:2]) < smallest:
        raise PlannerError(
            f"picture of {image.shape[1]}x{image.shape[0]} pixels is too small; use at least {smallest}x{smallest}"
        )


def square_resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Centre square crop, then area resize to (size, size, 3) uint8.

    Area averaging removes the aliasing that would make pictures of different camera
    resolutions look different to the network.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(crop)
    first = np.arange(size) * side // size  # of the k rows (and columns) that one pixel is the mean of
    k = -(-side // size)  # odd: no mean lies half way between two levels, so rounding is no question
    if side % size == 0 or (side > size and k % 2 and (first + k == -(-np.arange(1, size + 1) * side // size)).all()):
        return _windows_mean(crop, first, k)
    tensor = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)[None].float()
    mode = "area" if side > size else "bilinear"
    resized = functional.interpolate(tensor, size=(size, size), mode=mode)
    return resized[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


def _windows_mean(square: NDArray[np.uint8], first: NDArray[np.int64], k: int) -> NDArray[np.uint8]:
    """Rounded mean of the k x k windows that begin at ``first`` x ``first``: torch's area, three times as fast."""
    kind = np.uint16 if k * k < 256 else np.uint32
    rows: NDArray[Any]
    total: NDArray[Any]
    if len(first) * k == len(square):  # windows side by side: slices instead of copies
        rows = square[::k].astype(kind)
        for i in range(1, k):
            rows += square[i::k]
        total = rows[:, ::k].copy()
        for i in range(1, k):
            total += rows[:, i::k]
    else:
        rows = np.add.reduce([square[first + i] for i in range(k)], dtype=kind)
        total = np.take(rows, first, axis=1)
        for i in range(1, k):
            total += np.take(rows, first + i, axis=1)
    total += k * k // 2
    mean: NDArray[np.uint8] = (total // (k * k)).astype(np.uint8)
    return mean


def to_tensor(images: NDArray[np.uint8] | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """(B, S, S, 3) uint8 to (B, 3, S, S) float in [-1, 1], channels last in memory."""
    tensor = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
    tensor = tensor.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
    return tensor.div_(127.5).sub_(1.0).contiguous(memory_format=torch.channels_last)
