"""How a model's action axes lie to the robot's base: estimated from moves, kept in a file."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wm_bridge.core.settings import read_yaml
from wm_bridge.core.types import FloatArray


@dataclass(frozen=True)
class AxesConfig:
    """When an estimate is good enough to be used.

    Attributes:
        least_moves: pairs of moves, at least.
        largest_error_deg: standard error of the rotation, bootstrapped over the moves.
        largest_residual_deg: mean angle between a sent move and the model's, turned by the estimate.
        least_spread: smallest share of the second direction in the moves' total; 0 = all along one line.
    """

    least_moves: int = 8
    largest_error_deg: float = 8.0
    largest_residual_deg: float = 35.0
    least_spread: float = 0.1

    def __post_init__(self) -> None:
        if self.least_moves < 3 or min(self.largest_error_deg, self.largest_residual_deg, self.least_spread) <= 0:
            raise ValueError("axes: least_moves must be at least 3 and every limit above 0")


@dataclass(frozen=True)
class Axes:
    """What a calibration found.

    Attributes:
        R_base_action: rows (9) of the rotation from the model's action axes to the base frame; none where the estimate is
            within two standard errors of none.
        angle_deg: of the estimate. error_deg: its standard error. residual_deg: see ``AxesConfig``.
        before_deg: mean angle between sent and believed moves without the rotation.
        moves: pairs used.
        tolerance_energy: energy of a frame ``tolerance_m`` away; 0: not measured.
        tolerance_m: the distance that this energy stands for. still_energy: energy between two pictures of one scene.
        robot, model: what it was measured with.
    """

    R_base_action: tuple[float, ...]
    angle_deg: float
    error_deg: float
    residual_deg: float
    before_deg: float
    moves: int
    tolerance_energy: float = 0.0
    tolerance_m: float = 0.0
    still_energy: float = 0.0
    robot: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        R = np.array(self.R_base_action, dtype=float)
        if R.shape != (9,) or not np.allclose(R.reshape(3, 3) @ R.reshape(3, 3).T, np.eye(3), atol=1e-4) or np.linalg.det(R.reshape(3, 3)) < 0:
            raise ValueError(f"axes: R_base_action must hold the 9 numbers of a rotation, got {self.R_base_action}")

    @property
    def rotation(self) -> FloatArray:
        """(3, 3) ``R_base_action``."""
        return np.array(self.R_base_action).reshape(3, 3)

    @property
    def turns(self) -> bool:
        """False when nothing is turned."""
        return not np.array_equal(self.rotation, np.eye(3))

    def settings(self) -> dict[str, Any]:
        """Settings of the planner that apply it."""
        return {"R_base_action": self.R_base_action}

    def write(self, path: Path) -> None:
        """As YAML."""
        path.parent.mkdir(parents=True, exist_ok=True)
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        path.write_text("# Written by ./wm calibrate-axes; parameter axes of the planner node reads it.\n" + yaml.safe_dump(values, sort_keys=False))

    @classmethod
    def read(cls, path: Path) -> Axes:
        """From YAML.

        Raises:
            FileNotFoundError: no such file. ValueError: it is not one of ours.
        """
        values = read_yaml(path)
        known = set(cls.__dataclass_fields__)
        if not isinstance(values, dict) or not set(values) <= known or "R_base_action" not in values:
            raise ValueError(f"{path} is no calibration of action axes; make one with `./wm calibrate-axes --out FILE`")
        return cls(**{**values, "R_base_action": tuple(values["R_base_action"])})


def estimate_axes(sent: FloatArray, believed: FloatArray, rng: np.random.Generator, config: AxesConfig = AxesConfig()) -> Axes:  # noqa: B008
    """The rotation from the model's axes to the base (Wahba 1965; solved as by Kabsch 1976), and how sure it is.

    Args:
        sent: (N, 3) m, moves of the tool, base axes. believed: (N, 3) m, moves that explain the pictures best to the
            model, its own axes.
        rng: of the bootstrap.

    Raises:
        ValueError: too few or too similar moves, or moves that no rotation brings together.
    """
    sent, believed = np.asarray(sent, float), np.asarray(believed, float)
    if sent.shape != believed.shape or sent.ndim != 2 or sent.shape[1] != 3:
        raise ValueError(f"expected sent and believed moves (N, 3), got {sent.shape} and {believed.shape}")
    usable = (np.linalg.norm(sent, axis=1) > 1e-4) & (np.linalg.norm(believed, axis=1) > 1e-4) & np.isfinite(believed).all(axis=1)
    sent, believed = sent[usable], believed[usable]
    if len(sent) < config.least_moves:
        raise ValueError(
            f"{len(sent)} moves could be seen, {config.least_moves} are needed; let it make more or larger ones, in view of the camera"
        )
    spread = np.linalg.svd(believed, compute_uv=False) ** 2
    if spread[1] / spread.sum() < config.least_spread:
        raise ValueError("the moves that the model saw lie along one line; it does not tell directions apart in this view")
    rotation = kabsch(sent, believed)
    found = [kabsch(sent[pick], believed[pick]) for pick in rng.integers(len(sent), size=(200, len(sent)))]
    error = math.sqrt(np.mean([angle_deg(rotation.T @ other) ** 2 for other in found]))
    residual = float(np.mean(between_deg(sent, believed @ rotation.T)))
    if error > config.largest_error_deg or residual > config.largest_residual_deg:
        raise ValueError(
            f"the axes are too uncertain: standard error {error:.1f} deg (limit {config.largest_error_deg:.1f}), moves "
            f"{residual:.1f} deg apart (limit {config.largest_residual_deg:.1f}); make more moves, or show the arm from nearer"
        )
    before = float(np.mean(between_deg(sent, believed)))
    used = rotation if angle_deg(rotation) > 2.0 * error else np.eye(3)
    return Axes(tuple(used.ravel().tolist()), angle_deg(rotation), error, residual, before, len(sent))


def kabsch(sent: FloatArray, believed: FloatArray) -> FloatArray:
    """Rotation (3, 3) that brings believed moves (N, 3) nearest to those sent (N, 3); directions count, not lengths."""
    one, other = (moves / np.linalg.norm(moves, axis=1, keepdims=True) for moves in (sent, believed))
    u, _, vt = np.linalg.svd(one.T @ other)
    return np.asarray(u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt)


def angle_deg(rotation: FloatArray) -> float:
    """Angle of a rotation (3, 3), degrees."""
    sine = 0.5 * math.hypot(*(rotation[i, j] - rotation[j, i] for i, j in ((2, 1), (0, 2), (1, 0))))
    return math.degrees(math.atan2(sine, 0.5 * (float(np.trace(rotation)) - 1.0)))


def between_deg(one: FloatArray, other: FloatArray) -> FloatArray:
    """(N,) angles between vectors (N, 3), degrees."""
    across = np.linalg.norm(np.cross(one, other), axis=1)
    return np.asarray(np.degrees(np.arctan2(across, (one * other).sum(axis=1))))
