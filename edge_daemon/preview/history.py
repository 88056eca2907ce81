"""Results of the last minute, recent events, and totals since the start; no images."""

import dataclasses
import threading
from collections import deque
from typing import Final, NamedTuple

import numpy as np

from edge_daemon._lib.clock import Clock
from edge_daemon.preview.messages import Totals
from edge_daemon.records import EMOTIONS, EventKind, FaceEmotion, FrameResult, Image
from edge_daemon.schema import FaceEvent, faces_message

LENGTH_S: Final = 60.0
"""How long results are kept."""

MAX_RESULTS: Final = 60 * 60
"""Results kept at most; at a higher rate, they cover less time."""

MAX_EVENTS: Final = 100
"""Events kept at most."""

MAX_GAP_S: Final = 1.0
"""Longest time that one result stands for in the totals: a longer gap was without a picture."""

NO_CROP: Final = np.zeros((0, 0), np.uint8)


class PastResult(NamedTuple):
    """A result, and when it was ready."""

    at: float
    """Monotonic time in seconds."""
    latency_ms: float
    result: FrameResult
    """Its frame is black, and its crops are empty."""


class History:
    """Records results in the pipeline's thread; any thread may read."""

    def __init__(self, clock: Clock) -> None:
        self.event_count = 0
        """Events since the start."""
        self._clock = clock
        self._results: deque[PastResult] = deque(maxlen=MAX_RESULTS)
        self._events: deque[FaceEvent] = deque(maxlen=MAX_EVENTS)
        self._visits = 0
        self._seconds = dict.fromkeys(EMOTIONS, 0.0)
        self._last_time = float("-inf")
        self._lock = threading.Lock()

    def record(self, result: FrameResult) -> None:
        """Add a result."""
        now = self._clock.monotonic()
        latency_ms = 1000 * (now - result.frame.captured_monotonic)
        past = PastResult(now, latency_ms, without_images(result))
        with self._lock:
            self._results.append(past)
            while self._results[0].at < now - LENGTH_S:
                self._results.popleft()
            self._add_to_totals(result)

    def results(self) -> list[PastResult]:
        """Results of the last minute, oldest first."""
        start = self._clock.monotonic() - LENGTH_S
        with self._lock:
            return [past for past in self._results if past.at >= start]

    def events(self) -> list[FaceEvent]:
        """The newest events, oldest first."""
        with self._lock:
            return list(self._events)

    def totals(self) -> Totals:
        """Totals since the start."""
        with self._lock:
            seconds = {name: round(self._seconds[name], 1) for name in EMOTIONS}
            return Totals(visits=self._visits, face_seconds=seconds)

    def _add_to_totals(self, result: FrameResult) -> None:
        time = result.frame.captured_monotonic
        gap = time - self._last_time
        self._last_time = time
        for face in result.faces:
            if face.emotion is not None and gap <= MAX_GAP_S:
                self._seconds[face.emotion] += gap
        if result.events:
            self._events.extend(faces_message(result, 0.0).events)
            self.event_count += len(result.events)
            self._visits += sum(event.kind is EventKind.APPEARED for event in result.events)


def without_images(result: FrameResult) -> FrameResult:
    """The same result, without any image in it."""
    frame = dataclasses.replace(result.frame, bgr=_black(result.frame.bgr), reduced=None)
    return dataclasses.replace(result, frame=frame, faces=tuple(map(_without_crop, result.faces)))


def _black(image: Image) -> Image:
    """A black image of the same size, in a single byte of memory."""
    return np.broadcast_to(np.uint8(0), image.shape)


def _without_crop(face: FaceEmotion) -> FaceEmotion:
    return dataclasses.replace(face, face=dataclasses.replace(face.face, crop=NO_CROP))
