"""Names of robot and camera, as a trust calibration is tied to them."""

from __future__ import annotations


def robot_subject(name: str, simulated: bool) -> str:
    """A simulated robot is another one than the real one of the same name."""
    return f"{name}, simulated" if simulated else name


def camera_subject(frame_id: str, width: int, height: int) -> str:
    """Optical frame and picture size, pixels."""
    return f"{frame_id} {width}x{height}"
