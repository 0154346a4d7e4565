"""What the filter tells those who operate it."""

from __future__ import annotations

from dataclasses import dataclass

from wm_bridge.core.types import Reason, SafetyMode


@dataclass(frozen=True, slots=True)
class Answer:
    """Reply to reset, stop, enable: ``message`` says why not, and what to do."""

    ok: bool
    message: str


@dataclass(frozen=True, slots=True)
class FilterStatus:
    """Summary for safety/state; counts since construction."""

    mode: SafetyMode
    reasons: Reason
    enabled: bool
    latched: bool
    ticks: int
    interventions: int
    refused: int
    detail: str
