"""The effect of a prior on an ensemble's figures.

The daemon converts probabilities from the shares of emotions in the training data to those in front
of a camera, where most faces are neutral (`inference.prior`). That costs accuracy on faces with the
shares of the data and gains accuracy on faces with a camera's shares. Both are measured here on the
same faces: weights give them a camera's shares.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_daemon.config.settings import CAMERA_SHARES
from edge_daemon.inference.step import PriorCorrection
from edge_daemon.records import EMOTIONS
from emotion_trainer.evaluation.calibration import calibration_error
from emotion_trainer.models.predictions import Scores


@dataclass(frozen=True)
class PriorEffect:
    """Figures with one prior.

    Attributes:
        prior: `none`, which leaves the shares of the data, or `camera`.
        accuracy: on the faces as they are.
        calibration_error: likewise.
        camera_accuracy: on the same faces, weighted to a camera's shares of emotions.
        camera_calibration_error: likewise.
        counts: int64 [7], the predictions of each emotion.
    """

    prior: str
    accuracy: float
    calibration_error: float
    camera_accuracy: float
    camera_calibration_error: float
    counts: NDArray[np.int64]


def prior_effects(probabilities: Scores, labels: NDArray[np.int64]) -> list[PriorEffect]:
    """Figures without a prior and with the daemon's camera prior.

    Args:
        probabilities: float32 [N, 7], calibrated on the labels' shares.
        labels: int64 [N].
    """
    shares = np.bincount(labels, minlength=len(EMOTIONS)) / len(labels)
    to_camera = PriorCorrection(CAMERA_SHARES, dict(zip(EMOTIONS, shares.tolist(), strict=True)))
    weights = _weights(labels, shares, CAMERA_SHARES)
    return [
        _effect("none", probabilities, labels, weights),
        _effect("camera", to_camera(probabilities), labels, weights),
    ]


def _effect(
    prior: str, probabilities: Scores, labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> PriorEffect:
    predictions = probabilities.argmax(axis=1)
    right = predictions == labels
    return PriorEffect(
        prior=prior,
        accuracy=float(right.mean()),
        calibration_error=calibration_error(probabilities, labels),
        camera_accuracy=float(np.average(right, weights=weights)),
        camera_calibration_error=calibration_error(probabilities, labels, weights),
        counts=np.bincount(predictions, minlength=len(EMOTIONS)),
    )


def _weights(
    labels: NDArray[np.int64], shares: NDArray[np.float64], expected: Mapping[str, float]
) -> NDArray[np.float64]:
    """How much each face counts, [N], for the labels to have the expected shares."""
    factors = np.array([expected[name] for name in EMOTIONS]) / np.where(shares > 0, shares, 1.0)
    weights: NDArray[np.float64] = factors[labels]
    return weights
