"""YuNet (Wu et al. 2023) in OpenCV: faces at most angles, with landmarks."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon._lib.files import require_regular
from edge_daemon.detection.base import MAX_FACES, TRACKED_MARGIN, Framing
from edge_daemon.errors import DetectorError
from edge_daemon.records import Box, Detection, Image

NMS_THRESHOLD: Final = 0.3
MAX_CANDIDATES: Final = 5000
"""Before the suppression: a face has several. OpenCV's default."""

BOX: Final = slice(0, 4)
LANDMARKS: Final = slice(4, 14)
SCORE: Final = 14
"""Columns of a detection."""


FETCH_COMMAND: Final = "edge-daemon models fetch yunet"


class YuNetDetector:
    """Faces and five landmarks by a small network.

    Args:
        model: the network as ONNX.
        min_score: minimum score of a face that is not tracked yet, 0 to 1.

    Raises:
        DetectorError: the file is not a network that OpenCV can read.
    """

    name = "yunet"
    # Measured on faces with surroundings: against Haar's boxes on photos and against known faces
    # composed into frames. On bare training crops the boxes are a tenth smaller.
    framing = Framing(x=0.06, y=-0.065, width=0.87, height=1.14)

    def __init__(self, model: Path, min_score: float) -> None:
        self.start_score = min_score
        try:
            require_regular(model)
            self._network = cv2.FaceDetectorYN.create(
                str(model),
                "",
                (0, 0),
                max(0.0, min_score - TRACKED_MARGIN),
                NMS_THRESHOLD,
                MAX_CANDIDATES,
            )
        except FileNotFoundError as error:
            raise DetectorError(
                f"detection.detector: yunet is not installed (no {model}); run '{FETCH_COMMAND}'"
            ) from error
        except OSError as error:
            raise DetectorError(f"{model}: cannot be read: {error.strerror}") from error
        except cv2.error as error:
            raise DetectorError(f"{model}: OpenCV cannot read it as a YuNet network") from error

    def detect(self, bgr: Image) -> list[Detection]:
        self._network.setInputSize((bgr.shape[1], bgr.shape[0]))
        _, rows = self._network.detect(bgr)
        if rows is None:
            return []
        return [
            Detection(
                Box(*map(float, row[BOX])),
                float(row[SCORE]),
                np.asarray(row[LANDMARKS], np.float32).reshape(5, 2),
            )
            for row in rows[:MAX_FACES]
        ]
