"""Camera calibrations as ROS writes them (camera_calibration, camera_info_manager)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wm_bridge.cameras.base import CameraError, CameraInfo

_REMEDY = "write it with ROS's camera_calibration; keys: image_width, image_height, camera_matrix, distortion_model, distortion_coefficients"
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
