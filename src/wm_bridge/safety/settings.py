"""Groups of settings in safety.yaml: every number sane."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


def check_plain(group: Any, name: str, may_be_zero: tuple[str, ...] = ()) -> None:
    """Refuse a bool, int or float field that is none, NaN, infinite, negative or zero."""
    for field in dataclasses.fields(group):
        value, kind = getattr(group, field.name), str(field.type)
        where = f"safety: {name}.{field.name}"
        if kind == "bool":
            if not isinstance(value, bool):
                raise ValueError(f"{where} must be true or false, got {value!r}")
        elif kind in ("int", "float"):
            wanted = (int,) if kind == "int" else (int, float)
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise ValueError(f"{where} must be a number ({kind}), got {value!r}")
            bound = ">= 0" if field.name in may_be_zero else "> 0"
            if not math.isfinite(value) or value < 0 or (value == 0 and bound == "> 0"):
                raise ValueError(f"{where} must be finite and {bound}, got {value}")


def check_order(group: Any, name: str, *fields: str) -> None:
    """Refuse fields that do not increase in the given order."""
    values = [getattr(group, field) for field in fields]
    for (low, a), (high, b) in zip(
        zip(fields, values, strict=True), zip(fields[1:], values[1:], strict=True), strict=False
    ):
        if not a < b:
            raise ValueError(f"safety: {name}.{low} ({a}) must be smaller than {high} ({b}); swapped?")
