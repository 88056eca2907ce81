"""Calibration: how well confidence agrees with accuracy."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion_trainer.models.predictions import Scores

BINS: Final = 15


@dataclass(frozen=True)
class Reliability:
    """Faces in 15 equal bins of confidence (Guo et al. 2017); each array is float64 [15].

    Attributes:
        share: of all faces, how many are in the bin.
        confidence: their mean confidence; 0 in an empty bin.
        accuracy: the share of right predictions among them; 0 in an empty bin.
    """

    share: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability(
    probabilities: Scores,
    labels: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
) -> Reliability:
    """Accuracy by confidence, for a reliability diagram.

    Args:
        probabilities: float32 [N, 7], rows sum to 1.
        labels: int64 [N].
        weights: how much each face counts, [N]; None: all alike.
    """
    if weights is None:
        weights = np.ones(len(labels))
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    faces, total, hits = (
        np.bincount(bins, weights=weights * values, minlength=BINS)
        for values in (1.0, confidence, right)
    )
    filled = np.where(faces > 0, faces, 1.0)
    return Reliability(faces / weights.sum(), total / filled, hits / filled)


def calibration_error(
    probabilities: Scores,
    labels: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Expected calibration error over the bins, 0 to 1; see `reliability`."""
    bins = reliability(probabilities, labels, weights)
    return float((bins.share * np.abs(bins.confidence - bins.accuracy)).sum())
