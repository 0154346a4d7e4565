"""What scores mean for one kind of goal: p-values by split conformal prediction.

The episodes that a calibration is made from are split in two: on the first part, what is usual is
fitted and the scores are brought to one scale, each half of it by what is usual in the other half; the
second part gives the p-values. The conformity score of an episode is the *largest* combined score of its steps (Vovk et al. 2005;
Angelopoulos and Bates 2023, section 2): a whole new nominal episode of the same kind then has a step
with p < alpha with probability alpha at most. A rate per step would alarm in nearly every episode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_planner.errors import PlannerError
from wm_planner.trust.glimpse import Glimpse
from wm_planner.trust.scores import SCORES, Scorer, Usual, usual_of

FloatArray = NDArray[np.float64]
Episode = Sequence[Glimpse]

FITTED = (0.2, 0.4)  # share of the episodes that fit what is usual: at least, and where enough are left for p-values
FLOORS = (0.02, 5e-3, 1e-3, 0.02, 1.0, 1.0, 1.0, 0.05, 1e-3)  # added to the scores before the logarithm
USUAL_QUANTILE, LEAST_SPREAD = 0.98, 0.1  # of the logarithms of episode maxima


@dataclass(frozen=True)
class Calibration:
    """From scores to a p-value.

    Attributes:
        usual: see ``scores.Usual``.
        centre, spread: (K,) of the logarithms of the scores; NaN of a score that no episode had, which then never counts.
        maxima: (n,) ascending, largest combined score of each calibration episode.
        slow_below, stop_below: p-values below which the arm is to be slow, and to stop.
        made: how: numbers and words for the reader.
    """

    usual: Usual
    centre: FloatArray
    spread: FloatArray
    maxima: FloatArray
    slow_below: float
    stop_below: float
    made: dict[str, Any]

    def __post_init__(self) -> None:
        if not 0.0 < self.stop_below < self.slow_below < 1.0:
            raise PlannerError(f"trust: 0 < stop_below < slow_below < 1 expected, got {self.stop_below} and {self.slow_below}")
        if self.stop_below * (len(self.maxima) + 1) <= 1.0:
            least = math.floor(1.0 / self.stop_below)
            raise PlannerError(
                f"trust: {len(self.maxima)} calibration episodes cannot give a p-value below {self.stop_below}; "
                f"at least {least} are needed after the split, or a larger alpha"
            )

    def combined(self, scores: FloatArray) -> tuple[float, str]:
        """The largest of the scaled scores, and its name; -inf and "" where there is none."""
        scaled = scaled_scores(scores, self.centre, self.spread)
        worst = int(scaled.argmax())
        return float(scaled[worst]), SCORES[worst] if scaled[worst] > -math.inf else ""

    def p_value(self, combined: float) -> float:
        """Share of nominal episodes that get as far as this, (1 + #{maxima >= combined}) / (n + 1); NaN counts as inf."""
        beyond = len(self.maxima) - int(np.searchsorted(self.maxima, combined, side="left"))
        return (1 + (0 if math.isnan(combined) else beyond)) / (len(self.maxima) + 1)


def calibrate(
    episodes: Sequence[Episode], seed: int = 0, slow_below: float = 0.05, stop_below: float = 0.01, made: dict[str, Any] | None = None
) -> Calibration:
    """Calibrate on nominal episodes; ``seed`` decides how they are split."""
    order = np.random.default_rng(seed).permutation(len(episodes))
    needed = math.floor(1.0 / stop_below)  # p-values, for one below stop_below
    least, most = (round(share * len(episodes)) for share in FITTED)
    count = max(4, least, min(most, len(episodes) - needed))
    fitting, rest = [episodes[i] for i in order[:count]], [episodes[i] for i in order[count:]]
    if not rest:
        raise PlannerError(f"trust: {len(episodes)} episodes are too few to be split; record at least {math.ceil(needed / (1 - FITTED[0]))}")
    halves = fitting[::2], fitting[1::2]
    largest = [largest_scores(Scorer(usual_of(one)), other) for one, other in (halves, halves[::-1])]
    logs = np.log(np.concatenate(largest) + FLOORS)
    centre = quantile_of_known(logs, 0.5)
    spread = np.maximum(quantile_of_known(logs, USUAL_QUANTILE) - centre, LEAST_SPREAD)
    usual = usual_of(fitting)
    maxima = scaled_scores(largest_scores(Scorer(usual), rest), centre, spread).max(1)
    counts = {"fitted": count, "steps": sum(map(len, episodes)), "split_seed": seed}
    return Calibration(usual, centre, spread, np.sort(maxima), slow_below, stop_below, counts | (made or {}))


def largest_scores(scorer: Scorer, episodes: Sequence[Episode]) -> FloatArray:
    """(E, K) largest score of each kind in each episode; NaN where it had none."""
    return np.array([np.fmax.reduce(episode_scores(scorer, episode), axis=0) for episode in episodes])


def episode_scores(scorer: Scorer, episode: Episode) -> FloatArray:
    """(T, K) scores of an episode from its beginning; NaN where there are none."""
    scorer.reset()
    scores: FloatArray = np.array([scorer.see(step) for step in episode])
    return scores


def quantile_of_known(values: FloatArray, share: float) -> FloatArray:
    """(K,) quantile of each column of values (E, K) without its NaN; NaN where nothing is left."""
    columns = (column[~np.isnan(column)] for column in values.T)
    return np.array([np.quantile(known, share) if len(known) else np.nan for known in columns])


def scaled_scores(scores: FloatArray, centre: FloatArray, spread: FloatArray) -> FloatArray:
    """(..., K) of scores: 0 in the middle nominal episode, 1 in one of fifty; -inf for NaN."""
    scaled = (np.log(scores + np.array(FLOORS)) - centre) / spread
    known: FloatArray = np.where(np.isnan(scaled), -np.inf, scaled)
    return known
