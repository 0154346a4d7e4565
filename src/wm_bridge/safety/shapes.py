"""The robot's collision shapes, from the URDF: points and capsules that cover them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import coal
import numpy as np
import pinocchio
from numpy.typing import NDArray

from wm_bridge.core.joints import JointTable
from wm_bridge.core.kinematics import RobotDescription
from wm_bridge.core.types import FloatArray
from wm_bridge.safety.chain import Chain

POINTS = 8


@dataclass(frozen=True, slots=True)
class RobotShapes:
    """S shapes, each fixed to a joint frame, covered in two ways.

    Attributes:
        chain: joint frames.
        names: of the links they belong to.
        joint: (S,) joint frame they hang on.
        points: (S, 8, 3) m; the hull of the points, grown by ``radius``, covers the shape.
            A box is its corners (exact), in the order of counting in twos; a cylinder is a
            capsule around it, its corners fall together.
        radius: (S,) m.
        ends: (S, 2, 3) m, with ``thickness`` (S,) m: a capsule that covers the shape.
        lever: (S, J) m; a turn of joint j by 1 rad moves no point of the shape further.
    """

    chain: Chain
    names: tuple[str, ...]
    joint: NDArray[np.intp]
    points: FloatArray
    radius: FloatArray
    ends: FloatArray
    thickness: FloatArray
    lever: FloatArray

    @classmethod
    def from_spec(cls, spec: RobotDescription) -> RobotShapes:
        """Read the collision shapes of the robot's URDF.

        Raises:
            ValueError: a shape that is no box, cylinder or sphere, that cannot be read, or none at all.
        """
        chain = Chain(spec)
        model = collision_geometry(chain.model, spec.urdf_path().read_text(encoding="utf-8"), spec.urdf_path().name)
        names, joint, points, radius, ends, thickness = [], [], [], [], [], []
        for item in model.geometryObjects:
            name = chain.model.frames[item.parentFrame].name
            corners, r, segment, t = cover(item.geometry, name)
            T = np.array(item.placement.homogeneous)
            names.append(name)
            joint.append(int(item.parentJoint))
            points.append(corners @ T[:3, :3].T + T[:3, 3])
            radius.append(r)
            ends.append(segment @ T[:3, :3].T + T[:3, 3])
            thickness.append(t)
        if not names:
            raise ValueError(f"{spec.urdf_path().name} has no collision shapes; add some")
        lever = _levers(chain, joint, np.array(ends), np.array(thickness))
        return cls(
            chain, tuple(names), np.array(joint), np.array(points), np.array(radius),
            np.array(ends), np.array(thickness), lever,
        )  # fmt: skip


    def covers(self) -> FloatArray:
        """(S, 4, 6) homogeneous columns: centre and three half edges of the hull, ends of the capsule."""
        corners = self.points
        out = np.zeros((len(corners), 4, 6))
        out[:, :3, 0] = (corners[:, 0] + corners[:, 7]) * 0.5
        for column, corner in ((1, 4), (2, 2), (3, 1)):
            out[:, :3, column] = (corners[:, corner] - corners[:, 0]) * 0.5
        out[:, :3, 4:] = np.swapaxes(self.ends, 1, 2)
        out[:, 3, [0, 4, 5]] = 1.0
        return out


def described(spec: JointTable) -> RobotShapes | None:
    """Shapes of a robot that has a URDF, whose limits must hold those of the spec; None without."""
    if not isinstance(spec, RobotDescription):
        return None
    shapes = RobotShapes.from_spec(spec)
    lower, upper, velocity = shapes.chain.limits()
    loose = (spec.lower < lower - 1e-6) | (spec.upper > upper + 1e-6) | (spec.velocity > velocity + 1e-6)
    if loose.any():
        names = [name for name, flag in zip(spec.joint_names, loose, strict=True) if flag]
        raise ValueError(f"limits of {names} are wider than in {spec.urdf_path().name}; narrow config/robots")
    return shapes


def collision_geometry(model: pinocchio.Model, urdf: str, name: str) -> pinocchio.GeometryModel:
    """All collision shapes of a URDF, given as text.

    Raises:
        ValueError: some were left out; the parser passes over a link in which anything is malformed, its inertia for one.
    """
    geometry = pinocchio.buildGeomFromUrdfString(model, urdf, pinocchio.GeometryType.COLLISION)
    written, read = len(ElementTree.fromstring(urdf).findall("link/collision")), len(geometry.geometryObjects)
    if read != written:
        raise ValueError(f"{name} has {written} collision shapes, {read} of them can be read; mend what the URDF parser names above")
    return geometry


def cover(shape: object, name: str) -> tuple[FloatArray, float, FloatArray, float]:
    """Points (8, 3) and their radius, segment (2, 3) and its radius, in the shape's frame."""
    if isinstance(shape, coal.Sphere):
        return np.zeros((POINTS, 3)), float(shape.radius), np.zeros((2, 3)), float(shape.radius)
    if isinstance(shape, (coal.Cylinder, coal.Capsule)):
        segment = np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]]) * float(shape.halfLength)
        r = float(shape.radius)
        return np.tile(segment, (POINTS // 2, 1)), r, segment, r
    if isinstance(shape, coal.Box):
        half = np.array(shape.halfSide)
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        longest = int(np.argmax(half))
        segment = np.zeros((2, 3))
        segment[:, longest] = [-half[longest], half[longest]]
        return signs * half, 0.0, segment, float(np.linalg.norm(np.delete(half, longest)))
    raise ValueError(f"{name}: {type(shape).__name__}; collision shapes must be boxes, cylinders or spheres")


def _levers(chain: Chain, joint: list[int], ends: FloatArray, thickness: FloatArray) -> FloatArray:
    lever = np.zeros((len(joint), len(chain.parents) - 1))
    for s, carrier in enumerate(joint):
        reach = float(np.linalg.norm(ends[s], axis=1).max() + thickness[s])
        for i in chain.carriers(carrier):
            lever[s, chain.column[i]] = reach
            reach += float(np.linalg.norm(np.array(chain.model.jointPlacements[i].translation)))
    return lever
