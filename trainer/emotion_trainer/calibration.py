"""How far probabilities can be believed."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion_trainer.predictions import Scores

BINS: Final = 15


def calibration_error(probabilities: Scores, labels: NDArray[np.int64]) -> float:
    """Expected calibration error over 15 equal bins of confidence (Guo et al. 2017), 0 to 1."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    # A bin's share of the faces times its gap between confidence and accuracy.
    gaps = np.bincount(bins, weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))
