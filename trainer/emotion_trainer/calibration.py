"""How far probabilities can be believed, and the temperature that mends them."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from edge_daemon.inference.ensemble import log_softmax
from emotion_trainer.predictions import Scores

BINS: Final = 15
COOLEST: Final = 0.05
HOTTEST: Final = 20.0


def fit_temperature(log_probabilities: Scores, labels: NDArray[np.int64]) -> float:
    """The temperature with the least negative log-likelihood of the labels (Guo et al. 2017)."""

    def loss(log_temperature: float) -> float:
        calibrated = log_softmax(log_probabilities / np.float32(math.exp(log_temperature)))
        return float(-calibrated[np.arange(len(labels)), labels].mean())

    bounds = (math.log(COOLEST), math.log(HOTTEST))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def calibration_error(probabilities: Scores, labels: NDArray[np.int64]) -> float:
    """Expected calibration error over 15 equal bins of confidence (Guo et al. 2017), 0 to 1."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    # A bin's share of the faces times its gap between confidence and accuracy.
    gaps = np.bincount(bins, weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))
