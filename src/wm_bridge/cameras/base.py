"""What every camera driver offers."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field, fields
from types import TracebackType

import numpy as np

from wm_bridge.core.types import DepthImage, FloatArray, Frame, frozen_array
from wm_bridge.errors import UserError


class CameraError(UserError):
    """No picture can be had; says what to do about it."""


_COEFFICIENTS = {"plumb_bob": 5, "equidistant": 4}  # names of sensor_msgs/CameraInfo


@dataclass(frozen=True, eq=False)
class CameraInfo:
    """Size, pinhole model and distortion of a camera.

    Attributes:
        width, height: pixels.
        K: (3, 3) intrinsic matrix, pixels.
        frame_id: optical frame (REP 103: z forward, x right, y down).
        D: distortion coefficients of ``model``. model: plumb_bob (k1 k2 p1 p2 k3) or, for fisheyes, equidistant (k1 .. k4).
        rectified: (3, 3) intrinsic matrix of rectified pictures (the left of P in sensor_msgs/CameraInfo); K by default.
    """

    width: int
    height: int
    K: FloatArray
    frame_id: str
    D: FloatArray = field(default_factory=lambda: np.zeros(5))
    model: str = "plumb_bob"
    rectified: FloatArray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "K", frozen_array(self.K))
        object.__setattr__(self, "D", frozen_array(self.D))
        wanted = _COEFFICIENTS.get(self.model)
        if wanted is None or self.D.shape != (wanted,) or not np.isfinite(self.D).all():
            raise ValueError(f"distortion must be finite, of one of {_COEFFICIENTS} (numbers each), got {self.model} with {self.D}")
        object.__setattr__(self, "rectified", self.K if self.rectified is None else frozen_array(self.rectified))
        for name in ("K", "rectified"):
            matrix = getattr(self, name)
            if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not (matrix[0, 0] > 0.0 and matrix[1, 1] > 0.0):
                raise ValueError(f"{name} must be a finite (3, 3) matrix with positive focal lengths, got {matrix}")
        if not (self.width > 0 and self.height > 0):
            raise ValueError(f"size must be positive, got {self.width}x{self.height}")

    def __eq__(self, other: object) -> bool:
        """True when every field is the same."""
        if not isinstance(other, CameraInfo):
            return NotImplemented
        return all(np.array_equal(getattr(self, item.name), getattr(other, item.name)) for item in fields(self))


def pinhole(width: int, height: int, fovy_deg: float) -> FloatArray:
    """Return the (3, 3) matrix K of a distortion-free camera with a centred principal point.

    Pixels count from the middle of the first one, as in OpenCV and ROS, so the middle of 640 columns is 319.5.

    Args:
        fovy_deg: vertical field of view.
    """
    if not 0.0 < fovy_deg < 180.0:
        raise ValueError(f"field of view must be in 0..180 degrees, got {fovy_deg}")
    focal = height / 2.0 / np.tan(np.radians(fovy_deg) / 2.0)
    return np.array([[focal, 0.0, (width - 1) / 2.0], [0.0, focal, (height - 1) / 2.0], [0.0, 0.0, 1.0]])


class Camera(abc.ABC):
    """One colour camera; a context manager. Vendor libraries are imported in ``connect``."""

    def __init__(self) -> None:
        self._connected = False

    @property
    def connected(self) -> bool:
        """True between ``connect`` and ``disconnect``."""
        return self._connected

    @property
    @abc.abstractmethod
    def info(self) -> CameraInfo:
        """Size, intrinsics and frame; known before connecting, but where only the device can tell."""

    @property
    def depth(self) -> DepthImage | None:
        """Depth of the picture that was read last, seen from the same place; None where there is none."""
        return None

    def connect(self) -> None:
        """Open the camera; a second call does nothing.

        Raises:
            CameraError: not there, busy, or not able to give the wanted size.
        """
        if not self._connected:
            self._open()
            self._connected = True

    def disconnect(self) -> None:
        """Release the camera; a second call does nothing."""
        if self._connected:
            self._connected = False
            self._close()

    def read(self) -> Frame:
        """Return the next picture, of the size in ``info``.

        Raises:
            CameraError: not connected, unplugged, or no picture. Never returns an old picture.
        """
        if not self._connected:
            raise CameraError("the camera is not connected", "call connect() first")
        return self._read()

    def __enter__(self) -> Camera:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.disconnect()

    @abc.abstractmethod
    def _open(self) -> None:
        """Open the device."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Release the device."""

    @abc.abstractmethod
    def _read(self) -> Frame:
        """Take a picture."""
