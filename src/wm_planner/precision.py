"""Where models run and in which arithmetic: bfloat16 where the processor has it, float32 elsewhere."""

from __future__ import annotations

import torch

from wm_planner.errors import PlannerError


def has_bfloat16(device: torch.device) -> bool:
    """True where products in bfloat16 run in hardware; where they do not they are slower than float32 by far."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def search_dtype(device: torch.device) -> torch.dtype:
    """The faster of bfloat16 and float32; final elites are scored in float32 either way (``energy.Energy.best``)."""
    return torch.bfloat16 if has_bfloat16(device) else torch.float32


def usable(name: str) -> torch.device:
    """The device of that name, as in "cpu" or "cuda:1".

    Raises:
        PlannerError: there is none here.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch says either, over many lines
        raise PlannerError(f"no device {name!r} here ({str(error).splitlines()[0]}); name another: cpu, cuda, cuda:1") from error
    return device
