"""Obstacles as ROS sees them: from the service's shape and pose, and to markers for RViz."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import PoseStamped
from shape_msgs.msg import SolidPrimitive
from visualization_msgs.msg import Marker, MarkerArray

from wm_bridge.core.types import FloatArray
from wm_bridge.ros.convert import to_time
from wm_bridge.safety.obstacles import Obstacle

_COLOUR = (0.95, 0.35, 0.15, 0.6)
_DIMENSIONS = {SolidPrimitive.BOX: 3, SolidPrimitive.SPHERE: 1, SolidPrimitive.CYLINDER: 2}


def from_request(
    name: str, shape: SolidPrimitive, pose: PoseStamped, speed_bound_m_s: float, base_frame: str
) -> Obstacle:
    """Request of AddObstacle to an obstacle; a cylinder becomes the capsule with its axis.

    Raises:
        ValueError: another frame, another shape, or sizes that make no sense.
    """
    frame = pose.header.frame_id
    if frame not in ("", base_frame):
        raise ValueError(f"pose is in frame '{frame}'; give it in '{base_frame}'")
    if shape.type not in _DIMENSIONS:
        raise ValueError(f"shape type {shape.type} is none of BOX (1), SPHERE (2), CYLINDER (3)")
    sizes = tuple(float(value) for value in shape.dimensions)
    if len(sizes) != _DIMENSIONS[shape.type]:
        raise ValueError(f"shape type {shape.type} has {_DIMENSIONS[shape.type]} dimensions, got {len(sizes)}")
    kind = {SolidPrimitive.BOX: "box", SolidPrimitive.SPHERE: "sphere", SolidPrimitive.CYLINDER: "capsule"}[shape.type]
    if kind == "capsule":
        sizes = (sizes[SolidPrimitive.CYLINDER_RADIUS], sizes[SolidPrimitive.CYLINDER_HEIGHT])
    place, turn = pose.pose.position, pose.pose.orientation
    return Obstacle(
        name,
        kind,
        sizes,
        np.array([place.x, place.y, place.z]),
        np.array([turn.x, turn.y, turn.z, turn.w]),
        float(speed_bound_m_s),
    )


def obstacle_markers(obstacles: Sequence[Obstacle], gone: Sequence[str], stamp_ns: int, frame_id: str) -> MarkerArray:
    """One marker per part of each obstacle (a capsule is a cylinder and two balls).

    Args:
        gone: names that were there before: their markers are deleted.
    """
    markers = [part for obstacle in obstacles for part in _parts(obstacle)]
    markers += [_marker(name, number, Marker.CUBE, Marker.DELETE) for name in gone for number in range(3)]
    for marker in markers:
        marker.header.stamp = to_time(stamp_ns)
        marker.header.frame_id = frame_id
    return MarkerArray(markers=markers)


def _parts(obstacle: Obstacle) -> list[Marker]:
    size, R = obstacle.size, obstacle.rotation()
    if obstacle.shape == "box":
        return [_solid(obstacle, 0, Marker.CUBE, size, np.zeros(3))]
    if obstacle.shape == "sphere":
        return [_solid(obstacle, 0, Marker.SPHERE, (2 * size[0],) * 3, np.zeros(3))]
    radius, length = size
    ends = R @ np.array([0.0, 0.0, length / 2])
    ball = (2 * radius,) * 3
    return [
        _solid(obstacle, 0, Marker.CYLINDER, (2 * radius, 2 * radius, length), np.zeros(3)),
        _solid(obstacle, 1, Marker.SPHERE, ball, ends),
        _solid(obstacle, 2, Marker.SPHERE, ball, -ends),
    ]


def _solid(obstacle: Obstacle, number: int, kind: int, size: tuple[float, ...], shift: FloatArray) -> Marker:
    marker = _marker(obstacle.name, number, kind, Marker.ADD)
    pose = marker.pose
    pose.position.x, pose.position.y, pose.position.z = (float(x) for x in obstacle.position + shift)
    turn = pose.orientation
    turn.x, turn.y, turn.z, turn.w = (float(x) for x in obstacle.orientation)
    marker.scale.x, marker.scale.y, marker.scale.z = (float(x) for x in size)
    marker.color.r, marker.color.g, marker.color.b, marker.color.a = _COLOUR
    return marker


def _marker(name: str, number: int, kind: int, action: int) -> Marker:
    return Marker(ns=f"obstacle/{name}", id=number, type=kind, action=action)
