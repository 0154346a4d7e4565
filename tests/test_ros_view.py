"""The page in a real browser, and `./wm goal`, with the running graph and the shipped model."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import wait_until
from ros_probe import Probe, probing, use_fast_dds_profile

from wm_bridge.bench.browser import chromium, open_page
from wm_bridge.cli import goal
from wm_bridge.core.types import SafetyMode
from wm_bridge.errors import UserError
from wm_bridge.supervisor import Graph
from wm_bridge.view.server import serve

NEAR, FAR = "0.30,-0.20,0.80", "0.26,-0.34,0.86"  # m, both within reach


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Graph]:
    folder = tmp_path_factory.mktemp("view") / "run"
    overrides = {"view": {"port": port}}
    with Graph.start("sim", overrides, folder, ("recorder", "goal", "viz"), 120.0, say=lambda text: None, also=("view",)) as running:
        yield running


@pytest.fixture(scope="module")
def probe(graph: Graph) -> Iterator[Probe]:
    use_fast_dds_profile(graph.env)
    with probing(graph.domain) as found:
        wait_until(lambda: found.count["safety/verdict"] and found.count["camera/image_raw"], 30.0, "first messages")
        yield found


@pytest.fixture(scope="module")
def program() -> Iterator[Any]:
    """The browser; where there is none, these tests cannot be run, and say why.

    They draw in software for more than a minute: the default suite leaves them out.
    """
    if not os.environ.get("WM_BROWSER"):
        pytest.skip("tests in a real browser: WM_BROWSER=1 ./wm test tests/test_ros_view.py")
    running = chromium()
    try:
        found = running.__enter__()
    except UserError as error:
        pytest.skip(str(error))
    yield found
    running.__exit__(None, None, None)


@pytest.fixture(scope="module")
def page(graph: Graph, program: Any, port: int) -> Iterator[Any]:
    found, errors = open_page(program, f"http://localhost:{port}")
    yield found
    assert errors == [], "errors in the browser's console"
    found.close()


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click(timeout=60_000)


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click(timeout=60_000)


def says(page: Any, text: str | re.Pattern[str]) -> None:
    page.get_by_text(text).first.wait_for(timeout=60_000)


def camera_picture(page: Any) -> str:
    return str(page.locator("img[src^=blob]").first.get_attribute("src"))


def canvas(page: Any, file: Path) -> np.ndarray:
    """What the scene looks like between the two panels."""
    page.screenshot(path=str(file), clip={"x": 300, "y": 170, "width": 430, "height": 450})
    return cv2.imread(str(file)).astype(int)


def rests(probe: Probe) -> bool:
    return float(np.abs(probe.fresh("joint_states").velocity).max()) < 0.05


def test_the_view_writes_no_topic_of_the_graph_and_calls_the_safety_node_only(graph: Graph, probe: Probe) -> None:
    def topics() -> set[str]:
        return {name for name, _ in probe.node.get_publisher_names_and_types_by_node("view", "/")}

    wait_until(lambda: "view" in probe.node.get_node_names() and "/diagnostics" in topics(), 20.0, "the view is discovered")
    assert topics() <= {"/diagnostics", "/rosout", "/parameter_events"}
    services = {name for name, _ in probe.node.get_client_names_and_types_by_node("view", "/")}
    action = {f"/wm/reach_goal/_action/{name}" for name in ("send_goal", "cancel_goal", "get_result")}
    assert services <= {"/safety/stop", "/safety/reset", "/safety/enable", *action} and "/safety/stop" in services


# ./wm goal: before a browser takes its share of the machine -------------------------------------


def test_a_list_of_goals_is_pursued_in_order(graph: Graph, probe: Probe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "goals.yaml"
    file.write_text(f"- pose:{NEAR}\n- {{goal: 'pose:{FAR}', timeout_s: 60}}\n")
    assert goal.main(["--yaml", str(file), "--timeout", "60", "--enable", "--domain", str(graph.domain)]) == 0
    said = capsys.readouterr().out
    assert said.index(f"goal 1 of 2: pose:{NEAR}") < said.index(f"goal 2 of 2: pose:{FAR}")
    assert said.count("REACHED after") == 2 and "energy" in said


def test_a_goal_that_is_not_reached_ends_with_code_3_and_nothing_moves_while_not_enabled(graph: Graph, probe: Probe) -> None:
    domain = ["--domain", str(graph.domain)]
    assert goal.main(["--pose=2,0,0.8", "--enable", *domain]) == 3
    probe.call("safety/enable", False)
    wait_until(lambda: not probe.last["safety/state"].enabled, 15.0, "disabled")
    with pytest.raises(UserError, match="not enabled: the arm would not move"):
        goal.main([f"--pose={NEAR}", *domain])


def test_ctrl_c_cancels_the_goal_and_the_arm_stands(graph: Graph, probe: Probe, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "dark.png"), np.zeros((240, 320, 3), np.uint8))  # never reached
    command = [sys.executable, "-m", "wm_bridge.cli.main", "goal", "--image", str(tmp_path / "dark.png"), "--tolerance", "0.000001", "--timeout", "60", "--enable"]
    with subprocess.Popen(command, env=graph.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as program:
        wait_until(lambda: probe.speed() > 0.02, 30.0, "the arm moves")
        program.send_signal(signal.SIGINT)
        said, _ = program.communicate(timeout=30.0)
    assert program.returncode == 130 and "cancelled: the arm stands" in said, said
    assert probe.speed() == 0.0 and rests(probe)


# The page ---------------------------------------------------------------------------------------


def test_a_wrong_token_is_refused_and_the_right_one_opens_the_page(program: Any) -> None:
    server = serve("127.0.0.1", 0, "right-token-1")
    found = program.new_page()
    try:
        url = f"http://localhost:{server.get_port()}/"
        assert found.goto(url, timeout=60_000).status == 401
        found.get_by_role("textbox").fill("wrong-token-1")
        found.get_by_role("button", name="Open").click()
        found.get_by_text("The token is wrong").wait_for(timeout=60_000)
        found.get_by_role("textbox").fill("right-token-1")
        found.get_by_role("button", name="Open").click()
        wait_until(server.get_clients, 30.0, "the page connects")
        assert found.url == url, "the token does not stay in the address"
    finally:
        found.close()
        server.stop()


def test_a_change_of_the_scene_is_drawn_and_then_the_browser_rests(program: Any) -> None:
    server = serve("127.0.0.1", 0)
    server.gui.add_button("STOP")
    found, errors = open_page(program, f"http://localhost:{server.get_port()}")

    def drawn() -> int:
        return int(found.evaluate("__viserTestpoints.rendererInfo.render.frame"))

    try:
        wait_until(lambda: found.evaluate("__viserMutable.requestRender.name") == "drawOnce", 60.0, "viser is made as draw.js expects it")
        box = server.scene.add_box("/box")
        found.wait_for_timeout(2_000)
        before = drawn()
        for step in range(20):
            box.position = (0.01 * step, 0.0, 0.0)
            found.wait_for_timeout(100)
        assert 5 <= drawn() - before <= 50, "at each refresh of the screen that would be 120"
        assert errors == []
    finally:
        found.close()
        server.stop()


def test_the_page_shows_the_state_the_picture_and_the_nodes(page: Any, probe: Probe) -> None:
    probe.call("safety/stop")
    says(page, "LATCHED")
    says(page, "not enabled")
    wait_until(lambda: page.evaluate("document.querySelector('img[src^=blob]').naturalWidth") == 320, 15.0, "the camera's picture")
    tab(page, "Nodes")
    for name in ("camera", "planner", "safety"):
        page.get_by_role("cell", name=name, exact=True).wait_for(timeout=60_000)
    tab(page, "Now")


def test_a_reset_is_asked_for_twice_and_the_safety_node_enables(page: Any, probe: Probe) -> None:
    press(page, "RESET ...")
    press(page, "No")
    assert not probe.fresh("safety/state").enabled

    def enabled() -> bool:
        """Again, as often as a busy machine needs it."""
        press(page, "RESET ...")
        press(page, "Yes, RESET")
        says(page, "RESET:")
        press(page, "ENABLE")
        says(page, "ENABLE:")
        return bool(probe.fresh("safety/state").enabled)

    wait_until(enabled, 60.0, "enabled")


def test_a_goal_given_in_the_page_is_reached_and_robot_and_picture_move(page: Any, probe: Probe, graph: Graph) -> None:
    if not probe.last["safety/state"].enabled:  # a busy machine may have latched meanwhile
        probe.enable()
    picture = camera_picture(page)
    before = canvas(page, graph.run_dir / "before.png")
    still = np.abs(canvas(page, graph.run_dir / "still.png") - before).max(axis=2) > 60
    tab(page, "Goal")
    press(page, "Bring the tool to the gizmo")
    says(page, "goal: REACHED")
    moved = np.abs(canvas(page, graph.run_dir / "after.png") - before).max(axis=2) > 60
    assert moved.sum() > still.sum() + 300, "the arm covers other pixels"
    tab(page, "Now")
    assert camera_picture(page) != picture
    page.screenshot(path=str(graph.run_dir / "view.png"))


def test_the_kept_picture_is_a_goal(page: Any, probe: Probe) -> None:
    tab(page, "Goal")
    press(page, "Take the current picture")
    says(page, "the picture is kept")
    goals = probe.count["wm/goal"]
    press(page, "Go to the kept picture")
    wait_until(lambda: probe.count["wm/goal"] > goals, 20.0, "the planner takes the goal")
    press(page, "Cancel the goal")
    says(page, re.compile("goal: (CANCELED|REACHED)"))  # it is there already


def test_stop_in_the_page_stops_the_moving_arm(page: Any, probe: Probe) -> None:
    tab(page, "Goal")
    picture = probe.fresh("camera/image_raw")
    picture.data = bytes(255 - np.frombuffer(picture.data, np.uint8))  # never reached
    probe.enable()
    probe.send_goal(picture, tolerance_m=1e-9, timeout_s=60.0)
    wait_until(lambda: probe.speed() > 0.02, 20.0, "the arm moves")
    press(page, "STOP")
    wait_until(lambda: "STOP_REQUEST" in probe.last["safety/verdict"].reason_names, 15.0, "the safety node stops")
    wait_until(lambda: probe.last["safety/verdict"].mode == SafetyMode.LATCHED, 15.0, "latched")
    wait_until(lambda: probe.speed() == 0.0 and rests(probe), 15.0, "the arm stands")
    says(page, "STOP: ")
    says(page, "STOP_REQUEST")
