"""Identity over time: the same number for the same face, from frame to frame.

Each track predicts where its face is now (constant velocity) and what it looks like (a small
normalised thumbnail, kept in memory only). Detections go to the cheapest track within reach,
so that a face survives missed detections, and two people who cross keep their own numbers.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.config.settings import TrackingSettings
from edge_daemon.records import (
    Box,
    Detection,
    Face,
    FoundFaces,
    Frame,
    Image,
    TrackedFace,
    TrackedFaces,
)

REACH: Final = 0.8
"""How far from its prediction a face may be found, in face sizes …"""
REACH_GROWTH: Final = 1.5
"""… and how much farther for each second without a sight of it."""
MOST_GROWTH: Final = math.log(1.8)
"""Logarithm of the factor by which a face may grow or shrink between two sights."""
APPEARANCE_WEIGHT: Final = 0.5
"""What unlikeness costs, beside distance and change of size, which cost as they are."""

LEAST_LIKENESS: Final = 0.8
"""Of a face to its track where it is expected, to be taken for it without being looked for."""

VELOCITY_GAIN: Final = 0.4
APPEARANCE_GAIN: Final = np.float32(0.2)
"""How fast a track takes over what it sees: 1 is at once."""
LONGEST_PREDICTION: Final = 0.5
"""Seconds after which a lost face is no longer taken to move on."""

THUMBNAIL_SIDE: Final = 16

Vector = NDArray[np.float32]
Point = tuple[float, float]
"""x and y, as plain numbers: numpy takes several times as long for two of them."""


@dataclass(frozen=True, eq=False)
class _Sight:
    """What is compared: where a face is, how large, and what it looks like."""

    centre: Point
    size: float
    thumbnail: Vector

    @classmethod
    def of(cls, face: Face) -> Self:
        box = face.detection.box
        return cls(box.centre, _size(box), _thumbnail(face.crop))


@dataclass(eq=False)
class _Track:
    id: int
    sight: _Sight
    """The last one, with a thumbnail that changes more slowly."""
    detection: Detection
    """The last one."""
    velocity: Point
    """Pixels a second."""
    seen: float
    shown: float
    """When it was last seen, or taken to be where it should be."""

    def moved(self, now: float) -> Point:
        """By how much it should have moved since it was seen."""
        seconds = min(now - self.seen, LONGEST_PREDICTION)
        return seconds * self.velocity[0], seconds * self.velocity[1]

    def expected(self, now: float) -> Point:
        """Where its centre should be."""
        (x, y), (right, down) = self.sight.centre, self.moved(now)
        return x + right, y + down

    def update(self, sight: _Sight, detection: Detection, now: float) -> None:
        if now > self.seen:
            (x, y), (last_x, last_y), (right, down) = sight.centre, self.sight.centre, self.velocity
            right += VELOCITY_GAIN * ((x - last_x) / (now - self.seen) - right)
            down += VELOCITY_GAIN * ((y - last_y) / (now - self.seen) - down)
            self.velocity = right, down
        known = self.sight.thumbnail
        mixed = known + APPEARANCE_GAIN * (sight.thumbnail - known)
        self.sight = dataclasses.replace(sight, thumbnail=_normalised(mixed))
        self.detection = detection
        self.seen = self.shown = now


class Tracker:
    """The tracking step: names the faces of each frame.

    Args:
        settings: `max_age` limits how long a track continues without its face.
        start_score: what a detection needs to start a track; less certain ones only continue
            one, and are otherwise dropped (as in ByteTrack: Zhang et al., 2022).
    """

    def __init__(self, settings: TrackingSettings, start_score: float = 0.0) -> None:
        self._max_age_s = settings.max_age
        self._start_score = start_score
        self._ids = itertools.count(1)
        self._tracks: list[_Track] = []
        self._in_sight: list[_Track] = []
        """Those of the last frame, in the order of its faces."""
        self._scene = 0

    def apply(self, settings: TrackingSettings) -> None:
        """Use another `max_age`."""
        self._max_age_s = settings.max_age

    def __call__(self, found: FoundFaces) -> TrackedFaces:
        self._forget(found)
        faces = tuple(self._named(found.faces, found.frame.stream_time))
        return TrackedFaces(found.frame, faces, self.remembered)

    @property
    def remembered(self) -> frozenset[int]:
        """All live tracks."""
        return frozenset(track.id for track in self._tracks)

    def expected(self, frame: Frame, cut: Callable[[Detection], Face]) -> TrackedFaces | None:
        """The faces of the last frame that was looked at, where they should be in this one.

        Args:
            frame: a later one of the same scene.
            cut: gives the face at a place in it.

        Returns:
            None if one of the faces does not look like itself there: it has moved otherwise,
            turned, or left.
        """
        now = frame.stream_time
        faces = []
        for track in self._in_sight:
            face = cut(track.detection.moved(*track.moved(now)))
            if _likeness(track.sight.thumbnail, _thumbnail(face.crop)) < LEAST_LIKENESS:
                return None
            faces.append(TrackedFace(track.id, face))
        for track in self._in_sight:
            track.shown = now
        return TrackedFaces(frame, tuple(faces), self.remembered)

    def _forget(self, found: FoundFaces) -> None:
        """Drop what is too long gone, and everything at a change of scene."""
        if found.frame.scene != self._scene:
            self._scene = found.frame.scene
            self._tracks.clear()
        now = found.frame.stream_time
        self._tracks = [track for track in self._tracks if now - track.shown <= self._max_age_s]

    def _named(self, faces: tuple[Face, ...], now: float) -> Iterator[TrackedFace]:
        """The faces with their tracks, in the same order."""
        sights = [_Sight.of(face) for face in faces]
        matches = self._matches(sights, now)
        self._in_sight = []
        for number, (face, sight) in enumerate(zip(faces, sights, strict=True)):
            if (track := matches.get(number)) is not None:
                track.update(sight, face.detection, now)
            elif face.detection.score >= self._start_score:
                track = self._begun(sight, face.detection, now)
            else:
                continue
            self._in_sight.append(track)
            yield TrackedFace(track.id, face)

    def _begun(self, sight: _Sight, detection: Detection, now: float) -> _Track:
        still = (0.0, 0.0)
        track = _Track(next(self._ids), sight, detection, still, seen=now, shown=now)
        self._tracks.append(track)
        return track

    def _matches(self, sights: list[_Sight], now: float) -> dict[int, _Track]:
        """Pairs of a sight's number and its track: the cheapest first, each at most once."""
        pairs = sorted(
            (cost, number, index)
            for index, track in enumerate(self._tracks)
            for number, cost in _costs(track, sights, now)
        )
        matches: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, number, index in pairs:
            if number not in matches and index not in taken:
                matches[number] = self._tracks[index]
                taken.add(index)
        return matches


def _costs(track: _Track, sights: list[_Sight], now: float) -> Iterator[tuple[int, float]]:
    """How badly sights fit a track, by number; only of those that can be the same face."""
    last, expected = track.sight, track.expected(now)
    reach = REACH + REACH_GROWTH * (now - track.seen)
    for number, sight in enumerate(sights):
        distance = math.dist(expected, sight.centre) / max(sight.size, last.size)
        growth = abs(math.log(sight.size / last.size))
        if distance <= reach and growth <= MOST_GROWTH:  # false of NaN, too
            unlikeness = 1.0 - _likeness(last.thumbnail, sight.thumbnail)
            yield number, distance + growth + APPEARANCE_WEIGHT * unlikeness


def _size(box: Box) -> float:
    return math.sqrt(max(box.width * box.height, 1.0))


def _thumbnail(crop: Image) -> Vector:
    """A crop as a vector of length 1 whose dot product with another is their correlation."""
    small = cv2.resize(crop, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    return _normalised(np.asarray(small, np.float32).ravel() - np.float32(cv2.mean(small)[0]))


def _likeness(one: Vector, other: Vector) -> float:
    """How much two thumbnails are alike: their correlation, -1 to 1."""
    return float(one @ other)


def _normalised(vector: Vector) -> Vector:
    length = math.sqrt(vector @ vector)
    return vector / np.float32(max(length, 1e-6))
