"""What a message must contain to be believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wm_bridge.core.types import JointState, Reason, Trajectory

ABSURD = 1e3  # rad, rad/s: no robot joint is there; keeps the interpolation finite

Finding = tuple[Reason, str]
FINE: Finding = (Reason.NONE, "")


def check_state(state: JointState, joint_names: Sequence[str]) -> Finding:
    """A joint state must name every joint once, in any order, and be finite."""
    finding = _check_names(state.names, joint_names)
    if finding is not FINE:
        return finding
    missing = set(joint_names) - set(state.names)
    if missing:
        return Reason.NAMES, f"joint state lacks {sorted(missing)}"
    if not state.is_finite():
        return Reason.NONFINITE, "joint state is not finite"
    return FINE


def check_trajectory(
    plan: Trajectory, joint_names: Sequence[str], max_points: int, max_duration_ns: int
) -> Finding:
    """A plan must name known joints once, be finite, and have increasing times within bounds."""
    if not plan.names:
        return Reason.NAMES, "plan names no joint"
    finding = _check_names(plan.names, joint_names)
    if finding is not FINE:
        return finding
    count = len(plan.times_ns)
    if not 0 < count <= max_points:
        return Reason.MALFORMED, f"plan has {count} points, expected 1 to {max_points}"
    if not (np.isfinite(plan.positions).all() and np.isfinite(plan.velocities).all()):
        return Reason.NONFINITE, "plan is not finite"
    if max(np.abs(plan.positions).max(), np.abs(plan.velocities).max()) > ABSURD:
        return Reason.MALFORMED, f"plan has values beyond {ABSURD} rad or rad/s; check its units"
    steps = [b - a for a, b in zip((-1, *plan.times_ns), plan.times_ns, strict=False)]
    if min(steps) <= 0:
        return Reason.MALFORMED, "times of the plan must be >= 0 and strictly increase"
    if plan.times_ns[-1] > max_duration_ns:
        return Reason.MALFORMED, f"plan lasts {plan.times_ns[-1] * 1e-9:.1f} s, too long"
    return FINE


def _check_names(names: Sequence[str], joint_names: Sequence[str]) -> Finding:
    if len(set(names)) != len(names):
        return Reason.NAMES, f"joints named twice in {list(names)}"
    unknown = [name for name in names if name not in joint_names]
    if unknown:
        return Reason.NAMES, f"unknown joints {unknown}"
    return FINE
