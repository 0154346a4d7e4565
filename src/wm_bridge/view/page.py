"""The page: STOP and the safety state on the left, pictures, numbers, goals and nodes on the right."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import viser
from viser import uplot

from wm_bridge.core.images import decompress, fit
from wm_bridge.core.pointed import ABOVE_M
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.view.orders import Orders
from wm_bridge.view.shown import History, Shown
from wm_bridge.view.stage import Stage
from wm_bridge.view.words import interventions_text, nodes_text, numbers_text, plain, state_text

_PLOT_S, _WORDS_S = 1.0, 0.5  # between two updates
_KEEP_OPEN_S = 1.0
_LARGEST = 16_000_000  # bytes of an uploaded picture
_COLOURS = {"NORMAL": "green", "LIMITED": "yellow", "HOLD": "blue", "BRAKE": "orange"}


class Page:
    """Draws ``Shown`` values; buttons lead to ``Orders``.

    Args:
        server: of viser. stage: its scene. orders: what buttons do. lowest_m: least height of a place that is clicked.
        scene_hz: how often the scene is drawn anew at most: a browser without a GPU needs 50 ms of its processor for that.
    """

    def __init__(self, server: viser.ViserServer, stage: Stage, orders: Orders, lowest_m: float, scene_hz: float = 5.0) -> None:
        self._server, self._stage, self._orders = server, stage, orders
        self._scene_s = 0.99 / scene_hz
        self._lowest_m = lowest_m
        self._history = History()
        self._texts: dict[str, str] = {}
        self._pictures: dict[str, ImageArray | None] = {}
        self._live: ImageArray | None = None
        self._kept: ImageArray | None = None
        self._due = {"scene": 0.0, "plot": 0.0, "words": 0.0, "open": 0.0}
        self._plotted = 0
        gui = server.gui
        gui.set_panel_label("wm view")
        gui.main_panel.dock_right()
        gui.main_panel.set_width(360)
        self._side = gui.add_panel()
        with self._side.add_tab("Safety"):
            self._add_safety()
        self._side.dock_left()
        self._side.set_width(290)
        tabs = gui.add_tab_group()
        with tabs.add_tab("Now"):
            self._camera = gui.add_image(_grey(), label="camera", jpeg_quality=80, format="jpeg")
            self._goal = gui.add_image(_grey(), label="goal", jpeg_quality=80, format="jpeg", visible=False)
            self._numbers = gui.add_markdown("no plan yet")
            self._energy = _plot(gui, "energy", "#2a6")
            self._distance = _plot(gui, "cm to the goal", "#26c")
        with tabs.add_tab("Goal"):
            self._add_goals()
        with tabs.add_tab("Nodes"):
            self._nodes = gui.add_markdown("")
        stage.on_table(self._on_table)

    @property
    def watched(self) -> bool:
        """True while somebody has the page open."""
        return bool(self._server.get_clients())

    def planned(self, at_s: float, energy: float, distance_m: float) -> None:
        """Note a plan for the curves; also while nobody looks."""
        self._history.add(at_s, energy, distance_m)

    def show(self, shown: Shown) -> None:
        """Bring the page up to date; cheap when nothing changed."""
        now = time.monotonic()
        self._live = shown.camera
        with self._server.atomic():
            if self._is_due("scene", now, self._scene_s):
                self._stage.show(shown)
            self._put_picture("camera", self._camera, shown.camera)
            self._put_picture("goal", self._goal, shown.goal)
            if self._is_due("words", now, _WORDS_S):
                self._put_words(shown)
            if self._history.count != self._plotted and self._is_due("plot", now, _PLOT_S):
                self._plotted = self._history.count
                ago, energy, distance = self._history.columns()
                self._energy.data, self._distance.data = (ago, energy), (ago, distance)
        if self._is_due("open", now, _KEEP_OPEN_S):
            self._side.expand()  # STOP stays in sight: a folded panel comes back

    # Left ---------------------------------------------------------------------------------

    def _add_safety(self) -> None:
        gui, orders = self._server.gui, self._orders
        stop = gui.add_button("STOP", color="red", hint="brakes the arm at once; also the key S", icon=viser.Icon.HAND_STOP)
        key = gui.add_command("STOP", hotkey="S", description="brakes the arm at once")

        @stop.on_click
        @key.on_trigger
        async def _(_: Any) -> None:  # in the connection's own loop: before anything that is drawn
            orders.stop()

        self._state = gui.add_markdown("")
        reset = gui.add_button("RESET ...", color="gray", hint="leave the latch, after a look at the robot")
        enable = gui.add_button("ENABLE", color="green", hint="the safety node follows plans from then on")
        disable = gui.add_button("DISABLE", color="gray", hint="the arm holds; plans are not followed")
        reset.on_click(self._confirm_reset)
        enable.on_click(lambda _: orders.enable(True))
        disable.on_click(lambda _: orders.enable(False))
        self._said = gui.add_markdown("")
        with gui.add_folder("Last interventions"):
            self._interventions = gui.add_markdown("")

    def _confirm_reset(self, event: Any) -> None:
        """Ask the one who pressed it, and nobody else."""
        gui = event.client.gui
        with gui.add_modal("Reset the safety node?") as modal:
            gui.add_markdown("Is the arm free, and nobody within its reach? It moves again after ENABLE.")
            yes = gui.add_button("Yes, RESET", color="red")
            no = gui.add_button("No", color="gray")

        @yes.on_click
        def _(_: Any) -> None:
            self._orders.reset()
            modal.close()

        no.on_click(lambda _: modal.close())

    # Goals --------------------------------------------------------------------------------

    def _add_goals(self) -> None:
        gui, orders = self._server.gui, self._orders
        with gui.add_folder("Picture"):
            upload = gui.add_upload_button("Upload a picture", mime_type="image/*")
            take = gui.add_button("Take the current picture")
            self._kept_picture = gui.add_image(_grey(), label="kept", format="jpeg", visible=False)
            go = gui.add_button("Go to the kept picture", color="green")
        with gui.add_folder("Place"):
            gui.add_markdown("Drag the gizmo, or click on the table: it then stands above that place.")
            turned = gui.add_checkbox("the orientation counts too", False)
            reach = gui.add_button("Bring the tool to the gizmo", color="green")
        cancel = gui.add_button("Cancel the goal", color="gray")
        upload.on_upload(lambda event: self._on_upload(event.target.value))
        take.on_click(lambda _: self._keep(self._live, "no picture from the camera yet"))

        @go.on_click
        def _(_: Any) -> None:
            if self._kept is None:
                orders.say("no picture is kept: upload one, or take the current one")
                return
            try:
                picture = self._kept if self._live is None else fit(self._kept, self._live.shape[1], self._live.shape[0])[0]
            except ValueError as error:
                orders.say(f"goal picture: {error}")
                return
            orders.picture_goal(picture)

        @reach.on_click
        def _(_: Any) -> None:
            position, rotation = self._stage.pointed_at()
            orders.pose_goal(position, rotation if turned.value else None)

        cancel.on_click(lambda _: orders.cancel())

    def _on_upload(self, file: viser.UploadedFile) -> None:
        if len(file.content) > _LARGEST:
            self._orders.say(f"{file.name} has {len(file.content)} bytes; give a picture of at most {_LARGEST}")
            return
        try:
            self._keep(decompress(file.content), "")
        except ValueError as error:
            self._orders.say(f"{file.name}: {error}")

    def _keep(self, picture: ImageArray | None, missing: str) -> None:
        if picture is None:
            self._orders.say(missing)
            return
        self._kept = picture
        self._put_picture("kept", self._kept_picture, picture)
        self._orders.say("the picture is kept")

    def _on_table(self, point: FloatArray) -> None:
        """The gizmo goes there; the arm does not before somebody says so."""
        self._stage.point_at(np.array([point[0], point[1], max(point[2] + ABOVE_M, self._lowest_m)]))
        self._orders.say(f"pointed at {point[0]:.2f}, {point[1]:.2f} m on the table")

    # Drawing ------------------------------------------------------------------------------

    def _put_words(self, shown: Shown) -> None:
        self._put(self._state, "state", state_text(shown))
        self._put(self._numbers, "numbers", numbers_text(shown))
        self._put(self._interventions, "interventions", interventions_text(shown.interventions))
        self._put(self._nodes, "nodes", nodes_text(shown.nodes))
        late = f"\n\n**the picture is {shown.camera_age_s:.0f} s old**" if 1.0 < shown.camera_age_s < np.inf else ""
        self._put(self._said, "said", f"{plain(shown.said)}\n\ngoal: {plain(shown.goal_text)}{late}")

    def _put(self, handle: viser.GuiMarkdownHandle, name: str, text: str) -> None:
        if self._texts.get(name) != text:
            self._texts[name] = handle.content = text

    def _put_picture(self, name: str, handle: viser.GuiImageHandle, picture: ImageArray | None) -> None:
        if picture is None or self._pictures.get(name) is picture:
            return
        self._pictures[name] = picture
        handle.image = picture
        if not handle.visible:
            handle.visible = True

    def _is_due(self, name: str, now: float, period_s: float) -> bool:
        due = now >= self._due[name]
        if due:
            self._due[name] = now + period_s
        return due


def _plot(gui: viser.GuiApi, label: str, colour: str) -> viser.GuiUplotHandle:
    nothing = np.zeros(1)
    series = (uplot.Series(label="s"), uplot.Series(label=label, stroke=colour, width=2))
    return gui.add_uplot((nothing, nothing), series, scales={"x": uplot.Scale(time=False)}, height=130)


def _grey() -> ImageArray:
    return np.full((240, 320, 3), 128, np.uint8)
