"""The trust monitor of a running planner: one judgement per planning step."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.trust.calibration import Calibration
from wm_planner.trust.foresight import MOST_PERIODS, Foresight, Moment
from wm_planner.trust.glimpse import Glimpse, thumbnail
from wm_planner.trust.kinds import REACH
from wm_planner.trust.scores import Scorer
from wm_planner.trust.store import Calibrations


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
        score: largest scaled score: 0 in the middle nominal episode, 1 in one of fifty; NaN when unknown.
        state: what follows from the p-value.
        cause: name of the largest score, see ``scores``; "" when there is none; why trust is unknown.
    """

    trust: float
    score: float
    state: TrustState
    cause: str


class Watch:
    """Judges steps with the calibration of the present kind of goal; without one, trust is unknown.

    Args:
        foresight: of the planner's model.

    Attributes:
        log: the steps so far, when it is set to a list; for calibration.
    """

    def __init__(self, foresight: Foresight) -> None:
        self._foresight = foresight
        self._kinds: Mapping[str, Calibration] = {}
        self._kind = REACH
        self._scorer: Scorer | None = None
        self._last: Moment | None = None
        self._small: NDArray[np.uint8] | None = None
        self.log: list[Glimpse] | None = None

    def use(self, calibrations: Calibrations | None) -> None:
        """Judge with these from now on; None = trust is unknown."""
        self._kinds = {} if calibrations is None else calibrations.kinds
        self.pursue(self._kind)

    def pursue(self, kind: str) -> None:
        """The goal is of this kind from now on (``kinds.KINDS``); a new episode begins."""
        self._kind = kind
        self._scorer = Scorer(self._kinds[kind].usual) if kind in self._kinds else None
        self.reset()

    def reset(self) -> None:
        """A new episode begins with the next step."""
        self._last = self._small = None
        if self._scorer is not None:
            self._scorer.reset()

    def judge(self, small: NDArray[np.uint8], z: Tensor, position: Tensor, reference: Tensor, periods: int) -> Judgement:
        """Judge one step.

        Args:
            small: (S, S, 3) picture as the network gets it; z: its latent.
            position, reference: (A,) rad, measured and last sent.
            periods: control periods since the last step.
        """
        if self._scorer is None and self.log is None:
            return self._unknown()
        glimpse = self._glimpse(small, Moment(z, position, reference), periods)
        if self.log is not None:
            self.log.append(glimpse)
        if self._scorer is None:
            return self._unknown()
        calibration = self._kinds[self._kind]
        score, cause = calibration.combined(self._scorer.see(glimpse))
        p = calibration.p_value(score)
        state = TrustState.STOP if p < calibration.stop_below else TrustState.SLOW if p < calibration.slow_below else TrustState.OK
        return Judgement(p, score, state, cause)

    def _glimpse(self, small: NDArray[np.uint8], now: Moment, periods: int) -> Glimpse:
        before, seen = self._last, self._small
        failed = not bool(now.z.isfinite().all())
        self._last, self._small = None if failed else now, small
        missed = np.full(3, np.nan, np.float32)
        if before is not None and not failed and 1 <= periods <= MOST_PERIODS:
            missed = self._foresight.missed(before, now, periods)
        return Glimpse(
            thumbnail(small),
            seen is not None and bool(np.array_equal(small, seen)),
            now.position.numpy(),
            now.reference.numpy(),
            periods if seen is not None else 0,
            missed,
            self._foresight.decoded(now.z),
            failed,
        )

    def _unknown(self) -> Judgement:
        cause = f"no calibration for {self._kind} goals" if self._kinds else "no calibration"
        return Judgement(math.nan, math.nan, TrustState.UNKNOWN, cause)
