"""Keeps the labels of a video in place: each stays on its side of the face while it has room."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge_daemon.output.annotation.layout import (
    CELLS,
    MAX_DISTANCE,
    Grid,
    Size,
    distance,
    head_of,
    overlap,
)
from edge_daemon.records import Box

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
        picture: the frame's size.
        sizes: possible sizes of a label, the preferred one first.
    """

    def __init__(self, picture: Size, sizes: Sequence[Size]) -> None:
        self._picture = picture
        self._sizes = sizes
        self._margin = max(1, sizes[-1].width // CELLS)
        self._spots: dict[int, _Spot] = {}

    def place(
        self, faces: Mapping[int, Box], remembered: frozenset[int] = frozenset()
    ) -> dict[int, Placement]:
        """Place the labels of one frame's faces; a face without room for one gets none.

        Args:
            faces: the box of each track in the frame.
            remembered: tracks that can return, whose labels then appear on the same side.
        """
        for track in self._spots.keys() - remembered - faces.keys():
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
        x = self._within(face.centre[0] + spot.x, self._picture.width - size.width)
        y = self._within(face.centre[1] + spot.y, self._picture.height - size.height)
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
            grid = Grid(self._picture, self._margin)
            for box in [*boxes, *(placement.box for placement in placed.values())]:
                grid.mark(box)
            corner = grid.find(numbers.index(track), boxes, size)
            if corner is not None:
                return Placement(level, Box(*corner, *size))
        return None

    def _note(self, track: int, face: Box, placement: Placement) -> None:
        x, y = placement.box.x - face.centre[0], placement.box.y - face.centre[1]
        self._spots[track] = _Spot(placement.level, x, y)
