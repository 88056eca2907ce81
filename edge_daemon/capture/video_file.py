"""Frames from a video file, every one of them."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon.capture.base import Picture
from edge_daemon.errors import SourceError

SHORTFALL: Final = 0.02
"""The part of the promised frames that may be missing: containers' counts are often estimates."""


class VideoFile:
    """A video file that OpenCV's FFmpeg can read."""

    live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def open(self) -> "VideoFileReader":
        if self._path.stat().st_size == 0:
            raise SourceError(f"{self.name}: the file is empty")
        capture = cv2.VideoCapture(self.name, cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise SourceError(f"{self.name}: not a video that can be read, or a damaged one")
        return VideoFileReader(self.name, capture)


class VideoFileReader:
    """Reads to the end, and says so if the end comes early."""

    def __init__(self, name: str, capture: cv2.VideoCapture) -> None:
        self._name = name
        self._capture = capture
        self._promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._read = 0

    def read(self) -> Picture | None:
        ok, image = self._capture.read()
        if not ok:
            self._check_complete()
            return None
        self._read += 1
        position_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000  # of the frame just read
        return Picture(np.asarray(image, np.uint8), position_s, position_s=position_s)

    def close(self) -> None:
        self._capture.release()

    def _check_complete(self) -> None:
        missing = self._promised - self._read
        if self._read == 0 or missing > max(1, SHORTFALL * self._promised):
            raise SourceError(
                f"{self._name}: ends after {self._read} of {self._promised} frames; "
                "the file is truncated or damaged"
            )
