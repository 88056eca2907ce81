"""Tracking: the same number for the same face, from frame to frame.

Each track predicts the position of its face (constant velocity) and its appearance (a small
normalised thumbnail, kept in memory only). Detections go to the cheapest track within reach,
so that a face survives missed detections, and two people who cross keep their own numbers.

Detection takes most of a frame's time, and a face moves little from one frame to the next. In
between, each face is cropped at its track's predicted position; if one of them fails the
appearance check, faces are detected at once.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.config.settings import TrackingSettings
from edge_daemon.detection.step import FaceFinder
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
"""Maximum distance of a face from its predicted position, in face sizes."""
REACH_GROWTH: Final = 1.5
"""Increase of the distance for each second without a detection."""
MAX_GROWTH: Final = math.log(1.8)
"""Logarithm of the factor by which a face may grow or shrink between two detections."""
APPEARANCE_WEIGHT: Final = 0.5
"""Weight of dissimilarity in the cost, next to distance and growth with weight 1."""

MIN_SIMILARITY: Final = 0.8
"""Minimum similarity of a predicted face to its track, in the appearance check."""

VELOCITY_GAIN: Final = 0.4
APPEARANCE_GAIN: Final = np.float32(0.2)
"""Weight of the newest detection, 0 to 1."""
MAX_PREDICTION_S: Final = 0.5
"""Time for which the position of a face is extrapolated, also between two frames."""

REFERENCE_FPS: Final = 15.0
"""Frame rate of `interval`: with far fewer frames a second, it is in their time."""
INTERVAL_SLACK: Final = 1.7
"""Factor on that time, so that interval and jitter of a camera at 10 or more frames are kept."""

MIN_AGE_FRAMES: Final = 3
"""Frame intervals of a slow camera for which a track continues without its face at least."""

MAX_FRAME_GAP_S: Final = 1.0
"""Seconds between two frames in which no visible face leaves, however short `max_age` is."""

THUMBNAIL_SIDE: Final = 16

Vector = NDArray[np.float32]
Point = tuple[float, float]
"""x and y, as plain numbers: numpy takes several times as long for two of them."""


@dataclass(frozen=True, eq=False)
class _Observation:
    """What is compared: position, size and appearance of a face."""

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
    observation: _Observation
    """The last one, with a thumbnail that changes more slowly."""
    detection: Detection
    """The last one."""
    velocity: Point
    """Pixels a second."""
    seen: float
    updated: float
    """When it was last detected or predicted."""

    def displacement(self, now: float) -> Point:
        """Predicted movement since the last detection."""
        seconds = min(now - self.seen, MAX_PREDICTION_S)
        return seconds * self.velocity[0], seconds * self.velocity[1]

    def predicted_centre(self, now: float) -> Point:
        """Predicted centre."""
        (x, y), (right, down) = self.observation.centre, self.displacement(now)
        return x + right, y + down

    def update(self, observation: _Observation, detection: Detection, now: float) -> None:
        if now > self.seen:
            (x, y), (last_x, last_y), (right, down) = (
                observation.centre,
                self.observation.centre,
                self.velocity,
            )
            right += VELOCITY_GAIN * ((x - last_x) / (now - self.seen) - right)
            down += VELOCITY_GAIN * ((y - last_y) / (now - self.seen) - down)
            self.velocity = right, down
        known = self.observation.thumbnail
        mixed = known + APPEARANCE_GAIN * (observation.thumbnail - known)
        self.observation = dataclasses.replace(observation, thumbnail=_normalised(mixed))
        self.detection = detection
        self.seen = self.updated = now


class Tracker:
    """The tracking step: assigns the faces of each frame to tracks.

    Args:
        settings: `max_age` limits how long a track continues without its face.
        start_score: minimum score to start a track; detections below it only continue a track, as
            in ByteTrack (Zhang et al., 2022).
        frame_interval_s: time between two frames of a camera, which can take longer; 0: of no
            importance.
    """

    def __init__(
        self,
        settings: TrackingSettings,
        start_score: float = 0.0,
        frame_interval_s: float = 0.0,
    ) -> None:
        self._frame_interval_s = frame_interval_s
        self._last_s: float | None = None
        self._gap_s = math.inf
        """Seconds between the last two frames; until there are two, they can be any apart."""
        self._start_score = start_score
        self.apply(settings)
        self._ids = itertools.count(1)
        self._tracks: list[_Track] = []
        self._visible: list[_Track] = []
        """Those of the last frame, in the order of its faces."""
        self._scene = 0
        self._live_tracks: frozenset[int] = frozenset()
        """All live tracks after the last detection."""

    def apply(self, settings: TrackingSettings) -> None:
        """Use another `max_age`."""
        self._max_age_s = settings.max_age

    def __call__(self, found: FoundFaces) -> TrackedFaces:
        self._forget(found)
        faces = tuple(self._named(found.faces, found.frame.stream_time_s))
        self._live_tracks = frozenset([track.id for track in self._tracks])
        self._note_time(found.frame.stream_time_s)
        return TrackedFaces(found.frame, faces, self._live_tracks)

    def predict(self, frame: Frame, crop: Callable[[Detection], Face]) -> TrackedFaces | None:
        """The faces of the last frame, at their predicted positions in this one.

        Args:
            frame: a later one of the same scene.
            crop: crops the face at a position.

        Returns:
            None if a face fails the appearance check: it has moved elsewhere, turned, or left.
        """
        now = frame.stream_time_s
        faces = []
        for track in self._visible:
            face = crop(track.detection.translated(*track.displacement(now)))
            if track.observation.thumbnail @ _thumbnail(face.crop) < MIN_SIMILARITY:
                return None
            faces.append(TrackedFace(track.id, face))
        for track in self._visible:
            track.updated = now
        self._note_time(now)
        return TrackedFaces(frame, tuple(faces), self._live_tracks)

    def _forget(self, found: FoundFaces) -> None:
        """Drop tracks that are too old, and all at a change of scene."""
        if found.frame.scene != self._scene:
            self._scene = found.frame.scene
            self._tracks.clear()
        now = found.frame.stream_time_s
        self._tracks = [
            track for track in self._tracks if now - track.updated <= self._max_age_of(track)
        ]

    def _max_age_of(self, track: _Track) -> float:
        max_age_s = self._max_age_s
        if self._frame_interval_s > 0:
            max_age_s = max(max_age_s, MIN_AGE_FRAMES * max(self._frame_interval_s, self._gap_s))
        if track in self._visible:  # not missed in any frame so far
            max_age_s = max(max_age_s, MAX_FRAME_GAP_S)
        return max_age_s

    def _note_time(self, now: float) -> None:
        if self._last_s is not None:
            self._gap_s = now - self._last_s
        self._last_s = now

    def _named(self, faces: tuple[Face, ...], now: float) -> Iterator[TrackedFace]:
        """The faces with their tracks, in the same order."""
        observations = [_Observation.of(face) for face in faces]
        matches = self._matches(observations, now)
        self._visible = []
        for number, (face, observation) in enumerate(zip(faces, observations, strict=True)):
            if (track := matches.get(number)) is not None:
                track.update(observation, face.detection, now)
            elif face.detection.score >= self._start_score:
                track = self._new_track(observation, face.detection, now)
            else:
                continue
            self._visible.append(track)
            yield TrackedFace(track.id, face)

    def _new_track(self, observation: _Observation, detection: Detection, now: float) -> _Track:
        track = _Track(next(self._ids), observation, detection, (0.0, 0.0), seen=now, updated=now)
        self._tracks.append(track)
        return track

    def _matches(self, observations: list[_Observation], now: float) -> dict[int, _Track]:
        """Assign observations to tracks, the cheapest pairs first."""
        pairs = sorted(
            (cost, number, index)
            for index, track in enumerate(self._tracks)
            for number, cost in _costs(track, observations, now)
        )
        matches: dict[int, _Track] = {}
        used: set[int] = set()
        for _, number, index in pairs:
            if number not in matches and index not in used:
                matches[number] = self._tracks[index]
                used.add(index)
        return matches


def _costs(
    track: _Track, observations: list[_Observation], now: float
) -> Iterator[tuple[int, float]]:
    """Costs of the observations that can belong to a track, by number."""
    last, predicted = track.observation, track.predicted_centre(now)
    reach = REACH + REACH_GROWTH * (now - track.seen)
    for number, observation in enumerate(observations):
        distance = math.dist(predicted, observation.centre) / max(observation.size, last.size)
        growth = abs(math.log(observation.size / last.size))
        if distance <= reach and growth <= MAX_GROWTH:  # false of NaN, too
            dissimilarity = 1.0 - float(last.thumbnail @ observation.thumbnail)
            yield number, distance + growth + APPEARANCE_WEIGHT * dissimilarity


def _size(box: Box) -> float:
    return math.sqrt(max(box.width * box.height, 1.0))


def _thumbnail(crop: Image) -> Vector:
    """A crop as a vector of length 1 whose dot product with another is their correlation."""
    small = cv2.resize(crop, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    return _normalised(np.asarray(small, np.float32).ravel() - np.float32(cv2.mean(small)[0]))


def _normalised(vector: Vector) -> Vector:
    length = math.sqrt(vector @ vector)
    return vector / np.float32(max(length, 1e-6))


class FaceFollower:
    """Detects and tracks the faces of a frame.

    Args:
        finder: detects faces.
        tracker: assigns them to tracks.
        interval: maximum frames from one detection to the next, or their time at REFERENCE_FPS;
            1: detect in every frame.

    Where frames were dropped since the last detection, the interval is in frames only: an
    overloaded machine must detect less often.
    """

    def __init__(self, finder: FaceFinder, tracker: Tracker, interval: int = 1) -> None:
        self._finder = finder
        self._tracker = tracker
        self._interval = interval
        self._last_s = self._detected_s = -math.inf
        self._frames_since = 0
        self._index = 0
        """Of the last frame in which faces were detected."""
        self._scene: int | None = None

    def set_interval(self, interval: int) -> None:
        """Use another interval."""
        self._interval = interval

    def __call__(self, frame: Frame) -> TrackedFaces:
        self._frames_since += 1
        gap_s, self._last_s = frame.stream_time_s - self._last_s, frame.stream_time_s
        has_dropped = frame.index - self._index > self._frames_since
        until_next_s = frame.stream_time_s + gap_s - self._detected_s
        can_wait = until_next_s <= INTERVAL_SLACK * self._interval / REFERENCE_FPS
        is_near = (gap_s <= MAX_PREDICTION_S and can_wait) or has_dropped
        if self._frames_since < self._interval and is_near and frame.scene == self._scene:
            predicted = self._tracker.predict(frame, partial(self._finder.crop, frame))
            if predicted is not None:
                return predicted
        found = self._tracker(self._finder(frame))
        # Not before, so that a failed detection is tried again in the next frame.
        self._frames_since, self._index, self._scene = 0, frame.index, frame.scene
        self._detected_s = frame.stream_time_s
        return found
