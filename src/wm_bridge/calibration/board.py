"""The ChArUco board: what it is, and where its corners are in a picture.

A chessboard whose white squares carry ArUco markers: every corner has a number, so half a board is enough
(Garrido-Jurado et al. 2014; OpenCV's aruco module).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from wm_bridge.core.types import FloatArray, ImageArray, frozen_array
from wm_bridge.errors import UserError

LEAST_CORNERS = 8  # of a view that counts


class CalibrationError(UserError):
    """No calibration can be had from these views; says what to do about it."""


@dataclass(frozen=True)
class Seen:
    """The board in one picture.

    Attributes:
        name: of the picture.
        ids: (N,) numbers of the corners. corners: (N, 2) pixels.
        size: width and height of the picture, pixels.
    """

    name: str
    ids: np.ndarray
    corners: FloatArray
    size: tuple[int, int]


@dataclass(frozen=True)
class Board:
    """A ChArUco board.

    Attributes:
        columns, rows: squares. square_m, marker_m: edges of a square and of a marker, m.
        dictionary: of the markers, as in ``cv2.aruco.DICT_4X4_50``.
        legacy: printed by a program older than OpenCV 4.6, with an even number of rows.
    """

    columns: int = 8
    rows: int = 6
    square_m: float = 0.03
    marker_m: float = 0.022
    dictionary: str = "4X4_50"
    legacy: bool = False

    def __post_init__(self) -> None:
        if not (3 <= self.columns <= 40 and 3 <= self.rows <= 40):
            raise CalibrationError(f"a board has 3 to 40 squares per side, got {self.columns}x{self.rows}", "--squares 8x6", 2)
        if not 0.0 < self.marker_m < self.square_m <= 1.0:
            raise CalibrationError(
                f"markers of {self.marker_m * 1e3:g} mm do not fit into squares of {self.square_m * 1e3:g} mm",
                "measure both on the board: --square-mm 30 --marker-mm 22", 2,
            )  # fmt: skip
        names = sorted(name.removeprefix("DICT_") for name in dir(cv2.aruco) if name.startswith("DICT_"))
        if self.dictionary not in names:
            raise CalibrationError(f"there is no dictionary {self.dictionary!r}", f"one of {', '.join(names)}", 2)
        held = len(self._dictionary.bytesList)
        if self.columns * self.rows // 2 > held:
            raise CalibrationError(
                f"{self.columns}x{self.rows} squares need {self.columns * self.rows // 2} markers, {self.dictionary} has {held}", "a larger dictionary", 2
            )

    @cached_property
    def cv(self) -> Any:
        """The same as OpenCV has it."""
        made = cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_m, self.marker_m, self._dictionary)
        made.setLegacyPattern(self.legacy)
        return made

    @property
    def points(self) -> FloatArray:
        """(C, 3) corners in the board's frame, m: origin at the top left, x right, y down, z into the board."""
        return np.asarray(self.cv.getChessboardCorners(), dtype=float)

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height of all squares, m."""
        return self.columns * self.square_m, self.rows * self.square_m

    def picture(self, pixels_per_square: int) -> ImageArray:
        """(H, W) uint8 of the board without margin."""
        return np.asarray(self.cv.generateImage((self.columns * pixels_per_square, self.rows * pixels_per_square), marginSize=0), np.uint8)

    def find(self, picture: ImageArray, name: str = "") -> Seen | str:
        """Look for the board.

        Args:
            picture: (H, W, 3) uint8 RGB.

        Returns:
            Its corners, or in a few words why there are none.
        """
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        corners, ids, _, markers = self._detector.detectBoard(grey)
        if ids is not None and len(ids) >= LEAST_CORNERS and self._spans(np.ravel(ids)):
            flat = np.asarray(corners, dtype=float).reshape(-1, 2)
            return Seen(name, np.ravel(ids), frozen_array(flat), (picture.shape[1], picture.shape[0]))
        if ids is not None and len(ids):
            return f"only {len(ids)} corners of the board are seen"
        return f"{len(markers)} markers are seen, but not as on this board" if markers is not None and len(markers) else "no marker is seen"

    def _spans(self, ids: np.ndarray) -> bool:
        """The corners are not all in one line."""
        return len(set(ids // (self.columns - 1))) > 1 and len(set(ids % (self.columns - 1))) > 1

    @property
    def _dictionary(self) -> Any:
        return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{self.dictionary}"))

    @cached_property
    def _detector(self) -> Any:
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_NONE  # the chessboard's corners are refined anyhow
        return cv2.aruco.CharucoDetector(self.cv, cv2.aruco.CharucoParameters(), parameters)


def find_all(board: Board, pictures: list[tuple[str, ImageArray]]) -> tuple[list[Seen], dict[str, str]]:
    """The board in each picture; and by name why it is not in the others."""
    found, without = [], {}
    for name, picture in pictures:
        seen = board.find(picture, name)
        if isinstance(seen, Seen):
            found.append(seen)
        else:
            without[name] = seen
    return found, without


def require(found: int, least: int, board: Board, without: dict[str, str]) -> None:
    """Raise when the board was seen in too few pictures, with the likeliest reason."""
    if found >= least:
        return
    reasons = list(without.values())
    text = f"the board is seen in {found} of {found + len(reasons)} pictures, at least {least} are needed"
    if any("not as on this board" in reason for reason in reasons):
        remedy = (
            f"this is another board than {board.columns}x{board.rows} squares of {board.dictionary}: give --squares, --dictionary"
            + ("" if board.rows % 2 else ", or --legacy for one printed before 2022")
        )
    elif any("only" in reason for reason in reasons):
        remedy = "hold it so that most of it is in the picture, sharp and without glare"
    elif reasons:
        remedy = "light it evenly, hold it still and closer; is it a ChArUco board? ./wm calibrate-camera --print-board board.pdf makes one"
    else:
        remedy = "take more pictures, each with the board in another place and at another angle"
    raise CalibrationError(text + (f" ({reasons[0]})" if reasons else ""), remedy)
