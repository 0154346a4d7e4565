"""The three-dimensional part of the page: robot, table, workspaces, plan, goal, and a gizmo to point with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import viser
from transforms3d.quaternions import quat2mat

from wm_bridge.core.shades import shades
from wm_bridge.core.types import FloatArray
from wm_bridge.view.looks import Shape, link_paths, shapes
from wm_bridge.view.shown import Plan, Shown

_CHOSEN = (26, 230, 51)
_MOVED = 1e-4  # of a quaternion: less is not sent
_FORGET_S = 1.0  # an older plan is taken away
_PLAIN: dict[str, Any] = {"material": "toon5", "cast_shadow": False, "receive_shadow": False}
_NOTHING = np.zeros((0, 2, 3), np.float32)
Box = tuple[FloatArray, FloatArray]  # lower and upper corner (3,), base frame, m
Turns = Callable[[Mapping[str, float]], Mapping[str, FloatArray]]  # joints -> wxyz (4,) of each moving link in its parent


class Stage:
    """Draws what is shown; only what changed is sent.

    Args:
        server: of viser. urdf: text of the robot's description. places: link -> (3,) m and wxyz (4,), of all links in
            their parents with all joints at 0. turns: what joint positions turn. table: None = there is none.
        workspaces: by arm.
    """

    def __init__(
        self,
        server: viser.ViserServer,
        urdf: str,
        places: Mapping[str, tuple[FloatArray, FloatArray]],
        turns: Turns,
        table: Box | None,
        workspaces: Mapping[str, Box],
    ) -> None:
        self._scene = server.scene
        self._turns = turns
        self._table = table
        self._frames: dict[str, viser.FrameHandle] = {}
        self._turned: dict[str, FloatArray] = {}
        paths = link_paths(urdf)
        for link, path in paths.items():
            position, wxyz = places.get(link, (np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])))
            self._frames[link] = self._scene.add_frame(f"/robot/{path}", show_axes=False, position=position, wxyz=wxyz)
        for number, shape in enumerate(shapes(urdf)):
            self._add_shape(f"/robot/{paths.get(shape.link, shape.link)}/look{number}", shape)
        for arm, box in workspaces.items():
            self._scene.add_line_segments(f"/workspaces/{arm}", _edges(*box), (120, 160, 210), thickness=1.0, thickness_units="screen")
        if table is not None:
            lower, upper = table
            self._top = self._scene.add_box(
                "/table", color=(150, 118, 86), dimensions=(*(upper - lower)[:2], 0.02), position=(*((lower + upper) / 2)[:2], upper[2] - 0.01), **_PLAIN
            )
        self._fan = self._scene.add_line_segments("/plan/elites", _NOTHING, (0, 0, 0), thickness=1.5, thickness_units="screen")
        self._path = self._scene.add_line_segments("/plan/chosen", _NOTHING, _CHOSEN, thickness=4.0, thickness_units="screen")
        self._goal = self._scene.add_icosphere("/plan/goal", radius=0.015, color=(255, 190, 25), visible=False, **_PLAIN)
        self._gizmo = self._scene.add_transform_controls("/gizmo", scale=0.12, position=(0.3, -0.2, 0.8), depth_test=False)
        self._drawn: Plan | None = None
        server.initial_camera.position = (1.25, -1.15, 1.35)
        server.initial_camera.look_at = (0.2, -0.05, 0.72)

    def show(self, shown: Shown) -> None:
        """Bring the scene up to date."""
        if shown.joints:
            for link, wxyz in self._turns(shown.joints).items():
                if link in self._frames and np.abs(self._turned.get(link, np.zeros(4)) - wxyz).max() > _MOVED:
                    self._turned[link] = wxyz
                    self._frames[link].wxyz = wxyz
        plan = shown.plan if shown.plan is not None and shown.plan.age_s < _FORGET_S else None
        if (plan is None) != (self._drawn is None) or (plan is not None and self._drawn is not None and plan.hands is not self._drawn.hands):
            self._draw(plan)
        place = shown.goal_hand if plan is not None and shown.goal_hand is not None and np.isfinite(shown.goal_hand).all() else None
        if place is not None and (self._goal.position != place).any():
            self._goal.position = place
        if self._goal.visible != (place is not None):
            self._goal.visible = place is not None

    def point_at(self, position: FloatArray, wxyz: FloatArray | None = None) -> None:
        """Bring the gizmo to a place (3,) m, and an orientation where one is given."""
        self._gizmo.position = position
        if wxyz is not None:
            self._gizmo.wxyz = wxyz

    def pointed_at(self) -> tuple[FloatArray, FloatArray]:
        """(3,) m and (3, 3) rotation of the gizmo, base frame."""
        return np.array(self._gizmo.position, dtype=float), np.asarray(quat2mat(self._gizmo.wxyz))

    def on_table(self, told: Callable[[FloatArray], None]) -> None:
        """Have ``told`` called with the (3,) point of the table's top that somebody clicks."""
        if self._table is None:
            return
        height = float(self._table[1][2])

        @self._top.on_click
        def _(event: viser.SceneNodePointerEvent[viser.BoxHandle]) -> None:
            point = meets(np.array(event.ray_origin), np.array(event.ray_direction), height)
            if point is not None:
                told(point)

    def _draw(self, plan: Plan | None) -> None:
        self._drawn = plan
        if plan is None or not np.isfinite(plan.hands).all():
            self._fan.points = self._path.points = _NOTHING
            return
        self._path.points, self._path.colors = _segments(plan.hands[:1]), np.tile(np.array(_CHOSEN, np.uint8), (plan.hands.shape[1] - 1, 2, 1))
        colours = (shades(plan.energies[1:])[:, :3] * 255).astype(np.uint8)
        self._fan.points = _segments(plan.hands[1:])
        self._fan.colors = np.repeat(colours, 2 * (plan.hands.shape[1] - 1), axis=0).reshape(-1, 2, 3)

    def _add_shape(self, name: str, shape: Shape) -> None:
        colour = tuple(round(255 * part) for part in shape.colour)
        place = {"position": shape.position, "wxyz": shape.wxyz, "color": colour, **_PLAIN}
        if shape.kind == "box":
            self._scene.add_box(name, dimensions=tuple(shape.size), **place)
        elif shape.kind == "cylinder":
            self._scene.add_cylinder(name, radius=float(shape.size[0]), height=float(shape.size[1]), radial_segments=20, **place)
        else:
            self._scene.add_icosphere(name, radius=float(shape.size[0]), subdivisions=2, **place)


def meets(origin: FloatArray, direction: FloatArray, height: float) -> FloatArray | None:
    """(3,) where a ray meets the plane z = ``height``; None when it does not lead there."""
    if abs(direction[2]) < 1e-9:
        return None
    way = (height - origin[2]) / direction[2]
    return None if not way > 0.0 else np.array([*(origin + way * direction)[:2], height])


def _edges(lower: FloatArray, upper: FloatArray) -> FloatArray:
    """(12, 2, 3) edges of a box."""
    corners = np.array(list(np.ndindex(2, 2, 2)), bool)
    pairs = [(a, b) for a in corners for b in corners if (a ^ b).sum() == 1 and a.sum() < b.sum()]
    return np.where(np.array(pairs), upper, lower).astype(np.float32)


def _segments(paths: FloatArray) -> FloatArray:
    """(P, H, 3) paths as (P * (H - 1), 2, 3) segments."""
    return np.stack([paths[:, :-1], paths[:, 1:]], axis=2).reshape(-1, 2, 3).astype(np.float32)
