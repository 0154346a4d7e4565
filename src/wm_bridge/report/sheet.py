"""Pieces of a page: one HTML file with everything in it, also its pictures and plots."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import Any

from wm_bridge.core.types import ImageArray


def write_sheet(path: Path, title: str, notes: Sequence[str], body: Iterable[str]) -> None:
    """Write the page: title and notes are text, the body's parts are HTML."""
    template = Template(Path(__file__).with_name("sheet.html").read_text(encoding="utf-8"))
    shown = "".join(f'<p class="note">{html.escape(text)}</p>' for text in notes)
    path.write_text(template.substitute(title=html.escape(title), notes=shown, body="\n".join(body)), encoding="utf-8")


def table(rows: Iterable[tuple[object, object]]) -> str:
    """Rows of two texts as an HTML table."""
    return "<table>" + "".join(f"<tr><td>{html.escape(str(a))}</td><td>{html.escape(str(b))}</td></tr>" for a, b in rows) + "</table>"


def plot(figure: Any, alt: str) -> str:
    """A matplotlib figure as an HTML picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    return _inline("png", data.getvalue(), alt)


def photo(picture: ImageArray, alt: str, quality: int = 85) -> str:
    """(H, W, 3) uint8 RGB as an HTML picture."""
    import cv2

    good, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise ValueError(f"OpenCV cannot encode a {picture.shape} picture")
    return _inline("jpeg", data.tobytes(), alt)


def _inline(kind: str, data: bytes, alt: str) -> str:
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" alt="{html.escape(alt)}">'
