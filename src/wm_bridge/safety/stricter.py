"""Settings may change while the robot runs, but only to the safe side."""

from __future__ import annotations

import dataclasses
from typing import Any

from wm_bridge.safety.config import GROUPS, SafetyConfig

# Larger is stricter. Every other number: smaller is stricter.
_LARGER = {
    "position_margin_rad",
    "self_margin_m",
    "table_margin_m",
    "obstacle_margin_m",
    "walking_speed_m_s",
    "reaction_ms",
    "clearance_m",
    "least_speed_m_s",
    "hold_below",
    "slow_below",
    "hysteresis",
    "temperature_hysteresis_c",
    "voltage_warn_v",
    "voltage_derate_v",
    "voltage_stop_v",
    "voltage_hysteresis_v",
    "effort_hysteresis",
}
# On is stricter.
_ON = {"camera_required", "reduced", "enabled", "table", "required"}
# Says nothing about what the arm may do, or is checked by the restart itself.
_FREE = {"intervention_rad", "qp_backend"}
_GROWS = {"table_upper"}  # corners: larger is stricter
_SHRINKS = {"table_lower"}  # smaller is stricter
_INWARD = {"workspace_lower": 1.0, "workspace_upper": -1.0}


def looser(old: SafetyConfig, new: SafetyConfig) -> list[str]:
    """Names of the settings that would allow more than before; empty when none does."""
    found = _looser(old, new, "")
    for group in GROUPS:
        found += _looser(getattr(old, group), getattr(new, group), f"{group}.")
    return found


def _looser(old: Any, new: Any, prefix: str) -> list[str]:
    return [
        prefix + field.name
        for field in dataclasses.fields(old)
        if field.name not in _FREE
        and field.name not in GROUPS
        and not _kept(field.name, getattr(old, field.name), getattr(new, field.name))
    ]


def _kept(name: str, old: Any, new: Any) -> bool:
    if name == "period_ms":
        return bool(old == new)
    if name in _ON:
        return bool(new >= old)
    if name == "self_ignore":
        return set(new) <= set(old)
    if name in _GROWS:
        return all(b >= a for a, b in zip(old, new, strict=True))
    if name in _SHRINKS:
        return all(b <= a for a, b in zip(old, new, strict=True))
    if name in _INWARD:
        sign = _INWARD[name]
        return all(sign * b >= sign * a for a, b in zip(old, new, strict=True))
    return bool(new >= old) if name in _LARGER else bool(new <= old)
