"""Camera calibrations as ROS writes them (camera_calibration, camera_info_manager)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wm_bridge.cameras.base import CameraError, CameraInfo
from wm_bridge.core.types import FloatArray

_REMEDY = (
    "write it with ./wm calibrate-camera intrinsics or ROS's camera_calibration; "
    "keys: image_width, image_height, camera_matrix, distortion_model, distortion_coefficients"
)
_MODELS = {"fisheye": "equidistant"}  # name of older calibrators


def read_calibration(path: Path) -> CameraInfo:
    """Intrinsics and distortion of a camera, frame_id empty.

    Raises:
        CameraError: no such file, or not a calibration.
    """
    try:
        content: Any = yaml.safe_load(path.read_text())
        K = np.array(content["camera_matrix"]["data"], dtype=float).reshape(3, 3)
        D = np.array(content["distortion_coefficients"]["data"], dtype=float)
        model = str(content["distortion_model"])
        return CameraInfo(int(content["image_width"]), int(content["image_height"]), K, "", D, _MODELS.get(model, model))
    except OSError as error:
        raise CameraError(f"no calibration {path}: {error.strerror}", "check the parameter calibration") from error
    except KeyError as error:
        raise CameraError(f"{path} has no {error}", _REMEDY) from error
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise CameraError(f"{path} is not a calibration: {error}", _REMEDY) from error


def write_calibration(path: Path, info: CameraInfo, name: str, notes: Mapping[str, object]) -> None:
    """Write intrinsics for ``read_calibration`` and ROS's own tools; ``notes`` go in front as comments."""

    def matrix(values: FloatArray) -> dict[str, object]:
        rows, cols = values.shape
        return {"rows": rows, "cols": cols, "data": [float(value) for value in values.ravel()]}

    content = {
        "image_width": info.width,
        "image_height": info.height,
        "camera_name": name,
        "camera_matrix": matrix(info.K),
        "distortion_model": info.model,
        "distortion_coefficients": matrix(info.D[None]),
        "rectification_matrix": matrix(np.eye(3)),
        "projection_matrix": matrix(np.hstack([np.asarray(info.rectified), np.zeros((3, 1))])),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    comments = "".join(f"# {key}: {value}\n" for key, value in notes.items())
    path.write_text(comments + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=140), encoding="utf-8")
