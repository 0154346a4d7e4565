"""The safety filter on its own: whatever a planner sends, the output keeps the limits.

    .venv/bin/python examples/02_safety_filter.py

A "planner" asks for ten times the allowed speed, then for NaN, then falls silent.
"""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import JointState, Reason, Trajectory
from wm_bridge.robots import spec as robots
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.filter import SafetyFilter

TICK_NS = 10_000_000  # 100 Hz


def main() -> None:
    spec = robots.load("nico")
    arm = spec.indices("right_arm")
    names = tuple(spec.joint_names[i] for i in arm)
    guard = SafetyFilter(spec, SafetyConfig.load(), clock=lambda: 0)  # not in real time: no time budget
    q, rest, now = spec.home, np.zeros(len(spec.joint_names)), 1_000_000_000

    guard.observe_state(JointState(spec.joint_names, q, rest, rest, now), now, now)
    guard.tick(now, now)
    print("reset: ", guard.reset(now, now).ok, "  enable:", guard.enable(True).ok)

    fastest = np.zeros(len(q))
    last = ""
    for tick in range(150):
        now += TICK_NS
        guard.observe_state(JointState(spec.joint_names, q, rest, rest, now), now, now)
        guard.observe_camera(now, tick, now, now)
        if tick % 10 == 0 and tick < 80:
            wanted = q[arm] + 10 * spec.velocity[arm]  # within the next second
            wanted = wanted if tick < 50 else np.full(len(arm), np.nan)
            plan = Trajectory(names, (1_000_000_000,), wanted[None], np.zeros((1, len(arm))), now)
            refused = guard.submit(plan, now, now)
            if refused:
                print(f"{tick * 10:5d} ms  plan refused: {refused.name}")
        command, verdict = guard.tick(now, now)
        assert command is not None
        fastest = np.maximum(fastest, np.abs(command.position - q) / (TICK_NS * 1e-9))
        q = command.position  # a perfect robot
        text = f"{verdict.mode.name} {'|'.join(r.name or '' for r in Reason if r and r in verdict.reasons)}"
        if text != last:
            print(f"{tick * 10:5d} ms  {text}")
            last = text
    inside = bool(((q >= spec.lower) & (q <= spec.upper)).all())
    print(f"fastest joint: {np.max(fastest / spec.velocity) * 100:.0f} % of its limit; inside the joint limits: {inside}")


if __name__ == "__main__":
    main()
