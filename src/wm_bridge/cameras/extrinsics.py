"""Where a camera is, as ``./wm calibrate-camera`` writes it and the camera node reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wm_bridge.cameras.base import CameraError
from wm_bridge.core.types import FloatArray, frozen_array

_KEYS = ("parent_frame", "frame_id", "position", "orientation")
_REMEDY = f"write it with ./wm calibrate-camera hand-eye; keys: {', '.join(_KEYS)}"


@dataclass(frozen=True)
class Extrinsics:
    """Pose of an optical frame (REP 103: z forward, x right, y down).

    Attributes:
        parent_frame: link of the robot that carries the camera, or its base.
        frame_id: optical frame.
        position: (3,) of the camera in the parent frame, m.
        orientation: (4,) unit quaternion x y z w of the same.
    """

    parent_frame: str
    frame_id: str
    position: FloatArray
    orientation: FloatArray

    def __post_init__(self) -> None:
        for name, count in (("position", 3), ("orientation", 4)):
            values = frozen_array(getattr(self, name))
            if values.shape != (count,) or not np.isfinite(values).all():
                raise ValueError(f"{name} must be {count} finite numbers, got {values}")
            object.__setattr__(self, name, values)
        if abs(np.linalg.norm(self.orientation) - 1.0) > 1e-3:
            raise ValueError(f"orientation must be a unit quaternion x y z w, got {self.orientation}")
        if not (self.parent_frame and self.frame_id) or self.parent_frame == self.frame_id:
            raise ValueError(f"parent_frame and frame_id must be two frames, got '{self.parent_frame}' and '{self.frame_id}'")


def read_extrinsics(path: Path) -> Extrinsics:
    """Read where a camera is.

    Raises:
        CameraError: no such file, or no extrinsics in it.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Extrinsics(str(content["parent_frame"]), str(content["frame_id"]), content["position"], content["orientation"])
    except OSError as error:
        raise CameraError(f"no extrinsics {path}: {error.strerror}", "check the parameter extrinsics") from error
    except KeyError as error:
        raise CameraError(f"{path} has no {error}", _REMEDY) from error
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise CameraError(f"{path} holds no extrinsics: {error}", _REMEDY) from error


def write_extrinsics(path: Path, extrinsics: Extrinsics, notes: Mapping[str, object]) -> None:
    """Write for ``read_extrinsics``; ``notes`` (how good it is) go in front as comments."""
    content = {
        "parent_frame": extrinsics.parent_frame,
        "frame_id": extrinsics.frame_id,
        "position": [float(value) for value in extrinsics.position],
        "orientation": [float(value) for value in extrinsics.orientation],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    comments = "".join(f"# {key}: {value}\n" for key, value in notes.items())
    path.write_text(comments + yaml.safe_dump(content, sort_keys=False, default_flow_style=None), encoding="utf-8")
