"""Encodes what the page shows at one moment: the length of the JSON, the JSON, and a JPEG.

They travel as one message, so that boxes and picture always belong to the same frame.
"""

import struct
from base64 import b64encode
from typing import Final

import cv2
import numpy as np

from edge_daemon._lib.clock import Clock
from edge_daemon.capture.pause import Pause
from edge_daemon.monitoring.health import Health
from edge_daemon.preview.history import History
from edge_daemon.preview.messages import Condition, FrameHeader, preview_frame
from edge_daemon.records import Frame, FrameResult

MAX_SIDE_PX: Final = 1280
"""Longer side of the picture; larger ones are reduced."""

JPEG_QUALITY: Final = 80

CONDITION_INTERVAL_S: Final = 1.0
"""Time for which the daemon's condition is reused: its sensors are files."""


class FrameEncoder:
    """Encodes results together with the daemon's condition.

    Args:
        health: source of the figures.
        history: source of the session's totals.
        pause: the privacy switch; a paused preview has no picture.
        clock: source of the time.
    """

    def __init__(self, health: Health, history: History, pause: Pause, clock: Clock) -> None:
        self._health = health
        self._history = history
        self._pause = pause
        self._clock = clock
        self._condition = condition(health, history)
        self._condition_at = clock.monotonic()

    def __call__(self, result: FrameResult | None, viewers: int) -> bytes:
        """Encode the newest result; without one, or with a blank frame, there is no picture."""
        has_picture = result is not None and not result.frame.blank and not self._pause.paused
        visible = result if has_picture else None
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
        picture = b"" if visible is None else jpeg(visible.frame)
        return struct.pack(">I", len(head)) + head + picture

    def _age_ms(self, frame: Frame) -> float:
        return 1000 * (self._clock.monotonic() - frame.captured_monotonic)

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
    """The frame's picture as JPEG, reduced if it is large."""
    scale = MAX_SIDE_PX / max(frame.width, frame.height)
    picture = frame.bgr
    if scale < 1:
        size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def crops(result: FrameResult) -> dict[int, str]:
    """By track, the models' input: 48x48 grey pixels in row order, as base64."""
    return {face.track_id: b64encode(face.face.crop.tobytes()).decode() for face in result.faces}
