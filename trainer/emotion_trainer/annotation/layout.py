"""Where the panels go that tell of a picture's faces: beside them, and over none.

All boxes and sizes are in pixels of the picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge_daemon.records import Box

CELLS: Final = 24
"""Cells of the search grid along a panel's width; a cell is also the least gap."""

HEAD: Final = 0.15
"""How far a head reaches beyond its face's box on each side, in sides of the box."""

REACH: Final = 0.6
"""How far from its head a panel may be, in panel widths."""


Corner = tuple[int, int]
"""x and y."""


class Size(NamedTuple):
    """A width and a height."""

    width: int
    height: int


class Places(NamedTuple):
    """Upper left corners that panels may have, float64 [N] each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Where everything is on the canvas, whose upper left corner is the picture's."""

    canvas: Size
    panel: Size
    corners: tuple[Corner, ...]
    """The upper left corner of each face's panel."""
    columns: int
    """Of panels that are right of the picture, since there was no room within."""


def arrange(picture: Size, faces: Sequence[Box], panel: Size) -> Layout:
    """Put each face's panel at the best free place near it within the picture.

    Where there is none that is plainly this face's, the panel is in a column right of the picture.
    """
    heads = [_head(face) for face in faces]
    grid = _Grid(picture, max(1, panel.width // CELLS))
    for head in heads:
        grid.mark(head)
    corners = [grid.take(number, heads, panel) for number in range(len(heads))]
    homeless = [number for number, corner in enumerate(corners) if corner is None]
    canvas, columns, outside = _beside(picture, panel, len(homeless), grid.cell)
    for number, corner in zip(homeless, outside, strict=True):
        corners[number] = corner
    return Layout(canvas, panel, tuple(c for c in corners if c is not None), columns)


class _Grid:
    """Which cells of a picture are taken by heads and panels."""

    def __init__(self, picture: Size, cell: int) -> None:
        self.cell = cell
        self._taken = np.ones((picture.height // cell, picture.width // cell), bool)
        self._taken[1:-1, 1:-1] = False  # no panel touches the picture's edge

    def mark(self, box: Box) -> None:
        """Take the cells that a box touches."""
        left, top = (max(0, int(start // self.cell)) for start in (box.x, box.y))
        right, bottom = (
            max(0, math.ceil(end / self.cell)) for end in (box.x + box.width, box.y + box.height)
        )
        self._taken[top:bottom, left:right] = True

    def take(self, number: int, heads: Sequence[Box], panel: Size) -> Corner | None:
        """The corner of the best free place near a head and no other's; it is then taken."""
        places = self._free(panel)
        distances = np.array([_distance(head, places, panel) for head in heads])
        own = distances[number]
        suits = (own <= REACH * panel.width) & (own <= distances.min(axis=0))
        if not suits.any():
            return None
        best = np.where(suits, own + _awkwardness(heads[number], places, panel), np.inf).argmin()
        corner = int(places.x[best]), int(places.y[best])
        self.mark(Box(*corner, *panel))
        return corner

    def _free(self, panel: Size) -> Places:
        window = math.ceil(panel.height / self.cell), math.ceil(panel.width / self.cell)
        if any(side > whole for side, whole in zip(window, self._taken.shape, strict=True)):
            return Places(np.empty(0), np.empty(0))
        rows, columns = np.nonzero(~sliding_window_view(self._taken, window).any(axis=(2, 3)))
        return Places(self.cell * columns.astype(float), self.cell * rows.astype(float))


def _head(face: Box) -> Box:
    beyond_x, beyond_y = HEAD * face.width, HEAD * face.height
    return Box(
        face.x - beyond_x,
        face.y - beyond_y,
        face.width + 2 * beyond_x,
        face.height + 2 * beyond_y,
    )


def _distance(head: Box, places: Places, panel: Size) -> NDArray[np.float64]:
    """Between a head and panels with these corners, float64 [N]."""
    left, right = head.x - (places.x + panel.width), places.x - (head.x + head.width)
    above, below = head.y - (places.y + panel.height), places.y - (head.y + head.height)
    across = np.maximum(0, np.maximum(left, right))
    return np.hypot(across, np.maximum(0, np.maximum(above, below)))


def _awkwardness(head: Box, places: Places, panel: Size) -> NDArray[np.float64]:
    """How odd a panel looks there, as a distance, float64 [N].

    Best is beside the face at its height, and rather on the right; then straight above or below.
    """
    aside = places.x + panel.width / 2 - head.centre[0]
    lower = places.y + panel.height / 2 - head.centre[1]
    return 0.25 * np.abs(lower) + 0.1 * np.abs(aside) - 0.01 * aside


def _beside(picture: Size, panel: Size, count: int, gap: int) -> tuple[Size, int, list[Corner]]:
    """The canvas, its columns, and the corners of panels in columns right of the picture."""
    if count == 0:
        return picture, 0, []
    height = max(picture.height, panel.height + 2 * gap)
    columns = math.ceil(count / ((height - gap) // (panel.height + gap)))
    rows = math.ceil(count / columns)
    canvas = Size(picture.width + columns * (panel.width + gap) + gap, height)
    corners = [
        (
            picture.width + gap + column * (panel.width + gap),
            round((row + 0.5) * height / rows - panel.height / 2),
        )
        for column, row in (divmod(number, rows) for number in range(count))
    ]
    return canvas, columns, corners
