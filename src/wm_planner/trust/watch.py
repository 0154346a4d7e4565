"""The trust monitor of a running planner: one judgement per planning step."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.trust.calibration import Calibration
from wm_planner.trust.glimpse import Glimpse, thumbnail
from wm_planner.trust.scores import Scorer
from wm_planner.world_model import WorldModel


class TrustState(enum.IntEnum):
    """What to do; numbers as in wm_interfaces/msg/PlanReport."""

    OK = 0
    SLOW = 1
    STOP = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class Judgement:
    """How usual a planning step is.

    Attributes:
        trust: p-value, 0..1: the share of nominal episodes with a step at least as unusual; NaN when unknown.
        score: largest scaled score: 0 in the middle nominal episode, 1 in one of twenty; NaN when unknown.
        state: what follows from the p-value.
        cause: name of the largest score, see ``scores``; "" when there is none.
    """

    trust: float
    score: float
    state: TrustState
    cause: str


UNKNOWN = Judgement(math.nan, math.nan, TrustState.UNKNOWN, "")


class Watch:
    """Judges steps with a calibration; without one, trust is unknown.

    Attributes:
        log: the steps so far, when it is set to a list; for calibration.
    """

    def __init__(self, model: WorldModel) -> None:
        self._model = model
        self._calibration: Calibration | None = None
        self._scorer: Scorer | None = None
        self._small: NDArray[np.uint8] | None = None
        self.log: list[Glimpse] | None = None

    def use(self, calibration: Calibration | None) -> None:
        """Judge with this calibration from now on; None = trust is unknown."""
        self._calibration = calibration
        self._scorer = None if calibration is None else Scorer(self._model, calibration.usual)
        self.reset()

    def reset(self) -> None:
        """A new episode begins with the next step."""
        self._small = None
        if self._scorer is not None:
            self._scorer.reset()

    def judge(self, small: NDArray[np.uint8], z: Tensor, position: Tensor, reference: Tensor, periods: int) -> Judgement:
        """Judge one step.

        Args:
            small: (S, S, 3) picture as the network gets it; z: (D,) its latent.
            position, reference: (A,) rad, measured and last sent.
            periods: control periods since the last step.
        """
        if self._scorer is None and self.log is None:
            return UNKNOWN
        last, self._small = self._small, small
        glimpse = Glimpse(
            thumbnail(small),
            last is not None and bool(np.array_equal(small, last)),
            z.numpy().copy(),
            position.numpy(),
            reference.numpy(),
            periods if last is not None else 0,
        )
        if self.log is not None:
            self.log.append(glimpse)
        if self._scorer is None or self._calibration is None:
            return UNKNOWN
        calibration = self._calibration
        score, cause = calibration.combined(self._scorer.see(glimpse))
        p = calibration.p_value(score)
        state = TrustState.STOP if p < calibration.stop_below else TrustState.SLOW if p < calibration.slow_below else TrustState.OK
        return Judgement(p, score, state, cause)
