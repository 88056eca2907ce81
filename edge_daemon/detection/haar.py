"""OpenCV's Haar cascade (Viola & Jones 2001): part of OpenCV, weak on faces turned aside."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon._lib.files import require_regular
from edge_daemon.detection.base import Framing
from edge_daemon.errors import DetectorError
from edge_daemon.records import Box, Detection, Image

CASCADE: Final = "haarcascade_frontalface_default.xml"

SCALE_STEP: Final = 1.1
MIN_NEIGHBOURS: Final = 5


class HaarDetector:
    """Frontal faces by a boosted cascade.

    Args:
        min_size: side of the smallest face to look for, in pixels of the image.
        cascade: a cascade file in OpenCV's XML format; OpenCV's own by default.

    Raises:
        DetectorError: the file is not a cascade.
    """

    name = "haar"
    framing = Framing(x=0.005, y=0.005, width=0.984, height=0.984)
    start_score = 0.0  # the cascade has a threshold of its own

    def __init__(self, min_size: int, cascade: Path | None = None) -> None:
        path = cascade or Path(cv2.__file__).parent / "data" / CASCADE
        self._min_size = (min_size, min_size)
        try:
            require_regular(path)
            self._cascade = cv2.CascadeClassifier(str(path))
        except OSError as error:
            raise DetectorError(f"{path}: cannot be read: {error.strerror}") from error
        except (cv2.error, SystemError) as error:
            raise DetectorError(f"{path}: not a Haar cascade") from error
        if self._cascade.empty():
            raise DetectorError(f"{path}: not a Haar cascade")

    def detect(self, bgr: Image) -> list[Detection]:
        grey = cv2.equalizeHist(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))
        boxes, _, weights = self._cascade.detectMultiScale3(
            grey,
            scaleFactor=SCALE_STEP,
            minNeighbors=MIN_NEIGHBOURS,
            minSize=self._min_size,
            outputRejectLevels=True,
        )
        return [
            Detection(Box(*map(float, box)), _score(weight))
            for box, weight in zip(boxes, np.ravel(weights), strict=True)
        ]


def _score(weight: float) -> float:
    """Map a cascade's unbounded weight to 0 to 1, in the same order."""
    positive = max(0.0, float(weight))
    return positive / (1 + positive)
