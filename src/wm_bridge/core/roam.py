"""Play: postures all over what an arm can reach, one after the other, as data for a world model.

What a model is taught is where the arm was. Small corrections, pauses and slow ways show it the same few postures
again and again; whole ways, begun anew before the last one has ended, show many. Postures that are drawn evenly
have the hand before the chest most of the time, and a model errs where it was seldom: so of several ways that
is taken on which the hand was least often.
"""

from __future__ import annotations

from collections import Counter
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
_CHOICES = 24  # ways of which the one that shows most is taken


class Visits:
    """How often a tool was where: counts of places in cells of a few centimetres."""

    cell_m = 0.03

    def __init__(self) -> None:
        self._times: Counter[tuple[int, ...]] = Counter()

    def add(self, places: FloatArray) -> None:
        """Note (N, 3) m."""
        self._times.update(self._cells(places))

    def novelty(self, places: FloatArray) -> float:
        """How new (N, 3) m are: 1 where the tool never was, less with every visit; the mean of all."""
        return float(np.mean([1.0 / (1 + self._times[cell]) for cell in self._cells(places)]))

    def _cells(self, places: FloatArray) -> list[tuple[int, ...]]:
        return [tuple(row) for row in np.floor(np.asarray(places) / self.cell_m).astype(int).tolist()]


class Roam:
    """Draws where an arm is to move to next.

    Args:
        spec: the robot; joints of other groups are at home. arm: a group with a tool and a workspace.
        depth: (N, A) rad to (N,) m by which postures break a kept distance, 0 = none (``safety.clearance.Clearance``).
        rng: of the draws. visits: of the tool until now; those of the ways that are chosen are added.

    Raises:
        UserError: the arm has no tool or no workspace.
    """

    near_rad = 0.25  # a goal that is this close in every joint has been reached: on to the next one

    def __init__(self, spec: RobotSpec, arm: str, depth: Callable[[FloatArray], FloatArray], rng: np.random.Generator, visits: Visits | None = None) -> None:
        if arm not in spec.tools or arm not in spec.workspaces:
            arms = ", ".join(name for name in spec.tools if name in spec.workspaces)
            raise UserError(f"{spec.name} has no arm {arm!r} with a tool and a workspace", f"one of: {arms or 'none; name them in its YAML'}", 2)
        self._index = spec.indices(arm)
        self._lower, self._upper = spec.lower[self._index] + _MARGIN_RAD, spec.upper[self._index] - _MARGIN_RAD
        self._box, self._tool = spec.workspaces[arm], spec.tools[arm]
        self._kinematics, self._home = Kinematics(spec), spec.home
        self._depth, self._rng, self.visits = depth, rng, visits or Visits()

    def free(self, way: FloatArray) -> bool:
        """A way (N, A) rad keeps all distances; one that begins inside of a margin does too if it leads out of it."""
        depth = self._depth(way)
        return bool(depth[-1] == 0.0 and (np.diff(depth) <= 0.0).all())

    def posture(self) -> FloatArray:
        """(A,) rad, of those drawn evenly that keep all distances, with the tool in its box, one where it was least often.

        Raises:
            UserError: none was found.
        """
        for _ in range(_ROUNDS):
            drawn = self._draw()
            if len(drawn):
                return np.asarray(drawn[np.argmax([self.visits.novelty(place[None]) for place in self.places(drawn)])])
        raise _nowhere()

    def goal(self, here: FloatArray) -> FloatArray:
        """(A,) rad, such a posture to which a straight way from ``here`` (A,) is free: of several the one whose way shows most.

        Raises:
            UserError: none was found.
        """
        for _ in range(_ROUNDS):
            far = [there for there in self._draw() if np.abs(there - here).max() > 2 * self.near_rad][:_CHOICES]
            ways = [straight(here, there) for there in far]
            places = [self.places(way) for way in ways]
            for choice in np.argsort([-self.visits.novelty(place) for place in places], kind="stable"):
                if self.free(ways[choice]):
                    self.visits.add(places[choice])
                    return np.asarray(far[choice])
        raise _nowhere()

    def places(self, postures: FloatArray) -> FloatArray:
        """(N, 3) m, base frame: the tool in postures (N, A) rad."""
        whole = np.tile(self._home, (len(postures), 1))
        whole[:, self._index] = postures
        return self._kinematics.positions(whole, self._tool)

    def _draw(self) -> FloatArray:
        drawn = self._rng.uniform(self._lower, self._upper, (_DRAWN, len(self._lower)))
        drawn = drawn[self._depth(drawn) == 0.0]
        return np.asarray(drawn[self._box.contains(self.places(drawn))]) if len(drawn) else drawn


def straight(here: FloatArray, there: FloatArray) -> FloatArray:
    """(N, A) rad, closely spaced, from one posture (A,) to another."""
    count = max(2, int(np.ceil(np.abs(there - here).max() / _CLOSE_RAD)) + 1)
    return np.asarray(here + np.linspace(0.0, 1.0, count)[:, None] * (there - here))


def _nowhere() -> UserError:
    return UserError("from this posture no other one is reached on a straight way", "move the arm to its home posture, or see what the safety settings keep clear")
