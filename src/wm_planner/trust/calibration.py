"""What scores mean for one robot, one camera and one set of weights: p-values by split conformal prediction.

The episodes that a calibration is made from are split in two: on the first part, what is usual is
fitted and the scores are brought to one scale, each half of it by what is usual in the other half; the
second part gives the p-values. The conformity score of an episode is the *largest* combined score of its steps (Vovk et al. 2005;
Angelopoulos and Bates 2023, section 2): a whole new nominal episode of the same kind then has a step
with p < alpha with probability alpha at most. A rate per step would alarm in nearly every episode.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wm_planner.errors import PlannerError
from wm_planner.trust.glimpse import Glimpse
from wm_planner.trust.scores import SCORES, Scorer, Usual, usual_of
from wm_planner.world_model import WorldModel

FloatArray = NDArray[np.float64]
Episode = Sequence[Glimpse]

FORMAT = "wm-trust-1"
FITTED = 0.2  # share of the episodes that fit what is usual
FLOORS = (0.02, 5e-3, 1e-3, 0.02, 1.0, 1.0, 0.05)  # added to the scores before the logarithm
USUAL_QUANTILE, LEAST_SPREAD = 0.95, 0.1  # of the logarithms of episode maxima


@dataclass(frozen=True)
class Subject:
    """What a calibration holds for.

    Attributes:
        robot: name of the robot, and whether it is a simulated one.
        camera: frame and size of the pictures.
        weights: hash of the checkpoint.
    """

    robot: str
    camera: str
    weights: str


@dataclass(frozen=True)
class Calibration:
    """From scores to a p-value.

    Attributes:
        subject: what it holds for.
        usual: see ``scores.Usual``.
        centre, spread: (K,) of the logarithms of the scores.
        maxima: (n,) ascending, largest combined score of each calibration episode.
        slow_below, stop_below: p-values below which the arm is to be slow, and to stop.
        made: how: numbers and words for the reader.
    """

    subject: Subject
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

    def save(self, path: Path) -> None:
        """Write to one file, atomically."""
        arrays = {f.name: np.asarray(getattr(self.usual, f.name), np.float32) for f in dataclasses.fields(Usual)}
        arrays["scene_basis"] = arrays["scene_basis"].astype(np.float16)
        arrays |= {name: getattr(self, name) for name in ("centre", "spread", "maxima")}
        header = {
            "subject": dataclasses.asdict(self.subject), "scores": SCORES, "made": self.made,
            "slow_below": self.slow_below, "stop_below": self.stop_below,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, partial, metadata={"format": FORMAT, "trust": json.dumps(header, sort_keys=True)})
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, subject: Subject) -> Calibration:
        """Read a calibration and refuse one of another robot, camera or weights.

        Raises:
            PlannerError: it is missing, unreadable or foreign; says what was expected and what to do.
        """
        remedy = "make one with `./wm calibrate-trust`"
        if not path.is_file():
            raise PlannerError(f"no trust calibration at {path}; {remedy}")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = json.loads(metadata["trust"])
            found = Subject(**header["subject"])
            known = metadata["format"] == FORMAT and tuple(header["scores"]) == SCORES
            usual = Usual(**{f.name: arrays[f.name].astype(np.float64) for f in dataclasses.fields(Usual)})
        except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise PlannerError(f"{path} is not a trust calibration ({error!r}); {remedy}") from error
        if not known:
            raise PlannerError(f"{path} is a trust calibration of another version; {remedy}")
        wrong = [
            f"{f.name} {getattr(found, f.name)!r}, here is {getattr(subject, f.name)!r}"
            for f in dataclasses.fields(Subject)
            if getattr(found, f.name) != getattr(subject, f.name)
        ]
        if wrong:
            raise PlannerError(f"{path} was made for {'; '.join(wrong)}: its thresholds mean nothing here; {remedy}")
        scale = (arrays["centre"], arrays["spread"], arrays["maxima"])
        return cls(found, usual, *scale, header["slow_below"], header["stop_below"], header["made"])


def trust_path(checkpoint: Path) -> Path:
    """Where the calibration of a checkpoint lies, unless another is named."""
    return checkpoint.with_suffix(".trust")


def calibrate(
    model: WorldModel, episodes: Sequence[Episode], subject: Subject, seed: int = 0, slow_below: float = 0.05,
    stop_below: float = 0.01, made: dict[str, Any] | None = None,
) -> Calibration:  # fmt: skip
    """Calibrate on nominal episodes; ``seed`` decides how they are split."""
    order = np.random.default_rng(seed).permutation(len(episodes))
    count = max(4, round(FITTED * len(episodes)))
    fitting, rest = [episodes[i] for i in order[:count]], [episodes[i] for i in order[count:]]
    if not rest:
        raise PlannerError(f"trust: {len(episodes)} episodes are too few to be split; record at least {math.ceil(1.25 / stop_below) + 1}")
    halves = fitting[::2], fitting[1::2]
    largest = [largest_scores(Scorer(model, usual_of(model, one)), other) for one, other in (halves, halves[::-1])]
    logs = np.log(np.concatenate(largest) + FLOORS)
    centre = np.median(logs, axis=0)
    spread = np.maximum(np.quantile(logs, USUAL_QUANTILE, axis=0) - centre, LEAST_SPREAD)
    usual = usual_of(model, fitting)
    maxima = scaled_scores(largest_scores(Scorer(model, usual), rest), centre, spread).max(1)
    counts = {"fitted": count, "steps": sum(map(len, episodes)), "split_seed": seed}
    return Calibration(subject, usual, centre, spread, np.sort(maxima), slow_below, stop_below, counts | (made or {}))


def largest_scores(scorer: Scorer, episodes: Sequence[Episode]) -> FloatArray:
    """(E, K) largest score of each kind in each episode."""
    return np.array([episode_scores(scorer, episode).max(0) for episode in episodes])


def episode_scores(scorer: Scorer, episode: Episode) -> FloatArray:
    """(T, K) scores of an episode from its beginning; where there are none, 0."""
    scorer.reset()
    scores: FloatArray = np.nan_to_num(np.array([scorer.see(step) for step in episode]), nan=0.0, posinf=np.inf)
    return scores


def scaled_scores(scores: FloatArray, centre: FloatArray, spread: FloatArray) -> FloatArray:
    """(..., K) of scores: 0 in the middle nominal episode, 1 in one of twenty; -inf for NaN."""
    scaled: FloatArray = np.where(np.isnan(scores), -np.inf, (np.log(scores + np.array(FLOORS)) - centre) / spread)
    return scaled
