"""Live frames through OpenCV: a V4L2 camera, or a network camera over RTSP."""

import os
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon.capture.base import PACING_SLACK, Picture
from edge_daemon.clock import Clock, SystemClock
from edge_daemon.errors import SourceLost
from edge_daemon.redaction import without_password

NETWORK_TIMEOUT_MS: Final = 5000
"""FFmpeg's own limit for opening and reading; its default of 30 s is past our watch's patience."""


class VideoDevice:
    """A camera at `/dev/videoN`.

    Args:
        device: its path.
        size: width and height asked of the camera, in pixels; the camera may choose others.
        fps: frames a second asked of the camera.
    """

    live = True

    def __init__(self, device: Path, size: tuple[int, int], fps: float) -> None:
        self.name = str(device)
        self._size = size
        self._fps = fps

    def open(self) -> "LiveReader":
        if not os.access(self.name, os.R_OK | os.W_OK):
            mend = "is it plugged in?" if not Path(self.name).exists() else "join the group 'video'"
            raise SourceLost(f"{self.name}: cannot be opened; {mend}")
        capture = cv2.VideoCapture(self.name, cv2.CAP_V4L2)
        # MJPEG first: USB 2 has no room for larger raw pictures at full rate.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
        capture.set(cv2.CAP_PROP_FPS, self._fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return LiveReader(self.name, capture)


class NetworkStream:
    """A camera at an `rtsp://` or `http://` address.

    Args:
        url: the address.
        fps: pictures a second that are wanted of it; it sends as many as it likes.
        clock: where the time is read.
    """

    live = True

    def __init__(self, url: str, fps: float, clock: Clock | None = None) -> None:
        self.name = without_password(url)
        self._url = url
        self._fps = fps
        self._clock = clock or SystemClock()

    def open(self) -> "StreamReader":
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            NETWORK_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            NETWORK_TIMEOUT_MS,
        ]
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, limits)
        return StreamReader(self.name, capture, self._fps, self._clock)


class LiveReader:
    """Reads an open device; a read without a picture means that it is gone."""

    def __init__(self, name: str, capture: cv2.VideoCapture) -> None:
        if not capture.isOpened():
            capture.release()
            raise SourceLost(f"{name}: cannot be opened; is it there, and free?")
        self._name = name
        self._capture = capture

    def read(self) -> Picture:
        self._grab()
        ok, image = self._capture.retrieve()
        if not ok:
            raise self._lost
        return Picture(np.asarray(image, np.uint8))

    def close(self) -> None:
        self._capture.release()

    def _grab(self) -> None:
        """Take the next picture, not yet converted."""
        if not self._capture.grab():
            raise self._lost

    @property
    def _lost(self) -> SourceLost:
        return SourceLost(f"{self._name}: gives no more pictures")


class StreamReader(LiveReader):
    """Reads a stream at its own pace: pictures that nobody takes wait in buffers, and get old.

    Of those that come faster than they are wanted, the others are not converted.
    """

    def __init__(self, name: str, capture: cv2.VideoCapture, fps: float, clock: Clock) -> None:
        super().__init__(name, capture)
        self._interval = PACING_SLACK / fps
        self._clock = clock
        self._due = clock.monotonic()

    def read(self) -> Picture:
        while self._clock.monotonic() < self._due:
            self._grab()
        picture = super().read()
        self._due = self._clock.monotonic() + self._interval
        return picture
