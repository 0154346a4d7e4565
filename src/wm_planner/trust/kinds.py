"""Kinds of goals, as far as trust is concerned: what an arm does for one is not usual for another."""

from __future__ import annotations

REACH, PUSH = "reach", "push"
KINDS = (REACH, PUSH)


def kind_of(target: str) -> str:
    """The kind of a goal with this target: an object is pushed, all else (hand, joints, pose) is reached freely."""
    return PUSH if target == "object" else REACH
