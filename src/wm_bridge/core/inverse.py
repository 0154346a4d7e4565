"""Differential inverse kinematics of many candidate motions at once, in plain loops that numba compiles.

Damped least squares (Nakamura and Hanafusa 1986; Wampler 1986): per period the joint change

    s = S^T (S S^T + damping^2 I)^-1 e,      S = W J diag(box)

in shares s of the joints' box, for the pose error e = W (position, rotation vector) in m. A joint that would leave its limits
is held at the limit and the others take over its part; a change that leaves the box is shortened as a whole, so that the hand
keeps its direction. The first step is done again once from where it led (two Newton steps in all): what is left of a move
within reach is below a tenth of a millimetre.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from wm_bridge.core.jit import compiled, part
from wm_bridge.core.types import FloatArray

_REALS, _ROWS, _CUBE, _COUNTS = types.float64[::1], types.float64[:, ::1], types.float64[:, :, ::1], types.intp[::1]
_CHAIN = types.Tuple([_CUBE, _ROWS, _ROWS, _COUNTS])  # type: ignore[no-untyped-call]
_JOINTS = types.Tuple([_REALS, _REALS, _REALS])  # type: ignore[no-untyped-call]
_NEWTON = 2


@part
def _times(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    """Product of two upper halves (3, 4) of homogeneous matrices."""
    for i in range(3):
        for j in range(4):
            value = a[i, 3] if j == 3 else 0.0
            for k in range(3):
                value += a[i, k] * b[k, j]
            out[i, j] = value


@part
def _about(axis: FloatArray, angle: float, out: FloatArray) -> None:
    """Rotation about a unit axis (Rodrigues) as an upper half (3, 4)."""
    c, s = math.cos(angle), math.sin(angle)
    x, y, z = axis[0], axis[1], axis[2]
    out[:, 3] = 0.0
    out[0, 0], out[0, 1], out[0, 2] = c + x * x * (1 - c), x * y * (1 - c) - z * s, x * z * (1 - c) + y * s
    out[1, 0], out[1, 1], out[1, 2] = y * x * (1 - c) + z * s, c + y * y * (1 - c), y * z * (1 - c) - x * s
    out[2, 0], out[2, 1], out[2, 2] = z * x * (1 - c) - y * s, z * y * (1 - c) + x * s, c + z * z * (1 - c)


@part
def _place(chain: tuple[FloatArray, FloatArray, FloatArray, FloatArray], angles: FloatArray, lines: FloatArray, work: FloatArray) -> None:
    """Tool frame into work[0] (3, 4), axis (3) and origin (3) of each joint into lines (K, 6); base frame."""
    placements, axes, tool, _ = chain
    work[0, :, :] = 0.0
    work[0, 0, 0] = work[0, 1, 1] = work[0, 2, 2] = 1.0
    for k in range(len(angles)):
        _times(work[0], placements[k], work[1])
        for i in range(3):
            lines[k, i] = work[1, i, 0] * axes[k, 0] + work[1, i, 1] * axes[k, 1] + work[1, i, 2] * axes[k, 2]
            lines[k, 3 + i] = work[1, i, 3]
        _about(axes[k], angles[k], work[2])
        _times(work[1], work[2], work[0])
    _times(work[0], tool, work[1])
    work[0] = work[1]


@part
def _set_angles(column: FloatArray, posture: FloatArray, q: FloatArray, angles: FloatArray) -> None:
    """(K,) angles along the chain: planned joints from q (A,), the others from the posture (K,)."""
    for k in range(len(column)):
        angles[k] = posture[k] if column[k] < 0 else q[column[k]]


@part
def _turn(move: FloatArray, out: FloatArray) -> None:
    """Rotation Rz Ry Rx of the xyz-Euler angles in move[3:6]."""
    cx, cy, cz = math.cos(move[3]), math.cos(move[4]), math.cos(move[5])
    sx, sy, sz = math.sin(move[3]), math.sin(move[4]), math.sin(move[5])
    out[0, 0], out[0, 1], out[0, 2] = cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx
    out[1, 0], out[1, 1], out[1, 2] = sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx
    out[2, 0], out[2, 1], out[2, 2] = -sy, cy * sx, cy * cx


@part
def _error(target: FloatArray, now: FloatArray, weight: float, out: FloatArray) -> None:
    """(6,) m from the tool frame now to the target: position, and the weighted rotation vector of R_target R_now^T."""
    trace = 0.0
    twist_x = twist_y = twist_z = 0.0
    for k in range(3):
        out[k] = target[k, 3] - now[k, 3]
        trace += target[0, k] * now[0, k] + target[1, k] * now[1, k] + target[2, k] * now[2, k]
        twist_x += target[2, k] * now[1, k] - target[1, k] * now[2, k]
        twist_y += target[0, k] * now[2, k] - target[2, k] * now[0, k]
        twist_z += target[1, k] * now[0, k] - target[0, k] * now[1, k]
    sine = 0.5 * math.sqrt(twist_x * twist_x + twist_y * twist_y + twist_z * twist_z)
    angle = math.atan2(sine, 0.5 * (trace - 1.0))
    factor = weight * (0.5 if sine < 1e-9 else 0.5 * angle / sine)
    out[3], out[4], out[5] = factor * twist_x, factor * twist_y, factor * twist_z


@part
def _spread(chain: tuple[FloatArray, FloatArray, FloatArray, FloatArray], lines: FloatArray, tool: FloatArray, scale: FloatArray, weight: float, S: FloatArray) -> None:
    """(6, A) of the module docstring."""
    S[:] = 0.0
    for k in range(len(lines)):
        a = chain[3][k]
        if a >= 0:
            x, y, z = lines[k, 0], lines[k, 1], lines[k, 2]
            dx, dy, dz = tool[0, 3] - lines[k, 3], tool[1, 3] - lines[k, 4], tool[2, 3] - lines[k, 5]
            S[0, a], S[1, a], S[2, a] = scale[a] * (y * dz - z * dy), scale[a] * (z * dx - x * dz), scale[a] * (x * dy - y * dx)
            S[3, a], S[4, a], S[5, a] = weight * scale[a] * x, weight * scale[a] * y, weight * scale[a] * z


@part
def _factor(S: FloatArray, free: FloatArray, damping: float, L: FloatArray) -> None:
    """Cholesky factor (6, 6) of S S^T + damping^2 I over the free joints."""
    for i in range(6):
        for j in range(i + 1):
            value = damping * damping if i == j else 0.0
            for a in range(S.shape[1]):
                value += free[a] * S[i, a] * S[j, a]
            for k in range(j):
                value -= L[i, k] * L[j, k]
            L[i, j] = math.sqrt(value) if i == j else value / L[j, j]


@part
def _solve(L: FloatArray, x: FloatArray) -> None:
    """Solve L L^T y = x (6,) in place."""
    for i in range(6):
        for k in range(i):
            x[i] -= L[i, k] * x[k]
        x[i] /= L[i, i]
    for i in range(5, -1, -1):
        for k in range(i + 1, 6):
            x[i] -= L[k, i] * x[k]
        x[i] /= L[i, i]


@compiled(_ROWS(_CHAIN, _JOINTS, _REALS, _REALS, _CUBE, types.float64, types.float64))
def follow(
    chain: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    joints: tuple[FloatArray, FloatArray, FloatArray],
    posture: FloatArray,
    start: FloatArray,
    moves: FloatArray,
    weight: float,
    damping: float,
) -> FloatArray:
    """Follow S candidate motions of H periods.

    Args:
        chain: placements (K, 3, 4) and axes (K, 3) of the joints from base to tool, tool (3, 4) on the last one, and (K,) which
            planned joint each is, -1 for none.
        joints: (A,) box per period, lower and upper limits, rad.
        posture: (K,) rad, angles of the joints that are not planned. start: (A,) rad, inside the limits.
        moves: (S, H, 6) changes of the tool's pose per period: xyz [m], xyz-Euler [rad], base axes.
        weight: m per rad of rotation. damping: m per box.

    Returns:
        (S * H, A + 12 + 6 A): joints after each period; tool frame (3, 4) there; change (A, 6) of the joints per change
        of the period's own move. A move that is not finite makes the rest of its candidate not finite.
    """
    scale, lower, upper = joints
    count, horizon = moves.shape[:2]
    size, links = len(start), len(posture)
    out = np.empty((count * horizon, size + 12 + 6 * size))
    lines, work, target = np.empty((links, 6)), np.empty((3, 3, 4)), np.empty((3, 4))
    angles, q, s, step, free = np.empty(links), np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    S, L, e, rest, turn, column = np.empty((6, size)), np.zeros((6, 6)), np.empty(6), np.empty(6), np.empty((3, 3)), np.empty(6)
    for c in range(count):
        q[:] = start
        for h in range(horizon):
            row = out[c * horizon + h]
            _set_angles(chain[3], posture, q, angles)
            _place(chain, angles, lines, work)
            _turn(moves[c, h], turn)
            for i in range(3):
                target[i, 3] = work[0, i, 3] + moves[c, h, i]
                for j in range(3):
                    target[i, j] = turn[i, 0] * work[0, 0, j] + turn[i, 1] * work[0, 1, j] + turn[i, 2] * work[0, 2, j]
            s[:] = 0.0
            for newton in range(_NEWTON):
                _error(target, work[0], weight, e)
                _spread(chain, lines, work[0], scale, weight, S)
                free[:] = 1.0
                step[:] = 0.0
                for _ in range(size):
                    rest[:] = e
                    for a in range(size):
                        if free[a] == 0.0:
                            for i in range(6):
                                rest[i] -= S[i, a] * step[a]
                    _factor(S, free, damping, L)
                    _solve(L, rest)
                    held = False
                    for a in range(size):
                        if free[a] == 1.0:
                            step[a] = 0.0
                            for i in range(6):
                                step[a] += S[i, a] * rest[i]
                    for a in range(size):
                        here = q[a] + scale[a] * s[a]
                        there = here + scale[a] * step[a]
                        if free[a] == 1.0 and (there > upper[a] or there < lower[a]):
                            free[a] = 0.0
                            step[a] = ((upper[a] if there > upper[a] else lower[a]) - here) / scale[a]
                            held = True
                    if not held:
                        break
                if newton == 0:
                    for k in range(6):
                        column[:] = 0.0
                        column[k] = 1.0 if k < 3 else weight
                        _solve(L, column)
                        for i in range(6):  # both Newton steps: column + what the first one leaves of it, solved again
                            rest[i] = damping * damping * column[i]
                        _solve(L, rest)
                        for a in range(size):
                            value = 0.0
                            for i in range(6):
                                value += S[i, a] * (column[i] + rest[i])
                            row[size + 12 + 6 * a + k] = free[a] * scale[a] * value
                largest = 1.0
                for a in range(size):
                    s[a] += step[a]
                    largest = max(largest, abs(s[a]))
                for a in range(size):
                    s[a] /= largest
                    angle = q[a] + scale[a] * s[a]
                    row[a] = upper[a] if angle > upper[a] else lower[a] if angle < lower[a] else angle
                _set_angles(chain[3], posture, row, angles)
                _place(chain, angles, lines, work)
                if largest > 1.0:
                    break
            q[:] = row[:size]
            for i in range(3):
                for j in range(4):
                    row[size + 4 * i + j] = work[0, i, j]
    return out


@compiled(_ROWS(_CHAIN, _REALS, _ROWS))
def place(chain: tuple[FloatArray, FloatArray, FloatArray, FloatArray], posture: FloatArray, rows: FloatArray) -> FloatArray:
    """(N, 12) tool frames (3, 4) at planned joints (N, A) rad; other arguments as of ``follow``."""
    links = len(posture)
    out = np.empty((len(rows), 12))
    lines, work, angles = np.empty((links, 6)), np.empty((3, 3, 4)), np.empty(links)
    for n in range(len(rows)):
        _set_angles(chain[3], posture, rows[n], angles)
        _place(chain, angles, lines, work)
        for i in range(3):
            for j in range(4):
                out[n, 4 * i + j] = work[0, i, j]
    return out
