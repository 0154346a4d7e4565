"""Markers for RViz: chosen path, elite fan coloured by energy, goal, safety state.

A late joiner gets the last array of a latched topic, so every array names all its markers, with fixed namespaces
and ids: what is not there any more is sent as DELETE, nothing stays behind and nothing flickers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from wm_bridge.core.shades import MODE_COLOURS, shades
from wm_bridge.core.types import FloatArray
from wm_bridge.ros.convert import to_time


Corners = tuple[FloatArray, FloatArray]  # lower and upper (3,), base frame, m


@dataclass(frozen=True)
class Zones:
    """What is drawn of the surroundings.

    Attributes:
        workspaces: where tools may be sent. kept_clear: boxes that the robot stays away from, the table.
        limits: no part of the robot leaves it; None = distances are not kept.
    """

    workspaces: tuple[Corners, ...]
    kept_clear: tuple[Corners, ...] = ()
    limits: Corners | None = None


def plan_markers(
    hands: FloatArray | None,
    energies: FloatArray | None,
    goal: FloatArray | None,
    text: str,
    stamp_ns: int,
    frame_id: str,
) -> MarkerArray:
    """What the planner imagines.

    Args:
        hands: (P, H, 3) hand paths, base frame, m; the first is the chosen one. None = no plan.
        energies: (P,) of each path.
        goal: (3,) decoded hand position of the goal picture; None = no goal.
        text: shown above the goal.
    """
    fan = _marker("elites", Marker.LINE_LIST, stamp_ns, frame_id, 0.002)
    path = _marker("path", Marker.LINE_STRIP, stamp_ns, frame_id, 0.006)
    target = _marker("goal", Marker.SPHERE, stamp_ns, frame_id, 0.03)
    label = _marker("energy", Marker.TEXT_VIEW_FACING, stamp_ns, frame_id, 0.03)
    if hands is None or energies is None or not np.isfinite(hands).all():
        fan.action = path.action = Marker.DELETE
    else:
        path.points = [_point(place) for place in hands[0]]
        path.color = _colour(0.1, 0.9, 0.2)
        for hand, shade in zip(hands[1:], _shades(energies[1:]), strict=True):
            for start, end in zip(hand[:-1], hand[1:], strict=True):
                fan.points += [_point(start), _point(end)]
                fan.colors += [shade, shade]
        if not fan.points:
            fan.action = Marker.DELETE
    if goal is None or not np.isfinite(goal).all():
        target.action = label.action = Marker.DELETE
    else:
        target.pose.position = _point(goal)
        target.color = _colour(1.0, 0.75, 0.1, 0.8)
        label.pose.position = _point(goal + np.array([0.0, 0.0, 0.06]))
        label.color, label.text = _colour(1.0, 1.0, 1.0), text
    return MarkerArray(markers=[fan, path, target, label])


def landscape_markers(hands: FloatArray, energies: FloatArray, stamp_ns: int, frame_id: str) -> MarkerArray:
    """What moves around the present frame would cost: a cube where each leads, and a ball at the cheapest.

    Args:
        hands: (N, 3) m, base frame. energies: (N,).
    """
    cubes = _marker("landscape", Marker.CUBE_LIST, stamp_ns, frame_id, 0.006)
    least = _marker("landscape_least", Marker.SPHERE, stamp_ns, frame_id, 0.014)
    good = np.isfinite(hands).all(axis=1) & np.isfinite(energies)
    if not good.any():
        cubes.action = least.action = Marker.DELETE
        return MarkerArray(markers=[cubes, least])
    cubes.points, cubes.colors = [_point(place) for place in hands[good]], _shades(energies[good])
    least.pose.position = _point(hands[good][np.argmin(energies[good])])
    least.color = _colour(0.1, 0.9, 0.2)
    return MarkerArray(markers=[cubes, least])


@dataclass(frozen=True)
class Rejected:
    """What the safety node did not let happen, base frame, m.

    Attributes:
        begin: (3,) where the tool is brought instead. end: (3,) where it was to go.
        mode: name of the SafetyMode. text: why.
    """

    begin: FloatArray
    end: FloatArray
    mode: str
    text: str


def safety_markers(zones: Zones, mode: str, detail: str, rejected: Rejected | None, stamp_ns: int, frame_id: str) -> MarkerArray:
    """Workspaces as wire frames, what is kept clear of, the safety state in words, and an arrow along what was rejected.

    Args:
        zones: what stays as it is. mode: name of the SafetyMode. detail: why. rejected: None = nothing, lately.
    """
    colour = _colour(*MODE_COLOURS.get(mode, (1.0, 1.0, 1.0)))
    markers = []
    for index, (lower, upper) in enumerate(zones.workspaces):
        box = _marker("workspace", Marker.LINE_LIST, stamp_ns, frame_id, 0.003, index)
        box.points, box.color = _edges(lower, upper), _colour(colour.r, colour.g, colour.b, 0.5)
        markers.append(box)
    for index, (lower, upper) in enumerate(zones.kept_clear):
        solid = _marker("keep_out", Marker.CUBE, stamp_ns, frame_id, 1.0, index)
        solid.pose.position, size = _point((lower + upper) / 2), upper - lower
        solid.scale.x, solid.scale.y, solid.scale.z = (float(edge) for edge in size)
        solid.color = _colour(0.95, 0.35, 0.15, 0.25)
        markers.append(solid)
    if zones.limits is not None:
        limits = _marker("limits", Marker.LINE_LIST, stamp_ns, frame_id, 0.002)
        limits.points, limits.color = _edges(*zones.limits), _colour(0.95, 0.35, 0.15, 0.5)
        markers.append(limits)
    label = _marker("state", Marker.TEXT_VIEW_FACING, stamp_ns, frame_id, 0.04)
    label.pose.position = Point(x=0.0, y=0.0, z=1.3)
    label.text = f"{mode} {detail}".strip()
    label.color = colour
    return MarkerArray(markers=[*markers, label, *_rejected(rejected, stamp_ns, frame_id)])


def _rejected(rejected: Rejected | None, stamp_ns: int, frame_id: str) -> list[Marker]:
    arrow = _marker("rejected", Marker.ARROW, stamp_ns, frame_id, 0.0)
    why = _marker("rejected_why", Marker.TEXT_VIEW_FACING, stamp_ns, frame_id, 0.025)
    if rejected is None:
        arrow.action = why.action = Marker.DELETE
        return [arrow, why]
    arrow.scale.x, arrow.scale.y, arrow.scale.z = 0.008, 0.02, 0.03  # shaft, head, length of the head
    arrow.points = [_point(rejected.begin), _point(rejected.end)]
    arrow.color = why.color = _colour(*MODE_COLOURS.get(rejected.mode, (1.0, 1.0, 1.0)))
    why.pose.position, why.text = _point(rejected.end + np.array([0.0, 0.0, 0.04])), rejected.text
    return [arrow, why]


def _marker(
    namespace: str, kind: int, stamp_ns: int, frame_id: str, size: float, index: int = 0
) -> Marker:
    marker = Marker(ns=namespace, id=index, type=kind, action=Marker.ADD, lifetime=Duration())
    marker.header.stamp = to_time(stamp_ns)
    marker.header.frame_id = frame_id
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = size
    return marker


def _point(place: FloatArray) -> Point:
    return Point(x=float(place[0]), y=float(place[1]), z=float(place[2]))


def _colour(red: float, green: float, blue: float, alpha: float = 1.0) -> ColorRGBA:
    return ColorRGBA(r=float(red), g=float(green), b=float(blue), a=float(alpha))


def _shades(energies: FloatArray) -> list[ColorRGBA]:
    return [_colour(*shade) for shade in shades(energies)]


def _edges(lower: FloatArray, upper: FloatArray) -> list[Point]:
    corners = np.array([lower, upper])
    points = []
    for axis in range(3):
        a, b = [other for other in range(3) if other != axis]
        for i, j in np.ndindex(2, 2):
            for end in (0, 1):
                place = np.empty(3)
                place[axis], place[a], place[b] = corners[end, axis], corners[i, a], corners[j, b]
                points.append(_point(place))
    return points
