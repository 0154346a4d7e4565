"""Play: postures all over what an arm can reach, one after the other, as data for a world model.

What a model is taught is where the arm was. Small corrections, pauses and slow ways show it the same few postures
again and again; whole ways between postures that are drawn evenly, begun anew before the last one has ended, show many.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wm_bridge.core.kinematics import Kinematics
from wm_bridge.core.types import FloatArray
from wm_bridge.errors import UserError
from wm_bridge.robots.spec import RobotSpec

_DRAWN = 64  # postures at once
_ROUNDS = 60
_MARGIN_RAD = 0.02  # kept from each joint limit
_CLOSE_RAD = 0.05  # between looked-at points of a way


class Roam:
    """Draws where an arm is to move to next.

    Args:
        spec: the robot; joints of other groups are at home. arm: a group with a tool and a workspace.
        depth: (N, A) rad to (N,) m by which postures break a kept distance, 0 = none (``safety.clearance.Clearance``).
        rng: of the draws.

    Raises:
        UserError: the arm has no tool or no workspace.
    """

    near_rad = 0.25  # a goal that is this close in every joint has been reached: on to the next one

    def __init__(self, spec: RobotSpec, arm: str, depth: Callable[[FloatArray], FloatArray], rng: np.random.Generator) -> None:
        if arm not in spec.tools or arm not in spec.workspaces:
            arms = ", ".join(name for name in spec.tools if name in spec.workspaces)
            raise UserError(f"{spec.name} has no arm {arm!r} with a tool and a workspace", f"one of: {arms or 'none; name them in its YAML'}", 2)
        self._index = spec.indices(arm)
        self._lower, self._upper = spec.lower[self._index] + _MARGIN_RAD, spec.upper[self._index] - _MARGIN_RAD
        self._box, self._tool = spec.workspaces[arm], spec.tools[arm]
        self._kinematics, self._home = Kinematics(spec), spec.home
        self._depth, self._rng = depth, rng

    def free(self, here: FloatArray, there: FloatArray) -> bool:
        """The straight way between two postures, (A,) rad each, keeps all distances.

        A way that begins inside of a margin is one too if it leads out of it.
        """
        count = max(2, int(np.ceil(np.abs(there - here).max() / _CLOSE_RAD)) + 1)
        depth = self._depth(here + np.linspace(0.0, 1.0, count)[:, None] * (there - here))
        return bool(depth[-1] == 0.0 and (np.diff(depth) <= 0.0).all())

    def posture(self) -> FloatArray:
        """(A,) rad, drawn evenly among those that keep all distances, with the tool in its box.

        Raises:
            UserError: none was found.
        """
        for _ in range(_ROUNDS):
            drawn = self._draw()
            if len(drawn):
                return np.asarray(drawn[0])
        raise _nowhere()

    def goal(self, here: FloatArray) -> FloatArray:
        """(A,) rad, such a posture to which a straight way from ``here`` (A,) is free.

        Raises:
            UserError: none was found.
        """
        for _ in range(_ROUNDS):
            for there in self._draw():
                if np.abs(there - here).max() > 2 * self.near_rad and self.free(here, there):
                    return np.asarray(there)
        raise _nowhere()

    def _draw(self) -> FloatArray:
        drawn = self._rng.uniform(self._lower, self._upper, (_DRAWN, len(self._lower)))
        drawn = drawn[self._depth(drawn) == 0.0]
        whole = np.tile(self._home, (len(drawn), 1))
        whole[:, self._index] = drawn
        return np.asarray(drawn[self._box.contains(self._kinematics.positions(whole, self._tool))]) if len(drawn) else drawn


def _nowhere() -> UserError:
    return UserError("from this posture no other one is reached on a straight way", "move the arm to its home posture, or see what the safety settings keep clear")
