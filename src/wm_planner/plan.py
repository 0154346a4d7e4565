"""What one planning call begins with, and what it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.trust.watch import TrustState

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """One planning call; H periods, A joints, E elites.

    Attributes:
        references: (N, A) rad, joint references after each of the N <= H periods that are sent.
        actions: (N, A) rad, their changes.
        energy: of the chosen rollout. energy_per_iteration: best so far.
        goal_energy: energy of the present frame itself.
        distance_m, object_distance_m, joint_distance_rad, angle_rad: of the present frame to the goal, see ``gap.Gap``.
        elite_references: (E, H, A) rad; elite_energies: (E,).
        predicted_hand: (H, 3) decoded hand path, base frame, m; goal_hand: (3,), NaN when not known.
        elite_hands: (E, H, 3) the same for the elites.
        samples, iterations, nan_costs: see ``search.trial.SearchResult``.
        deadline_met: the whole call took no longer than it was given; True without a deadline.
        goal_trust: 0..1, how much the goal is like what the model knows.
        trust, trust_score, trust_state, trust_cause: how usual this step is, see ``trust.watch.Judgement``.
        preprocess_s, encode_s, optimise_s: time spent.
    """

    references: FloatArray
    actions: FloatArray
    energy: float
    energy_per_iteration: tuple[float, ...]
    goal_energy: float
    distance_m: float
    object_distance_m: float
    joint_distance_rad: float
    elite_references: FloatArray
    elite_energies: FloatArray
    predicted_hand: FloatArray
    goal_hand: FloatArray
    elite_hands: FloatArray
    samples: int
    iterations: int
    nan_costs: int
    deadline_met: bool
    preprocess_s: float
    encode_s: float
    optimise_s: float
    angle_rad: float = 0.0
    goal_trust: float = 1.0
    trust: float = math.nan
    trust_score: float = math.nan
    trust_state: int = int(TrustState.UNKNOWN)
    trust_cause: str = ""


@dataclass(frozen=True)
class Situation:
    """Where a plan begins.

    z (1, D) latent; state (1, 2A) of it; position, reference (A,) rad: measured, and sent.
    """

    z: Tensor
    state: Tensor
    position: Tensor
    reference: Tensor
