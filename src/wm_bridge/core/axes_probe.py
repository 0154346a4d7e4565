"""Small safe moves that tell how a model's action axes lie to the robot: a planner that probes instead of planning.

It has the face of a planner (`core.plan_view.PlannerView`), so its moves take the ordinary way: planning loop, safety
filter, driver. What counts is where the measured joints went, not where they were sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_bridge.core.axes import Axes, AxesConfig, estimate_axes
from wm_bridge.core.effector import EffectorMotion
from wm_bridge.core.types import FloatArray, ImageArray

STILL_RAD, STILL_CALLS = 0.008, 3  # so little change from call to call, so often: the arm rests
PER_MOVE_M = 0.1  # so much distance to its goal has a probe for each move that is left
WAYS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, -1, 0], [1, 0, -1], [0, 1, -1]], float)


@dataclass(frozen=True)
class Look:
    """The resting arm: image (H, W, 3) RGB, and the one before it; position, reference (A,) rad."""

    image: ImageArray
    earlier: ImageArray
    position: FloatArray
    reference: FloatArray


@dataclass(frozen=True)
class ProbePlan:
    """The references of a probe in the form of a plan; ``distance_m`` stands for the moves that are left."""

    references: FloatArray
    distance_m: float
    predicted_hand: FloatArray
    trust: float = math.nan
    trust_score: float = math.nan
    trust_state: int = 3  # PlanReport.TRUST_UNKNOWN
    trust_cause: str = ""
    joint_distance_rad: float = 0.0
    angle_rad: float = 0.0
    goal_trust: float = 1.0
    object_distance_m: float = math.nan
    goal_energy: float = math.nan
    energy: float = math.nan
    energy_per_iteration: tuple[float, ...] = ()
    samples: int = 0
    iterations: int = 0
    nan_costs: int = 0
    deadline_met: bool = True
    preprocess_s: float = 0.0
    encode_s: float = 0.0
    optimise_s: float = 0.0

    @property
    def goal_hand(self) -> FloatArray:
        """(3,) not known."""
        return np.full(3, math.nan)

    @property
    def elite_hands(self) -> FloatArray:
        """(0, N, 3): nothing is searched."""
        return np.empty((0, *self.predicted_hand.shape))

    @property
    def elite_energies(self) -> FloatArray:
        """(0,)."""
        return np.empty(0)


class AxesProbe:
    """Moves out and back along several directions, resting in between, and estimates the axes at the end.

    | phase   | goes to | when                                              |
    |---------|---------|---------------------------------------------------|
    | resting | moving  | the arm rests, a look was taken, a move is left   |
    | moving  | resting | the move was sent                                 |
    | resting | done    | the arm rests and no move is left                 |

    A model that sees the robot from an unusual side believes in motion where there is none: what it believes of two looks
    at rest is taken off what it believes of a move.

    Args:
        planner: whose axes are asked for; joints, period and kept distances are its own.
        motion: the robot's kinematics.
        believe: (before, after) -> (3,) m, the move that explains the second look best to the model.
        moves: how many. size_m: of each. speed_m_s: of the tool. first: place in the row of directions.
        config: when the estimate is taken; None: the moves are collected alone.
        finished: told when there is a result or a problem.

    Attributes:
        axes: the result, None until it is there. problem: why there is none, "" when there may be one.
        sent, believed: (N, 3) m so far. looks: (N + 1) at the rests so far; at_rest: (N + 1, 3) m believed of each.
    """

    def __init__(
        self,
        planner: Any,
        motion: EffectorMotion,
        believe: Callable[[Look, Look], FloatArray],
        moves: int = 18,
        size_m: float = 0.04,
        speed_m_s: float = 0.1,
        first: int = 0,
        config: AxesConfig | None = AxesConfig(),  # noqa: B008
        finished: Callable[[AxesProbe], object] = lambda probe: None,
    ) -> None:
        self.joint_names, self.period_s = tuple(planner.joint_names), float(planner.period_s)
        self._planner, self._motion, self._believe, self._config, self._finished = planner, motion, believe, config, finished
        self._moves, self._first, self._size_m, self._speed_m_s = moves, first, size_m, speed_m_s
        self.reset()

    def encode_goal(self, image: ImageArray, target: str = "hand", mask: ImageArray | None = None) -> ImageArray:
        """Any goal will do."""
        return image

    def joints_goal(self, joints: Mapping[str, float]) -> Mapping[str, float]:
        """Any goal will do."""
        return joints

    def pose_goal(self, position: FloatArray, rotation: FloatArray | None = None) -> FloatArray:
        """Any goal will do."""
        return position

    def set_goal(self, goal: Any) -> None:
        """Begin."""
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.axes: Axes | None = None
        self.problem = ""
        self.sent: list[FloatArray] = []
        self.believed: list[FloatArray] = []
        self.looks: list[Look] = []
        self.at_rest: list[FloatArray] = []
        self._path = np.empty((0, len(self.joint_names)))
        self._last: FloatArray | None = None
        self._earlier: ImageArray | None = None
        self._done = False
        self._still = self._made = self._skipped = 0

    def plan(
        self, image: ImageArray, position: FloatArray, reference: FloatArray, deadline_s: float | None = None, **later: Any
    ) -> ProbePlan:
        """The next piece of a move, or rest."""
        if len(self._path):
            self._path = self._path[1:] if len(self._path) > 1 else self._path[:0]
            self._still = 0
        elif self._rests(position) and self._left() and not self.problem:
            self._look(Look(image, image if self._earlier is None else self._earlier, np.array(position), np.array(reference)))
        self._earlier = image
        ahead = self._path if len(self._path) else np.tile(reference if self._last is None else self._hold, (2, 1))
        hands = self._motion.frames(ahead)[..., :3, 3]
        return ProbePlan(ahead, self._left() * PER_MOVE_M, hands, trust=0.0 if self.problem else math.nan)

    def _left(self) -> int:
        """Moves still to be made or looked at, and one for the estimate."""
        return 0 if self._done else max(1, self._moves - len(self.sent))

    def _rests(self, position: FloatArray) -> bool:
        still = self._last is not None and np.abs(position - self._last).max() < STILL_RAD
        self._still = self._still + 1 if still else 0
        if self._last is None:
            self._hold = np.array(position)
        self._last = np.array(position)
        return self._still >= STILL_CALLS

    def _look(self, look: Look) -> None:
        self.at_rest.append(self._believe(look, look))
        if self.looks and self._made > len(self.sent):
            before, hands = self.looks[-1], self._motion.frames(np.stack([self.looks[-1].position, look.position]))[:, :3, 3]
            self.sent.append(hands[1] - hands[0])
            self.believed.append(self._believe(before, look) - (self.at_rest[-2] + self.at_rest[-1]) / 2)
        self.looks.append(look)
        self._hold = look.reference
        if len(self.sent) >= self._moves:
            self._estimate()
        else:
            self._begin(look.reference)

    def _begin(self, reference: FloatArray) -> None:
        """The next move that the arm can make without coming too near to anything."""
        for _ in range(2 * len(WAYS)):
            turn = self._first + self._made + self._skipped
            way = WAYS[(turn // 2) % len(WAYS)] * (1 if turn % 2 == 0 else -1)
            move = self._size_m * way / np.linalg.norm(way)
            periods = max(1, math.ceil(self._size_m / (self._speed_m_s * self.period_s)))
            steps = np.zeros((1, periods, 6))
            steps[0, :, :3] = move / periods
            path, frames, _ = self._motion.follow(reference, steps)
            missed = np.linalg.norm(frames[0, -1, :3, 3] - self._motion.frames(reference)[:3, 3] - move)
            kept = getattr(self._planner, "intrusion", None)
            if missed < 0.3 * self._size_m and (kept is None or float(np.max(kept(path[0]))) <= 0.0):
                self._path, self._hold = path[0], path[0, -1]
                self._made += 1
                return
            self._skipped += 1
        self.problem = "no direction is free here; bring the arm to the middle of its workspace"
        self._finished(self)

    def _estimate(self) -> None:
        self._done = True
        if self._config is None:
            return
        try:
            self.axes = estimate_axes(np.array(self.sent), np.array(self.believed), np.random.default_rng(0), self._config)
        except ValueError as error:
            self.problem, self._done = str(error), False
        self._finished(self)
