"""All pages of the site as Markdown: those of the repository with links that fit, and those made from the code.

Pages are written for readers of the repository: a link leads to a file beside it. In the site a link to a page leads to that page,
one to a source leads to the page that is made from it, and one to any other file of the repository becomes plain text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from wm_bridge.docs import messages, parameters, settings, tables
from wm_bridge.errors import UserError

HOME = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
MADE: dict[str, Callable[[Path], str]] = {
    "examples.md": tables.examples_page,
    "adr/index.md": tables.decisions_page,
    "reference/commands.md": lambda _: tables.commands_page(),
    "reference/topics.md": lambda _: tables.topics_page(),
    "reference/messages.md": messages.page,
    "reference/parameters.md": parameters.page,
    "reference/safety-settings.md": settings.safety_page,
    "reference/search-settings.md": lambda _: settings.search_page(),
}
SOURCES = {  # what a page is made from
    "examples": "examples.md",
    "src/wm_bridge/cli/commands.py": "reference/commands.md",
    "src/wm_bridge/ros/qos.py": "reference/topics.md",
    messages.PACKAGE: "reference/messages.md",
    "src/wm_bridge/nodes": "reference/parameters.md",
    "config/safety.yaml": "reference/safety-settings.md",
    "config/compact_planner.yaml": "reference/search-settings.md",
    "docs/adr": "adr/index.md",
}
BLOCKS: dict[str, Callable[[], str]] = {"<!-- doctor -->": tables.doctor_table}  # put in the place of these words
_FENCE = re.compile(r"^( *)(```|~~~)")
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]\[]*(?:\[[^\]]*\][^\]\[]*)*)\]\((?P<target>[^)\s]+)\)")
_ITEM = re.compile(r" *([-*]|\d+\.) ")


def site(root: Path) -> dict[str, str]:
    """Text of each page by its path in the site.

    Raises:
        UserError: a link that leads nowhere; it names all of them.
    """
    sources = {name: page for name, page in HOME.items()}
    sources |= {str(file.relative_to(root)): str(file.relative_to(root / "docs")) for file in sorted((root / "docs").rglob("*.md"))}
    broken: list[str] = []
    pages = {page: _fitted(root, name, page, sources, broken) for name, page in sources.items()}
    if broken:
        raise UserError("\n".join(broken), "links are written from the page's own folder, to a file of the repository")
    return pages | {name: make(root) for name, make in MADE.items()}


def _fitted(root: Path, name: str, page: str, sources: dict[str, str], broken: list[str]) -> str:
    """A page of the repository as a page of the site."""
    lines: list[str] = []
    fence = ""
    for line in (root / name).read_text(encoding="utf-8").splitlines():
        mark = _FENCE.match(line)
        if mark and fence in ("", mark[2]):
            fence = "" if fence else mark[2]
        elif not fence:
            line = BLOCKS[line]() if line in BLOCKS else _LINK.sub(lambda found: _link(root, name, page, sources, found, broken), line)
            if _ITEM.match(line) and lines and lines[-1].strip() and not (_ITEM.match(lines[-1]) or lines[-1].startswith(" ")):
                lines.append("")  # Python-Markdown wants an empty line before a list
        lines.append(line)
    return "\n".join(lines) + "\n"


def _link(root: Path, name: str, page: str, sources: dict[str, str], found: re.Match[str], broken: list[str]) -> str:
    target, _, anchor = found["target"].partition("#")
    if not target or "://" in target:
        return found[0]
    path = os.path.normpath(PurePosixPath(name).parent / target)
    if not (root / path).exists():
        broken.append(f"{name}: {found['target']} leads nowhere")
        return found[0]
    there = sources.get(path) or SOURCES.get(path)
    if there is None and path.startswith("docs/") and (root / path).is_file():
        there = path.removeprefix("docs/")
    if there is None and path.startswith("examples/"):
        there, anchor = "examples.md", Path(path).stem
    if there is None:
        return found["text"]
    away = os.path.relpath(there, PurePosixPath(page).parent)
    return f"{found['image']}[{found['text']}]({away}{f'#{anchor}' if anchor else ''})"
