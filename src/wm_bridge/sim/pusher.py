"""How to push the block to a place, for who knows where it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_bridge.core.types import FloatArray
from wm_bridge.sim.play import ARM
from wm_bridge.sim.reach import USUAL, Reach, Surface, hand_poses
from wm_bridge.sim.world import SimWorld

FINGERS = np.array([-0.024, 0.01, -0.09])  # in the palm's frame, m


@dataclass(frozen=True)
class Stroke:
    """One way of pushing: a point of the hand (palm frame), its height (m), poses (A,) over and at its start."""

    point: FloatArray
    height: float
    above: FloatArray
    start: FloatArray


class Pusher:
    """Brings a part of the hand behind the block, lowers it, and pushes the block to ``goal`` (2,).

    The next step depends on the arm, the block and the goal alone, not on what was done before:
    so it can be imitated by who sees no more than that. Of several ways to push, it takes one
    that is near the arm's present pose, and so keeps to a way once it has set out on it. A block
    that slips off the line is approached anew; one that cannot be pushed all the way is pushed
    as far as the arm gets.
    """

    LIFT, GAP, ARRIVED = 0.09, 0.05, 0.010  # raised hand over a start; start behind the block; near enough, m
    LEFT_OUT = (0.0, 0.025, 0.05)  # rest of the way that it may leave out, m: less is tried first

    def __init__(self, world: SimWorld, goal: FloatArray) -> None:
        self.world, self.goal, self.index = world, goal, world.spec.indices(ARM)
        self.reach, self.surface = Reach(world), Surface(world)
        self.poses = hand_poses(world.spec.name, world.scene)
        self.chosen_for = np.full(4, np.inf)

    def step(self, q: FloatArray, block: FloatArray) -> FloatArray | None:
        """Unlimited (A,) change of the references from pose ``q`` (J,), with the block at ``block`` (2,).

        None when no hand pose can push the block to the goal.
        """
        arm = q[self.index]
        error = self.goal - block
        distance = float(np.linalg.norm(error))
        along = error / max(distance, 1e-6)
        low = self.reach.position(q, FINGERS)[2] < self.world.scene.table_height + 0.09
        if distance < self.ARRIVED:
            return self.reach.step(q, np.zeros(3), np.array([0.0, 0.0, 0.03])) if low else np.zeros_like(arm)
        key = np.concatenate([block / 0.01, along / 0.15])
        if np.max(np.abs(key - self.chosen_for)) > 1.0 and (distance > 0.03 or not np.isfinite(self.chosen_for[0])):
            self.stroke, self.chosen_for = self.choose(arm, block, along, distance), key
        stroke = self.stroke
        if stroke is None:
            return None
        tip = self.reach.position(q, stroke.point)
        offset, across = block - tip[:2], np.array([-along[1], along[0]])
        slip, ahead, above_m = float(across @ offset), float(along @ offset), float(tip[2] - stroke.height)
        if abs(slip) < 0.03 and 0.0 < ahead < self.GAP + 0.025 and above_m < 0.015:
            forward = along * min(0.03, 0.6 * distance + 0.006) + across * 0.6 * slip
            return self.reach.step(q, stroke.point, np.array([*forward, -above_m]))
        if np.max(np.abs(stroke.start - arm)) < np.max(np.abs(stroke.start - stroke.above)) + 0.08:
            return stroke.start - arm
        if above_m < 0.06 and np.hypot(*offset) < 0.14:
            return self.reach.step(q, stroke.point, np.array([0.0, 0.0, 0.03]))
        return stroke.above - arm

    def choose(self, arm: FloatArray, block: FloatArray, along: FloatArray, distance: float) -> Stroke | None:
        """A way to push along ``along``: from a hand pose near ``arm`` (A,) whose front side gets behind the block."""
        for among in (slice(0, USUAL), slice(USUAL, None)):
            q, hand, palm = (values[among] for values in (self.poses.q, self.poses.hand, self.poses.palm))
            flat, rest = hand[..., :2] - block, self.poses.rest[among, :, :2] - block
            u, w = flat @ along, flat @ np.array([-along[1], along[0]])  # (N, P), NaN: too high to touch
            front = np.nanmax(u, axis=1)
            leading = u > front[:, None] - 0.008
            count = leading.sum(axis=1)
            side = np.where(leading, w, 0.0).sum(axis=1) / count
            ahead = np.nanmax(np.where(np.isnan(rest[..., 0]), -9.0, rest @ along), axis=1) > front - 0.005
            shift = np.hypot(front + self.GAP, side)
            order = np.argsort(shift / 0.05 + np.max(np.abs(q[:, self.index] - arm), axis=1))
            candidates = order[(shift < 0.1)[order] & ~ahead[order]][:80]
            for length in (distance - left for left in self.LEFT_OUT if distance - left > 0.02 or not left):
                for n in candidates:
                    middle = np.where(leading[n][:, None], hand[n], 0.0).sum(axis=0) / count[n]
                    stroke = self.build(q[n], palm[n], middle, block, along, length)
                    if stroke is not None:
                        return stroke
        return None

    def build(
        self, q: FloatArray, palm: FloatArray, touch: FloatArray, block: FloatArray, along: FloatArray, distance: float
    ) -> Stroke | None:
        """Shift a hand pose behind the block and try the stroke; None when the arm cannot do it."""
        point = palm[:3, :3].T @ (touch - palm[:3, 3])
        begin = np.array([*(block - self.GAP * along), touch[2]])
        start = self.reach.solve(q, point, begin, 0.012)
        if start is None:
            return None
        end = self.reach.solve(start, point, begin + np.array([*(along * (distance + 0.015)), 0.0]), 0.02)
        if end is None or not (self.surface.free(start) and self.surface.free(end)):
            return None
        above = self.reach.solve(start, point, begin + np.array([0.0, 0.0, self.LIFT]), 0.03)
        if above is None or not self.surface.free(above):
            return None
        return Stroke(point, float(touch[2]), above[self.index], start[self.index])
