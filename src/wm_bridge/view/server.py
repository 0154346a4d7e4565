"""A viser server whose every request passes a gate."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import viser
import websockets.asyncio.server
from viser import _messages
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from wm_bridge.errors import UserError
from wm_bridge.view.gate import Gate, check_host
from wm_bridge.view.threads import use_loop_events

_SLOW_S = 0.5  # before a wrong token is answered
_PATCHING = threading.Lock()
_HEAD = b"<head>"
_SCRIPT = b"<script>" + Path(__file__).with_name("draw.js").read_bytes() + b"</script>"


def serve(host: str, port: int, token: str = "") -> viser.ViserServer:
    """Start the server; from the first request on, ``Gate`` judges all of them.

    viser offers no authentication. It hands each request to a function that may answer it (``process_request``
    of the websockets library); here that function asks the gate first. When viser should ever stop to do so,
    nothing is served at all. viser's own way to publish a page through a public server is closed.

    Args:
        host: to listen at. port: 0 = any free one. token: needed for a host that others reach.

    Raises:
        UserError: such a host without a token, or a port that is in use.
    """
    check_host(host, token)
    use_loop_events()
    gate = Gate(token, f"wm_view_{port}")
    with _gated(gate) as used:
        server = viser.ViserServer(host=host, port=port, verbose=False)
    if not used:
        server.stop()
        raise RuntimeError("viser no longer serves through websockets.asyncio.server.serve: the page would be open to everybody")
    for kind in (_messages.ShareUrlRequest, _messages.ShareUrlDisconnect):
        server._websock_server.unregister_handler(kind)
    # Reflections and shadows cost a browser without a GPU nine tenths of its frames.
    server.scene.configure_environment_map(hdri=None)
    server.scene.configure_default_lights(cast_shadow=False)
    server.gui.configure_theme(show_logo=False, show_share_button=False)
    if port not in (0, server.get_port()):
        server.stop()
        raise UserError(f"port {port} of {host} is in use", "another view may be running; choose another: --port N", 2)
    return server


@contextmanager
def _gated(gate: Gate) -> Iterator[list[bool]]:
    """Within, servers of the websockets library ask the gate, and add to the page; the list says that one was made."""
    made: list[bool] = []
    original = websockets.asyncio.server.serve

    def gated(*arguments: Any, process_request: Any, **keywords: Any) -> Any:
        async def judged(connection: Any, request: Request) -> Response | None:
            answer = await _answer(gate, request)
            return _with_script(process_request(connection, _plain(request))) if answer is None else answer

        made.append(True)
        return original(*arguments, process_request=judged, **keywords)

    with _PATCHING:
        websockets.asyncio.server.serve = gated  # type: ignore[assignment,misc]
        try:
            yield made
        finally:
            websockets.asyncio.server.serve = original  # type: ignore[misc]


async def _answer(gate: Gate, request: Request) -> Response | None:
    """What the gate answers; None = the request may go on."""
    judgement = gate.judge(request.path, _single(request.headers))
    if judgement.passes:
        return None
    if judgement.status == 403:
        await asyncio.sleep(_SLOW_S)
    body = judgement.body.encode()
    headers = Headers({"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body)), "Cache-Control": "no-store"})
    for name, value in (judgement.headers or {}).items():
        headers[name] = value
    return Response(judgement.status, {303: "See Other", 401: "Unauthorized"}.get(judgement.status, "Forbidden"), headers, body)


def _plain(request: Request) -> Request:
    """The request, its answer not to be compressed."""
    request.headers.pop("Accept-Encoding", None)
    return request


def _with_script(answer: Response | None) -> Response | None:
    """viser's page with draw.js; all else as it is."""
    if answer is not None and answer.body and _HEAD in answer.body:
        answer.body = answer.body.replace(_HEAD, _HEAD + _SCRIPT, 1)
        del answer.headers["Content-Length"]
        answer.headers["Content-Length"] = str(len(answer.body))
    return answer


def _single(headers: Headers) -> dict[str, str]:
    """Headers by lower-case name; one that comes twice is joined, so that it can match nothing."""
    found: dict[str, str] = {}
    for name, value in headers.raw_items():
        key = name.lower()
        found[key] = f"{found[key]}; {value}" if key in found else value
    return found
