"""Distances of pairs along a path, and the path of a brake, in plain loops that numba compiles.

In arrays a look along a brake is a hundred numpy calls on a handful of numbers, a microsecond each. The same
arithmetic in arrays is `tests/plain_distances.py`; the tests hold both together, and both to coal.

A gap is signed: distance when apart, below zero when not. Each gap is a largest separation n . (x - y) over some
normals n. With n held fixed, that separation is a minimum over corner points of nearly linear functions of a short
motion, so on the way from one posture to the next it stays above the smaller of its two ends, less the curvature of
the points' ways (at most an eighth of the longest lever times the turn squared) and how far the path leaves the chord. The hull of eight corners c +- e1 +- e2 +- e3
reaches n . c +- sum_k |n . e_k| along a normal n: no corner has to be looked at. A number that is not finite
never turns into a large distance: NaN stays NaN.

Every function that Python calls has its types written down and is compiled when this module is imported, or loaded
from the cache (`./wm` fills it); a call with other types is refused. No tick ever compiles. All of it stands in one file,
because numba's cache looks at this file only. No `fastmath`: the bits are those of the operations as written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import types
from numpy.typing import NDArray

from wm_bridge.core.jit import compiled
from wm_bridge.core.jit import part as _part
from wm_bridge.core.types import FloatArray

Index = NDArray[np.intp]
F = TypeVar("F", bound=Callable[..., Any])

_TINY = 1e-12
_MISFIT = "arrays of the compiled distances do not fit each other"


class Tables(NamedTuple):
    """All that does not change while the things around stay the same.

    N joint frames (0: the root), J joints, S shapes and things, P pairs: C capsules, then H hulls, of which the first
    ``boxes`` are held out of boxes and the rest inside of the workspace.

    Attributes:
        parents, column: (N,) parent frame; place in joint arrays.
        parts: (3, N, 4, 4) fixed, sine and 1 - cosine part of each frame in its parent's; fixed[0] is T_base_root.
        axes: (N, 3) of rotation, in the frame.
        carrier: (S,) frame that a shape hangs on; 0 for things that stand.
        covers: (S, 4, 6) homogeneous columns: centre, three half edges of the hull; ends of the capsule.
        shape, other: (P,), (C,) the shape of a pair, and the capsule it is held away from.
        thickness: (P,) m around the axes of the capsules or around the hull.
        T_box_base: (H, 3, 4). half: (H, 3) half edges, m. lever: (P, J) m/rad.
    """

    parents: Index
    column: Index
    parts: FloatArray
    axes: FloatArray
    carrier: Index
    covers: FloatArray
    shape: Index
    other: Index
    thickness: FloatArray
    T_box_base: FloatArray
    half: FloatArray
    lever: FloatArray
    boxes: int


_REALS, _ROWS, _COUNTS = types.float64[::1], types.float64[:, ::1], types.intp[::1]
_TABLES = types.Tuple(  # type: ignore[no-untyped-call]
    [
        _COUNTS, _COUNTS, types.float64[:, :, :, ::1], _ROWS, _COUNTS, types.float64[:, :, ::1],
        _COUNTS, _COUNTS, _REALS, types.float64[:, :, ::1], _ROWS, _ROWS, types.intp,
    ]
)  # fmt: skip


def _compiled(*arguments: Any) -> Callable[[F], F]:
    """Compile for these types now, or take what the cache has."""
    return compiled(_ROWS(*arguments))


# ---- small things ------------------------------------------------------------------------------


@_part
def _lower(a: float, b: float) -> float:
    return a if a != a or b >= a else b


@_part
def _higher(a: float, b: float) -> float:
    return a if a != a or b <= a else b


@_part
def _unit(x: float) -> float:
    return 0.0 if x < 0.0 else 1.0 if x > 1.0 else x


@_part
def _dot(a: FloatArray, b: FloatArray) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]  # type: ignore[no-any-return]


# ---- one posture -------------------------------------------------------------------------------


@_part
def _place_frames(tables: Tables, q: FloatArray, frames: FloatArray) -> None:
    """(N, 3, 4) upper rows of ``T_base_joint`` at (J,) rad, as `chain.Chain.frames`."""
    fixed, across, along = tables.parts[0], tables.parts[1], tables.parts[2]
    frames[0] = fixed[0, :3]
    for j in range(1, len(frames)):
        angle = q[tables.column[j]]
        sine, lack = math.sin(angle), 1.0 - math.cos(angle)
        carrier, here = frames[tables.parents[j]], frames[j]
        for c in range(4):
            x = fixed[j, 0, c] + sine * across[j, 0, c] + lack * along[j, 0, c]
            y = fixed[j, 1, c] + sine * across[j, 1, c] + lack * along[j, 1, c]
            z = fixed[j, 2, c] + sine * across[j, 2, c] + lack * along[j, 2, c]
            for row in range(3):
                moved = carrier[row, 3] if c == 3 else 0.0
                here[row, c] = moved + carrier[row, 0] * x + carrier[row, 1] * y + carrier[row, 2] * z


@_part
def _place_covers(tables: Tables, frames: FloatArray, covers: FloatArray) -> None:
    """(S, 6, 3) centre and three half edges of each hull, two ends of each capsule; base frame, m."""
    for s in range(len(covers)):
        T, cover = frames[tables.carrier[s]], tables.covers[s]
        for c in range(covers.shape[1]):
            for row in range(3):
                at = T[row, 0] * cover[0, c] + T[row, 1] * cover[1, c] + T[row, 2] * cover[2, c]
                covers[s, c, row] = at + T[row, 3] * cover[3, c]


@_part
def _capsule_gap(
    tables: Tables, covers: FloatArray, pair: int, axes: FloatArray, normal: FloatArray
) -> tuple[float, float, float]:
    """Distance (m) of a pair of capsules, and the shares of their axes at the nearest points.

    Args:
        axes: (3, 3) is written: the two axes, and the way from the begin of the second to that of the first, m.
        normal: (3,) is written: from the other one to the shape.
    """
    mine, other = covers[tables.shape[pair]], covers[tables.other[pair]]
    for k in range(3):
        axes[0, k] = mine[5, k] - mine[4, k]
        axes[1, k] = other[5, k] - other[4, k]
        axes[2, k] = mine[4, k] - other[4, k]
    d, e, r = axes[0], axes[1], axes[2]
    # Ericson, Real-Time Collision Detection, 5.1.9
    aa, bb, ab, ar, br = _dot(d, d), _dot(e, e), _dot(d, e), _dot(d, r), _dot(e, r)
    s = _unit((ab * br - ar * bb) / _higher(aa * bb - ab * ab, _TINY))
    t = _unit((ab * s + br) / _higher(bb, _TINY))
    s = _unit((ab * t - ar) / _higher(aa, _TINY))
    for k in range(3):
        normal[k] = r[k] + s * d[k] - t * e[k]
    length = math.sqrt(_dot(normal, normal))
    scale = 1.0 / _higher(length, _TINY)
    for k in range(3):
        normal[k] *= scale
    return length - tables.thickness[pair], s, t


@_part
def _hull_gap(tables: Tables, covers: FloatArray, pair: int, height: FloatArray) -> tuple[float, int]:
    """Distance (m) of a hull from a box, or room inside of the workspace, and the face that decides.

    Args:
        height: (6,) is written: m over the planes of the faces; normals along the axes, then against them.
    """
    hull_of = pair - len(tables.other)
    hull, T, half = covers[tables.shape[pair]], tables.T_box_base[hull_of], tables.half[hull_of]
    outside = hull_of < tables.boxes
    for row in range(3):
        centre = _dot(T[row], hull[0]) + T[row, 3]
        reach = abs(_dot(T[row], hull[1])) + abs(_dot(T[row], hull[2])) + abs(_dot(T[row], hull[3]))
        plane = -half[row] if outside else half[row]
        height[row], height[row + 3] = centre - reach + plane, -centre - reach + plane
    best, face = height[0], 0
    for f in range(1, 6):
        found = _higher(best, height[f]) if outside else _lower(best, height[f])
        if found != best:
            face = f
        best = found
    return best - tables.thickness[pair], face


@_part
def _apart(normal: FloatArray, axes: FloatArray, thickness: float) -> float:
    """Separation of two capsules along a normal, m."""
    over = _dot(normal, axes[2]) + _lower(_dot(normal, axes[0]), 0.0)
    return over - _higher(_dot(normal, axes[1]), 0.0) - thickness


# ---- along a path ------------------------------------------------------------------------------


@_part
def _measure_chords(path: FloatArray, taken: Index, turn: FloatArray, off: FloatArray) -> None:
    """(T-1, J) rad: way of each joint between taken rows, and how far the rows between leave the chord."""
    for k in range(len(turn)):
        first, last = taken[k], taken[k + 1]
        for j in range(path.shape[1]):
            begin, end, most = path[first, j], path[last, j], 0.0
            for i in range(first, last):
                share = (i - first) / (last - first)
                most = _higher(most, abs(path[i, j] - (begin + share * (end - begin))))
            turn[k, j], off[k, j] = abs(end - begin), most


@_part
def _known(tables: Tables, pairs: Index) -> bool:
    for pair in pairs:
        if pair < 0 or pair >= len(tables.shape):
            return False
    return True


@_compiled(_TABLES, _ROWS, _COUNTS, _COUNTS)
def along(arrays: tuple[Any, ...], path: FloatArray, taken: Index, pairs: Index) -> FloatArray:
    """Distances at the first two rows that are taken, and a lower bound from there to the last.

    Args:
        arrays: `Tables` as a plain tuple; Python hands a named one over in three times the time.
        path: (N, J) rad, straight between its rows. taken: (T,) ascending, T >= 2. pairs: (K,).

    Returns:
        (3, K) m.

    Raises:
        ValueError: a row or pair that does not exist.
    """
    tables = Tables(*arrays)
    count, joints, capsules = len(taken), tables.lever.shape[1], len(tables.other)
    if count < 2 or taken[0] < 0 or taken[-1] >= len(path) or path.shape[1] != joints or not _known(tables, pairs):
        raise ValueError(_MISFIT)
    for k in range(1, count):
        if taken[k] <= taken[k - 1]:
            raise ValueError(_MISFIT)
    frames, covers = np.empty((len(tables.parents), 3, 4)), np.empty((count, len(tables.carrier), 6, 3))
    for k in range(count):
        _place_frames(tables, path[taken[k]], frames)
        _place_covers(tables, frames, covers[k])
    turn, off = np.empty((count - 1, joints)), np.empty((count - 1, joints))
    _measure_chords(path, taken, turn, off)
    distance, height = np.empty(count), np.empty((count, 6))
    axes, normal = np.empty((count, 3, 3)), np.empty((count, 3))
    out = np.empty((3, len(pairs)))
    for place, pair in enumerate(pairs):
        thickness = tables.thickness[pair]
        for k in range(count):
            if pair < capsules:
                distance[k] = _capsule_gap(tables, covers[k], pair, axes[k], normal[k])[0]
            else:
                distance[k] = _hull_gap(tables, covers[k], pair, height[k])[0]
        lowest = np.inf
        for k in range(1, count):
            least = _lower(distance[k - 1], distance[k])
            if pair < capsules:  # along the normal of the posture before, or of the one after
                ahead = _apart(normal[k - 1], axes[k], thickness)
                back = _apart(normal[k], axes[k - 1], thickness)
                least = _higher(_lower(distance[k - 1], ahead), _lower(distance[k], back))
            elif pair - capsules < tables.boxes:
                best = _lower(height[k - 1, 0], height[k, 0])
                for f in range(1, 6):
                    best = _higher(best, _lower(height[k - 1, f], height[k, f]))
                least = best - thickness
            turned = away = longest = 0.0
            for j in range(joints):
                lever = tables.lever[pair, j]
                if lever > 0.0:
                    turned += turn[k - 1, j]
                    away += lever * off[k - 1, j]
                    longest = _higher(longest, lever)
            bound = least - 0.125 * longest * turned * turned - away
            lowest = _lower(lowest, _lower(bound, distance[k]))
        out[0, place], out[1, place], out[2, place] = distance[0], distance[1], lowest
    return out


@_compiled(_TABLES, _ROWS, _COUNTS, _ROWS)
def least_room(arrays: tuple[Any, ...], postures: FloatArray, pairs: Index, margin: FloatArray) -> FloatArray:
    """How far each posture is from the first margin that it would break.

    Args:
        arrays: as of `along`. postures: (N, J) rad. pairs: (K,). margin: (1, K) m.

    Returns:
        (N, 1) m, least distance less margin of the pairs; below zero where a margin is broken.

    Raises:
        ValueError: a pair that does not exist, or another number of joints or margins.
    """
    tables = Tables(*arrays)
    if postures.shape[1] != tables.lever.shape[1] or margin.shape != (1, len(pairs)) or not _known(tables, pairs):
        raise ValueError(_MISFIT)
    frames, covers = np.empty((len(tables.parents), 3, 4)), np.empty((len(tables.carrier), 6, 3))
    axes, normal, height = np.empty((3, 3)), np.empty(3), np.empty(6)
    out = np.full((len(postures), 1), np.inf)
    for k in range(len(postures)):
        _place_frames(tables, postures[k], frames)
        _place_covers(tables, frames, covers)
        for place, pair in enumerate(pairs):
            if pair < len(tables.other):
                distance = _capsule_gap(tables, covers, pair, axes, normal)[0]
            else:
                distance = _hull_gap(tables, covers, pair, height)[0]
            out[k, 0] = _lower(out[k, 0], distance - margin[0, place])
    return out


# ---- slopes ------------------------------------------------------------------------------------


@_part
def _add_slopes(
    tables: Tables, frames: FloatArray, joint: int, at: FloatArray, n: FloatArray, sign: float, row: FloatArray
) -> None:
    """A point p carried by a joint with axis a through o moves along n by a . ((p - o) x n) per rad."""
    j = joint
    while j:
        T, axis = frames[j], tables.axes[j]
        x, y, z = at[0] - T[0, 3], at[1] - T[1, 3], at[2] - T[2, 3]
        turned = _dot(T[0], axis) * (y * n[2] - z * n[1]) + _dot(T[1], axis) * (z * n[0] - x * n[2])
        row[tables.column[j]] += sign * (turned + _dot(T[2], axis) * (x * n[1] - y * n[0]))
        j = tables.parents[j]


@_compiled(_TABLES, _REALS, _COUNTS)
def slopes(arrays: tuple[Any, ...], q: FloatArray, pairs: Index) -> FloatArray:
    """Change of the distances per rad.

    Args:
        arrays: as of `along`. q: (J,) rad. pairs: (K,).

    Returns:
        (K, J) m/rad.

    Raises:
        ValueError: a pair that does not exist, or another number of joints.
    """
    tables = Tables(*arrays)
    if len(q) != tables.lever.shape[1] or not _known(tables, pairs):
        raise ValueError(_MISFIT)
    frames, covers = np.empty((len(tables.parents), 3, 4)), np.empty((len(tables.carrier), 6, 3))
    _place_frames(tables, q, frames)
    _place_covers(tables, frames, covers)
    axes, height = np.empty((3, 3)), np.empty(6)
    at, normal = np.empty(3), np.empty(3)
    out = np.zeros((len(pairs), len(q)))
    for place, pair in enumerate(pairs):
        mine, row = tables.shape[pair], out[place]
        hull = covers[mine]
        if pair < len(tables.other):
            other = tables.other[pair]
            _, s, t = _capsule_gap(tables, covers, pair, axes, normal)
            for k in range(3):
                at[k] = hull[4, k] + s * axes[0, k]
            _add_slopes(tables, frames, tables.carrier[mine], at, normal, 1.0, row)
            for k in range(3):
                at[k] = covers[other, 4, k] + t * axes[1, k]
            _add_slopes(tables, frames, tables.carrier[other], at, normal, -1.0, row)
        else:
            _, face = _hull_gap(tables, covers, pair, height)
            for k in range(3):
                upwards = tables.T_box_base[pair - len(tables.other), face % 3, k]
                normal[k] = upwards if face < 3 else -upwards
                at[k] = hull[0, k]
            for edge in range(1, 4):
                over = _dot(normal, hull[edge])
                sign = 1.0 if over > 0.0 else -1.0 if over < 0.0 else 0.0
                for k in range(3):
                    at[k] -= sign * hull[edge, k]
            _add_slopes(tables, frames, tables.carrier[mine], at, normal, 1.0, row)
    return out


# ---- brake -------------------------------------------------------------------------------------


@_compiled(_REALS, _REALS, _ROWS, _REALS, types.float64, types.intp)
def brake_path(q: FloatArray, v: FloatArray, parts: FloatArray, most: FloatArray, dt: float, count: int) -> FloatArray:
    """A position and the brake from it; see `brake.path_of`.

    Args:
        q: (J,) rad, v: (J,) rad/s. parts: (4, J) turn, b, ends, ramp. most: (J,). dt: s. count: periods.

    Returns:
        (count + 1, J) rad.

    Raises:
        ValueError: other numbers of joints.
    """
    joints = len(q)
    if len(v) != joints or len(most) != joints or parts.shape != (4, joints) or count < 0:
        raise ValueError(_MISFIT)
    path = np.empty((count + 1, joints))
    for j in range(joints):
        turn, begin, ends, ramp = parts[0, j], parts[1, j], parts[2, j], parts[3, j]
        total = way = 0.0
        path[0, j] = q[j]
        for i in range(1, count + 1):
            b = _lower(_lower(begin + i, most[j]), _higher(ramp - i, 0.0))
            total = b if i == 1 else total + b
            speed = v[j] + turn * total if i < ends else 0.0
            way = speed if i == 1 else way + speed
            path[i, j] = q[j] + dt * way
    return path
