"""Frames from the images of a source, numbered and timestamped through all its openings."""

import dataclasses
import itertools
from datetime import datetime, timedelta

import numpy as np

from edge_daemon._lib.clock import Clock
from edge_daemon.capture.base import Picture
from edge_daemon.config.settings import TrackingSettings
from edge_daemon.records import Frame


class FrameMaker:
    """Makes frames, and the blank ones that end a scene when no frame comes.

    Of a picture it keeps the shape and the time, never the pixels.

    Args:
        clock: where the time is read.
        max_age_s: seconds without a frame after which no face is visible any more.
    """

    def __init__(self, clock: Clock, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._clock = clock
        self._numbers = itertools.count()
        self._scene = 0
        self._scenes_ended = 0
        self._shape: tuple[int, ...] | None = None
        self._stream_time: float | None = None
        self._video_began: datetime | None = None
        self._made_at = 0.0

    def apply(self, settings: TrackingSettings) -> None:
        """Use another `max_age`."""
        self._max_age_s = settings.max_age

    def frame(self, picture: Picture) -> Frame:
        monotonic = self._clock.monotonic()
        self._scene = picture.scene
        self._shape = picture.bgr.shape
        self._stream_time = picture.stream_time
        self._made_at = monotonic
        return Frame(
            index=next(self._numbers),
            scene=self._scenes_ended + picture.scene,
            bgr=picture.bgr,
            captured_at=self._captured_at(picture),
            captured_monotonic=monotonic,
            stream_time=monotonic if picture.stream_time is None else picture.stream_time,
            reduced=picture.reduced,
            position_s=picture.position_s,
            file=picture.file,
        )

    def _captured_at(self, picture: Picture) -> datetime:
        """The wall clock; for a video, which can be read at any speed, its own time.

        Its first frame is captured now, and all others at their distance from it.
        """
        now = self._clock.now()
        if picture.position_s is None or picture.stream_time is None:
            return now
        elapsed = timedelta(seconds=picture.stream_time)
        if self._video_began is None:
            self._video_began = now - elapsed
        return self._video_began + elapsed

    def blank(self) -> Frame | None:
        """A frame that ends the scene, and with it every visit; None if there is none to end."""
        if self._shape is None:
            return None
        black = np.broadcast_to(np.uint8(0), self._shape)
        self._scenes_ended += 1
        frame = self.frame(Picture(black, self._stream_time, self._scene))
        self._shape = None
        return dataclasses.replace(frame, blank=True)

    @property
    def face_age_left_s(self) -> float:
        """Seconds for which faces may still be followed while no frame comes; 0 if none is."""
        return max(0.0, self._made_at + self._max_age_s - self._clock.monotonic())
