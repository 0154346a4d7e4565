"""The browser view without a browser: what is shown, in which words, and who may open the page."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import viser
from conftest import ROOT, wait_until
from viser import _messages
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from wm_interfaces.msg import SafetyInterventions

from wm_bridge.core.shades import shades
from wm_bridge.errors import UserError
from wm_bridge.ros.watched import Interventions
from wm_bridge.view import server as serving
from wm_bridge.view.gate import Gate, check_host
from wm_bridge.view.looks import link_paths, shapes
from wm_bridge.view.shown import SILENT_S, History, Intervention, NodeHealth, Numbers, Safety, Shown
from wm_bridge.view.stage import _edges, meets
from wm_bridge.view.threads import LoopEvent
from wm_bridge.view.words import interventions_text, nodes_text, numbers_text, plain, state_text

TOKEN = "a-long-enough-token"
SAFETY = Safety("LIMITED", ("WORKSPACE",), True, False, "at the border", 3, 0.1, 0.2, 120.0, 80.0)

# What is shown ----------------------------------------------------------------------------------


def test_curves_go_back_a_span_and_begin_anew_when_time_runs_backwards() -> None:
    history = History(span_s=10.0)
    for second in range(30):
        history.add(float(second), 100.0 - second, 0.5)
    ago, energy, distance = history.columns()
    assert ago[0] == -10.0 and ago[-1] == 0.0 and energy[-1] == 71.0 and (distance == 50.0).all()
    history.add(3.0, 1.0, 0.1)
    assert history.columns()[0].tolist() == [0.0] and history.count == 31


def test_an_empty_history_has_empty_columns() -> None:
    assert [column.size for column in History().columns()] == [0, 0, 0]


def test_the_state_says_mode_and_reasons_and_whether_it_is_enabled() -> None:
    text = state_text(Shown(safety=SAFETY))
    assert "LIMITED" in text and "WORKSPACE" in text and "at the border" in text and "not enabled" not in text
    assert "**not enabled**" in state_text(Shown(safety=replace(SAFETY, enabled=False)))


@pytest.mark.parametrize("age_s", [SILENT_S, 60.0, float("nan")])
def test_an_old_state_is_never_shown_as_the_present_one(age_s: float) -> None:
    text = state_text(Shown(safety=replace(SAFETY, mode="NORMAL", age_s=age_s)))
    assert text.startswith("## SILENT")
    assert state_text(Shown()).startswith("## no safety node")


def test_numbers_that_are_not_known_are_dashes() -> None:
    numbers = Numbers(0.25, float("nan"), 0.5, 43.0, float("nan"), "UNKNOWN", "", 0.1)
    rows = dict(line.strip("| ").split(" | ")[:2] for line in numbers_text(Shown(numbers=numbers, safety=SAFETY)).splitlines()[2:])
    assert rows["to the goal"] == "-" and rows["trust"].startswith("- UNKNOWN") and rows["energy"] == "0.250"
    assert rows["picture to command"] == "80 ms" and rows["joint to its limit"] == "0.20 rad"


def test_a_silent_node_is_told_apart_from_a_healthy_one() -> None:
    text = nodes_text((NodeHealth("planner", 0, "running", {"plans": 10.0}, 0.5), NodeHealth("camera", 0, "running", {}, 9.0)))
    camera, planner = text.splitlines()[2:]
    assert "**silent for 9 s**" in camera and "fine" in planner and "plans 10 Hz" in planner


def test_texts_of_others_cannot_become_markup() -> None:
    assert "<" not in plain("<script>x</script> [a](javascript:b) | *c*").replace("&lt;", "")
    assert plain("a | b") == "a \\| b" and plain("[a](b)") == "\\[a\\](b)"


def test_interventions_of_one_cause_are_one_row_with_the_worst_of_each() -> None:
    found = Interventions()
    message = SafetyInterventions(
        joint_names=["a", "b"],
        stamp_ns=[0, 10**7, 2 * 10**7, 9 * 10**9],
        mode=bytes([1, 1, 1, 3]),
        reasons=[1 << 22, 1 << 22, 1 << 22, 1 << 13],
        before=[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5],
        after=[0.0, 0.1, 0.0, -0.4, 0.2, 0.0, 0.5, 0.5],
        distance=[0.05, 0.03, 0.04, float("nan")],
        margin=[0.02, 0.02, 0.02, float("nan")],
    )
    found.hear(message)
    row, stop = found.rows()
    assert (row.ticks, row.joint, row.change_rad, row.distance_m) == (3, "b", 0.4, 0.03)
    assert row.reasons == ("WORKSPACE",) and stop.reasons == ("STOP_REQUEST",) and stop.mode == "BRAKE"
    message.before = [0.0]
    found.hear(message)
    assert len(found.rows()) == 2, "arrays that do not fit are left out"
    text = interventions_text(found.rows()).splitlines()
    assert "STOP_REQUEST" in text[2] and "3.0 of 2.0 cm" in text[3] and "b 0.400 rad" in text[3]
    assert interventions_text(()) == "no interventions seen"
    assert isinstance(row, Intervention)


def test_the_lowest_energy_is_green_and_one_that_is_not_finite_grey() -> None:
    found = shades(np.array([2.0, 1.0, np.nan]))
    assert found[1, 1] == 1.0 and found[1, 0] == 0.0 and found[0, 0] == 1.0
    assert found[2].tolist() == [0.5, 0.5, 0.5, 0.3]


# The scene --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nico", "arm6"])
def test_every_visual_of_our_robots_is_drawn_at_a_link_that_hangs_on_the_root(name: str) -> None:
    text = (ROOT / "urdf" / f"{name}.urdf").read_text()
    found, paths = shapes(text), link_paths(text)
    assert len(found) == text.count("<visual")
    assert {shape.link for shape in found} <= set(paths)
    for link, path in paths.items():
        assert path.endswith(link) and path.split("/")[0] == next(iter(paths)), "parents come first, one root"


def test_shapes_have_the_sizes_and_colours_of_the_description() -> None:
    text = """<robot name="r"><material name="m"><color rgba="1 0.5 0 1"/></material><link name="l">
    <visual><origin xyz="1 2 3" rpy="0 0 1.5707963"/><geometry><cylinder radius="0.1" length="0.4"/></geometry><material name="m"/></visual>
    <visual><geometry><mesh filename="x.stl"/></geometry></visual></link></robot>"""
    (found,) = shapes(text)
    assert (found.kind, found.size.tolist(), found.colour) == ("cylinder", [0.1, 0.4], (1.0, 0.5, 0.0))
    np.testing.assert_allclose(found.wxyz, [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-6)
    with pytest.raises(UserError, match="cannot be read"):
        shapes("<robot>")


def test_a_click_meets_the_table_in_front_of_the_eye_only() -> None:
    down = np.array([0.3, 0.0, -1.0])
    np.testing.assert_allclose(meets(np.array([0.0, 0.0, 1.0]), down, 0.5), [0.15, 0.0, 0.5])
    assert meets(np.array([0.0, 0.0, 0.2]), down, 0.5) is None
    assert meets(np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]), 0.5) is None


def test_a_box_has_twelve_edges_of_the_right_lengths() -> None:
    edges = _edges(np.zeros(3), np.array([1.0, 2.0, 3.0]))
    lengths = sorted(np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1).tolist())
    assert lengths == [1.0] * 4 + [2.0] * 4 + [3.0] * 4


# Who may open the page --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "path", "headers", "status"),
    [
        ("", "/", {"host": "localhost:8080"}, 200),
        ("", "/", {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}, 200),
        ("", "/", {"host": "[::1]:8080"}, 200),
        ("", "/", {"host": "evil.example:8080"}, 403),  # another name for this machine
        ("", "/", {}, 403),
        ("", "/", {"host": "localhost:8080", "origin": "http://evil.example"}, 403),  # a page of another site
        ("", "/", {"host": "localhost:8080", "origin": "http://localhost:9999"}, 403),
        ("", "/", {"host": "localhost:8080", "origin": "null"}, 403),
        (TOKEN, "/", {"host": "robot:8080"}, 401),
        (TOKEN, "/?token=wrong", {"host": "robot:8080"}, 403),
        (TOKEN, f"/?token={TOKEN}", {"host": "robot:8080"}, 303),
        (TOKEN, "/", {"host": "robot:8080", "cookie": f"wm_view={TOKEN.encode().hex()}"}, 200),
        (TOKEN, "/", {"host": "robot:8080", "cookie": f"other=1; wm_view={TOKEN.encode().hex()}"}, 200),
        (TOKEN, "/", {"host": "robot:8080", "cookie": f"wm_view={TOKEN}"}, 401),
        (TOKEN, "/", {"host": "robot:8080", "cookie": "wm_view="}, 401),
        (TOKEN, "/", {"host": "robot:8080", "cookie": f"wm_view={TOKEN.encode().hex()}", "origin": "http://evil.example"}, 403),
        (TOKEN, "/", {"host": "localhost:8080"}, 401),  # this machine has other users
    ],
)
def test_the_gate_lets_in_who_may(token: str, path: str, headers: dict[str, str], status: int) -> None:
    assert Gate(token).judge(path, headers).status == status


def test_a_right_token_becomes_a_cookie_that_scripts_cannot_read_and_leaves_the_address() -> None:
    answer = Gate(TOKEN, "wm_view_1").judge(f"/?token={TOKEN}", {"host": "robot"})
    assert answer.headers is not None and answer.headers["Location"] == "/"
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in answer.headers["Set-Cookie"].split(";")}


@pytest.mark.parametrize("token", ["short", "twelve chars with \n", "zwölf oder mehr"])
def test_a_token_that_is_easy_to_guess_or_hard_to_send_is_refused(token: str) -> None:
    with pytest.raises(UserError, match="12 or more"):
        Gate(token)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "robot.local", ""])
def test_other_machines_are_served_with_a_token_only(host: str) -> None:
    with pytest.raises(UserError, match="open to everybody"):
        check_host(host, "")
    check_host(host, TOKEN)
    check_host("127.0.0.1", "")
    with pytest.raises(UserError, match="open to everybody"):
        serving.serve("0.0.0.0", 0)


@pytest.fixture(scope="module")
def guarded() -> Iterator[viser.ViserServer]:
    server = serving.serve("127.0.0.1", 0, TOKEN)
    yield server
    server.stop()


def get(server: viser.ViserServer, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.get_port(), timeout=10)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def test_the_server_serves_nothing_without_the_token(guarded: viser.ViserServer) -> None:
    asked, wrong, right = (get(guarded, path) for path in ("/", "/?token=wrong-wrong-wrong", f"/?token={TOKEN}"))
    assert (asked.status, wrong.status, right.status) == (401, 403, 303)
    assert "The token is wrong" in wrong.read().decode() and b"viser" not in asked.read()
    cookie = str(right.headers["Set-Cookie"]).split(";")[0]
    page = get(guarded, "/", **{"Cookie": cookie, "Accept-Encoding": "gzip"})
    body = page.read()
    assert page.status == 200 and len(body) == int(page.headers["Content-Length"]) > 100_000
    assert body.count(b"requestRender = drawOnce") == 1, "the page draws its scene when that changed, not all the time"
    port = guarded.get_port()
    for headers, code in (({}, 401), ({"Cookie": cookie, "Origin": "http://evil.example"}, 403)):
        with pytest.raises(InvalidStatus) as caught:
            connect(f"ws://127.0.0.1:{port}", subprotocols=[f"viser-v{viser.__version__}"], additional_headers=headers)
        assert caught.value.response.status_code == code
    with connect(f"ws://127.0.0.1:{port}", subprotocols=[f"viser-v{viser.__version__}"], additional_headers={"Cookie": cookie}) as socket:
        assert socket.recv(timeout=10)


def test_a_page_cannot_publish_itself_through_a_public_server(guarded: viser.ViserServer) -> None:
    handlers = guarded._websock_server._incoming_handlers
    assert handlers and not {_messages.ShareUrlRequest, _messages.ShareUrlDisconnect} & set(handlers)


def test_a_port_in_use_is_named(guarded: viser.ViserServer) -> None:
    with pytest.raises(UserError, match=f"port {guarded.get_port()} of 127.0.0.1 is in use"):
        serving.serve("127.0.0.1", guarded.get_port())


def test_nothing_is_served_when_viser_would_not_ask_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        stopped = False

        def __init__(self, **_: object) -> None:
            pass

        def stop(self) -> None:
            Other.stopped = True

    monkeypatch.setattr(serving.viser, "ViserServer", Other)
    with pytest.raises(RuntimeError, match="open to everybody"):
        serving.serve("127.0.0.1", 0)
    assert Other.stopped


def test_a_message_from_another_thread_wakes_the_page_and_touches_no_list_of_the_loop() -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        event = asyncio.run_coroutine_threadsafe(made_event(), loop).result(10)
        waiting = asyncio.run_coroutine_threadsafe(event.wait(), loop)
        wait_until(lambda: event._waiters, 10.0, "somebody waits")
        event.set()
        (waiter,) = event._waiters
        assert event.is_set() and not waiter.done(), "marked, and nobody was woken from outside"
        loop.call_soon_threadsafe(event.set)
        assert waiting.result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def made_event() -> LoopEvent:
    return LoopEvent()


def test_the_servers_buffers_have_such_events(guarded: viser.ViserServer) -> None:
    assert isinstance(guarded._websock_server._broadcast_buffer.message_event, LoopEvent)
