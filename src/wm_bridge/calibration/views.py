"""Pictures and joints that belong together: from a folder, and which of many are worth keeping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import yaml

from wm_bridge.calibration.board import Board, CalibrationError, Seen
from wm_bridge.calibration.intrinsics import coverage
from wm_bridge.calibration.poses import board_pose
from wm_bridge.cameras.base import CameraInfo
from wm_bridge.core.kinematics import Kinematics, RobotDescription
from wm_bridge.core.types import FloatArray, ImageArray

JOINTS = "joints.yaml"  # picture -> joint -> rad
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_NEW = 0.04  # of the picture's width: corners that moved by less are the same view again
_WANTED = 15


@dataclass(frozen=True)
class Shot:
    """One picture, and the joints (rad, by name) where they are known."""

    name: str
    picture: ImageArray
    joints: Mapping[str, float] = field(default_factory=dict)


def read_folder(folder: Path, joints: bool) -> list[Shot]:
    """Pictures of a folder, in the order of their names; with ``joints`` those that its joints.yaml names.

    Raises:
        CalibrationError: no such folder, no pictures, or joints that cannot be read.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in _PICTURES) if folder.is_dir() else []
    if not files:
        raise CalibrationError(f"{folder} holds no pictures ({', '.join(_PICTURES)})", "name a folder of pictures; --live takes them", 2)
    known: dict[str, dict[str, float]] = {}
    if joints:
        try:
            content = yaml.safe_load((folder / JOINTS).read_text(encoding="utf-8"))
            known = {str(name): {str(joint): float(angle) for joint, angle in values.items()} for name, values in content.items()}
        except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
            raise CalibrationError(
                f"{folder / JOINTS} does not tell the joints of the pictures: {error}", "it has a line per picture: a.png: {r_elbow_y: -0.8, ...}, rad", 2
            ) from error
        files = [path for path in files if path.name in known]
        if not files:
            raise CalibrationError(f"{folder / JOINTS} names none of the pictures", "its keys are the names of the pictures", 2)
    shots = []
    for path in files:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise CalibrationError(f"{path} cannot be read as a picture", "remove it", 2)
        shots.append(Shot(path.name, np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8), known.get(path.name, {})))
    return shots


def write_folder(folder: Path, shots: Sequence[Shot]) -> None:
    """Keep shots for ``read_folder``, so that they can be calibrated from again."""
    folder.mkdir(parents=True, exist_ok=True)
    for shot in shots:
        cv2.imwrite(str(folder / shot.name), cv2.cvtColor(shot.picture, cv2.COLOR_RGB2BGR))
    if any(shot.joints for shot in shots):
        text = yaml.safe_dump({shot.name: {name: round(angle, 6) for name, angle in shot.joints.items()} for shot in shots}, width=1000, default_flow_style=None)
        (folder / JOINTS).write_text(text, encoding="utf-8")


def is_new(seen: Seen, kept: Sequence[Seen], share: float = _NEW) -> bool:
    """True when the board is at another place or angle than in every kept view: corners moved by ``share`` of the width."""
    for other in kept:
        shared, mine, theirs = np.intersect1d(seen.ids, other.ids, return_indices=True)
        if len(shared) and np.linalg.norm(seen.corners[mine] - other.corners[theirs], axis=1).max() < share * seen.size[0]:
            return False
    return True


def link_poses(spec: RobotDescription, shots: Sequence[Shot], home: FloatArray, camera_link: str, board_link: str) -> list[FloatArray]:
    """(4, 4) ``T_board_link_camera_link`` of each shot.

    Args:
        home: (J,) rad of joints that a shot does not name; those between the two links must be named.

    Raises:
        CalibrationError: unknown links or joints, joints that are missing or not finite.
    """
    kinematics = Kinematics(spec)
    if camera_link == board_link:
        raise CalibrationError(f"camera and board are both on {camera_link}", "one of --camera-on and --board-on moves against the other", 2)
    found = []
    for shot in shots:
        unknown = sorted(set(shot.joints) - set(spec.joint_names))
        if unknown:
            raise CalibrationError(f"{shot.name}: the robot has no joints {', '.join(unknown)}", "name the robot that the pictures are of: --robot", 2)
        q = np.array([shot.joints.get(name, home[k]) for k, name in enumerate(spec.joint_names)])
        if not np.isfinite(q).all():
            raise CalibrationError(f"{shot.name}: joints that are not finite", "leave this picture out of joints.yaml", 2)
        try:
            camera, board = kinematics.forward(q, camera_link), kinematics.forward(q, board_link)
        except ValueError as error:
            raise CalibrationError(str(error), "name links of the robot's URDF: --camera-on, --board-on", 2) from error
        missing = [
            name for k, name in enumerate(spec.joint_names)
            if name not in shot.joints and _matters(kinematics, q, k, camera_link, board_link)
        ]  # fmt: skip
        if missing:
            raise CalibrationError(f"{shot.name}: joints {', '.join(missing)} between {camera_link} and {board_link} are not told", "record all joints", 2)
        found.append(np.linalg.inv(board) @ camera)
    return found


def _matters(kinematics: Kinematics, q: FloatArray, joint: int, one: str, other: str) -> bool:
    """True when a joint moves one link against the other."""
    moved = q.copy()
    moved[joint] += 0.1
    before, after = (np.linalg.inv(kinematics.forward(x, one)) @ kinematics.forward(x, other) for x in (q, moved))
    return not np.allclose(before, after, atol=1e-9)


def advice(seen: Sequence[Seen], board: Board, info: CameraInfo | None, turned: bool) -> str:
    """What the next view should be like, in a few words; "" when there are enough.

    Args:
        info: intrinsics, when known. turned: what counts is how the board turns (hand-eye), not how it fills the picture.
    """
    if not seen:
        return "show the board"
    if len(seen) >= _WANTED and (turned or coverage(seen) > 0.7):
        return ""
    if turned and info is not None and len(seen) >= 3:
        tilts = np.array([board_pose(info, board, one)[0][:3, :3] for one in seen])
        names = ("up or down", "to the left or right", "about the line of sight")
        spread = [float(np.ptp(np.degrees(angle))) for angle in (tilts[:, 1, 2], tilts[:, 0, 2], np.arctan2(tilts[:, 1, 0], tilts[:, 0, 0]))]
        return f"tilt or turn it more {names[int(np.argmin(spread))]}"
    corners = np.vstack([one.corners / one.size for one in seen])
    cells = np.histogram2d(corners[:, 1], corners[:, 0], bins=3, range=[[0, 1], [0, 1]])[0]
    middles = np.stack(np.meshgrid((np.arange(3) + 0.5) / 3, (np.arange(3) + 0.5) / 3, indexing="ij"), axis=-1)[..., ::-1]
    away = np.linalg.norm(middles - corners.mean(axis=0), axis=2)  # of the emptiest parts the one furthest from what was seen
    row, column = np.unravel_index(int((away - 10.0 * cells).argmax()), (3, 3))
    place = f"{('top', 'middle', 'bottom')[row]} {('left', 'centre', 'right')[column]}"
    return f"show it at the {place} of the picture, tilted"
