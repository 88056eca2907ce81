"""Results of the last minute, recent events, and totals since the start; no images.

The messages to the page are here, too. They are versioned with the page, so this schema is not
public.
"""

import dataclasses
import threading
from collections import deque
from typing import Final, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, Field

from edge_daemon._lib.clock import Clock, FrameTimer
from edge_daemon.config.settings import Polygon
from edge_daemon.records import (
    FACE_LABELS,
    EventKind,
    FaceEmotion,
    FaceLabel,
    FrameResult,
    SourceState,
    black_image,
    face_label,
)
from edge_daemon.schema import (
    FaceEvent,
    FaceMessage,
    FacesMessage,
    HealthMessage,
    LatencyMessage,
    Timestamp,
    faces_message,
    rounded,
)


class PreviewFace(FaceMessage):
    """A face as it is published, with the probabilities of this frame alone."""

    raw: dict[str, float] | None = Field(description="Probabilities before smoothing.")


class PreviewFrame(FacesMessage):
    """A frame's result."""

    faces: tuple[PreviewFace, ...]


class EmotionTotals(BaseModel, frozen=True):
    """Totals since the daemon's start."""

    visits: int = Field(description="Faces that appeared.")
    face_seconds: dict[FaceLabel, float] = Field(
        description="Time of all faces by emotion, or why they have none."
    )


class Condition(BaseModel, frozen=True):
    """The daemon's figures."""

    health: HealthMessage
    stages: dict[str, LatencyMessage] = Field(description="Time per frame by stage.")
    broker: Literal["connected", "disconnected", "none"]
    totals: EmotionTotals


class FrameHeader(BaseModel, frozen=True):
    """What the page shows at one moment; the frame's JPEG follows it."""

    state: SourceState
    paused: bool
    viewers: int = Field(description="Open pages.")
    condition: Condition
    events: int = Field(description="Events since the start; more of them can be fetched.")
    frame: PreviewFrame | None = Field(description="null without an image.")
    crops: dict[int, str] = Field(
        description="By track, the models' input: 48x48 grey pixels in row order, as base64."
    )


class PageConfig(BaseModel, frozen=True):
    """What the page needs once, when it connects."""

    device: str
    version: str
    source: str
    camera: bool = Field(description="Whether the source is a camera, not a file.")
    emotions: tuple[str, ...]
    zones: tuple[Polygon, ...] = Field(description="Regions in which faces are ignored.")
    interval_ms: float = Field(description="Milliseconds between two messages at least.")
    token: str = Field(description="Form token for requests that change something.")


class LastMinute(BaseModel, frozen=True):
    """Results of the last minute, to save as a file."""

    time: Timestamp
    device: str
    condition: Condition
    frames: tuple[PreviewFrame, ...]


class Events(BaseModel, frozen=True):
    """The newest events, oldest first."""

    events: tuple[FaceEvent, ...]


class PhotoResult(BaseModel, frozen=True):
    """The models' output for a photo."""

    frame: PreviewFrame
    crops: dict[int, str]


def preview_frame(result: FrameResult, latency_ms: float) -> PreviewFrame:
    """A result as the page shows it."""
    message = faces_message(result, latency_ms)
    faces = tuple(
        PreviewFace(**dict(face), raw=None if emotion.raw is None else rounded(emotion.raw))
        for face, emotion in zip(message.faces, result.faces, strict=True)
    )
    return PreviewFrame(**dict(message) | {"faces": faces})


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
