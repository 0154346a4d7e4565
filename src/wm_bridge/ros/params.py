"""ROS parameters from frozen dataclasses: declared with type, description and range."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
)
from rclpy.node import Node

from wm_bridge.errors import UserError

Settings = TypeVar("Settings")


UNITS = {"ms": "ms", "s": "s", "us": "us", "hz": "Hz", "m": "m", "rad": "rad", "deg": "degrees", "mb": "MB"}  # by the name's end


def setting(
    default: Any, help: str, low: float | None = None, high: float | None = None, fixed: bool = True, unit: str = ""
) -> Any:
    """A dataclass field that becomes a parameter.

    Args:
        default: also gives the type. help: what it does, with its unit.
        low, high: inclusive range of a number; both or none.
        fixed: read-only; else the node itself judges a new value while it runs.
        unit: of a number whose name does not end in one of ``UNITS``; "1" = none.
    """
    metadata = {"help": help, "low": low, "high": high, "default": default, "fixed": fixed, "unit": unit}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def unit_of(field: Any) -> str:
    """Unit of a field made by ``setting``; "" where it is no number, or where nobody said."""
    default = field.metadata["default"]
    if isinstance(default, (bool, str)) or (isinstance(default, list) and default and isinstance(default[0], str)):
        return ""
    return str(field.metadata["unit"] or UNITS.get(field.name.rpartition("_")[2], ""))


def declare(node: Node, kind: type[Settings]) -> Settings:
    """Declare every field of ``kind`` on ``node`` and return the values it was started with.

    Parameters are read-only but for those that say otherwise: a running node keeps what it was started with.

    Raises:
        UserError: wrong type, out of range, or refused by the dataclass itself.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        try:
            value = node.declare_parameter(
                field.name, field.metadata["default"], _descriptor(field)
            ).value
            values[field.name] = list(value) if isinstance(field.metadata["default"], list) else value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            low, high = field.metadata.get("low"), field.metadata.get("high")
            limits = "" if low is None else f" from {low} to {high}"
            raise UserError(
                f"{node.get_name()}: parameter {field.name}: {error}",
                f"give a {type(field.metadata['default']).__name__}{limits} ({field.metadata['help']})",
                exit_code=2,
            ) from error
    try:
        return kind(**values)
    except ValueError as error:
        raise UserError(
            f"{node.get_name()}: {error}", "correct the parameter (config/graph.yaml)", exit_code=2
        ) from error


def _descriptor(field: Any) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=field.metadata["help"], read_only=field.metadata["fixed"])
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if low is not None and isinstance(field.metadata["default"], int):
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
    elif low is not None:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
        ]
    return descriptor
