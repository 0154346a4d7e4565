"""Values that flow from the camera to the driver.

Every stage takes frozen values and returns new ones. Time is always an integer
number of nanoseconds on the clock of the graph (``/clock`` in simulation), and
the stamp of the camera frame that a decision was made from travels along as
``source_stamp_ns`` so that its age is readable at the driver.

Arrays are copied and made read-only on construction: a value that was passed on
can no longer be changed by whoever made it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ImageArray = NDArray[np.uint8]


def frozen_array(values: object, dtype: type = np.float64) -> NDArray[Any]:
    """Return a read-only copy of ``values`` with the given dtype."""
    array: NDArray[Any] = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera picture.

    Attributes:
        image: (height, width, 3) uint8, RGB.
        stamp_ns: when the picture was taken.
        frame_id: optical frame (REP 103: z forward, x right, y down).
    """

    image: ImageArray
    stamp_ns: int
    frame_id: str

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"a Frame holds uint8 (height, width, 3) RGB, got "
                f"{self.image.dtype} {self.image.shape}; convert it first"
            )


@dataclass(frozen=True, slots=True)
class DepthImage:
    """Depth of each pixel of a camera picture (REP 118).

    Attributes:
        depth: (height, width) uint16, mm; 0 where it is not known.
        stamp_ns, frame_id: of the picture.
    """

    depth: NDArray[np.uint16]
    stamp_ns: int
    frame_id: str

    def __post_init__(self) -> None:
        if self.depth.ndim != 2 or self.depth.dtype != np.uint16:
            raise ValueError(f"a DepthImage holds uint16 (height, width) mm, got {self.depth.dtype} {self.depth.shape}")


@dataclass(frozen=True, slots=True)
class JointState:
    """Measured joints; all arrays are (J,) in the order of ``names``.

    Attributes:
        names: joint names; the order everywhere comes from ``RobotSpec.joint_names``.
        position: rad. velocity: rad/s. effort: N m.
        stamp_ns: when it was measured.
    """

    names: tuple[str, ...]
    position: FloatArray
    velocity: FloatArray
    effort: FloatArray
    stamp_ns: int

    def __post_init__(self) -> None:
        for name in ("position", "velocity", "effort"):
            array = frozen_array(getattr(self, name))
            if array.shape != (len(self.names),):
                raise ValueError(
                    f"JointState.{name} has shape {array.shape}, expected ({len(self.names)},)"
                )
            object.__setattr__(self, name, array)

    def is_finite(self) -> bool:
        """True when no position, velocity or effort is NaN or infinite."""
        return bool(
            np.isfinite(self.position).all()
            and np.isfinite(self.velocity).all()
            and np.isfinite(self.effort).all()
        )


@dataclass(frozen=True, slots=True)
class Command:
    """One set of joint references; arrays are (J,) in the order of ``names``.

    Attributes:
        names: joint names.
        position: reference, rad. velocity: feed-forward, rad/s.
        stamp_ns: when the command was made.
        source_stamp_ns: stamp of the camera frame it goes back to; 0 when none.
    """

    names: tuple[str, ...]
    position: FloatArray
    velocity: FloatArray
    stamp_ns: int
    source_stamp_ns: int = 0

    def __post_init__(self) -> None:
        for name in ("position", "velocity"):
            array = frozen_array(getattr(self, name))
            if array.shape != (len(self.names),):
                raise ValueError(
                    f"Command.{name} has shape {array.shape}, expected ({len(self.names)},)"
                )
            object.__setattr__(self, name, array)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A short plan: K way points for a subset of the joints.

    Attributes:
        names: (A,) controlled joints.
        times_ns: (K,) strictly increasing times after ``stamp_ns``, nanoseconds.
        positions: (K, A) rad.
        velocities: (K, A) rad/s; the last row is zero (the plan ends at rest).
        stamp_ns: stamp of the camera frame that the plan was made from.
    """

    names: tuple[str, ...]
    times_ns: tuple[int, ...]
    positions: FloatArray
    velocities: FloatArray
    stamp_ns: int

    def __post_init__(self) -> None:
        shape = (len(self.times_ns), len(self.names))
        for name in ("positions", "velocities"):
            array = frozen_array(getattr(self, name))
            if array.shape != shape:
                raise ValueError(f"Trajectory.{name} has shape {array.shape}, expected {shape}")
            object.__setattr__(self, name, array)


@dataclass(frozen=True, slots=True)
class Observation:
    """What the planner sees: one frame and the joints at the moment it was taken.

    Attributes:
        frame: the camera picture.
        joints: measured joints aligned to ``frame.stamp_ns`` (interpolated).
        reference: (J,) joint reference last sent to the hardware, rad.
    """

    frame: Frame
    joints: JointState
    reference: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", frozen_array(self.reference))


class Reason(enum.IntFlag):
    """Why the safety filter changed or refused something (bits of SafetyVerdict.reasons)."""

    NONE = 0
    NONFINITE = 1 << 0
    NAMES = 1 << 1
    STALE_COMMAND = 1 << 2
    STALE_STATE = 1 << 3
    STALE_CAMERA = 1 << 4
    FUTURE_STAMP = 1 << 5
    REPLAYED = 1 << 6
    ZERO_STAMP = 1 << 7
    CLOCK_JUMP = 1 << 8
    POSITION_LIMIT = 1 << 9
    VELOCITY_LIMIT = 1 << 10
    ACCELERATION_LIMIT = 1 << 11
    TRACKING_ERROR = 1 << 12
    STOP_REQUEST = 1 << 13
    NOT_ENABLED = 1 << 14
    TIME_BUDGET = 1 << 15
    INTERNAL = 1 << 16
    FROZEN_CAMERA = 1 << 17
    SECOND_WRITER = 1 << 18
    MALFORMED = 1 << 19
    STATE_JUMP = 1 << 20
    JERK_LIMIT = 1 << 21
    WORKSPACE = 1 << 22
    SELF_DISTANCE = 1 << 23
    TABLE_DISTANCE = 1 << 24
    OBSTACLE_DISTANCE = 1 << 25
    TOOL_SPEED = 1 << 26
    HUMAN_NEAR = 1 << 27
    LOW_TRUST = 1 << 28
    HEALTH = 1 << 29
    DEADMAN = 1 << 30
    DRIVER_DEAD = 1 << 31


class SafetyMode(enum.IntEnum):
    """Degradation ladder; only ``reset`` leads back up from LATCHED."""

    NORMAL = 0
    LIMITED = 1
    HOLD = 2
    BRAKE = 3
    LATCHED = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the safety filter did in one tick.

    Attributes:
        mode: where on the ladder the filter is after this tick.
        reasons: bit set of everything that was wrong or changed.
        requested: (J,) reference before the filter, rad (the last output when nothing was asked).
        output: (J,) reference that goes to the hardware, rad.
        margin: smallest distance of any joint to its limit, rad.
        stamp_ns: node time of the tick.
        duration_ns: time spent in the filter, steady clock.
    """

    mode: SafetyMode
    reasons: Reason
    requested: FloatArray
    output: FloatArray
    margin: float
    stamp_ns: int
    duration_ns: int = 0
    detail: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "requested", frozen_array(self.requested))
        object.__setattr__(self, "output", frozen_array(self.output))

    @property
    def intervened(self) -> bool:
        """True when the output differs from what was asked for."""
        return self.reasons != Reason.NONE
