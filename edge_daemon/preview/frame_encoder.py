"""Puts into bytes what a watcher sees: the length of the JSON, the JSON, and a JPEG.

They travel as one message, so that boxes and picture are always of the same frame.
"""

import struct
from base64 import b64encode
from typing import Final

import cv2
import numpy as np

from edge_daemon._lib.clock import Clock
from edge_daemon.capture.pause import Pause
from edge_daemon.monitoring.health import Health
from edge_daemon.preview.messages import Condition, Glance, seen_frame
from edge_daemon.records import Frame, FrameResult

LONGEST_SIDE: Final = 1280
"""Pixels; larger pictures are reduced."""

JPEG_QUALITY: Final = 80

CONDITION_INTERVAL: Final = 1.0
"""Seconds for which the daemon's condition is not asked for again."""


class GlanceMaker:
    """Describes a result together with how the daemon is.

    Args:
        health: how it is.
        pause: whether it is paused.
        clock: where the time is read.
    """

    def __init__(self, health: Health, pause: Pause, clock: Clock) -> None:
        self._health = health
        self._pause = pause
        self._clock = clock
        self._condition = condition(health)
        self._asked_at = clock.monotonic()

    def __call__(self, result: FrameResult | None, watchers: int) -> bytes:
        """The message; without a result, or with a blank one, there is no picture in it."""
        shown = None if result is None or result.frame.blank or self._pause.paused else result
        glance = Glance(
            state=self._health.source.state,
            paused=self._pause.paused,
            watchers=watchers,
            condition=self._recent_condition(),
            frame=None if shown is None else seen_frame(shown, self._age(shown.frame)),
            crops={} if shown is None else _crops(shown),
        )
        words = glance.model_dump_json(by_alias=True).encode()
        picture = b"" if shown is None else jpeg(shown.frame)
        return struct.pack(">I", len(words)) + words + picture

    def _age(self, frame: Frame) -> float:
        return 1000 * (self._clock.monotonic() - frame.captured_monotonic)

    def _recent_condition(self) -> Condition:
        now = self._clock.monotonic()
        if now - self._asked_at >= CONDITION_INTERVAL:
            self._asked_at = now
            self._condition = condition(self._health)
        return self._condition


def condition(health: Health) -> Condition:
    connected = health.connected()
    return Condition(
        health=health.message(),
        stages=health.stages.figures(),
        broker="none" if connected is None else "connected" if connected else "away",
    )


def jpeg(frame: Frame) -> bytes:
    """The frame's picture, reduced where it is large."""
    scale = LONGEST_SIDE / max(frame.width, frame.height)
    picture = frame.bgr
    if scale < 1:
        size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def _crops(result: FrameResult) -> dict[int, str]:
    return {face.track_id: b64encode(face.face.crop.tobytes()).decode() for face in result.faces}
