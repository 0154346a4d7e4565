"""Who may open the page. Pure: a request's path and headers in, a judgement out."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from wm_bridge.errors import UserError

SHORTEST = 12  # characters of a token
_ASK = (
    "<!doctype html><meta charset=utf-8><title>wm view</title><style>body{{font:16px sans-serif;margin:4em}}</style>"
    "<h1>wm view</h1><p>{why}</p><form method=get action=/><input name=token type=password autofocus> <button>Open</button></form>"
)


@dataclass(frozen=True)
class Judgement:
    """What is answered to a request.

    Attributes:
        status: 200 = go on to the page; else an HTTP status that ends the request.
        body: HTML. headers: to be sent along.
    """

    status: int
    body: str = ""
    headers: Mapping[str, str] | None = None

    @property
    def passes(self) -> bool:
        """True when the request may go on."""
        return self.status == 200


@dataclass(frozen=True)
class Gate:
    """Judges every request, the page's own connection included.

    Without a token only this machine is served, under one of its own names: another name that leads here (DNS
    rebinding) is refused. With one, it is asked for once (``?token=``, kept as a cookie that scripts cannot
    read). In both cases a connection that a page of another site opens is refused.

    Attributes:
        token: "" = none. cookie: its name.
    """

    token: str = ""
    cookie: str = "wm_view"

    def __post_init__(self) -> None:
        if self.token and (len(self.token) < SHORTEST or not self.token.isascii() or not self.token.isprintable()):
            raise UserError(f"the view's token must have {SHORTEST} or more printable ASCII characters", "./wm view --token makes one", 2)

    def judge(self, path: str, headers: Mapping[str, str]) -> Judgement:
        """Judge one request.

        Args:
            path: with its query. headers: by lower-case name.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return Judgement(403, "a page of another site may not open this connection")
        if not self.token:
            if is_local(urlsplit(f"//{host}").hostname or ""):
                return Judgement(200)
            return Judgement(403, "without a token this page is served as localhost only")
        given = parse_qs(urlsplit(path).query).get("token", [""])[-1]
        if given and self._is_token(given):
            kept = f"{self.cookie}={self._safe()}; Path=/; HttpOnly; SameSite=Strict"
            return Judgement(303, "", {"Location": "/", "Set-Cookie": kept})
        if self._is_token(_cookie(headers.get("cookie", ""), self.cookie), safe=True):
            return Judgement(200)
        why = "The token is wrong." if given else "This page needs the token that the view was started with."
        return Judgement(403 if given else 401, _ASK.format(why=why))

    def _is_token(self, given: str, safe: bool = False) -> bool:
        return hmac.compare_digest(given.encode(), (self._safe() if safe else self.token).encode())

    def _safe(self) -> str:
        """The token as a cookie may carry it."""
        return self.token.encode().hex()


def check_host(host: str, token: str) -> None:
    """Refuse to be seen from other machines without a token.

    Raises:
        UserError: with the remedy.
    """
    if not is_local(host) and not token:
        raise UserError(f"the view would be open to everybody who reaches {host}", "add --token: who opens the page has to know it", 2)


def is_local(host: str) -> bool:
    """True for names and addresses of this machine that no other machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _cookie(text: str, name: str) -> str:
    try:
        found = SimpleCookie(text).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value
