"""How many candidates to imagine at a time: what fits the processor's cache, or the GPU's memory."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from wm_planner.vjepa.config import ACConfig

SMALLEST_ROWS = 512  # of a matrix product that still runs at full speed on a CPU
GPU_SHARE = 0.6  # of the free memory


def activation_bytes(config: ACConfig, dtype: torch.dtype) -> int:
    """Bytes of one candidate's largest set of live activations inside a block: x, q, k, v and the hidden layer."""
    return config.tokens * (4 * config.width + config.width * dtype.itemsize * 3 + config.hidden * dtype.itemsize)


def cache_bytes(config: ACConfig, frames: int, dtype: torch.dtype) -> int:
    """Bytes of one candidate's keys and values over ``frames`` frames."""
    return config.depth * frames * config.tokens * 2 * config.width * dtype.itemsize


def chunk_size(config: ACConfig, frames: int, dtype: torch.dtype, device: torch.device, count: int) -> int:
    """Candidates at a time, 1 to ``count``.

    On a CPU the activations of a chunk should stay in the second-level cache, but matrix products
    need some rows. On a GPU more is better as long as keys, values and activations fit.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch holds it, and nothing is in it
        each = cache_bytes(config, frames, dtype) + 2 * activation_bytes(config, dtype)
        fits = int(GPU_SHARE * free) // each
    else:
        fits = max(second_level_cache() // activation_bytes(config, dtype), -(-SMALLEST_ROWS // config.tokens))
    return max(1, min(count, fits))


@functools.cache
def second_level_cache() -> int:
    """Bytes of the second-level cache of one core; 1 MiB where the system does not say."""
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            if (index / "level").read_text().strip() == "2":
                return int((index / "size").read_text().strip().rstrip("K")) * 1024
        except (OSError, ValueError):
            continue
    return 1 << 20
