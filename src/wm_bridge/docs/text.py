"""Small pieces of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; `|` inside of a cell is kept as text."""
    lines = [list(head), ["---"] * len(head), *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def plain(text: str) -> str:
    """Text of a comment, in which `<name>` is no HTML."""
    return text.replace("<", "&lt;")


def code(text: str) -> str:
    """As code; nothing for nothing."""
    return f"`{text}`" if text else ""
