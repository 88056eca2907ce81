"""Identity over time: the same number for the same face, from frame to frame.

Each track predicts where its face is now (constant velocity) and what it looks like (a small
normalised thumbnail, kept in memory only). Detections go to the cheapest track within reach,
so that a face survives missed detections, and two people who cross keep their own numbers.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import Box, Face, FoundFaces, Image, TrackedFace, TrackedFaces

REACH: Final = 0.8
"""How far from its prediction a face may be found, in face sizes …"""
REACH_GROWTH: Final = 1.5
"""… and how much farther for each second without a sight of it."""
SIZE_RATIO: Final = 1.8
"""By which factor a face may grow or shrink between two sights."""
APPEARANCE_WEIGHT: Final = 0.5
"""What unlikeness costs, beside distance and change of size, which cost as they are."""

VELOCITY_GAIN: Final = 0.4
APPEARANCE_GAIN: Final = 0.2
"""How fast a track takes over what it sees: 1 is at once."""
LONGEST_PREDICTION: Final = 0.5
"""Seconds after which a lost face is no longer taken to move on."""

THUMBNAIL_SIDE: Final = 16

Vector = NDArray[np.float32]


@dataclass
class _Track:
    id: int
    centre: Vector
    velocity: Vector
    size: float
    thumbnail: Vector
    seen: float

    def predicted(self, now: float) -> Vector:
        return self.centre + self.velocity * np.float32(min(now - self.seen, LONGEST_PREDICTION))

    def update(self, centre: Vector, size: float, thumbnail: Vector, now: float) -> None:
        if now > self.seen:
            measured = (centre - self.centre) / np.float32(now - self.seen)
            self.velocity += np.float32(VELOCITY_GAIN) * (measured - self.velocity)
        self.centre, self.size, self.seen = centre, size, now
        mixed = self.thumbnail + np.float32(APPEARANCE_GAIN) * (thumbnail - self.thumbnail)
        self.thumbnail = _normalised(mixed)


class Tracker:
    """The tracking step: names the faces of each frame.

    Args:
        memory: seconds for which a face that is not seen may still come back as itself.
    """

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._ids = itertools.count(1)
        self._tracks: list[_Track] = []
        self._scene = 0

    def __call__(self, found: FoundFaces) -> TrackedFaces:
        self._forget(found)
        ids = self._assign(found.faces, found.frame.stream_time)
        return TrackedFaces(
            found.frame,
            tuple(map(TrackedFace, ids, found.faces)),
            frozenset(track.id for track in self._tracks),
        )

    def _forget(self, found: FoundFaces) -> None:
        """Drop what is too long gone, and everything at a change of scene."""
        if found.frame.scene != self._scene:
            self._scene = found.frame.scene
            self._tracks.clear()
        now = found.frame.stream_time
        self._tracks = [track for track in self._tracks if now - track.seen <= self._memory]

    def _assign(self, faces: tuple[Face, ...], now: float) -> list[int]:
        centres = [np.array(face.detection.box.centre, np.float32) for face in faces]
        sizes = [_size(face.detection.box) for face in faces]
        thumbnails = [_thumbnail(face.crop) for face in faces]
        matches = self._matches(centres, sizes, thumbnails, now)
        ids = []
        for number, sight in enumerate(zip(centres, sizes, thumbnails, strict=True)):
            if (track := matches.get(number)) is not None:
                track.update(*sight, now)
            else:
                track = self._new_track(*sight, now)
            ids.append(track.id)
        return ids

    def _matches(
        self, centres: list[Vector], sizes: list[float], thumbnails: list[Vector], now: float
    ) -> dict[int, _Track]:
        """Pairs of a detection's number and its track: the cheapest first, each at most once."""
        pairs = sorted(
            (
                (_cost(track, *sight, now), number, index)
                for index, track in enumerate(self._tracks)
                for number, sight in enumerate(zip(centres, sizes, thumbnails, strict=True))
            ),
        )
        matches: dict[int, _Track] = {}
        taken: set[int] = set()
        for cost, number, index in pairs:
            if math.isfinite(cost) and number not in matches and index not in taken:
                matches[number] = self._tracks[index]
                taken.add(index)
        return matches

    def _new_track(self, centre: Vector, size: float, thumbnail: Vector, now: float) -> _Track:
        track = _Track(next(self._ids), centre, np.zeros(2, np.float32), size, thumbnail, seen=now)
        self._tracks.append(track)
        return track


def _cost(track: _Track, centre: Vector, size: float, thumbnail: Vector, now: float) -> float:
    """How badly a sight fits a track; infinite where it cannot be the same face."""
    larger = max(size, track.size)
    distance = float(np.linalg.norm(track.predicted(now) - centre)) / larger
    growth = abs(math.log(size / track.size))
    reach = REACH + REACH_GROWTH * (now - track.seen)
    if distance > reach or growth > math.log(SIZE_RATIO):
        return math.inf
    unlikeness = 1.0 - float(track.thumbnail @ thumbnail)
    return distance + growth + APPEARANCE_WEIGHT * unlikeness


def _size(box: Box) -> float:
    return math.sqrt(max(box.width * box.height, 1.0))


def _thumbnail(crop: Image) -> Vector:
    """A crop as a vector of length 1 whose dot product with another is their correlation."""
    small = cv2.resize(crop, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    vector = np.asarray(small, np.float32).ravel()
    return _normalised(vector - vector.mean())


def _normalised(vector: Vector) -> Vector:
    return vector / np.float32(max(float(np.linalg.norm(vector)), 1e-6))
