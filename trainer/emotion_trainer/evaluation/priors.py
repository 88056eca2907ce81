"""The effect of a prior on an ensemble's figures.

The daemon converts probabilities from the shares of emotions in the training data to those in front
of a camera, where most faces are neutral (`inference.prior`). That costs accuracy on faces with the
shares of the data and gains accuracy on faces with a camera's shares. Both are measured here on the
same faces: weights give them a camera's shares.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.config.settings import CAMERA_SHARES, SmoothingSettings
from edge_daemon.inference.step import FULL_WEIGHT_S, EstimatedPrior, PriorCorrection
from edge_daemon.records import EMOTIONS
from emotion_trainer.evaluation.calibration import calibration_error
from emotion_trainer.models.predictions import Scores


@dataclass(frozen=True)
class PriorEffect:
    """Figures with one prior.

    Attributes:
        prior: `none`, which leaves the shares of the data, `camera`, or `estimated`.
        accuracy: on the faces as they are.
        calibration_error: likewise.
        camera_accuracy: on the same faces, weighted to a camera's shares of emotions.
        camera_calibration_error: likewise.
        uncertain: share of the weighted faces whose emotion the daemon flags as uncertain.
        uncertain_accuracy: on these, which have the same weights; 0 where there are none.
        certain_accuracy: on the others, likewise.
        counts: int64 [7], the predictions of each emotion in the faces as they are.
    """

    prior: str
    accuracy: float
    calibration_error: float
    camera_accuracy: float
    camera_calibration_error: float
    uncertain: float
    uncertain_accuracy: float
    certain_accuracy: float
    counts: NDArray[np.int64]


PASSES: Final = 30
"""Over all faces, until the estimate of the shares no longer moves."""


def prior_effects(probabilities: Scores, labels: NDArray[np.int64]) -> list[PriorEffect]:
    """Figures without a prior, with the daemon's camera prior, and with estimated shares.

    The shares are estimated from the faces as they are and from the weighted ones, each for its own
    figures.

    Args:
        probabilities: float32 [N, 7], calibrated on the labels' shares.
        labels: int64 [N].
    """
    shares = np.bincount(labels, minlength=len(EMOTIONS)) / len(labels)
    named = dict(zip(EMOTIONS, shares.tolist(), strict=True))
    camera = PriorCorrection(CAMERA_SHARES, named)(probabilities)
    weights = _weights(labels, shares, CAMERA_SHARES)
    estimated, estimated_of_camera = (
        _estimated_prior(probabilities, counts, named)(probabilities)
        for counts in (np.ones(len(labels)), weights)
    )
    return [
        _effect("none", probabilities, probabilities, labels, weights),
        _effect("camera", camera, camera, labels, weights),
        _effect("estimated", estimated, estimated_of_camera, labels, weights),
    ]


def _estimated_prior(
    probabilities: Scores, weights: NDArray[np.float64], training_shares: Mapping[str, float]
) -> EstimatedPrior:
    """The prior that the daemon estimates where these faces come by."""
    prior = EstimatedPrior(CAMERA_SHARES, training_shares)
    seconds = FULL_WEIGHT_S * weights / weights.sum()
    for _ in range(PASSES):
        prior.count(prior(probabilities), seconds)
    return prior


def _effect(
    prior: str,
    probabilities: Scores,
    of_camera: Scores,
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> PriorEffect:
    """Figures of the probabilities for the faces as they are, and for the weighted ones."""
    predictions = probabilities.argmax(axis=1)
    right = of_camera.argmax(axis=1) == labels
    uncertain = of_camera.max(axis=1) < SmoothingSettings().uncertain_below
    return PriorEffect(
        prior=prior,
        accuracy=float((predictions == labels).mean()),
        calibration_error=calibration_error(probabilities, labels),
        camera_accuracy=_accuracy(right, weights),
        camera_calibration_error=calibration_error(of_camera, labels, weights),
        uncertain=float(np.average(uncertain, weights=weights)),
        uncertain_accuracy=_accuracy(right, weights * uncertain),
        certain_accuracy=_accuracy(right, weights * ~uncertain),
        counts=np.bincount(predictions, minlength=len(EMOTIONS)),
    )


def _accuracy(right: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    total = float(weights.sum())
    return float(weights @ right) / total if total else 0.0


def _weights(
    labels: NDArray[np.int64], shares: NDArray[np.float64], expected: Mapping[str, float]
) -> NDArray[np.float64]:
    """How much each face counts, [N], for the labels to have the expected shares."""
    factors = np.array([expected[name] for name in EMOTIONS]) / np.where(shares > 0, shares, 1.0)
    weights: NDArray[np.float64] = factors[labels]
    return weights
