"""Live frames through OpenCV: a V4L2 camera, or a network camera over RTSP."""

import os
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon._lib.text import without_password
from edge_daemon.capture.base import Picture
from edge_daemon.errors import SourceLost

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
    """A camera at an `rtsp://` or `http://` address."""

    live = True

    def __init__(self, url: str) -> None:
        self.name = without_password(url)
        self._url = url

    def open(self) -> "StreamReader":
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            NETWORK_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            NETWORK_TIMEOUT_MS,
        ]
        return StreamReader(self.name, cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, limits))


class LiveReader:
    """Reads an open device; a read without a picture means that it is gone."""

    def __init__(self, name: str, capture: cv2.VideoCapture) -> None:
        if not capture.isOpened():
            capture.release()
            raise SourceLost(f"{name}: cannot be opened; is it there, and free?")
        self._name = name
        self._capture = capture

    def read(self) -> Picture:
        ok, image = self._capture.read()
        if not ok:
            raise self._lost
        return Picture(np.asarray(image, np.uint8))

    def close(self) -> None:
        self._capture.release()

    @property
    def _lost(self) -> SourceLost:
        return SourceLost(f"{self._name}: gives no more pictures")


class StreamReader(LiveReader):
    """Reads a stream, whose pictures come at the sender's pace."""

    def skip(self) -> None:
        """Decode the next picture, since later ones build on it, and leave it at that."""
        if not self._capture.grab():
            raise self._lost
