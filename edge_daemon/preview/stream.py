"""Encodes what the page shows at one moment, and passes the newest to the clients.

A message is the length of the JSON, the JSON, and a JPEG, so that boxes and image always belong
to the same frame. A client requests each message and gets the newest one. So a slow client skips
frames, a dead client holds nothing, and a frame is encoded once for all clients. Without clients no
frame is kept. The messages are versioned with the page, so their schema is not public.
"""

import asyncio
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Literal, NamedTuple

import cv2
from pydantic import BaseModel, Field

from edge_daemon._lib.clock import Clock
from edge_daemon.capture.status import Pause
from edge_daemon.detection.step import resize_to_max_side
from edge_daemon.monitoring.health import Health
from edge_daemon.preview.history import EmotionTotals, History
from edge_daemon.records import Frame, FrameResult, SourceState
from edge_daemon.schema import (
    FaceMessage,
    FacesMessage,
    HealthMessage,
    LatencyMessage,
    faces_message,
    rounded,
)

MAX_SIDE_PX: Final = 1280
"""Longer side of the image; larger ones are reduced."""

JPEG_QUALITY: Final = 80

CONDITION_INTERVAL_S: Final = 1.0
"""Time for which the daemon's condition is reused: its sensors are files."""


class PreviewFace(FaceMessage):
    """A face as it is published, with the probabilities of this frame alone."""

    raw: dict[str, float] | None = Field(description="Probabilities before smoothing.")


class PreviewFrame(FacesMessage):
    """A frame's result."""

    faces: tuple[PreviewFace, ...]


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


def preview_frame(result: FrameResult, latency_ms: float) -> PreviewFrame:
    """A result as the page shows it."""
    message = faces_message(result, latency_ms)
    faces = tuple(
        PreviewFace(**dict(face), raw=None if emotion.raw is None else rounded(emotion.raw))
        for face, emotion in zip(message.faces, result.faces, strict=True)
    )
    return PreviewFrame(**dict(message) | {"faces": faces})


class FrameEncoder:
    """Encodes results together with the daemon's condition.

    Args:
        health: source of the figures.
        history: source of the session's totals.
        pause: the privacy switch; a paused preview has no image.
        clock: the clock to use.
    """

    def __init__(self, health: Health, history: History, pause: Pause, clock: Clock) -> None:
        self._health = health
        self._history = history
        self._pause = pause
        self._clock = clock
        self._condition = condition(health, history)
        self._condition_at = clock.monotonic()

    def __call__(self, result: FrameResult | None, viewers: int) -> bytes:
        """Encode the newest result; without one, or with a blank frame, there is no image."""
        has_image = result is not None and not result.frame.is_blank and not self._pause.paused
        visible = result if has_image else None
        header = FrameHeader(
            state=self._health.source.state,
            paused=self._pause.paused,
            viewers=viewers,
            condition=self._recent_condition(),
            events=self._history.event_count,
            frame=None if visible is None else preview_frame(visible, self._age_ms(visible.frame)),
            crops={} if visible is None else crops(visible),
        )
        head = header.model_dump_json(by_alias=True).encode()
        image = b"" if visible is None else jpeg(visible.frame)
        return struct.pack(">I", len(head)) + head + image

    def _age_ms(self, frame: Frame) -> float:
        return 1000 * (self._clock.monotonic() - frame.captured_monotonic_s)

    def _recent_condition(self) -> Condition:
        now = self._clock.monotonic()
        if now - self._condition_at >= CONDITION_INTERVAL_S:
            self._condition_at = now
            self._condition = condition(self._health, self._history)
        return self._condition


def condition(health: Health, history: History) -> Condition:
    """The daemon's figures as they are now."""
    return Condition(
        health=health.message(),
        stages=health.timings.quantiles(),
        broker={None: "none", True: "connected", False: "disconnected"}[health.connected],
        totals=history.totals(),
    )


def jpeg(frame: Frame) -> bytes:
    """The frame's image as JPEG, reduced if it is large."""
    image = resize_to_max_side(frame.bgr, MAX_SIDE_PX)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def crops(result: FrameResult) -> dict[int, str]:
    """By track, the models' input: 48x48 grey pixels in row order, as base64."""
    return {face.track_id: b64encode(face.face.crop.tobytes()).decode() for face in result.faces}


HEARTBEAT_S: Final = 1.0
"""Longest time without a message: figures change also without frames."""


class EncodedFrame(NamedTuple):
    """A message for all clients."""

    number: int
    """Sequence number, from 1."""
    content: bytes


class PreviewStream:
    """Hands results from the pipeline's thread to the event loop.

    `publish`, `notify` and `close` may be called from any thread and never wait; everything else
    belongs to the event loop's thread.

    Args:
        encode: encodes the newest result, given the number of clients.
        fps: messages per second at most.
        clock: the clock to use.
    """

    def __init__(
        self, encode: Callable[[FrameResult | None, int], bytes], fps: float, clock: Clock
    ) -> None:
        self.viewers = 0
        self._encode = encode
        self._interval_s = 1 / fps
        self._clock = clock
        self._newest: FrameResult | None = None
        self._message = EncodedFrame(0, b"")
        self._due = float("-inf")
        self._outdated = asyncio.Event()
        """Set while something has changed since the message was encoded."""
        self._outdated.set()
        self._closing = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_lock = threading.Lock()

    def publish(self, result: FrameResult) -> None:
        """Offer a new result."""
        has_viewers = self.viewers > 0
        self._newest = result if has_viewers else None
        if has_viewers:
            self.notify()

    def notify(self) -> None:
        """Send a new message soon, since the state has changed."""
        self._set(self._outdated)

    def close(self) -> None:
        """End all waiting."""
        self._set(self._closing)
        self.notify()

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Bind to the running event loop."""
        with self._loop_lock:
            self._loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            with self._loop_lock:
                self._loop = None

    @contextmanager
    def viewer(self) -> Iterator[None]:
        """Count one more viewer."""
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1
            if self.viewers == 0:
                self._discard_frames()

    async def after(self, number: int) -> EncodedFrame:
        """Wait for a message newer than this number, and return the newest."""
        if number == self._message.number:
            await _wait_at_most(HEARTBEAT_S, self._outdated)
        await _wait_at_most(self._due - self._clock.monotonic(), self._closing)
        # Another client may have caused a new message during the wait; then the next is not due.
        is_outdated = self._outdated.is_set() or number == self._message.number
        if is_outdated and self._clock.monotonic() >= self._due:
            self._update()
        return self._message

    def _set(self, event: asyncio.Event) -> None:
        with self._loop_lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(event.set)

    def _update(self) -> None:
        self._due = self._clock.monotonic() + self._interval_s
        self._outdated.clear()
        content = self._encode(self._newest, self.viewers)
        self._message = EncodedFrame(self._message.number + 1, content)

    def _discard_frames(self) -> None:
        """Keep no image without a viewer."""
        self._newest = None
        self._message = EncodedFrame(self._message.number, b"")
        self._outdated.set()


async def _wait_at_most(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
