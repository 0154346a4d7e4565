"""A plain page: a title and parts of HTML one after the other."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_STYLE = (
    "body{font-family:sans-serif;max-width:70em;margin:2em auto}.note{background:#fff3cd;padding:.4em}"
    "td{border-bottom:1px solid #ddd;padding:.2em .6em}img{max-width:100%}"
)


def write_sheet(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write the page: one file with everything in it."""
    name = html.escape(title)
    path.write_text(f"<!doctype html><meta charset=utf-8><title>{name}</title><style>{_STYLE}</style><h1>{name}</h1>{''.join(parts)}", encoding="utf-8")


def figure_uri(figure: Any) -> str:
    """A matplotlib figure as a data address."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=90)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
