"""Chromium without a screen, driven by Playwright: for `./wm bench view` and the tests of the page."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wm_bridge.cli.system_packages import browser
from wm_bridge.errors import UserError

_FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # pictures without a GPU
WIDTH, HEIGHT = 1100, 640  # what a processor draws in time


@contextmanager
def chromium(niceness: int = 0) -> Iterator[Any]:
    """A running browser (``playwright.sync_api.Browser``); only this thread may use it.

    Args:
        niceness: how far it stands behind other programs.

    Raises:
        UserError: there is none on this machine, or nothing to drive it with.
    """
    path = browser()
    if path is None:
        raise UserError("Chromium is not installed", "sudo apt-get install -y chromium", 2)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UserError("playwright is not installed in this environment", "./wm test installs what tests need", 2) from error
    flags = _FLAGS + (["--no-sandbox"] if os.geteuid() == 0 else [])  # Chromium as root needs it
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        behind = Path(folder) / "chromium"
        behind.write_text(f"#!/bin/sh\nexec nice -n {niceness} {shlex.quote(path)} \"$@\"\n", encoding="utf-8")
        behind.chmod(0o755)
        program = playwright.chromium.launch(executable_path=behind, args=flags)
        try:
            yield program
        finally:
            program.close()


def open_page(program: Any, url: str, timeout_s: float = 120.0) -> tuple[Any, list[str]]:
    """A page of the view, laid out; and its errors, a list that goes on growing.

    A picture that is replaced before the browser has loaded it is no error: the newest one counts.
    """
    page, errors = program.new_page(viewport={"width": WIDTH, "height": HEIGHT}), []

    def hear(message: Any) -> None:
        if message.type == "error" and not message.location.get("url", "").startswith("blob:"):
            errors.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url, timeout=timeout_s * 1e3, wait_until="commit")
    page.get_by_role("button", name="STOP").wait_for(timeout=timeout_s * 1e3)
    return page, errors
