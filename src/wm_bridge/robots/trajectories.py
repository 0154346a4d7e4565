"""Short trajectories for a ``joint_trajectory_controller`` (ros2_control), of which it refuses none.

What that controller refuses it ignores, and goes on with the trajectory before: a refused stop would be no
stop. So everything is checked here, against the rules of its ``validate_trajectory_msg`` (ros2_controllers,
joint_trajectory_controller), before it is sent.
"""

from __future__ import annotations

import numpy as np

from wm_bridge.core.types import Command, FloatArray, Trajectory
from wm_bridge.robots.spec import RobotSpec

AT_ONCE = 0  # as the stamp of a trajectory: it begins when the controller gets it
_STOP_NS = 50_000_000  # a stop is reached after this; the controller goes there from where its reference is


def follow(command: Command, spec: RobotSpec, lead_ns: int) -> Trajectory:
    """Be at the command's reference in ``lead_ns``, then brake: silence afterwards is a stop.

    Each joint brakes at its acceleration limit, for |v| / a, and one point lies where each comes to rest. Between
    points the controller interpolates position and velocity by cubics, of which a parabola is one: it follows the
    brake exactly, and ends within the limits if the command can be stopped within them, which the safety filter sees to.
    """
    q, v, a = command.position, command.velocity, spec.acceleration
    rest_ns = np.ceil(np.abs(v) / a * 1e9)
    after_ns = np.unique(np.maximum(np.append(rest_ns, 0.0), 0.0))
    braking = np.minimum(after_ns[:, None], rest_ns) * 1e-9  # (P, J) s
    velocity = np.sign(v) * np.maximum(np.abs(v) - a * braking, 0.0)
    velocity[after_ns[:, None] >= rest_ns] = 0.0
    position = q + np.sign(v) * (np.abs(v) * braking - 0.5 * a * braking**2)
    return Trajectory(command.names, tuple(lead_ns + int(t) for t in after_ns), spec.clip(position), velocity, AT_ONCE)


def stop(names: tuple[str, ...], measured: FloatArray) -> Trajectory:
    """Stand where the arm was measured (J,) rad. (An empty trajectory would not cancel anything.)"""
    return Trajectory(names, (_STOP_NS,), measured[None].copy(), np.zeros((1, len(measured))), AT_ONCE)


def why_refused(chunk: Trajectory, joints: tuple[str, ...]) -> str:
    """What a controller of ``joints`` would refuse a trajectory for; "" when nothing."""
    if not chunk.times_ns:
        return "it has no points"
    if set(chunk.names) != set(joints) or len(chunk.names) != len(joints):
        return f"its joints are {list(chunk.names)}, the controller's are {list(joints)}"
    if not (np.isfinite(chunk.positions).all() and np.isfinite(chunk.velocities).all()):
        return "it holds numbers that are not finite"
    if np.any(chunk.velocities[-1]):
        return "it does not end at rest"
    if chunk.times_ns[0] <= 0 or any(b <= a for a, b in zip(chunk.times_ns, chunk.times_ns[1:], strict=False)):
        return f"its times do not increase: {chunk.times_ns}"
    return ""
