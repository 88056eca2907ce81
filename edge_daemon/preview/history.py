"""Results of the last minute, recent events, and totals since the start; no images."""

import dataclasses
import threading
from collections import deque
from typing import Final, NamedTuple

import numpy as np
from pydantic import BaseModel, Field

from edge_daemon._lib.clock import Clock, FrameTimer
from edge_daemon.records import (
    FACE_LABELS,
    EventKind,
    FaceEmotion,
    FaceLabel,
    FrameResult,
    black_image,
    face_label,
)
from edge_daemon.schema import FaceEvent, faces_message


class EmotionTotals(BaseModel, frozen=True):
    """Totals since the daemon's start."""

    visits: int = Field(description="Faces that appeared.")
    face_seconds: dict[FaceLabel, float] = Field(
        description="Time of all faces by emotion, or why they have none."
    )


LENGTH_S: Final = 60.0
"""How long results are kept."""

MAX_RESULTS: Final = 60 * 60
"""Results kept at most; at a higher rate, they cover less time."""

MAX_EVENTS: Final = 100
"""Events kept at most."""

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
        self._seconds: dict[FaceLabel, float] = dict.fromkeys(FACE_LABELS, 0.0)
        self._timer: FrameTimer[list[FaceLabel]] = FrameTimer()
        self._lock = threading.Lock()

    def record(self, result: FrameResult) -> None:
        """Add a result."""
        now = self._clock.monotonic()
        latency_ms = 1000 * (now - result.frame.captured_monotonic_s)
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

    def totals(self) -> EmotionTotals:
        """Totals since the start."""
        with self._lock:
            seconds = {label: round(value, 1) for label, value in self._seconds.items()}
            return EmotionTotals(visits=self._visits, face_seconds=seconds)

    def _add_to_totals(self, result: FrameResult) -> None:
        if result.frame.is_blank:
            held = self._timer.end()
        else:
            labels = [face_label(face.emotion, uncertain=face.uncertain) for face in result.faces]
            held = self._timer.next(result.frame.captured_monotonic_s, labels)
        if held is not None:
            for label in held.content:
                self._seconds[label] += held.seconds
        if result.events:
            self._events.extend(faces_message(result, 0.0).events)
            self.event_count += len(result.events)
            self._visits += sum(event.kind is EventKind.APPEARED for event in result.events)


def without_images(result: FrameResult) -> FrameResult:
    """The same result, without any image in it."""
    frame = dataclasses.replace(result.frame, bgr=black_image(result.frame.bgr.shape), reduced=None)
    return dataclasses.replace(result, frame=frame, faces=tuple(map(_without_crop, result.faces)))


def _without_crop(face: FaceEmotion) -> FaceEmotion:
    return dataclasses.replace(face, face=dataclasses.replace(face.face, crop=NO_CROP))
