"""Frames from single pictures: one file, or all in a folder."""

import logging
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon.capture.base import Picture
from edge_daemon.errors import SourceError
from edge_daemon.records import Image

logger = logging.getLogger(__name__)

SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

PICTURE_INTERVAL: Final = 1.0
"""Seconds between two pictures on the source's time line."""

JPEG_SCAN: Final = b"\xff\xda"
JPEG_END: Final = b"\xff\xd9"


class PictureFile:
    """One picture."""

    live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def open(self) -> "PictureReader":
        if decode(self._path) is None:
            raise SourceError(f"{self.name}: not a picture that can be read, or a damaged one")
        return PictureReader(self.name, [self._path])


class PictureFolder:
    """The pictures of a folder, in the order of their names. Each is a scene of its own."""

    live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def open(self) -> "PictureReader":
        return PictureReader(self.name, pictures_in(self._path))


class PictureReader:
    """Reads picture after picture; names and counts those that are damaged."""

    def __init__(self, name: str, files: list[Path]) -> None:
        self._name = name
        self._files = files
        self._next = 0
        self._damaged = 0

    def read(self) -> Picture | None:
        while self._next < len(self._files):
            number, path = self._next, self._files[self._next]
            self._next += 1
            image = decode(path)
            if image is not None:
                time = number * PICTURE_INTERVAL
                return Picture(image, time, number, file=path.name)
            self._damaged += 1
            logger.warning("picture skipped: it is damaged", extra={"file": str(path)})
        self._tell_damaged()
        return None

    def close(self) -> None:
        """Nothing stays open between two pictures."""

    def _tell_damaged(self) -> None:
        if self._damaged == len(self._files):
            raise SourceError(f"{self._name}: none of its {self._damaged} pictures can be read")
        if self._damaged:
            logger.warning(
                "pictures skipped in all",
                extra={"source": self._name, "skipped": self._damaged, "of": len(self._files)},
            )


def pictures_in(folder: Path) -> list[Path]:
    """The folder's pictures by their suffixes, in the order of their names.

    Raises:
        SourceError: there are none.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise SourceError(f"{folder}: no pictures in this folder ({' '.join(sorted(SUFFIXES))})")
    return files


def decode(path: Path) -> Image | None:
    """The picture as BGR uint8 [H, W, 3], whatever its depth and channels; None if damaged."""
    try:
        data = path.read_bytes()
        if path.suffix.lower() in {".jpg", ".jpeg"} and _is_cut_jpeg(data):
            return None
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)


def _is_cut_jpeg(data: bytes) -> bool:
    """Whether the last scan of a JPEG has no end: OpenCV would fill the rest with grey."""
    scan = data.rfind(JPEG_SCAN)
    return scan >= 0 and data.find(JPEG_END, scan) < 0
