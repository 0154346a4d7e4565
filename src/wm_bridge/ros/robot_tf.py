"""Transforms of every link from the robot description and the joint positions."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import TransformStamped
from transforms3d.euler import euler2mat

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
        prefix: before the name of every frame.
    """

    def __init__(self, urdf: str, prefix: str = "") -> None:
        joints = [_read(element, prefix) for element in ElementTree.fromstring(urdf).findall("joint")]
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


def _read(element: ElementTree.Element, prefix: str) -> tuple[str, _Link]:
    def numbers(tag: str, name: str, default: str) -> FloatArray:
        found = element.find(tag)
        text = default if found is None else found.get(name, default)
        return np.array([float(part) for part in text.split()])

    axis = numbers("axis", "xyz", "1 0 0")
    link = _Link(
        parent=prefix + element.find("parent").get("link", ""),  # type: ignore[union-attr]
        child=prefix + element.find("child").get("link", ""),  # type: ignore[union-attr]
        joint=element.get("name", ""),
        xyz=numbers("origin", "xyz", "0 0 0"),
        xyzw=quaternion(euler2mat(*numbers("origin", "rpy", "0 0 0"), axes="sxyz")),  # URDF: fixed axes
        axis=axis / np.linalg.norm(axis),
    )
    return element.get("type", ""), link
