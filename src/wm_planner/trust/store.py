"""Trust calibrations in one file: one for each kind of goal, all for one robot, camera and set of weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from wm_planner.errors import PlannerError
from wm_planner.trust.calibration import Calibration
from wm_planner.trust.scores import SCORES, Usual

FORMAT = "wm-trust-2"
SCALE = ("centre", "spread", "maxima")
SAID = ("slow_below", "stop_below", "made")
REMEDY = "make one with `./wm calibrate-trust`"


@dataclass(frozen=True)
class Subject:
    """What calibrations hold for.

    Attributes:
        robot: name of the robot, and whether it is a simulated one.
        camera: frame and size of the pictures.
        weights: hash of the checkpoint.
    """

    robot: str
    camera: str
    weights: str


@dataclass(frozen=True)
class Calibrations:
    """All calibrations of a subject, ``kinds`` by the kind of goal (``kinds.KINDS``)."""

    subject: Subject
    kinds: Mapping[str, Calibration]

    def save(self, path: Path) -> None:
        """Write to one file, atomically."""
        arrays: dict[str, np.ndarray] = {}
        for kind, one in self.kinds.items():
            usual = {f.name: np.asarray(getattr(one.usual, f.name), np.float32) for f in dataclasses.fields(Usual)}
            usual["scene_basis"] = usual["scene_basis"].astype(np.float16)
            usual |= {name: getattr(one, name) for name in SCALE}
            arrays |= {f"{kind}.{name}": np.ascontiguousarray(array) for name, array in usual.items()}
        header = {
            "subject": dataclasses.asdict(self.subject),
            "scores": SCORES,
            "kinds": {kind: {name: getattr(one, name) for name in SAID} for kind, one in self.kinds.items()},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(save(arrays, metadata={"format": FORMAT, "trust": json.dumps(header, sort_keys=True)}))  # for others to read, too
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, subject: Subject) -> Calibrations:
        """Read calibrations and refuse those of another robot, camera or weights.

        Raises:
            PlannerError: missing, unreadable or foreign; says what was expected and what to do.
        """
        if not path.is_file():
            raise PlannerError(f"no trust calibration at {path}; {REMEDY}")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = json.loads(metadata["trust"])
            found = Subject(**header["subject"])
            known = metadata["format"] == FORMAT and tuple(header["scores"]) == SCORES
            kinds = {kind: _calibration(kind, arrays, said) for kind, said in header["kinds"].items()} if known else {}
        except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise PlannerError(f"{path} is not a trust calibration ({error!r}); {REMEDY}") from error
        if not known:
            raise PlannerError(f"{path} is a trust calibration of another version; {REMEDY}")
        wrong = [
            f"{f.name} {getattr(found, f.name)!r}, here is {getattr(subject, f.name)!r}"
            for f in dataclasses.fields(Subject)
            if getattr(found, f.name) != getattr(subject, f.name)
        ]
        if wrong:
            raise PlannerError(f"{path} was made for {'; '.join(wrong)}: its thresholds mean nothing here; {REMEDY}")
        return cls(found, kinds)


def _calibration(kind: str, arrays: Mapping[str, np.ndarray], said: Mapping[str, object]) -> Calibration:
    usual = Usual(**{f.name: arrays[f"{kind}.{f.name}"].astype(np.float64) for f in dataclasses.fields(Usual)})
    return Calibration(usual, *(arrays[f"{kind}.{name}"] for name in SCALE), **{name: said[name] for name in SAID})  # type: ignore[arg-type]


def trust_path(checkpoint: Path) -> Path:
    """Where the calibrations of a checkpoint lie, unless another file is named."""
    return checkpoint.with_suffix(".trust")
