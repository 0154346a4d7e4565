"""Settings of the safety filter, from ``config/safety.yaml``."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wm_bridge import resources
from wm_bridge.core.settings import read_group, read_yaml
from wm_bridge.safety.health import HealthSettings
from wm_bridge.safety.human import HumanSettings
from wm_bridge.safety.presence import DeadmanSettings, DriverSettings
from wm_bridge.safety.qp import BACKENDS
from wm_bridge.safety.scene import SceneSettings
from wm_bridge.safety.trust import TrustSettings


GROUPS: Mapping[str, type] = {
    "scene": SceneSettings,
    "human": HumanSettings,
    "trust": TrustSettings,
    "health": HealthSettings,
    "deadman": DeadmanSettings,
    "driver": DriverSettings,
}


@dataclass(frozen=True, slots=True)
class SafetyConfig:
    """Margins, tolerances and time-outs; there are no defaults in code.

    Attributes: see the comment behind each key in ``config/safety.yaml``.
    """

    period_ms: float
    position_margin_rad: float
    velocity_scale: float
    acceleration_scale: float
    jerk_scale: float
    intervention_rad: float
    start_tolerance_rad: float
    start_speed_rad_s: float
    command_timeout_ms: float
    command_max_age_ms: float
    command_max_points: int
    command_max_duration_ms: float
    future_tolerance_ms: float
    state_timeout_ms: float
    state_latch_ms: float
    state_jump_rad: float
    camera_required: bool
    camera_timeout_ms: float
    frozen_frames: int
    frozen_motion_rad: float
    tracking_error_rad: float
    tracking_error_ms: float
    clock_jump_ms: float
    tick_budget_ms: float
    tick_latch_ms: float
    reduced: bool
    reduced_speed_m_s: float
    qp_backend: str
    scene: SceneSettings
    human: HumanSettings
    trust: TrustSettings
    health: HealthSettings
    deadman: DeadmanSettings
    driver: DriverSettings

    def __post_init__(self) -> None:
        for name, group in GROUPS.items():
            object.__setattr__(self, name, read_group(group, "safety", name, getattr(self, name), "config/safety.yaml"))
        if self.qp_backend not in BACKENDS:
            raise ValueError(f"safety: qp_backend {self.qp_backend!r} is none of {list(BACKENDS)}")
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), str(field.type))
        for name in ("velocity_scale", "acceleration_scale", "jerk_scale"):
            if getattr(self, name) > 1.0:
                raise ValueError(f"safety: {name} is {getattr(self, name)}; it may only lower limits (<= 1)")
        for short, long in (
            ("state_timeout_ms", "state_latch_ms"),
            ("period_ms", "state_timeout_ms"),
            ("period_ms", "command_timeout_ms"),
            ("command_timeout_ms", "command_max_duration_ms"),
            ("tick_budget_ms", "period_ms"),
            ("tick_budget_ms", "tick_latch_ms"),
        ):
            if getattr(self, short) >= getattr(self, long):
                raise ValueError(
                    f"safety: {short} ({getattr(self, short)}) must be smaller than "
                    f"{long} ({getattr(self, long)}); are they swapped?"
                )

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> SafetyConfig:
        """Build from parsed YAML.

        Raises:
            ValueError: unknown key (names the nearest), missing key, or a bad value.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
                raise ValueError(f"safety: unknown key '{key}'; did you mean '{near[0]}'?")
        missing = [name for name in known if name not in values]
        if missing:
            raise ValueError(f"safety: missing {missing}; add them as in config/safety.yaml")
        return cls(**values)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path | None = None) -> SafetyConfig:
        """Read a YAML file; ``config/safety.yaml`` when no path is given.

        A file that begins with ``extends: other.yaml`` (beside it, or a path) says only what differs; the other may do so too.
        """
        return cls.from_mapping(_read(path or resources.path("config/safety.yaml")))

    def at_rate(self, rate_hz: float) -> SafetyConfig:
        """The same with another control period; a tick may take up to four fifths of it."""
        period_ms = 1e3 / rate_hz
        return dataclasses.replace(self, period_ms=period_ms, tick_budget_ms=min(self.tick_budget_ms, 0.8 * period_ms))

    @property
    def dt(self) -> float:
        """Control period, s."""
        return self.period_ms * 1e-3


def _read(path: Path, from_: tuple[Path, ...] = ()) -> dict[str, object]:
    """Values of a settings file, over those of the file that it extends; ``from_``: files that extend this one."""
    if path.resolve() in from_:
        raise ValueError(f"{path.name} extends itself, by way of {', '.join(other.name for other in from_)}")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path.name}: expected 'key: value' lines, got {type(values).__name__}")
    if "extends" not in values:
        return values
    merged = _read(path.parent / str(values.pop("extends")), (*from_, path.resolve()))
    for key, value in values.items():
        base = merged.get(key)
        merged[key] = {**base, **value} if isinstance(base, dict) and isinstance(value, dict) else value
    return merged


_MAY_BE_ZERO = ("position_margin_rad", "intervention_rad", "start_tolerance_rad", "frozen_motion_rad")


def _check(name: str, value: object, kind: str) -> None:
    """Refuse a value of the wrong type, NaN, infinite, negative or zero where it must not be."""
    if kind == "str" or kind.endswith("Settings"):
        return  # checked on their own
    if kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"safety: {name} must be true or false, got {value!r}")
        return
    wanted = (int,) if kind == "int" else (int, float)
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise ValueError(f"safety: {name} must be a number ({kind}), got {value!r}")
    low_ok = value >= 0 if name in _MAY_BE_ZERO else value > 0
    if not math.isfinite(value) or not low_ok:
        bound = ">= 0" if name in _MAY_BE_ZERO else "> 0"
        raise ValueError(f"safety: {name} must be finite and {bound}, got {value}")
