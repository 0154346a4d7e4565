"""Transforms of every link from the robot description and the joint positions."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import TransformStamped

from wm_bridge.core.types import FloatArray
from wm_bridge.ros.convert import quaternion, to_transform_parts


@dataclass(frozen=True)
class _Link:
    parent: str
    child: str
    joint: str
    xyz: FloatArray
    xyzw: FloatArray
    axis: FloatArray


class LinkFrames:
    """The joints of a URDF as transforms: parent link to child link.

    Args:
        urdf: text of the description; revolute, continuous and fixed joints.
    """

    def __init__(self, urdf: str) -> None:
        joints = [_read(element) for element in ElementTree.fromstring(urdf).findall("joint")]
        self._moving = [link for kind, link in joints if kind in ("revolute", "continuous")]
        self._origins = np.array([link.xyzw for link in self._moving])
        self._axes = np.array([link.axis for link in self._moving])
        self._fixed = [link for kind, link in joints if kind == "fixed"]
        others = {kind for kind, _ in joints} - {"revolute", "continuous", "fixed"}
        if others:
            raise ValueError(f"joint types {sorted(others)} have no transform here")

    def fixed(self, stamp_ns: int) -> list[TransformStamped]:
        """Transforms that never change, for ``/tf_static``."""
        return [
            to_transform_parts(link.parent, link.child, link.xyz, link.xyzw, stamp_ns)
            for link in self._fixed
        ]

    def moving(self, names: tuple[str, ...], q: FloatArray, stamp_ns: int) -> list[TransformStamped]:
        """Transforms of the moving joints, for ``/tf``; joints not named stand at 0.

        Args:
            names: (J,) joint names. q: (J,) rad.
        """
        places = dict(zip(names, q, strict=True))
        half = np.array([float(places.get(link.joint, 0.0)) for link in self._moving]) / 2.0
        turns = np.hstack([np.sin(half)[:, None] * self._axes, np.cos(half)[:, None]])
        return [
            to_transform_parts(link.parent, link.child, link.xyz, xyzw, stamp_ns)
            for link, xyzw in zip(self._moving, multiply(self._origins, turns), strict=True)
        ]


def multiply(a: FloatArray, b: FloatArray) -> FloatArray:
    """Hamilton products of (N, 4) quaternions x, y, z, w."""
    (ax, ay, az, aw), (bx, by, bz, bw) = a.T, b.T
    return np.stack(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ],
        axis=1,
    )


def rotation_rpy(roll: float, pitch: float, yaw: float) -> FloatArray:
    """(3, 3) rotation of URDF's fixed-axis roll, pitch, yaw: ``Rz(yaw) Ry(pitch) Rx(roll)``."""
    (sr, cr), (sp, cp), (sy, cy) = ((np.sin(a), np.cos(a)) for a in (roll, pitch, yaw))
    x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return np.asarray(z @ y @ x)


def _read(element: ElementTree.Element) -> tuple[str, _Link]:
    def numbers(tag: str, name: str, default: str) -> FloatArray:
        found = element.find(tag)
        text = default if found is None else found.get(name, default)
        return np.array([float(part) for part in text.split()])

    axis = numbers("axis", "xyz", "1 0 0")
    link = _Link(
        parent=element.find("parent").get("link", ""),  # type: ignore[union-attr]
        child=element.find("child").get("link", ""),  # type: ignore[union-attr]
        joint=element.get("name", ""),
        xyz=numbers("origin", "xyz", "0 0 0"),
        xyzw=quaternion(rotation_rpy(*numbers("origin", "rpy", "0 0 0"))),
        axis=axis / np.linalg.norm(axis),
    )
    return element.get("type", ""), link
