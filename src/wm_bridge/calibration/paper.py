"""The board on paper, in its true size."""

from __future__ import annotations

from pathlib import Path

from wm_bridge.calibration.board import Board, CalibrationError

_PAPERS = {"A4": (297.0, 210.0), "A3": (420.0, 297.0), "A2": (594.0, 420.0), "letter": (279.4, 215.9)}  # mm, landscape
_MARGIN_MM, _TEXT_MM = 8.0, 12.0
_MM = 1.0 / 25.4  # inches
_DPI = 300


def print_board(board: Board, path: Path, paper: str = "") -> str:
    """Write a PDF, or a PNG of 300 dots per inch, with a ruler to check the printer with.

    Args:
        paper: A4, A3, A2 or letter; "" = the smallest that fits.

    Returns:
        The paper.

    Raises:
        CalibrationError: no such paper, too small for the board, or a file that cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if path.suffix.lower() not in (".pdf", ".png"):
        raise CalibrationError(f"{path} is no .pdf or .png", "--print-board board.pdf", 2)
    if paper and paper not in _PAPERS:
        raise CalibrationError(f"there is no paper {paper!r}", f"one of {', '.join(_PAPERS)}", 2)
    width, height = (1e3 * size for size in board.size_m)
    fitting = [name for name, (w, h) in _PAPERS.items() if width + 2 * _MARGIN_MM <= w and height + 2 * _MARGIN_MM + _TEXT_MM <= h]
    chosen = paper or (fitting[0] if fitting else "")
    if chosen not in fitting:
        raise CalibrationError(
            f"a board of {width:g} x {height:g} mm does not fit on {paper or 'any of ' + ', '.join(_PAPERS)} with margin and ruler",
            f"larger paper ({', '.join(fitting) or 'none'}), fewer or smaller squares", 2,
        )  # fmt: skip
    w, h = _PAPERS[chosen]
    figure = Figure(figsize=(w * _MM, h * _MM), dpi=_DPI)
    FigureCanvasAgg(figure)
    left, low = (w - width) / 2, _TEXT_MM + (h - _TEXT_MM - height) / 2
    axes = figure.add_axes((left / w, low / h, width / w, height / h))
    axes.imshow(board.picture(60), cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="auto")
    axes.axis("off")
    page = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    page.set(xlim=(0.0, w), ylim=(0.0, h))
    page.axis("off")
    page.plot([left, left + 100.0], [8.0, 8.0], color="black", linewidth=0.5)
    for tick in range(11):
        page.plot([left + 10.0 * tick] * 2, [8.0, 10.5 if tick % 5 == 0 else 9.5], color="black", linewidth=0.5)
    page.text(left + 103.0, 7.2, "100 mm: print at 100 %, then measure this ruler and ten squares", fontsize=7)
    page.text(left, 3.2, describe(board), fontsize=7)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise CalibrationError(f"cannot write {path}: {error.strerror}", "choose a writable folder", 2) from error
    return chosen


def describe(board: Board) -> str:
    """The arguments that say which board it is."""
    legacy = " --legacy" if board.legacy else ""
    return f"--squares {board.columns}x{board.rows} --square-mm {1e3 * board.square_m:g} --marker-mm {1e3 * board.marker_m:g} --dictionary {board.dictionary}{legacy}"
