"""`./wm bench reach --goal-kind`: the other ways of asking, each with what makes it a success and with a control."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_bridge.core.goal_kinds import Asked, JointsGoal, PictureGoal, PoseGoal
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.sim.closed_loop import LoopSettings, Trace
from wm_bridge.sim.play import ARM
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld

KINDS = ("picture", "joints", "pose", "turn", "sequence", "masked")
CONTROLS = {"pose": "decoded", "sequence": "last only", "masked": "no mask"}  # the same tasks, one thing left out
JOINT_RAD, TOOL_M, TOOL_RAD, VIA_M = 0.05, 0.01, 0.1, 0.05


@dataclass(frozen=True)
class Request:
    """A goal as it is asked for, and the truth to score it by.

    Attributes:
        asked: given to the planning loop.
        joints: (J,) rad of the pose that the goal was made from. hand: (3,) m, rotation: (3, 3) of the tool there.
        via: (3,) m, hand of the first of two pictures; None with one.
    """

    asked: Asked
    joints: FloatArray
    hand: FloatArray
    rotation: FloatArray
    via: FloatArray | None = None


def draw_request(
    kind: str, world: SimWorld, start: FloatArray, goal: FloatArray, block: tuple[float, ...], rng: np.random.Generator, settings: LoopSettings, control: bool = False
) -> Request:
    """Ask for the pose ``goal`` (J,) in one of the ``KINDS``; the world is left there.

    Args:
        start: (J,) rad, where the arm will begin. block: where the block is. control: leave out what the kind adds.
    """

    def show(q: FloatArray) -> ImageArray:
        world.reset(q, objects={"block": block} if block[0] > -5 else {})
        world.step(0.3)
        return world.render("front", settings.width, settings.height)

    picture = show(goal)
    hand, rotation = world.hand_position(ARM), tool_rotation(world)
    asked: Asked = picture
    via = None
    if kind == "joints":
        asked = JointsGoal({world.spec.joint_names[i]: float(goal[i]) for i in world.spec.indices(ARM)})
    elif kind in ("pose", "turn"):
        asked = PoseGoal(hand, rotation if kind == "turn" else None)
    elif kind == "sequence":
        between, via = draw_between(world, rng, start, hand)
        asked = picture if control else [PictureGoal(show(between)), PictureGoal(picture)]
    elif kind == "masked":
        spoiled, mask = spoil(picture, show(start), rng)
        asked = PictureGoal(spoiled, None if control else mask)
    return Request(asked, goal, hand, rotation, via)


def draw_between(world: SimWorld, rng: np.random.Generator, start: FloatArray, hand: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A pose (J,) whose hand (3,) is at least 10 cm from those of start and goal."""
    world.reset(start, objects={})
    first = world.hand_position(ARM)
    while True:
        q = sample_reachable(world, rng)
        world.reset(q, objects={})
        here = world.hand_position(ARM)
        if min(np.linalg.norm(here - first), np.linalg.norm(here - hand)) >= 0.10:
            return q, here


def spoil(picture: ImageArray, present: ImageArray, rng: np.random.Generator) -> tuple[ImageArray, ImageArray]:
    """Cover all but the surroundings of what differs between two pictures with coloured rectangles.

    Returns:
        the spoiled picture (H, W, 3), and the mask (H, W) of what was left as it is.
    """
    import cv2

    differs = (np.abs(picture.astype(int) - present).max(axis=2) > 12).astype(np.uint8)
    differs = cv2.morphologyEx(differs, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    hull = cv2.convexHull(cv2.findNonZero(differs))
    mask = np.zeros(differs.shape, np.uint8)
    cv2.fillConvexPoly(mask, hull, 255)
    mask = cv2.dilate(mask, np.ones((25, 25), np.uint8))
    cover = picture.copy()
    height, width = mask.shape
    for _ in range(12):
        x, y = rng.integers(0, width - 40), rng.integers(0, height - 40)
        w, h = rng.integers(40, 120, size=2)
        cover[y : y + h, x : x + w] = rng.integers(0, 256, size=3)
    return np.where(mask[..., None] > 0, picture, cover).astype(np.uint8), mask


def tool_rotation(world: SimWorld) -> FloatArray:
    """(3, 3) ``R_base_tool`` of the arm as it stands."""
    return np.asarray(world.data.xmat[world.tool_body(ARM)]).reshape(3, 3).copy()


def angle_between(first: FloatArray, second: FloatArray) -> float:
    """Angle of the rotation between two orientations (3, 3), rad."""
    chord = float(np.linalg.norm(first - second)) / np.sqrt(2.0)
    return float(2.0 * np.arcsin(min(chord / 2.0, 1.0)))


def score(request: Request, world: SimWorld, trace: Trace) -> dict[str, float]:
    """What a kind asks for beside the place of the hand, judged by the truth at the end of an episode."""
    index = world.spec.indices(ARM)
    passed = True
    if request.via is not None:
        way = np.linalg.norm(np.array(trace.hand) - request.via, axis=1)
        passed = bool(way.min() <= VIA_M)
    return {
        "joint_rad": float(np.abs(world.q - request.joints)[index].max()),
        "turn_rad": angle_between(tool_rotation(world), request.rotation),
        "held_1cm": trace.held(request.hand, TOOL_M),
        "passed": passed,
    }


def success(kind: str, row: dict[str, float]) -> bool:
    """Whether an episode did what its kind asks for, held over the last 0.5 s as far as the hand goes."""
    if kind == "joints":
        return row["joint_rad"] <= JOINT_RAD
    if kind == "pose":
        return bool(row["held_1cm"])
    if kind == "turn":
        return bool(row["held_1cm"]) and row["turn_rad"] <= TOOL_RAD
    return bool(row["held_3cm"]) and bool(row["passed"])


def wanted(kind: str) -> str:
    """The success of a kind in words."""
    return {
        "joints": f"all joints within {JOINT_RAD} rad",
        "pose": f"hand held < {100 * TOOL_M:.0f} cm",
        "turn": f"hand held < {100 * TOOL_M:.0f} cm, turned < {TOOL_RAD} rad",
        "sequence": f"first within {100 * VIA_M:.0f} cm, then last held < 3 cm",
    }.get(kind, "hand held < 3 cm")
