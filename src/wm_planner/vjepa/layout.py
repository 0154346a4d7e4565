"""The published checkpoint files: parameter names, and a strict check of names, shapes and values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wm_planner.errors import PlannerError

PREFIXES = ("module.", "backbone.")  # left by data-parallel training and by the wrapper of the encoder
IGNORED = ("pos_embed",)  # sine tables of an earlier version, in some encoder files; rotary positions replace them


def clean(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Tensors by their plain names: wrapper prefixes are taken off, unused position tables left out.

    Raises:
        PlannerError: something in it is no tensor, or two names become one.
    """
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = key
        for prefix in PREFIXES:
            name = name.replace(prefix, "")
        if not isinstance(value, Tensor):
            raise PlannerError(
                f"{part}: {key} holds a {type(value).__name__}, expected a tensor; this is not a published checkpoint"
            )
        if name in found:
            raise PlannerError(f"{part}: two tensors are called {name} once the prefixes {PREFIXES} are off")
        if name not in IGNORED:
            found[name] = value
    return found


def check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], part: str) -> None:
    """Raise PlannerError unless names and shapes are exactly those expected and all values are finite."""
    missing, surplus = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or surplus:
        raise PlannerError(
            f"{part}: {len(missing)} tensors are missing{first(missing)} and {len(surplus)} are unexpected{first(surplus)}; "
            "use the file that belongs to this model, or describe its shape with --config"
        )
    wrong = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if found[name].shape != expected[name].shape
    ]
    if wrong:
        raise PlannerError(
            f"{part}: {len(wrong)} tensors have another shape: {', '.join(wrong[:3])}; "
            "use the file that belongs to this model, or describe its shape with --config"
        )
    broken = [name for name in expected if not bool(torch.isfinite(found[name]).all())]
    if broken:
        raise PlannerError(f"{part}: NaN or infinite weights{first(broken)}; it must not drive a robot; copy the file again")


def first(names: list[str]) -> str:
    """The first few names in brackets, for a message; empty for none."""
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
