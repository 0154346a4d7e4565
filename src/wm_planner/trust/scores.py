"""Scores of a planning step: each is small when all is as usual, and grows with one way of going wrong.

| score | compares | notices |
|---|---|---|
| scene | the picture with the principal subspace of usual pictures of this camera | covered or moved camera, unknown things |
| change | the picture with the one before, away from all that stood out of the background there | things that appear |
| surprise | the latent with the one predicted from the step before under the action really sent | what moves otherwise than imagined |
| response | squared error of those predictions under the action sent / under no action, over a window | an arm that is not obeyed |
| joints | the lag of each joint behind its reference with the lag that is usual at this motion | stuck joints |
| gain | over a window, the motion of each joint with the one that the usual lag leaves of its references | stuck and weak joints |
| readout | joints read from the picture with measured ones | moved camera, wrong encoders |
| freshness | the way that the joints have gone since the picture last changed | frozen frames |
| disagreement | the ensemble's spread about the prediction of this step | states that the model was not trained in |

What a model does not tell (joints of a latent, an ensemble's spread) is NaN in a ``Glimpse``, and so is its score.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_planner.trust.foresight import MOST_PERIODS
from wm_planner.trust.glimpse import Glimpse
from wm_planner.world_model import LOW_CONTRAST, SCENE_SIDE

FloatArray = NDArray[np.float64]

SCORES = ("scene", "change", "surprise", "response", "joints", "gain", "readout", "freshness", "disagreement")
SCENE_PARTS = 32  # principal components of usual pictures
STANDS_OUT, REACH = 0.02, 3  # length of a pixel's difference from the background; pixels that what stands out may move
WINDOW = 4  # steps that the response is averaged over
LEAST_RESPONSE = 2e-3  # latent error that is added to both sides of the ratio
TIMING = 0.1  # of a period: by so much joints and references may be stamped apart
PAST = 2  # changes of the references that the usual lag is explained by
GAIN_STEPS, LEAST_STEPS = 8, 5  # of the window, and of one that tells something
SCATTER = 0.002  # rad, of a joint that does as it is told


@dataclass(frozen=True)
class Usual:
    """What is usual for one robot, camera and model; P pixels (all channels), A joints.

    Attributes:
        scene_mean: (P,) scene. scene_basis: (P, K) orthonormal. background: (P,) median scene: what shows without the arm.
        servo: (A, PAST + 1) the usual lag behind the reference, by its newest changes and a constant.
        servo_spread: (A,) rad, standard deviation about that.
        readout_bias, readout_spread: (A,) rad, of decoded less measured joints; NaN where none are decoded.
    """

    scene_mean: FloatArray
    scene_basis: FloatArray
    background: FloatArray
    servo: FloatArray
    servo_spread: FloatArray
    readout_bias: FloatArray
    readout_spread: FloatArray


def scene(thumbnail: NDArray[np.float32]) -> FloatArray:
    """(P,) what a thumbnail (T, T, 3) shows, whatever the light: zero mean, about unit length."""
    levels = np.asarray(thumbnail, np.float64).ravel() / 127.5
    levels -= levels.mean()
    contrast = float(np.sqrt(np.square(levels).mean()))
    shown: FloatArray = levels / ((contrast + LOW_CONTRAST) * np.sqrt(len(levels)))
    return shown


def elsewhere(change: FloatArray, stood_out: FloatArray) -> float:
    """Length of a change (P,) of the scene, without the surroundings of what stood out (P,) of the background before."""
    squared = np.square(np.stack([change, stood_out])).reshape(2, SCENE_SIDE, SCENE_SIDE, -1).sum(-1)
    near = np.pad(squared[1] > STANDS_OUT**2, REACH)
    around = np.lib.stride_tricks.sliding_window_view(near, (2 * REACH + 1, 2 * REACH + 1)).any((2, 3))
    return float(np.sqrt(squared[0][~around].sum()))


def lag_features(references: FloatArray) -> FloatArray:
    """(A, PAST + 1) what explains the lag at the last of PAST + 1 references (PAST + 1, A): the newest change first."""
    return np.column_stack([*np.diff(references, axis=0)[::-1], np.ones(references.shape[1])])


def lost_gain(expected: FloatArray, measured: FloatArray) -> FloatArray:
    """(A,) by how many standard errors each joint's motion falls short of the expected one; both (T, A) rad.

    The slope of a line through measured against expected positions: 1 where a joint obeys, .5 where it does half of what it is told.
    Contact makes a joint lag as well, but seldom in proportion to its way, and what does not lie on a line has a large error.
    """
    x, y = expected - expected.mean(0), measured - measured.mean(0)
    way = np.sqrt(np.square(x).sum(0)) + 1e-9
    slope = (x * y).sum(0) / way**2
    off = np.square(y - slope * x).sum(0) / (len(x) - 2)
    lost: FloatArray = (1.0 - slope) * way / np.sqrt(off + SCATTER**2)
    return lost


class Scorer:
    """Scores of one step after the other; NaN where there is nothing to compare with yet."""

    def __init__(self, usual: Usual) -> None:
        self.usual = usual
        self.reset()

    def reset(self) -> None:
        """A new episode begins."""
        self._last: Glimpse | None = None
        self._picture = self.usual.scene_mean
        self._missed: deque[FloatArray] = deque(maxlen=WINDOW)
        self._references: deque[FloatArray] = deque(maxlen=PAST + 1)
        self._obeyed: deque[tuple[FloatArray, FloatArray]] = deque(maxlen=GAIN_STEPS)  # expected and measured positions
        self._anchor: FloatArray | None = None

    def see(self, glimpse: Glimpse) -> FloatArray:
        """(K,) scores of ``SCORES``."""
        last, usual = self._last, self.usual
        if last is None or not 1 <= glimpse.periods <= MOST_PERIODS:
            self.reset()
            last = None
        if glimpse.failed:
            return np.full(len(SCORES), np.inf)
        position, reference = glimpse.position.astype(np.float64), glimpse.reference.astype(np.float64)
        picture = scene(glimpse.thumbnail)
        shown = picture - usual.scene_mean
        unknown = shown - usual.scene_basis @ (usual.scene_basis.T @ shown)
        change = np.nan if last is None else elsewhere(picture - self._picture, self._picture - usual.background)
        surprise, response, spread = self._prediction(glimpse) if last is not None else (np.nan, np.nan, np.nan)
        off = (glimpse.decoded.astype(np.float64) - position - usual.readout_bias) / usual.readout_spread
        anchor = self._anchor if glimpse.same and self._anchor is not None else position
        self._anchor, stale = anchor, float(np.abs(position - anchor).max())
        lag, gain = self._servo(position, reference, glimpse.periods)
        self._last, self._picture = glimpse, picture
        return np.array([np.sqrt(unknown @ unknown), change, surprise, response, lag, gain, np.abs(off).max(), stale, spread])

    def _prediction(self, now: Glimpse) -> tuple[float, float, float]:
        """One-step surprise, the response over the window, and the ensemble's disagreement."""
        moved, still, spread = now.missed.astype(np.float64)
        self._missed.append(np.array([moved, still]))
        by_sent, by_none = np.sum(self._missed, axis=0) / WINDOW
        return float(moved), float((by_sent + LEAST_RESPONSE) / (by_none + LEAST_RESPONSE)), float(spread)

    def _servo(self, position: FloatArray, reference: FloatArray, periods: int) -> tuple[float, float]:
        """Of the worst joint: how far its lag is from the usual one in standard deviations, and its ``lost_gain``."""
        if periods > 1:
            self._references.clear()
        self._references.append(reference)
        if len(self._references) <= PAST:
            return np.nan, np.nan
        expected = reference - (lag_features(np.array(self._references)) * self.usual.servo).sum(1)
        apart = TIMING * np.abs(self._references[-1] - self._references[-2])
        lag = np.abs(expected - position) / (self.usual.servo_spread + apart)
        self._obeyed.append((expected, position))
        if len(self._obeyed) < LEAST_STEPS:
            return float(lag.max()), np.nan
        return float(lag.max()), max(0.0, float(lost_gain(*np.array(self._obeyed).swapaxes(0, 1)).max()))


def usual_of(episodes: Sequence[Sequence[Glimpse]]) -> Usual:
    """What is usual in nominal episodes: a principal subspace, and regressions of lag and readout."""
    steps = [step for episode in episodes for step in episode]
    scenes = np.array([scene(step.thumbnail) for step in steps])
    mean = scenes.mean(0)
    basis = np.linalg.svd(scenes - mean, full_matrices=False)[2][:SCENE_PARTS].T
    off = np.array([step.decoded.astype(np.float64) - step.position for step in steps])
    features, lags = [], []
    for episode in episodes:
        references = np.array([step.reference for step in episode], np.float64)
        lag = references - np.array([step.position for step in episode])
        for k in range(PAST, len(episode)):
            features.append(lag_features(references[k - PAST : k + 1]))
            lags.append(lag[k])
    x, y = np.array(features), np.array(lags)
    servo = np.array([np.linalg.lstsq(x[:, j], y[:, j], rcond=None)[0] for j in range(y.shape[1])])
    rest = y - np.einsum("njf,jf->nj", x, servo)
    return Usual(mean, basis, np.median(scenes, axis=0), servo, rest.std(0), off.mean(0), off.std(0))
