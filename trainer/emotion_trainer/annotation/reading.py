"""Faces of a single image and their emotions, found and predicted by the daemon's code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from edge_daemon import EmotionEnsemble
from edge_daemon.analysis import StillFinder
from edge_daemon.records import EMOTIONS, Face, Image, Probabilities
from emotion_trainer.data.stills import still_finder


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
        """The probability of that emotion."""
        return float(self.probabilities.max())


class FaceReader:
    """Finds faces and predicts their emotions, as the daemon does with default settings."""

    def __init__(self, find: StillFinder, ensemble: EmotionEnsemble) -> None:
        self._find = find
        self._ensemble = ensemble

    @classmethod
    def load(cls, bundle: Path | None, detector_model: Path | None) -> Self:
        """Load the detector and the ensemble.

        Args:
            bundle: its folder; None: the daemon's own bundle.
            detector_model: see `still_finder`.

        Raises:
            BundleError, DetectorError: one of them is missing or damaged.
        """
        return cls(still_finder(detector_model), EmotionEnsemble.load(bundle))

    def read(self, bgr: Image) -> list[Reading]:
        """The faces in a BGR uint8 [H, W, 3] image, from left to right."""
        faces = sorted(self._find(bgr).faces, key=lambda face: face.detection.box.centre)
        if not faces:
            return []
        rows = self._ensemble.predict(np.stack([face.crop for face in faces]))
        return [Reading(face, row) for face, row in zip(faces, rows, strict=True)]
