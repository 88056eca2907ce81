"""The faces of a single picture and their emotions, by the daemon's own steps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from edge_daemon import EmotionEnsemble
from edge_daemon.config.settings import DetectionSettings, default_state_dir
from edge_daemon.detection import Detector, create_detector
from edge_daemon.detection.download import YUNET
from edge_daemon.records import EMOTIONS, Face, Image, Probabilities
from emotion_trainer.data.stills import StillFaces


@dataclass(frozen=True, eq=False)
class Reading:
    """A face and the probabilities of its emotions."""

    face: Face
    """Where `unscored` gives a reason, the daemon would publish no emotion."""
    probabilities: Probabilities

    @property
    def emotion(self) -> str:
        """The most probable emotion."""
        return EMOTIONS[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        """Its probability."""
        return float(self.probabilities.max())


class FaceReader:
    """Reads every face that the daemon would find with its settings as they come."""

    def __init__(self, detector: Detector, ensemble: EmotionEnsemble) -> None:
        self._find = StillFaces(detector)
        self._ensemble = ensemble

    @classmethod
    def load(cls, models: Path | None, detector_model: Path | None) -> Self:
        """Make the detector and the ensemble ready.

        Args:
            models: folder of a bundle; None is the one that comes with the daemon.
            detector_model: a YuNet, a Haar cascade or a `detector.json`; None is the detector that
                comes with the daemon.

        Raises:
            BundleError, DetectorError: one of them is missing or damaged.
        """
        usual = DetectionSettings()
        fetched = default_state_dir() / YUNET.file
        detector = create_detector("auto", detector_model, fetched, usual.min_score, usual.min_size)
        return cls(detector, EmotionEnsemble.load(models))

    def read(self, bgr: Image) -> list[Reading]:
        """The faces in a BGR uint8 [H, W, 3] picture, from left to right."""
        faces = sorted(self._find(bgr), key=lambda face: face.detection.box.centre)
        if not faces:
            return []
        rows = self._ensemble.predict(np.stack([face.crop for face in faces]))
        return [Reading(face, row) for face, row in zip(faces, rows, strict=True)]
