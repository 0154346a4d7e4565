"""Groups of settings in safety.yaml: every key known, present and sane."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def read_group(cls: type[T], name: str, values: object) -> T:
    """Build the dataclass of one group from parsed YAML.

    Raises:
        ValueError: unknown key (names the nearest), missing key, or a bad value.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        raise ValueError(f"safety: {name} must be a group of keys, got {values!r}")
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise ValueError(f"safety: unknown key '{name}.{key}'; did you mean '{near[0]}'?")
    missing = [field for field in known if field not in values]
    if missing:
        raise ValueError(f"safety: {name} lacks {missing}; add them as in config/safety.yaml")
    return cls(**values)


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
