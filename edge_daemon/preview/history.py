"""What was seen in the last minute, without a single picture of it."""

import dataclasses
import threading
from collections import deque
from typing import Final, NamedTuple

import numpy as np

from edge_daemon._lib.clock import Clock
from edge_daemon.records import FaceEmotion, FrameResult, Image

LENGTH: Final = 60.0
"""Seconds."""

CAPACITY: Final = 60 * 60
"""Results kept at most; of a source that is faster still, a shorter time."""

NO_CROP: Final = np.zeros((0, 0), np.uint8)


class Seen(NamedTuple):
    """A result, and when it was ready."""

    at: float
    """Seconds on the monotonic clock."""
    latency_ms: float
    result: FrameResult
    """Its pictures are black, and its crops empty."""


class Minute:
    """The step that remembers results; they may be asked for in any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: deque[Seen] = deque(maxlen=CAPACITY)
        self._lock = threading.Lock()

    def __call__(self, result: FrameResult) -> FrameResult:
        now = self._clock.monotonic()
        late = 1000 * (now - result.frame.captured_monotonic)
        seen = Seen(now, late, without_pictures(result))
        with self._lock:
            self._seen.append(seen)
            while self._seen[0].at < now - LENGTH:
                self._seen.popleft()
        return result

    def results(self) -> list[Seen]:
        """Those of the last minute, the oldest first."""
        began = self._clock.monotonic() - LENGTH
        with self._lock:
            return [seen for seen in self._seen if seen.at >= began]


def without_pictures(result: FrameResult) -> FrameResult:
    """The same result, with nothing in it that shows anybody."""
    frame = dataclasses.replace(result.frame, bgr=_black(result.frame.bgr), reduced=None)
    return dataclasses.replace(result, frame=frame, faces=tuple(map(_unseen, result.faces)))


def _black(picture: Image) -> Image:
    """A picture of the same size, in a single byte."""
    return np.broadcast_to(np.uint8(0), picture.shape)


def _unseen(face: FaceEmotion) -> FaceEmotion:
    return dataclasses.replace(face, face=dataclasses.replace(face.face, crop=NO_CROP))
