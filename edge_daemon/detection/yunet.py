"""YuNet (Wu et al., 2023), through OpenCV: faces at most angles, with landmarks."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon.detection.base import Framing
from edge_daemon.errors import DetectorError
from edge_daemon.records import Box, Detection, Image

NMS_THRESHOLD: Final = 0.3
MOST_FACES: Final = 100

CONTINUATION: Final = 0.2
"""How much less a score may be where a face is followed already: heads turn, and come back."""

BOX: Final = slice(0, 4)
LANDMARKS: Final = slice(4, 14)
SCORE: Final = 14
"""The columns of a detection."""


class YuNetDetector:
    """Faces and five landmarks by a small network.

    Args:
        model: the network as ONNX.
        min_score: the least score of a face that is not followed yet, 0 to 1.

    Raises:
        DetectorError: the file is not a network that OpenCV can read.
    """

    name = "yunet"
    # Measured where a face has its surroundings, against Haar's boxes on photos and against known
    # faces composed into frames. On the bare training crops the boxes come out a tenth smaller.
    framing = Framing(x=0.06, y=-0.065, width=0.87, height=1.14)

    def __init__(self, model: Path, min_score: float) -> None:
        self.start_score = min_score
        if not model.is_file():
            raise DetectorError(
                f"{model}: no such file; 'edge-daemon models fetch yunet' brings one"
            )
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(model),
                "",
                (0, 0),
                max(0.0, min_score - CONTINUATION),
                NMS_THRESHOLD,
                MOST_FACES,
            )
        except cv2.error as error:
            raise DetectorError(f"{model}: not a YuNet network that OpenCV can read") from error

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
            for row in rows
        ]
