"""The models' output for a photo that a user drops on the page. Nothing of it is stored.

The page decodes the photo and sends pixels, so no image decoder here reads untrusted files.
"""

from typing import Final

import cv2
import numpy as np

from edge_daemon._lib.clock import Clock
from edge_daemon.config.settings import Settings
from edge_daemon.detection import detector_of
from edge_daemon.detection.step import FaceFinder
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.inference.step import EmotionRecognizer
from edge_daemon.records import Frame, FrameResult, Image, TrackedFace, TrackedFaces

MAX_SIDE_PX: Final = 960
"""Longer side of a photo; the page reduces larger ones."""

RGBA: Final = 4
"""Bytes per pixel."""

MAX_BYTES: Final = RGBA * MAX_SIDE_PX**2


def image_from(pixels: bytes, width: int, height: int) -> Image | None:
    """Decode pixels as a canvas has them, RGBA in row order: BGR uint8 [H, W, 3].

    Returns:
        None if the size is not valid or does not match the pixels.
    """
    is_valid = 0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX
    if not is_valid or len(pixels) != RGBA * width * height:
        return None
    rgba = np.frombuffer(pixels, np.uint8).reshape(height, width, RGBA)
    return np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGR), np.uint8)


class PhotoAnalyzer:
    """Runs the detector and the ensemble on single photos.

    The models are loaded for each photo and released afterwards: photos are rare, models of the
    pipeline are in use by its threads, and memory on a Pi is scarce.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def analyze(self, image: Image) -> FrameResult:
        """Detect the faces in a BGR uint8 [H, W, 3] image and recognise their emotions.

        Raises:
            EdgeDaemonError: the models cannot be loaded.
        """
        settings = self._settings
        finder = FaceFinder(detector_of(settings), settings.detection.max_side, settings.quality)
        ensemble = EmotionEnsemble.load(settings.inference.bundle, settings.inference.threads)
        frame = Frame(0, 0, image, self._clock.now(), self._clock.monotonic(), 0.0)
        faces = tuple(
            TrackedFace(number, face) for number, face in enumerate(finder(frame).faces, start=1)
        )
        return EmotionRecognizer(ensemble)(TrackedFaces(frame, faces, frozenset()))
