"""Emotions of the faces in images, in one call: `edge_daemon.analyze`."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import overload

import numpy as np

from edge_daemon.capture.image_decoding import Still, read_still
from edge_daemon.config.settings import QualitySettings, Settings
from edge_daemon.detection import Detector, detector_from_settings
from edge_daemon.detection.step import FaceFinder
from edge_daemon.errors import SourceError
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.inference.step import EmotionRecognizer, prior_correction
from edge_daemon.records import (
    EMOTIONS,
    Box,
    FoundFaces,
    Frame,
    FrameResult,
    Image,
    TrackedFace,
    TrackedFaces,
    Unscored,
)

ImageOrPath = Image | Path | str


@dataclass(frozen=True)
class AnalyzedFace:
    """A face in an image."""

    box: Box
    """x, y, width and height in pixels; it can exceed the image."""
    score: float
    """Confidence of the detector, 0 to 1."""
    emotion: str | None
    """The most probable emotion; None if the face is not good enough to score."""
    probabilities: Mapping[str, float] | None
    """Probability of each emotion; they sum to 1. None as above."""
    unscored: Unscored | None
    """Why the face is not good enough: too small, too blurred, or a profile."""


class StillFinder:
    """Finds faces in single images, without those below the score that starts a track.

    Args:
        detector: finds the faces.
        max_side: longer side of the image for detection, in pixels.
        quality: what a face must have to be scored.
    """

    def __init__(self, detector: Detector, max_side: int, quality: QualitySettings) -> None:
        self._finder = FaceFinder(detector, max_side, quality)
        self._start_score = detector.start_score

    def __call__(self, bgr: Image) -> FoundFaces:
        """The faces in an image, BGR uint8 [H, W, 3]; also those that would not be scored."""
        found = self._finder(Frame(0, 0, bgr, datetime.now(UTC), 0.0, 0.0))
        # Detectors also give fainter faces, which only continue a track.
        faces = (face for face in found.faces if face.detection.score >= self._start_score)
        return FoundFaces(found.frame, tuple(faces))


class ImageAnalyzer:
    """Detects the faces of single images and recognizes their emotions. Not thread-safe.

    Args:
        settings: those of detection, quality and inference.

    Raises:
        EdgeDaemonError: the models cannot be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        self._finder = StillFinder(
            detector_from_settings(settings), settings.detection.max_side, settings.quality
        )
        ensemble = EmotionEnsemble.load(settings.inference.bundle, settings.inference.threads)
        prior = prior_correction(settings.inference, ensemble, is_still=True)
        self._recognizer = EmotionRecognizer(ensemble, prior=prior)

    def analyze(self, bgr: Image) -> FrameResult:
        """The result for an image, BGR uint8 [H, W, 3]."""
        found = self._finder(bgr)
        faces = enumerate(found.faces, start=1)
        tracked = tuple(TrackedFace(number, face) for number, face in faces)
        return self._recognizer(TrackedFaces(found.frame, tracked, frozenset()))


@overload
def analyze(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
    image: ImageOrPath,
) -> list[AnalyzedFace]: ...


@overload
def analyze(image: Sequence[ImageOrPath]) -> list[list[AnalyzedFace]]: ...


def analyze(
    image: ImageOrPath | Sequence[ImageOrPath],
) -> list[AnalyzedFace] | list[list[AnalyzedFace]]:
    """Detect the faces of an image, or of each of several, and recognize their emotions.

    The first call loads the bundled models. May be called from any thread.

    Args:
        image: path of an image file, or pixels: BGR uint8 [H, W, 3], as OpenCV reads them; or a
            sequence of these.

    Returns:
        The faces of the image; for a sequence, a list for each image.

    Raises:
        ValueError: an array has another shape or type.
        EdgeDaemonError: a file cannot be read, or the models cannot be loaded.
    """
    if isinstance(image, np.ndarray | Path | str):
        return _faces(_still(image))
    return [_faces(_still(each)) for each in image]


_LOCK = threading.Lock()


@cache
def _default_analyzer() -> ImageAnalyzer:
    return ImageAnalyzer(Settings())


def _faces(still: Still) -> list[AnalyzedFace]:
    with _LOCK:
        result = _default_analyzer().analyze(still.bgr)
    return [
        AnalyzedFace(
            box=face.face.detection.scaled(still.reduction).box,
            score=face.face.detection.score,
            emotion=face.emotion,
            probabilities=None
            if face.probabilities is None
            else MappingProxyType(dict(zip(EMOTIONS, face.probabilities.tolist(), strict=True))),
            unscored=face.face.unscored,
        )
        for face in result.faces
    ]


def _still(image: ImageOrPath) -> Still:
    if isinstance(image, Path | str):
        return _read(Path(image))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"image: must be BGR uint8 [H, W, 3] (got {image.dtype} {list(image.shape)})"
        )
    return Still(image, 1)


def _read(path: Path) -> Still:
    """Read an image file.

    Raises:
        SourceError: it is not an image that can be read.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    return read_still(path)
