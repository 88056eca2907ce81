"""Places labels next to faces, where they cover neither faces nor each other.

In a video, each label stays on its side of the face while it has room.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import Box

CELLS: Final = 24
"""Cells of the search grid along a label's width; a cell is also the minimum gap."""

HEAD_MARGIN: Final = 0.15
"""How far a head extends beyond its face's box on each side, in sides of the box."""

MAX_DISTANCE: Final = 0.6
"""Between a head and its label, in label widths."""


Corner = tuple[int, int]
"""x and y of the upper left corner."""


class Size(NamedTuple):
    """A width and a height."""

    width: int
    height: int


class Places(NamedTuple):
    """Upper left corners that labels can have, float64 [N] each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Positions on a canvas, whose upper left corner is the image's."""

    canvas: Size
    panel: Size
    corners: tuple[Corner, ...]
    """The upper left corner of each face's panel."""
    columns: int
    """Columns of panels to the right of the image, for which the image has no room."""


def arrange(image: Size, faces: Sequence[Box], panel: Size) -> Layout:
    """Put each face's panel at the best free place near it within the image.

    Where no place is clearly this face's, the panel is in a column to the right of the image.
    """
    heads = [head_of(face) for face in faces]
    grid = Grid(image, max(1, panel.width // CELLS))
    for head in heads:
        grid.mark(head)
    corners: list[Corner | None] = []
    for number in range(len(heads)):
        corner = grid.find(number, heads, panel)
        if corner is not None:
            grid.mark(Box(*corner, *panel))
        corners.append(corner)
    outside = [number for number, corner in enumerate(corners) if corner is None]
    canvas, columns, places = _right_of(image, panel, len(outside), grid.cell)
    for number, corner in zip(outside, places, strict=True):
        corners[number] = corner
    return Layout(canvas, panel, tuple(c for c in corners if c is not None), columns)


class Grid:
    """The cells of an image that heads and labels cover."""

    def __init__(self, image: Size, cell: int) -> None:
        self.cell = cell
        self._covered = np.ones((image.height // cell, image.width // cell), bool)
        self._covered[1:-1, 1:-1] = False  # no label touches the image's edge

    def mark(self, box: Box) -> None:
        """Cover the cells that a box touches."""
        left, top = (max(0, int(start // self.cell)) for start in (box.x, box.y))
        right, bottom = (
            max(0, math.ceil(end / self.cell)) for end in (box.x + box.width, box.y + box.height)
        )
        self._covered[top:bottom, left:right] = True

    def find(self, number: int, heads: Sequence[Box], label: Size) -> Corner | None:
        """Find the best free place for a label near one head and nearer to no other."""
        places = self._free(label)
        if not places.x.size:
            return None
        distances = np.array([_distances(head, places, label) for head in heads])
        own = distances[number]
        suits = (own <= MAX_DISTANCE * label.width) & (own <= distances.min(axis=0))
        if not suits.any():
            return None
        best = np.where(suits, own + _awkwardness(heads[number], places, label), np.inf).argmin()
        return int(places.x[best]), int(places.y[best])

    def _free(self, label: Size) -> Places:
        rows, columns = (math.ceil(side / self.cell) for side in (label.height, label.width))
        if rows > self._covered.shape[0] or columns > self._covered.shape[1]:
            return Places(np.empty(0), np.empty(0))
        sums = np.pad(self._covered.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        covered = (
            sums[rows:, columns:]
            - sums[:-rows, columns:]
            - sums[rows:, :-columns]
            + sums[:-rows, :-columns]
        )
        y, x = np.nonzero(covered == 0)
        return Places(self.cell * x.astype(float), self.cell * y.astype(float))


def head_of(face: Box) -> Box:
    """The area around a face's box that a label must not cover."""
    beyond_x, beyond_y = HEAD_MARGIN * face.width, HEAD_MARGIN * face.height
    return Box(
        face.x - beyond_x,
        face.y - beyond_y,
        face.width + 2 * beyond_x,
        face.height + 2 * beyond_y,
    )


def distance(one: Box, other: Box) -> float:
    """Between two boxes; 0 where they touch or overlap."""
    places = Places(np.array([other.x]), np.array([other.y]))
    return float(_distances(one, places, Size(round(other.width), round(other.height)))[0])


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share an area."""
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def _distances(head: Box, places: Places, label: Size) -> NDArray[np.float64]:
    """Between a head and labels with these corners, float64 [N]."""
    left, right = head.x - (places.x + label.width), places.x - (head.x + head.width)
    above, below = head.y - (places.y + label.height), places.y - (head.y + head.height)
    across = np.maximum(0, np.maximum(left, right))
    return np.hypot(across, np.maximum(0, np.maximum(above, below)))


def _awkwardness(head: Box, places: Places, label: Size) -> NDArray[np.float64]:
    """How odd a label looks there, as a distance, float64 [N].

    Best is next to the face at its height, and rather on the right; then straight above or below.
    """
    aside = places.x + label.width / 2 - head.centre[0]
    lower = places.y + label.height / 2 - head.centre[1]
    return 0.25 * np.abs(lower) + 0.1 * np.abs(aside) - 0.01 * aside


def _right_of(image: Size, panel: Size, count: int, gap: int) -> tuple[Size, int, list[Corner]]:
    """The canvas, its columns, and the corners of panels in columns right of the image."""
    if count == 0:
        return image, 0, []
    height = max(image.height, panel.height + 2 * gap)
    columns = math.ceil(count / ((height - gap) // (panel.height + gap)))
    rows = math.ceil(count / columns)
    canvas = Size(image.width + columns * (panel.width + gap) + gap, height)
    corners = [
        (
            image.width + gap + column * (panel.width + gap),
            round((row + 0.5) * height / rows - panel.height / 2),
        )
        for column, row in (divmod(number, rows) for number in range(count))
    ]
    return canvas, columns, corners


ENLARGE_INTERVAL: Final = 25
"""Frames for which a small label stays before a larger one is tried, so that none flickers."""

SLACK: Final = 1.5
"""Factor on the maximum distance for a label that is kept."""


@dataclass
class _Spot:
    """Where a track's label is, relative to the centre of its face."""

    level: int
    x: float
    y: float
    frames: int = 0


@dataclass(frozen=True)
class Placement:
    """Where a label goes, and which of the possible sizes it has."""

    level: int
    box: Box


class Placer:
    """Places the labels of a video's frames.

    Args:
        image: the frame's size.
        sizes: possible sizes of a label, the preferred one first.
    """

    def __init__(self, image: Size, sizes: Sequence[Size]) -> None:
        self._image = image
        self._sizes = sizes
        self._margin = max(1, sizes[-1].width // CELLS)
        self._spots: dict[int, _Spot] = {}

    def place(
        self, faces: Mapping[int, Box], live_tracks: frozenset[int] = frozenset()
    ) -> dict[int, Placement]:
        """Place the labels of one frame's faces; a face without room for one gets none.

        Args:
            faces: the box of each track in the frame.
            live_tracks: tracks that can return, whose labels then appear on the same side.
        """
        for track in self._spots.keys() - live_tracks - faces.keys():
            del self._spots[track]
        heads = {track: head_of(box) for track, box in faces.items()}
        placed: dict[int, Placement] = {}
        for track, box in faces.items():
            if (kept := self._keep(track, box, heads, placed)) is not None:
                placed[track] = kept
        for track in faces.keys() - placed.keys():
            if (found := self._find(track, heads, placed, range(len(self._sizes)))) is not None:
                placed[track] = found
                self._note(track, faces[track], found)
        return placed

    def _keep(
        self, track: int, face: Box, heads: Mapping[int, Box], placed: Mapping[int, Placement]
    ) -> Placement | None:
        """The label at its previous side of the face, if it still has room there."""
        spot = self._spots.get(track)
        if spot is None:
            return None
        spot.frames += 1
        if spot.frames % ENLARGE_INTERVAL == 0:
            larger = self._find(track, heads, placed, range(spot.level))
            if larger is not None:
                self._note(track, face, larger)
                return larger
        size = self._sizes[spot.level]
        x = self._within(face.centre[0] + spot.x, self._image.width - size.width)
        y = self._within(face.centre[1] + spot.y, self._image.height - size.height)
        label = Box(round(x), round(y), *size)
        covers = any(overlap(label, head) for head in heads.values())
        if covers or any(overlap(label, other.box) for other in placed.values()):
            return None
        own = distance(heads[track], label)
        is_near = own <= SLACK * MAX_DISTANCE * size.width
        is_nearest = all(own <= distance(head, label) for head in heads.values())
        return Placement(spot.level, label) if is_near and is_nearest else None

    def _within(self, start: float, end: int) -> float:
        return max(self._margin, min(start, end - self._margin))

    def _find(
        self,
        track: int,
        heads: Mapping[int, Box],
        placed: Mapping[int, Placement],
        levels: Iterable[int],
    ) -> Placement | None:
        """The first of these sizes that has room, at its best place."""
        numbers, boxes = list(heads), list(heads.values())
        for level in levels:
            size = self._sizes[level]
            grid = Grid(self._image, self._margin)
            for box in [*boxes, *(placement.box for placement in placed.values())]:
                grid.mark(box)
            corner = grid.find(numbers.index(track), boxes, size)
            if corner is not None:
                return Placement(level, Box(*corner, *size))
        return None

    def _note(self, track: int, face: Box, placement: Placement) -> None:
        x, y = placement.box.x - face.centre[0], placement.box.y - face.centre[1]
        self._spots[track] = _Spot(placement.level, x, y)
